"""What is told, and asking for it: the catalogue, cursors, and nobody hears of another's event."""

import json
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from qhronos_core.domain.announcement import DATA_MOST
from tests.faces.mcp.house import House, a_house
from tests.faces.mcp.speakers import MODERN, VERSIONS
from tests.faces.mcp_events.asking import ask, post, refusal
from tests.world import GONE, REFUSE, World

HOOK = {"type": "webhook", "params": {"url": "https://receiver.example/hook"}}


async def fresh(house: House, name: str = "occurrence.due", bearer: str = "alice", **arguments: Any) -> str:
    async with house.speaker(MODERN, bearer) as speaker:
        cursor = (await ask(speaker, "poll", name=name, arguments=arguments))["cursor"]
        assert isinstance(cursor, str)
        return cursor


async def poll(house: House, bearer: str = "alice", **params: Any) -> dict[str, Any]:
    async with house.speaker(MODERN, bearer) as speaker:
        return await ask(speaker, "poll", **params)


@pytest.mark.parametrize("version", VERSIONS)
async def test_every_version_is_told_the_types_and_polls(house: House, version: str) -> None:
    async with house.speaker(version) as alice:
        listed = (await ask(alice, "list"))["events"]
        assert {one["name"] for one in listed} == {
            "occurrence.due",
            "occurrence.completed",
            "occurrence.failed",
            "occurrence.missed",
            "event.ended",
            "event.failing",
        }
        for one in listed:
            assert set(one) == {"name", "description", "delivery", "inputSchema", "payloadSchema"}
            assert ("push" in one["delivery"]) == (version == MODERN)
        cursor = (await ask(alice, "poll", name="occurrence.due"))["cursor"]
        event = await house.event()
        await house.comes_due()
        told = await ask(alice, "poll", name="occurrence.due", arguments={}, cursor=cursor)
        assert [one["data"]["event_id"] for one in told["events"]] == [str(event.id)]


async def test_both_places_of_both_handshakes_say_it(house: House) -> None:
    discovered = (await post(house, "server/discover"))["result"]["capabilities"]
    initialize = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "raw", "version": "1"},
        },
    }
    async with house.http() as http:
        answer = await http.post(house.url, json=initialize, headers={"Accept": "application/json, text/event-stream"})
    [data] = [line[5:] for line in answer.text.splitlines() if line.startswith("data:") and line[5:].strip()]
    shaken = json.loads(data)["result"]["capabilities"]
    for capabilities in (discovered, shaken):
        assert capabilities["events"] == {"listChanged": False}
        assert capabilities["extensions"]["io.modelcontextprotocol/events"] == {"listChanged": False}


async def test_an_occurrence_is_told_with_its_own_id_and_how_to_acknowledge_it(house: House) -> None:
    cursor = await fresh(house)
    event = await house.event(name="MARKER", tags=["user:alice", "x"], metadata={"k": 1})
    await house.comes_due()
    told = await poll(house, name="occurrence.due", cursor=cursor)
    [one] = told["events"]
    occurrence_id = one["data"]["occurrence_id"]
    assert one["eventId"] == occurrence_id
    assert one["timestamp"] == house.now.isoformat().replace("+00:00", "Z")
    assert one["data"]["late_ms"] == 0
    assert one["data"]["acknowledge"]["arguments"] == {"occurrence_id": occurrence_id}
    assert one["data"]["untrusted"] == {
        "name": "MARKER",
        "tags": ["user:alice", "x"],
        "description": "",
        "metadata": {"k": 1},
    }
    outside = {**one, "data": {key: value for key, value in one["data"].items() if key != "untrusted"}}
    assert "MARKER" not in json.dumps(outside)
    assert (told["hasMore"], told["truncated"]) == (False, False)
    assert told["nextPollMs"] >= 1_000
    assert "cursor" not in one
    assert str(event.id) == one["data"]["event_id"]


async def test_an_occurrence_that_falls_due_again_is_a_new_event(house: House) -> None:
    cursor = await fresh(house)
    await house.event()
    await house.comes_due()
    async with house.speaker(MODERN) as alice:
        [taken] = (await alice.call("wait_for_occurrences", seconds=0))["occurrences"]
        await alice.call("acknowledge_occurrence", occurrence_id=taken["id"], outcome="later", delay="5m")
    await house.comes_due(timedelta(minutes=5))
    first, again = [one["eventId"] for one in (await poll(house, name="occurrence.due", cursor=cursor))["events"]]
    assert again.startswith(f"{first}-r")


