"""What we take from the SDK without its promise; each test says what a new release has moved."""

from typing import Any

import pytest
import sse_starlette.sse
import uvicorn
from mcp.server.connection import Connection
from mcp.server.lowlevel import Server
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedResourceError
from pydantic import ValidationError

from qhronos_mcp.mcp_server import compat
from qhronos_mcp.mcp_server.server import QhronosServer
from tests.faces.mcp.house import House
from tests.faces.mcp.speakers import MODERN


def test_the_registry_beneath_a_server_is_where_it_was() -> None:
    low = compat.lowlevel(MCPServer("x"))
    assert isinstance(low, Server), "MCPServer._lowlevel_server is no lowlevel Server any more"
    assert low.get_request_handler("tools/call") is not None, "the lowlevel Server does not hold the handlers any more"


async def test_a_request_knows_its_connection(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Connection] = []
    was = compat.connection

    def connection(ctx: Any) -> Connection:
        seen.append(was(ctx))
        return seen[-1]

    monkeypatch.setattr(compat, "connection", connection)
    async with house.speaker("2025-11-25") as alice, alice.watching("qhronos://inbox"):
        assert isinstance(seen[0], Connection), "ServerSession._connection is no Connection any more"
        for name in ("state", "exit_stack", "send_resource_updated", "notify"):
            assert hasattr(seen[0], name), f"Connection.{name} is gone"


@pytest.mark.parametrize("method", ["call_tool", "list_tools", "read_resource", "get_prompt"])
async def test_a_request_passes_through_what_we_override(
    house: House, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed: list[str] = []
    was = getattr(QhronosServer, method)

    async def watched(self: Any, *arguments: Any, **named: Any) -> Any:
        passed.append(method)
        return await was(self, *arguments, **named)

    monkeypatch.setattr(QhronosServer, method, watched)
    for version in ("2025-11-25", MODERN):
        passed.clear()
        async with house.speaker(version) as alice:
            await alice.client.list_tools()
            await alice.call("list_events")
            await alice.read("qhronos://inbox")
            await alice.client.get_prompt("diagnose_event", {"event_id": "k"})
        assert method in passed, f"MCPServer.{method} is not what answers a request any more"


async def test_a_tool_error_carries_what_the_tool_raised_and_so_does_a_resource_s() -> None:
    server = MCPServer[Any]("x")

    async def fails(number: int) -> str:
        raise KeyError(number)

    server.add_tool(fails)
    server.resource("x://{number}")(fails)
    with pytest.raises(ToolError) as raised:
        await server.call_tool("fails", {"number": 1})
    assert isinstance(raised.value.__cause__, KeyError), "ToolError.__cause__ is not what the tool raised any more"
    with pytest.raises(ToolError) as raised:
        await server.call_tool("fails", {"number": "x"})
    assert isinstance(raised.value.__cause__, ValidationError), "a bad argument's ToolError has another cause"
    with pytest.raises(UnexpectedResourceError) as read:
        await server.read_resource("x://1")
    cause: BaseException | None = read.value
    while isinstance(cause, UnexpectedResourceError):
        cause = cause.__cause__
    assert isinstance(cause, KeyError), "UnexpectedResourceError.__cause__ does not lead to what was raised any more"


def test_the_older_streams_end_when_we_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    status = sse_starlette.sse.AppStatus
    monkeypatch.setattr(status, "enable_automatic_graceful_drain", True)
    monkeypatch.setattr(status, "should_exit", False)
    compat.keep_streams_open()
    status.handle_exit(uvicorn.Server(uvicorn.Config("x")), 15, None)  # type: ignore[no-untyped-call]
    assert not status.should_exit, "sse_starlette cuts streams by itself at a signal"
    compat.end_streams()
    assert status.should_exit
