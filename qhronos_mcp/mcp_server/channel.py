"""Claude Code's channel (experimental, `qhronos stdio --claude-channel`): a line of ours that wakes a running session.

The names are as reported of a research preview; nothing else depends on them. It claims nothing, says
nothing of any event but its ids, and speaks at most once a second.
"""

from typing import TYPE_CHECKING, Any, Final

import anyio
import mcp_types as t
from mcp.server.connection import Connection
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext

from qhronos_mcp.mcp_server import compat
from qhronos_mcp.mcp_server.server import QhronosServer

if TYPE_CHECKING:
    from qhronos_mcp.mcp_server.face import Face
    from qhronos_mcp.mcp_server.push import Hub

METHOD: Final = "notifications/claude/channel"
CAPABILITY: Final[dict[str, dict[str, Any]]] = {"claude/channel": {}}
CONTENT: Final = "An occurrence is due. Call wait_for_occurrences."
_PAUSE: Final = 1.0  # seconds


class Channel:
    """Of one stdio process. `declare` before serving; `run` once requests are let in."""

    def __init__(self) -> None:
        self._peer: Connection | None = None
        self._met = anyio.Event()

    def declare(self, server: QhronosServer) -> None:
        """Advertise it to modern clients, and learn who is at the other end. (To legacy ones: the stdio options.)"""
        low = compat.lowlevel(server)
        discovering = low.get_request_handler("server/discover")
        assert discovering is not None  # noqa: S101 - the SDK's own

        async def discover(ctx: ServerRequestContext[Any, Any], params: t.RequestParams) -> HandlerResult:
            answer = await discovering.handler(ctx, params)
            if isinstance(answer, t.DiscoverResult):
                answer.capabilities.experimental = CAPABILITY
            return answer

        low.add_request_handler("server/discover", t.RequestParams, discover)
        server.middleware.append(self._meet)

    async def _meet(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        if ctx.method not in ("initialize", "server/discover"):
            self._peer = compat.connection(ctx)
            self._met.set()
        return await call_next(ctx)

    async def run(self, face: "Face", hub: "Hub") -> None:
        """Until the hub closes."""
        from qhronos_mcp.mcp_server.push import INBOX

        async with hub.listening(frozenset({INBOX}), face.caller()) as dirty:
            await self._met.wait()
            while hints := await dirty.changed():
                ids = {name: hints[INBOX][name] for name in ("event_id", "occurrence_id") if name in hints[INBOX]}
                if self._peer is not None:
                    await self._peer.notify(METHOD, {"content": CONTENT, "meta": ids})
                await anyio.sleep(_PAUSE)
