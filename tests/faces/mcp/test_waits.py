"""Waiting for what is due: as a long poll, and as a task where the client can."""

import asyncio
import time
from datetime import timedelta
from typing import Any, Literal

import mcp_types as t
import pytest
from mcp.client.extension import ClaimContext, ClientExtension, ResultClaim
from mcp.shared.exceptions import MCPError

from qhronos_core.domain.access import Principal
from qhronos_core.usecases.waits import WAITS
from qhronos_mcp.mcp_server.arguments import WaitArguments
from qhronos_mcp.mcp_server.push import INBOX
from tests.faces.mcp.house import House, a_house
from tests.faces.mcp.speakers import MODERN, Speaker, said

TASKS = "io.modelcontextprotocol/tasks"


async def waiting(house: House, count: int = 1) -> None:
    """Until the server has so many waits open."""
    async with asyncio.timeout(10):
        while len(house.face.hub.watching) < count:
            await asyncio.sleep(0.005)


async def test_a_wait_is_answered_the_moment_something_is_due(alice: Speaker, house: House) -> None:
    await house.event(key="k")
    wait = asyncio.create_task(alice.call("wait_for_occurrences", seconds=20))
    await waiting(house)
    began = time.monotonic()
    await house.comes_due()
    assert (await wait)["occurrences"][0]["event"] == "k"
    assert time.monotonic() - began < 1


async def test_two_waiting_agents_never_hold_one_item(house: House) -> None:
    async with house.speaker(MODERN) as one, house.speaker("2025-11-25") as other:
        await house.event()
        waits = [asyncio.create_task(speaker.call("wait_for_occurrences", seconds=1)) for speaker in (one, other)]
        await waiting(house, 2)
        await house.comes_due()
        items = [item["id"] for wait in waits for item in (await wait)["occurrences"]]
        assert len(items) == 1


async def test_a_wait_reports_its_progress_to_who_asked_for_it(alice: Speaker, house: House) -> None:
    told: list[tuple[float, float | None]] = []

    async def progress(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, total))

    call = alice.client.call_tool("wait_for_occurrences", {"seconds": 1}, progress_callback=progress)
    assert said(await call)["occurrences"] == []
    assert told
    assert told[0][1] == 1
    without = await alice.call("wait_for_occurrences", seconds=1)
    assert without["occurrences"] == []


async def test_a_wait_that_is_cancelled_claims_nothing_and_is_forgotten(alice: Speaker, house: House) -> None:
    await house.event()
    wait = asyncio.create_task(alice.call("wait_for_occurrences", seconds=50))
    await waiting(house)
    wait.cancel()
    with pytest.raises(asyncio.CancelledError):
        await wait
    async with asyncio.timeout(5):
        while house.face.hub.watching:
            await asyncio.sleep(0.01)
    await house.comes_due()
    assert (await alice.read_json(INBOX))["due"] == 1


async def test_a_wait_of_a_revoked_token_ends_and_claims_nothing(house: House) -> None:
    async with house.speaker(MODERN) as alice, house.speaker(MODERN, "admin") as admin:
        await house.event()
        await alice.call("wait_for_occurrences", seconds=0)  # the client reads the list of tools once, with its token
        wait = asyncio.create_task(alice.call("wait_for_occurrences", seconds=50))
        await waiting(house)
        await house.core.tokens.revoke(sub="alice", caller=Principal.of_master())
        async with asyncio.timeout(5):
            assert (await wait)["occurrences"] == []
        await house.comes_due()
        assert (await admin.read_json(INBOX))["due"] == 1


async def test_one_principal_has_so_many_waits_and_is_told_the_limit(house: House) -> None:
    async with house.speaker(MODERN) as alice:
        waits = [asyncio.create_task(alice.call("wait_for_occurrences", seconds=50)) for _ in range(WAITS)]
        await waiting(house, WAITS)
        over = await alice.call("wait_for_occurrences", seconds=50)
        assert over.is_error
        assert over["code"] == "too_many_waits"
        assert not (await alice.call("wait_for_occurrences", seconds=0)).is_error
        house.face.hub.close()
        await asyncio.gather(*waits)


