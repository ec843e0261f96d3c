"""The events extension (`io.modelcontextprotocol/events`): the wire of it. What is told, its feed knows.

The SDK serves none of it, and drops `events` at the top level of capabilities, where some clients look for it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import mcp_types as t
from mcp.server.apps import EXTENSION_ID as APPS
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.extension import Extension, MethodBinding
from pydantic import BaseModel, ConfigDict

IDENTIFIER: Final = "io.modelcontextprotocol/events"
MODERN: Final = frozenset({"2026-07-28"})
_SETTINGS: Final[Mapping[str, Any]] = {"listChanged": False}


class EventsParams(t.RequestParams):
    """Any members: the feed judges them, in the extension's own errors."""

    model_config = ConfigDict(extra="allow")

    @property
    def given(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class Feed(Protocol):
    """The methods. Each raises MCPError with a number and data of the extension."""

    async def list(self, ctx: ServerRequestContext[Any, Any], given: Mapping[str, Any]) -> dict[str, Any]: ...

    async def poll(self, given: Mapping[str, Any]) -> dict[str, Any]: ...

    async def stream(self, ctx: ServerRequestContext[Any, Any], given: Mapping[str, Any]) -> dict[str, Any]: ...

    async def subscribe(self, ctx: ServerRequestContext[Any, Any], given: Mapping[str, Any]) -> dict[str, Any]: ...

    async def unsubscribe(self, ctx: ServerRequestContext[Any, Any], given: Mapping[str, Any]) -> dict[str, Any]: ...


class Events(Extension):
    """For requests of every protocol version; a client need not declare the extension, and some do not."""

    identifier = IDENTIFIER

    def __init__(self) -> None:
        self._feed: Feed | None = None

    def serve(self, feed: Feed) -> None:
        self._feed = feed

    def settings(self) -> dict[str, Any]:
        return dict(_SETTINGS)

    def methods(self) -> Sequence[MethodBinding]:
        return [
            MethodBinding("events/list", EventsParams, self._list),
            MethodBinding("events/poll", EventsParams, self._poll),
            MethodBinding("events/stream", EventsParams, self._stream),
            MethodBinding("events/subscribe", EventsParams, self._subscribe),
            MethodBinding("events/unsubscribe", EventsParams, self._unsubscribe),
        ]

    @property
    def _served(self) -> Feed:
        assert self._feed is not None  # noqa: S101 - no request comes before `serve`
        return self._feed

    async def _list(self, ctx: ServerRequestContext[Any, Any], params: EventsParams) -> HandlerResult:
        return await self._served.list(ctx, params.given)

    async def _poll(self, _: ServerRequestContext[Any, Any], params: EventsParams) -> HandlerResult:
        return await self._served.poll(params.given)

    async def _stream(self, ctx: ServerRequestContext[Any, Any], params: EventsParams) -> HandlerResult:
        return await self._served.stream(ctx, params.given)

    async def _subscribe(self, ctx: ServerRequestContext[Any, Any], params: EventsParams) -> HandlerResult:
        return await self._served.subscribe(ctx, params.given)

    async def _unsubscribe(self, ctx: ServerRequestContext[Any, Any], params: EventsParams) -> HandlerResult:
        return await self._served.unsubscribe(ctx, params.given)


async def advertised(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """Middleware: what both handshakes say, where the SDK says it otherwise. They name the extension in both places: hosts
    of the sketch look for `events` at the top level and nowhere else; of a handshake by `initialize` the SDK leaves
    `extensions` out, and most hosts that show apps speak that."""
    result = await call_next(ctx)
    if ctx.method not in ("server/discover", "initialize") or result is None:
        return result
    shown = (
        result.model_dump(by_alias=True, mode="json", exclude_none=True) if isinstance(result, BaseModel) else result
    )
    # Our lists never change; to modern clients the SDK promises otherwise.
    capabilities = {
        name: {**settings, "listChanged": False} if "listChanged" in settings else settings
        for name, settings in shown["capabilities"].items()
    }
    extensions = {**capabilities.get("extensions", {}), IDENTIFIER: dict(_SETTINGS), APPS: {}}
    return {**shown, "capabilities": {**capabilities, "extensions": extensions, "events": dict(_SETTINGS)}}
