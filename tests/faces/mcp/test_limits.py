"""The request limits of REST hold here too, and one bucket serves both faces."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from mcp.shared.exceptions import MCPError

from qhronos_core.config import Settings
from qhronos_mcp.mcp_server.server import REFUSAL
from qhronos_mcp.middleware import FAILED_AUTHENTICATIONS
from tests.faces.mcp.house import House
from tests.faces.mcp.speakers import MODERN, in_its_own_task
from tests.faces.mcp.test_start import HELLO
from tests.faces.mcp.test_waits import Patient
from tests.faces.rest.house import House as WholeHouse
from tests.faces.rest.house import a_house as a_whole_house


@pytest.fixture
def narrow(house: House, tmp_path: Path) -> None:
    """Three calls (and the list of tools, which a client asks for before its first), then no more for a long while."""
    limit = {"per_minute": 1, "burst": 4}
    house.core.settings = Settings.model_validate({"data_dir": tmp_path, "rate_limits": {"read_write": limit}})


@pytest.mark.usefixtures("narrow")
async def test_one_call_too_many_is_a_tool_s_own_error(house: House) -> None:
    async with house.speaker(MODERN) as alice:
        for _ in range(3):
            assert not (await alice.call("list_events")).is_error
        refused = await alice.call("list_events")
        assert refused.is_error
        assert refused["code"] == "rate_limited"
        with pytest.raises(MCPError) as over:
            await alice.read("qhronos://inbox")
        assert over.value.error.code == REFUSAL
        assert over.value.error.data["code"] == "rate_limited"
        assert over.value.error.data["retryAfter"] > 0
    async with house.speaker("2025-11-25", "admin") as admin:  # another token, another bucket
        assert not (await admin.call("list_events")).is_error


@pytest.mark.usefixtures("narrow")
async def test_no_task_is_begun_by_a_call_too_many(house: House) -> None:
    patient = Patient()
    async with house.speaker(MODERN, extensions=[patient]) as alice:
        for _ in range(3):
            await alice.call("wait_for_occurrences")
        assert (await alice.call("wait_for_occurrences"))["code"] == "rate_limited"
        assert len(patient.started) == 3


async def test_an_address_that_proves_nothing_too_often_is_refused_before_its_tokens_are_looked_at(
    house: House,
) -> None:
    async with house.http() as http:
        wrong = {"Authorization": "Bearer nonsense"}
        statuses: list[int] = []
        while (not statuses or statuses[-1] == 401) and len(statuses) < 5 * FAILED_AUTHENTICATIONS.burst:
            statuses.append((await http.post(house.url, json={}, headers=wrong)).status_code)
        assert len(statuses) > FAILED_AUTHENTICATIONS.burst
        assert statuses[-1] == 500  # by the test's bare app; the whole app answers 429


ACCEPT = {"Accept": "application/json, text/event-stream"}
META = {"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}


def asked(method: str, **params: object) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


async def asked_modern(http: httpx2.AsyncClient, method: str) -> httpx2.Response:
    headers = {**ACCEPT, "MCP-Protocol-Version": MODERN, "Mcp-Method": method}
    return await http.post("/mcp", json=asked(method, _meta=META), headers=headers)


@pytest.fixture
async def whole(tmp_path: Path) -> AsyncIterator[WholeHouse]:
    """The whole app; a token has five requests, then none for a minute."""
    limit = {name: {"per_minute": 1, "burst": 5} for name in ("read_write", "master", "admin")}
    async with (
        a_whole_house(tmp_path, rate_limits=limit) as house,
        in_its_own_task(house.app.state.mcp.running()),
    ):
        yield house


async def test_every_answer_to_a_token_says_how_much_is_left(whole: WholeHouse) -> None:
    async with await whole.as_("write", "user:a") as http:
        answers = [await http.post("/mcp", json=HELLO, headers=ACCEPT)]
        session = {**ACCEPT, "Mcp-Session-Id": answers[0].headers["mcp-session-id"]}
        answers.append(await http.post("/mcp", json=asked("tools/list"), headers=session))
        answers.append(await asked_modern(http, "server/discover"))
        answers.append(await http.post("/mcp", content="{", headers=ACCEPT))
        answers.append(await http.get("/events"))  # one bucket for both faces
    assert [answer.status_code for answer in answers] == [200, 200, 200, 400, 200]
    assert [answer.headers["x-ratelimit-remaining"] for answer in answers] == ["4", "3", "2", "1", "0"]
    assert answers[0].headers["ratelimit-policy"] == '"default";q=5;w=300'


async def test_a_handshake_too_many_is_refused_and_opens_no_session(whole: WholeHouse) -> None:
    async with await whole.as_("write", "user:a") as http:
        opened = await http.post("/mcp", json=HELLO, headers=ACCEPT)
        session = {**ACCEPT, "Mcp-Session-Id": opened.headers["mcp-session-id"]}
        for _ in range(4):
            assert (await http.get("/events")).status_code == 200
        async with asyncio.timeout(10):  # a stream that was let in would not end
            refusals = [
                await http.post("/mcp", json=HELLO, headers=ACCEPT),
                await http.get("/mcp", headers={**session, "Accept": "text/event-stream"}),
            ]
        for refused in refusals:
            assert refused.status_code == 429
            assert refused.json()["code"] == "rate_limited"
            assert int(refused.headers["retry-after"]) >= 1
            assert "mcp-session-id" not in refused.headers
        discovered = (await asked_modern(http, "server/discover")).json()
        assert discovered["error"]["data"]["code"] == "rate_limited"
        assert (await http.post("/mcp", json=asked("ping"), headers=session)).status_code == 200
        assert (await http.delete("/mcp", headers=session)).status_code == 200  # that makes room