def test_the_arguments_of_a_task_are_those_of_the_tool() -> None:
    from qhronos_mcp.mcp_server.tools import LONGEST_WAIT, Tools

    names = set(Tools.wait_for_occurrences.__annotations__) - {"ctx", "return"}
    assert names == set(WaitArguments.model_fields)
    assert WaitArguments(seconds=LONGEST_WAIT, limit=10)


# --- as a task -----------------------------------------------------------------------------------------


class Started(t.Result):
    result_type: Literal["task"]
    task_id: str
    status: str
    created_at: str
    last_updated_at: str
    ttl_ms: int
    poll_interval_ms: int


class TaskOf(t.RequestParams):
    task_id: str


class GetTask(t.Request[TaskOf, Literal["tasks/get", "tasks/cancel", "tasks/update"]]):
    name_param = "taskId"


class Shown(t.Result):
    result_type: str
    task_id: str | None = None
    status: str | None = None
    poll_interval_ms: int | None = None
    result: dict[str, Any] | None = None


class Patient(ClientExtension):
    """A client that can hold a task, and gives the test the task instead of driving it."""

    identifier = TASKS

    def __init__(self) -> None:
        self.started: list[Started] = []

    def claims(self) -> list[ResultClaim[Any]]:
        async def take(result: Started, context: ClaimContext) -> t.CallToolResult:
            self.started.append(result)
            return t.CallToolResult(content=[t.TextContent(type="text", text="{}")], structured_content={})

        return [ResultClaim(result_type="task", model=Started, resolve=take)]


async def task(speaker: Speaker, patient: Patient, **arguments: Any) -> Started:
    await speaker.call("wait_for_occurrences", **arguments)
    return patient.started[-1]


async def ask(speaker: Speaker, method: str, task_id: str) -> Shown:
    request = GetTask(method=method, params=TaskOf(task_id=task_id))  # type: ignore[arg-type]
    return await speaker.client.session.send_request(request, Shown)


async def test_a_wait_becomes_a_task_and_tells_what_it_claimed_for_ever(house: House) -> None:
    await house.event(key="k", schedule="every 1h")
    patient = Patient()
    async with house.speaker(MODERN, extensions=[patient]) as alice:
        started = await task(alice, patient)
        assert started.task_id.startswith("wait-")
        assert (started.status, started.ttl_ms, started.poll_interval_ms) == ("working", 172_800_000, 5_000)
        assert (await ask(alice, "tasks/get", started.task_id)).status == "working"
        house.world.clock.advance(seconds=3_595)
        assert (await ask(alice, "tasks/get", started.task_id)).poll_interval_ms == 1_000
        await house.comes_due(timedelta(seconds=5))

        done = await ask(alice, "tasks/get", started.task_id)
        assert done.status == "completed"
        assert done.result is not None
        [item] = done.result["structuredContent"]["occurrences"]
        assert item["event"] == "k"
        assert item["lease_until"] == "Mon 2027-03-01T10:15:00Z"

        await alice.call("acknowledge_occurrence", occurrence_id=item["id"], outcome="done")
        await house.comes_due(timedelta(hours=1))
        assert (await ask(alice, "tasks/get", started.task_id)).result == done.result


async def test_a_task_is_known_to_another_node_and_after_a_restart(house: House, tmp_path: Any) -> None:
    await house.event(key="k")
    patient = Patient()
    async with house.speaker(MODERN, extensions=[patient]) as alice:
        started = await task(alice, patient)
    await house.comes_due()
    async with a_house(house.world, tmp_path) as other:
        other.tokens = house.tokens
        async with other.speaker(MODERN, extensions=[Patient()]) as alice:
            looks = await asyncio.gather(*[ask(alice, "tasks/get", started.task_id) for _ in range(5)])
            assert {look.status for look in looks} == {"completed"}
            assert len({str(look.result) for look in looks}) == 1


async def test_nothing_is_claimed_for_a_client_that_stopped_asking(house: House) -> None:
    await house.event()
    patient = Patient()
    async with house.speaker(MODERN, extensions=[patient]) as alice:
        await task(alice, patient)
        await house.comes_due()
        assert (await alice.read_json(INBOX))["due"] == 1