async def test_a_batch_is_cut_at_max_events_and_goes_on_from_its_cursor(house: House) -> None:
    cursor = await fresh(house)
    for _ in range(5):
        await house.event()
    await house.comes_due()
    seen: list[str] = []
    more = []
    for _ in range(3):
        told = await poll(house, name="occurrence.due", cursor=cursor, maxEvents=2)
        seen += [one["eventId"] for one in told["events"]]
        more.append(told["hasMore"])
        cursor = told["cursor"]
    assert more == [True, True, False]
    assert len(set(seen)) == len(seen) == 5
    assert (await poll(house, name="occurrence.due", cursor=cursor))["events"] == []


async def test_a_cursor_replays_the_same_after_a_restart(world: World, house: House, tmp_path: Any) -> None:
    cursor = await fresh(house)
    await house.event()
    await house.comes_due()
    before = await poll(house, name="occurrence.due", cursor=cursor)
    async with a_house(world, tmp_path) as another:
        after = await poll(another, name="occurrence.due", cursor=cursor)
    assert before["events"] == after["events"] != []


async def test_what_is_older_than_was_asked_for_is_skipped_and_said(house: House) -> None:
    cursor = await fresh(house)
    await house.event()
    await house.comes_due()
    late = await house.event()
    await house.comes_due()
    told = await poll(house, name="occurrence.due", cursor=cursor, maxAgeMs=60_000)
    assert [one["data"]["event_id"] for one in told["events"]] == [str(late.id)]
    assert told["truncated"]
    assert not (await poll(house, name="occurrence.due", cursor=cursor, maxAgeMs=10**9))["truncated"]


@pytest.mark.parametrize("cursor", ["", "nonsense", "A" * 32, "_" * 32])
async def test_a_cursor_of_nobody_is_a_gap_and_no_error(house: House, cursor: str) -> None:
    await house.event()
    await house.comes_due()
    told = await poll(house, name="occurrence.due", cursor=cursor)
    assert told["truncated"]
    assert told["events"] == []
    assert not (await poll(house, name="occurrence.due", cursor=told["cursor"]))["truncated"]


async def test_arguments_narrow(house: House) -> None:
    cursor = await fresh(house)
    one = await house.event(name="one", tags=["user:alice", "a"])
    other = await house.event(name="other", tags=["user:alice", "b"])
    await house.comes_due()

    async def told(**arguments: Any) -> set[str]:
        answer = await poll(house, name="occurrence.due", arguments=arguments, cursor=cursor)
        return {found["data"]["event_id"] for found in answer["events"]}

    assert await told() == {str(one.id), str(other.id)}
    assert await told(event_id=str(one.id).upper()) == {str(one.id)}
    assert await told(tags=["b", "c"]) == {str(other.id)}
    assert await told(name="one") == {str(one.id)}
    assert await told(name="one", tags=["b"]) == set()


@pytest.mark.parametrize(
    ("params", "name"),
    [
        ({"name": "no.such"}, "NotFound"),
        ({"name": "occurrence.due", "arguments": {"event_id": str(uuid4())}}, "NotFound"),
        ({"name": "occurrence.due", "arguments": {"event_id": "x"}}, "InvalidParams"),
        ({"name": "occurrence.due", "arguments": {"unknown": 1}}, "InvalidParams"),
        ({"name": "occurrence.due", "arguments": {"tags": "a"}}, "InvalidParams"),
        ({"name": "occurrence.due", "arguments": []}, "InvalidParams"),
        ({"name": "occurrence.due", "maxEvents": 0}, "InvalidParams"),
        ({"name": "occurrence.due", "cursor": 5}, "InvalidParams"),
        ({}, "InvalidParams"),
    ],
)
async def test_a_mistake_is_told_by_name_with_typed_data(house: House, params: dict[str, Any], name: str) -> None:
    async with house.speaker(MODERN) as alice:
        error = await refusal(alice, "poll", **params)
    assert error.error.message == name
    assert error.error.code == {"NotFound": -32023, "InvalidParams": -32602}[name]
    if name == "NotFound":
        assert error.error.data["kind"] == "event"


