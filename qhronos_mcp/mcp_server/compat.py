"""Names the SDK does not promise, each behind a function with a test that says in a sentence when a release moves it.

No other module of ours reaches for an underscore name of the SDK.
"""

from collections.abc import Mapping
from typing import Any

from mcp.server.connection import Connection
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.mcpserver import MCPServer


def lowlevel(server: MCPServer[Any]) -> Server[Any]:
    """The registry of handlers beneath an MCPServer: to add or replace one, and to serve streams with options."""
    return server._lowlevel_server  # noqa: SLF001


def connection(ctx: ServerRequestContext[Any, Any]) -> Connection:
    """The connection a request came on: `state`, `exit_stack`, `send_resource_updated`, `notify`."""
    return ctx.session._connection  # noqa: SLF001


async def notify(ctx: ServerRequestContext[Any, Any], method: str, params: Mapping[str, Any]) -> None:
    """Send a notification on this request's own stream; for those the typed union does not hold, nulls and all."""
    await ctx.session._request_outbound.notify(method, params)  # noqa: SLF001
