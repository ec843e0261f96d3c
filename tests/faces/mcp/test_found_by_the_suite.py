"""What the official suite found: header values with blanks around them, and lists that were promised to change."""

import asyncio
import json
from urllib.parse import urlsplit

import pytest

from tests.faces.mcp.house import House

META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


async def posted(house: House, method: str, **headers: str) -> bytes:
    """The whole answer to one request, byte for byte as written here: a client library would trim the headers."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": {"_meta": META}}).encode()
    at = urlsplit(house.url)
    sent = {
        "Host": at.netloc,
        "Authorization": f"Bearer {house.tokens['alice']}",
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "Content-Length": str(len(body)),
        "Connection": "close",
        "MCP-Protocol-Version": "2026-07-28",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    reader, writer = await asyncio.open_connection(at.hostname, at.port)
    lines = [f"POST {at.path} HTTP/1.1", *(f"{name}:{value}" for name, value in sent.items()), "", ""]
    writer.write("\r\n".join(lines).encode() + body)
    answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.parametrize("blanks", [" ", "  ", "\t", " \t "])
async def test_blanks_around_a_header_value_are_no_part_of_it(house: House, blanks: str) -> None:
    answer = await posted(house, "tools/list", Mcp_Method=f"{blanks}tools/list{blanks}")
    assert answer.startswith(b"HTTP/1.1 200"), answer


async def test_another_method_in_the_header_is_refused(house: House) -> None:
    answer = await posted(house, "tools/list", Mcp_Method="prompts/list")
    assert answer.startswith(b"HTTP/1.1 400"), answer
    assert b"-32020" in answer


async def test_a_page_of_this_server_may_call_and_a_strangers_may_not(house: House) -> None:
    own = f" http://{urlsplit(house.url).netloc} "
    assert (await posted(house, "tools/list", Mcp_Method="tools/list", Origin=own)).startswith(b"HTTP/1.1 200")
    foreign = await posted(house, "tools/list", Mcp_Method="tools/list", Origin="http://evil.example.com")
    assert foreign.startswith(b"HTTP/1.1 403")


async def test_no_list_is_promised_to_change(house: House) -> None:
    answer = await posted(house, "server/discover", Mcp_Method="server/discover")
    assert answer.startswith(b"HTTP/1.1 200"), answer
    assert b'"listChanged":true' not in answer.replace(b" ", b"")
    assert b'"tools"' in answer