async def test_nobody_polls_what_another_token_owns(house: House) -> None:
    cursor = await fresh(house)
    theirs = await house.event("bob", name="secret")
    await house.comes_due()
    assert (await poll(house, name="occurrence.due", cursor=cursor))["events"] == []
    assert (await poll(house, name="occurrence.due", arguments={"name": "secret"}, cursor=cursor))["events"] == []
    async with house.speaker(MODERN) as alice:
        absent = await refusal(alice, "poll", name="occurrence.due", arguments={"event_id": str(uuid4())})
        hidden = await refusal(alice, "poll", name="occurrence.due", arguments={"event_id": str(theirs.id)})
    assert hidden.error.code == absent.error.code
    for bearer in ("bob", "admin", "master"):
        assert len((await poll(house, bearer, name="occurrence.due", cursor=cursor))["events"]) == 1


async def test_an_event_that_moved_out_of_reach_is_not_replayed(house: House) -> None:
    cursor = await fresh(house)
    event = await house.event(schedule="every 1h")
    await house.comes_due()
    caller = await house.principal("admin")
    await house.core.events.update(event.id, {"tags": ["user:bob"]}, caller=caller)
    assert (await poll(house, name="occurrence.due", cursor=cursor))["events"] == []
    await house.core.events.update(event.id, {"tags": ["user:alice"]}, caller=caller)
    assert len((await poll(house, name="occurrence.due", cursor=cursor))["events"]) == 1


async def test_an_event_that_has_no_run_left_has_ended_and_a_deleted_one_too_for_an_admin(house: House) -> None:
    cursor = await fresh(house, "event.ended")
    once = await house.event()
    deleted = await house.event(schedule="every 1h")
    await house.comes_due()
    await house.core.events.delete(deleted.id, caller=await house.principal())
    [told] = (await poll(house, name="event.ended", cursor=cursor))["events"]
    assert told["data"]["event_id"] == str(once.id)
    assert told["data"]["status"] == "inactive"
    assert told["eventId"].startswith(f"{once.id}-ended-")
    both = (await poll(house, "admin", name="event.ended", cursor=cursor))["events"]
    assert [(one["data"]["event_id"], one["data"]["status"]) for one in both] == [
        (str(once.id), "inactive"),
        (str(deleted.id), "deleted"),
    ]


async def test_the_third_failure_in_a_row_makes_an_event_a_failing_one_and_no_other_does(
    house: House, world: World
) -> None:
    cursor = await fresh(house, "event.failing")
    event = await house.event(schedule="every 1h", action=HOOK, retry={"max_attempts": 1})
    for _ in range(4):
        world.courier.will(REFUSE)
        await house.comes_due()
    [told] = (await poll(house, name="event.failing", cursor=cursor))["events"]
    assert told["data"]["event_id"] == str(event.id)
    assert (told["data"]["reason"], told["data"]["in_a_row"]) == ("failed_in_a_row", 3)
    failed = (await poll(house, name="occurrence.failed", cursor=cursor))["events"]
    assert len(failed) == 4
    assert failed[2]["data"]["occurrence_id"] == told["data"]["occurrence_id"]
    assert failed[0]["eventId"] == f"{failed[0]['data']['occurrence_id']}-failed"
    await house.comes_due()  # accepted
    [completed] = (await poll(house, name="occurrence.completed", cursor=cursor))["events"]
    assert completed["eventId"].endswith("-completed")


async def test_a_receiver_that_is_gone_makes_an_event_a_failing_one(house: House, world: World) -> None:
    cursor = await fresh(house, "event.failing")
    await house.event(schedule="every 1h", action=HOOK)
    world.courier.will(GONE)
    await house.comes_due()
    [told] = (await poll(house, name="event.failing", cursor=cursor))["events"]
    assert told["data"]["reason"] == "gone"


async def test_data_stays_small_and_says_what_was_left_out(house: House) -> None:
    cursor = await fresh(house)
    await house.event(metadata={"k": "é" * 3_000}, description="d" * 3_000)
    await house.comes_due()
    [told] = (await poll(house, name="occurrence.due", cursor=cursor))["events"]
    assert len(json.dumps(told["data"], ensure_ascii=False).encode()) <= DATA_MOST
    assert told["data"]["left_out"] == ["metadata"]
    assert told["data"]["untrusted"]["metadata"] == {}
