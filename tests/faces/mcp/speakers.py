"""One way to speak to the server, whatever the protocol generation and the transport."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import anyio
import mcp_types as t
import pytest
from mcp import Client
from mcp.client.extension import ClientExtension
from mcp.shared.exceptions import MCPDeprecationWarning
from mcp.shared.message import SessionMessage
from mcp.shared.subscriptions import ResourceUpdated

T = TypeVar("T")

VERSIONS: Final = ("2025-06-18", "2025-11-25", "2026-07-28")
MODERN: Final = "2026-07-28"
SOON: Final = 10.0  # seconds: what takes longer will not come


@dataclass(frozen=True)
class Said:
    """What a tool answered."""

    shown: dict[str, Any]
    text: str
    is_error: bool

    def __getitem__(self, name: str) -> Any:
        return self.shown[name]


@dataclass
class Ear:
    """Notifications of one connection, or of one stream: each URI that was said to have changed, in order."""

    heard: list[str] = field(default_factory=list)
    metas: list[Mapping[str, Any] | None] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    _stir: asyncio.Event = field(default_factory=asyncio.Event)

    def hear(self, uri: str, meta: Mapping[str, Any] | None = None) -> None:
        self.heard.append(uri)
        self.metas.append(meta)
        self._stir.set()

    async def until(self, uri: str) -> None:
        """Wait until `uri` was heard; a time-out says what was heard instead."""
        try:
            async with asyncio.timeout(SOON):
                while uri not in self.heard:
                    self._stir.clear()
                    await self._stir.wait()
        except TimeoutError:
            pytest.fail(f"never heard of {uri}; heard {self.heard}")


@dataclass
class Speaker:
    """A connected client."""

    client: Client
    version: str
    ear: Ear

    @property
    def modern(self) -> bool:
        return self.version == MODERN

    async def call(self, tool: str, **arguments: Any) -> Said:
        return said(await self.client.call_tool(tool, arguments))

    async def read(self, uri: str) -> str:
        [content] = (await self.client.read_resource(uri, cache_mode="bypass")).contents
        assert isinstance(content, t.TextResourceContents)
        return content.text

    async def read_json(self, uri: str) -> dict[str, Any]:
        shown: dict[str, Any] = json.loads(await self.read(uri))
        return shown

    @asynccontextmanager
    async def watching(self, *uris: str) -> AsyncIterator[Ear]:
        """Subscribed to these, in this generation's way. Entering returns when the server has confirmed it."""
        if not self.modern:
            for uri in uris:
                with pytest.warns(MCPDeprecationWarning):
                    await self.client.subscribe_resource(uri)
            yield self.ear
            return
        ear = Ear()
        async with self.client.listen(resource_subscriptions=list(uris)) as stream:

            async def listen() -> None:
                async for event in stream:
                    assert isinstance(event, ResourceUpdated)
                    ear.hear(event.uri)
                ear.ended.set()

            listening = asyncio.create_task(listen())
            try:
                yield ear
            finally:
                listening.cancel()


def said(result: Any) -> Said:
    assert isinstance(result, t.CallToolResult)
    [content] = result.content
    assert isinstance(content, t.TextContent)
    assert isinstance(result.structured_content, dict)
    return Said(result.structured_content, content.text, bool(result.is_error))


@asynccontextmanager
async def speaking(
    transport: AbstractAsyncContextManager[Any], version: str, extensions: Sequence[ClientExtension] = ()
) -> AsyncIterator[Speaker]:
    """The official client over this transport, at this version; `auto`: as it finds out by itself.

    It offers 2025-11-25 as its only version of the handshake; for 2025-06-18 the offer is rewritten on the wire.
    """
    ear = Ear()

    async def hear(message: Any) -> None:
        if isinstance(message, t.ResourceUpdatedNotification):
            ear.hear(str(message.params.uri), message.params.meta)

    client = Client(
        _offering(transport, version) if version == "2025-06-18" else transport,
        mode=version if version in (MODERN, "auto") else "legacy",
        message_handler=hear,
        extensions=extensions,
        read_timeout_seconds=30,
    )
    async with client:
        assert version in (client.protocol_version, "auto")
        yield Speaker(client, client.protocol_version, ear)


@asynccontextmanager
async def _offering(transport: AbstractAsyncContextManager[Any], version: str) -> AsyncIterator[Any]:
    async with transport as (read, write), anyio.create_task_group() as group:
        out, outgoing = anyio.create_memory_object_stream[SessionMessage](0)

        async def forward() -> None:
            async with write, outgoing:
                async for message in outgoing:
                    request = message.message
                    if isinstance(request, t.JSONRPCRequest) and request.method == "initialize":
                        assert request.params is not None
                        request.params["protocolVersion"] = version
                    await write.send(message)

        group.start_soon(forward)
        yield read, out
        group.cancel_scope.cancel()


@asynccontextmanager
async def in_its_own_task(manager: AbstractAsyncContextManager[T]) -> AsyncIterator[T]:
    """`manager`, entered and left by one task: a fixture's two halves run in different ones, which anyio's scopes refuse."""
    entered: asyncio.Future[T] = asyncio.get_running_loop().create_future()
    leave = asyncio.Event()

    async def live() -> None:
        try:
            async with manager as inner:
                entered.set_result(inner)
                await leave.wait()
        except BaseException as error:
            if entered.done():
                raise
            entered.set_exception(error)

    living = asyncio.create_task(live())
    try:
        yield await entered
    finally:
        leave.set()
        await living


def slowness() -> float:
    """How many times slower than idle this machine is now: a shared one must not fail what is right."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
