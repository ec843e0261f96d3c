"""What a client learns before it asks for anything."""

from typing import Any, Final

import httpx2
import pytest
from starlette.types import Message, Receive, Scope, Send

from qhronos_mcp.mcp_server.http import CleanHeaders
from tests.faces.mcp.house import House
from tests.faces.mcp.speakers import MODERN, Speaker

HELLO: Final[dict[str, Any]] = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}},
}


async def test_a_client_of_each_version_is_told_who_we_are_and_what_we_can(house: House) -> None:
    for version in ("2025-06-18", "2025-11-25"):
        async with house.speaker(version) as speaker:
            client = speaker.client
            assert client.server_info is not None
            assert (client.server_info.name, client.server_info.title) == ("qhronos", "Qhronos")
            assert client.instructions is not None
            assert "wait_for_occurrences" in client.instructions
            can = client.server_capabilities
            assert can.resources is not None
            assert can.resources.subscribe
            assert not can.resources.list_changed
            assert can.tools is not None
            assert can.prompts is not None
            assert can.completions is not None
            assert can.logging is None


async def test_a_modern_client_discovers_the_same_and_the_extensions(house: House) -> None:
    async with house.speaker("auto") as speaker:
        client = speaker.client
        assert client.protocol_version == MODERN
        can = client.server_capabilities
        assert can.resources is not None
        assert can.resources.subscribe
        assert can.extensions is not None
        assert "io.modelcontextprotocol/tasks" in can.extensions
        assert client.instructions is not None
        lists = await client.list_tools()
        assert (lists.ttl_ms, lists.cache_scope) == (3_600_000, "public")
        inbox = await client.read_resource("qhronos://inbox")
        assert (inbox.ttl_ms, inbox.cache_scope) == (0, "private")


async def test_a_request_without_a_good_token_is_refused_before_anything_is_told(house: House) -> None:
    async with house.http() as http:
        for authorization in ("", "Bearer", "Bearer nonsense", f"Basic {house.tokens['alice']}"):
            refused = await http.post(house.url, json={}, headers={"Authorization": authorization})
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"].startswith("Bearer")
            assert "resource_metadata" not in refused.headers["www-authenticate"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "localhost:evil"}, 421),
        ({"Host": "localhost:80@evil.example"}, 421),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
async def test_a_stranger_s_page_gets_nothing_with_or_without_a_token(
    house: House, headers: dict[str, str], status: int
) -> None:
    async with httpx2.AsyncClient() as nobody, house.http() as alice:
        for http in (nobody, alice):
            refused = await http.post(house.url, json={"jsonrpc": "2.0", "id": 1, "method": "ping"}, headers=headers)
            assert refused.status_code == status
            assert "www-authenticate" not in refused.headers


async def test_case_does_not_matter_in_a_host_or_an_origin(house: House) -> None:
    port = house.url.removesuffix("/mcp").rpartition(":")[2]
    headers = {"Host": f"LocalHost:{port}", "Origin": f"HTTP://LOCALHOST:{port}"}
    async with house.http() as http:
        answered = await http.post(house.url, json={"jsonrpc": "2.0", "id": 1, "method": "ping"}, headers=headers)
        assert answered.status_code == 400  # heard: a session is what is missing


async def test_a_stream_begun_again_after_an_event_id_is_a_new_stream(house: House) -> None:
    """Our events have no ids; a client may still send one that it has from elsewhere."""
    async with house.http() as http:
        session = await _opened(http, house)
        headers = {**session, "Accept": "text/event-stream", "Last-Event-ID": "7"}
        async with http.stream("GET", house.url, headers=headers) as stream:
            assert stream.status_code == 200
            assert stream.headers["content-type"].startswith("text/event-stream")


async def test_no_answer_may_be_stored(house: House) -> None:
    async with house.http() as http:
        session = await _opened(http, house)
        stream = await http.post(house.url, json={"jsonrpc": "2.0", "id": 2, "method": "tools/list"}, headers=session)
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert "no-store" in stream.headers["cache-control"]


async def _opened(http: httpx2.AsyncClient, house: House) -> dict[str, str]:
    """The headers of a new session of the older protocol."""
    accept = {"Accept": "application/json, text/event-stream"}
    opened = await http.post(house.url, json=HELLO, headers=accept)
    return {"Mcp-Session-Id": opened.headers["mcp-session-id"], **accept}


async def test_a_page_of_this_very_server_may_call(house: House) -> None:
    async with house.http() as http:
        own = house.url.removesuffix("/mcp")
        answered = await http.post(
            house.url, json={"jsonrpc": "2.0", "id": 1, "method": "ping"}, headers={"Origin": own}
        )
        assert answered.status_code == 400  # heard: a session is what is missing


async def test_a_session_belongs_to_the_token_that_opened_it(house: House) -> None:
    accept = {"Accept": "application/json, text/event-stream"}
    async with house.http() as alice, house.http("bob") as bob:
        opened = await alice.post(house.url, json=HELLO, headers=accept)
        assert opened.status_code == 200
        assert '"protocolVersion":"2025-06-18"' in opened.text
        session = {"Mcp-Session-Id": opened.headers["mcp-session-id"], **accept}
        ping = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
        assert (await bob.post(house.url, json=ping, headers=session)).status_code == 404
        assert (await alice.post(house.url, json=ping, headers=session)).status_code == 200


async def test_modern_headers_must_match_the_body(house: House) -> None:
    meta = {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    call = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "list_events", "arguments": {}, "_meta": meta},
    }
    right = {
        "MCP-Protocol-Version": MODERN,
        "Mcp-Method": "tools/call",
        "Mcp-Name": "list_events",
        "Accept": "application/json, text/event-stream",
    }
    async with house.http() as http:
        assert (await http.post(house.url, json=call, headers=right)).status_code == 200
        for wrong in ({"Mcp-Method": "tools/list"}, {"Mcp-Name": "delete_event"}):
            refused = await http.post(house.url, json=call, headers={**right, **wrong})
            assert refused.status_code == 400
            assert refused.json()["error"]["code"] == -32020


async def test_headers_are_read_without_the_spaces_around_them() -> None:
    """RFC 9110 §5.5. No client of ours can send them, so this looks at the layer that cleans."""
    seen: list[list[tuple[bytes, bytes]]] = []

    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        seen.append(scope["headers"])

    async def receive() -> Message:
        return {}

    async def send(_: Message) -> None: ...

    sent = [(b"host", b"a.example "), (b"mcp-name", b"  list_events\t"), (b"origin", b"https://a.example")]
    scope = {"type": "http", "scheme": "https", "headers": sent}
    await CleanHeaders(app)(scope, receive, send)
    assert seen == [[(b"host", b"a.example"), (b"mcp-name", b"list_events")]]


async def test_logging_sampling_and_the_old_tasks_are_not_served(alice: Speaker) -> None:
    assert alice.client.server_capabilities.logging is None
    assert alice.client.server_capabilities.tasks is None