async def test_a_task_that_runs_out_or_is_cancelled_says_so(house: House) -> None:
    patient = Patient()
    async with house.speaker(MODERN, extensions=[patient]) as alice:
        short = await task(alice, patient, seconds=30)
        other = await task(alice, patient)
        house.world.clock.advance(seconds=30)
        empty = await ask(alice, "tasks/get", short.task_id)
        assert empty.status == "completed"
        assert empty.result is not None
        assert empty.result["structuredContent"]["occurrences"] == []
        await ask(alice, "tasks/update", other.task_id)
        await ask(alice, "tasks/cancel", other.task_id)
        await ask(alice, "tasks/cancel", other.task_id)
        assert (await ask(alice, "tasks/get", other.task_id)).status == "cancelled"


async def test_what_is_due_already_is_answered_at_once_and_so_are_mistakes(house: House) -> None:
    await house.event(key="k")
    await house.comes_due()
    patient = Patient()
    async with house.speaker(MODERN, extensions=[patient]) as alice:
        assert (await alice.call("wait_for_occurrences", seconds=99))["code"] == "invalid_argument"
        assert (await alice.call("wait_for_occurrences", event_id="nope"))["code"] == "event_not_found"
        assert (await alice.call("wait_for_occurrences"))["occurrences"][0]["event"] == "k"
        assert (await alice.call("wait_for_occurrences", seconds=0))["occurrences"] == []
        assert not patient.started


async def test_a_task_s_result_is_a_line_too_where_the_address_asks_for_one(house: House) -> None:
    await house.event(key="k")
    patient = Patient()
    async with house.speaker(MODERN, extensions=[patient], query="?text=line") as alice:
        started = await task(alice, patient)
        await house.comes_due()
        result = (await ask(alice, "tasks/get", started.task_id)).result
        assert result is not None
        assert result["content"] == [{"type": "text", "text": result["structuredContent"]["says"]}]


async def test_another_s_task_and_none_read_the_same(house: House) -> None:
    patient = Patient()
    async with (
        house.speaker(MODERN, extensions=[patient]) as alice,
        house.speaker(MODERN, "bob", extensions=[Patient()]) as bob,
    ):
        started = await task(alice, patient)
        told = []
        for task_id in (started.task_id, "wait-01a40051-6a80-70f4-a5a2-c535109b277b", "wait-x", "nothing"):
            for method in ("tasks/get", "tasks/cancel", "tasks/update"):
                with pytest.raises(MCPError) as refused:
                    await ask(bob, method, task_id)
                told.append((refused.value.error.code, refused.value.error.message))
        assert set(told) == {(t.INVALID_PARAMS, "No such task.")}


async def test_tasks_are_only_for_a_request_that_declares_them(house: House) -> None:
    async with house.speaker(MODERN) as modern, house.speaker("2025-11-25") as old:
        for speaker in (modern, old):
            assert (await speaker.call("wait_for_occurrences", seconds=1))["occurrences"] == []
        with pytest.raises(MCPError) as refused:
            await ask(modern, "tasks/get", "wait-x")
        assert refused.value.error.code == t.MISSING_REQUIRED_CLIENT_CAPABILITY
        with pytest.raises(MCPError) as refused:
            await ask(old, "tasks/get", "wait-x")
        assert refused.value.error.code == t.METHOD_NOT_FOUND


async def test_the_name_header_must_be_the_task_s(house: House) -> None:
    patient = Patient()
    async with house.speaker(MODERN, extensions=[patient]) as alice:
        started = await task(alice, patient)
    meta = {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {"extensions": {TASKS: {}}},
    }
    body = {"jsonrpc": "2.0", "id": 1, "method": "tasks/get", "params": {"taskId": started.task_id, "_meta": meta}}
    headers = {
        "MCP-Protocol-Version": MODERN,
        "Mcp-Method": "tasks/get",
        "Accept": "application/json, text/event-stream",
    }
    async with house.http() as http:
        right = await http.post(house.url, json=body, headers={**headers, "Mcp-Name": started.task_id})
        assert right.json()["result"]["status"] == "working"
        wrong = await http.post(house.url, json=body, headers={**headers, "Mcp-Name": "wait-other"})
        assert wrong.json()["error"]["code"] == t.HEADER_MISMATCH
