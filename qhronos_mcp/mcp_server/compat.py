"""Names the SDK does not promise, each behind a function with a test that says in a sentence when a release moves it.

No other module of ours reaches for an underscore name of the SDK.
"""

from collections.abc import Mapping
from typing import Any

from mcp.server.connection import Connection
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.mcpserver import MCPServer
from sse_starlette.sse import AppStatus


def lowlevel(server: MCPServer[Any]) -> Server[Any]:
    """The registry of handlers beneath an MCPServer: to add or replace one, and to serve streams with options."""
    return server._lowlevel_server  # noqa: SLF001


def connection(ctx: ServerRequestContext[Any, Any]) -> Connection:
    """The connection a request came on: `state`, `exit_stack`, `send_resource_updated`, `notify`."""
    return ctx.session._connection  # noqa: SLF001


async def notify(ctx: ServerRequestContext[Any, Any], method: str, params: Mapping[str, Any]) -> None:
    """Send a notification on this request's own stream; for those the typed union does not hold, nulls and all."""
    await ctx.session._request_outbound.notify(method, params)  # noqa: SLF001


def keep_streams_open() -> None:
    """Once told to stop, the SDK's own streams (sse_starlette's, of the older protocol) would be cut within half a second.

    An answer under way in one of them would never come. From now on they end at `end_streams`.
    """
    AppStatus.disable_automatic_graceful_drain()  # type: ignore[no-untyped-call]


def end_streams() -> None:
    """For the whole process, and for good."""
    AppStatus.should_exit = True
