"""How the extension rides on HTTP and on a pipe, and that what is told has the shape that was promised."""

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from jsonschema import Draft202012Validator

from qhronos_core.domain.announcement import Topic, wanted
from qhronos_core.domain.journal import Cursor
from qhronos_core.usecases.announcements import Announcements
from tests.faces.mcp.house import House
from tests.faces.mcp.speakers import MODERN
from tests.faces.mcp.test_stdio import a_process, told
from tests.faces.mcp_events.asking import ask, headers, post, request, streaming
from tests.faces.mcp_events.calling import Caller, forgotten
from tests.faces.mcp_events.receiver import Receiver
from tests.world import GONE, HOOK, REFUSE

SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"


# --- HTTP ------------------------------------------------------------------------------------------------


async def sent(house: House, method: str, more: dict[str, str] | None = None, **params: Any) -> httpx2.Response:
    async with house.http() as http:
        return await http.post(house.url, json=request(method, **params), headers={**headers(method), **(more or {})})


@pytest.mark.parametrize(
    ("method", "params", "status", "code"),
    [
        ("events/list", {}, 200, None),
        ("events/poll", {"name": "occurrence.due"}, 200, None),
        ("events/poll", {"name": 5}, 400, -32602),
        ("events/poll", {"name": "no.such"}, 200, -32023),
        ("events/stream", {"name": "no.such"}, 200, -32023),
        ("events/stream", {"name": "occurrence.due", "maxAgeMs": "x", "cursor": "y"}, 400, -32602),
        ("events/nonsense", {}, 404, -32601),
    ],
)
async def test_each_answer_rides_on_its_status(
    house: House, method: str, params: dict[str, Any], status: int, code: int | None
) -> None:
    answer = await sent(house, method, **params)
    assert answer.status_code == status
    assert answer.json().get("error", {}).get("code") == code
    if code is None:
        assert answer.json()["result"]["resultType"] == "complete"


async def test_subscribing_and_unsubscribing_answer_complete(caller: Caller, receiver: Receiver) -> None:
    granted = await post(caller.house, "events/subscribe", **caller.asked(receiver.url))
    assert granted["result"]["resultType"] == "complete"
    assert {"id", "refreshBefore", "cursor", "truncated"} <= set(granted["result"])
    assert "secret" not in json.dumps(granted)
    delivery = {"url": receiver.url}
    ended = await post(caller.house, "events/unsubscribe", name="occurrence.due", arguments={}, delivery=delivery)
    assert ended["result"]["resultType"] == "complete"


@pytest.mark.parametrize("name", ["occurrence.due", "something else"])
async def test_a_name_header_is_not_asked_for_and_not_looked_at(house: House, name: str) -> None:
    answer = await sent(house, "events/poll", {"Mcp-Name": name}, name="occurrence.due")
    assert answer.status_code == 200


async def test_a_method_header_that_differs_is_refused(house: House) -> None:
    async with house.http() as http:
        answer = await http.post(house.url, json=request("events/list"), headers=headers("events/poll"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32020)


async def test_without_a_principal_there_is_nothing(house: House) -> None:
    async with httpx2.AsyncClient() as http:
        for method in ("events/list", "events/poll", "events/stream", "events/subscribe", "events/unsubscribe"):
            answer = await http.post(house.url, json=request(method), headers=headers(method))
            assert answer.status_code == 401


# --- a pipe ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("legacy", [False, True], ids=["modern", "legacy"])
async def test_two_streams_on_one_pipe_are_told_apart_and_one_is_cancelled(tmp_path: Path, legacy: bool) -> None:
    async with a_process(tmp_path) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def write(message: dict[str, Any]) -> None:
            assert process.stdin is not None
            if legacy:
                message.get("params", {}).pop("_meta", None)
            process.stdin.write(json.dumps(message).encode() + b"\n")

        async def read() -> dict[str, Any]:
            assert process.stdout is not None
            message: dict[str, Any] = json.loads(await asyncio.wait_for(process.stdout.readline(), 20))
            return message

        if legacy:
            hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
            await told(process, {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello})
            write({"jsonrpc": "2.0", "method": "notifications/initialized"})
        for request_id in (7, "seven"):
            write(request("events/stream", request_id, name="occurrence.due"))
        opened = [await read(), await read()]
        assert {message["method"] for message in opened} == {"notifications/events/active"}
        assert [type(message["params"]["_meta"][SUBSCRIPTION]) for message in opened].count(int) == 1

        arguments = {"name": "n", "schedule": "in 1 day", "key": "k"}
        write(request("tools/call", "make", name="create_event", arguments=arguments))
        assert (await read())["id"] == "make"
        write({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}})
        write(request("tools/call", "run", name="trigger", arguments={"event_id": "k"}))
        heard = [await read(), await read()]
        [event] = [message for message in heard if "method" in message]
        assert event["method"] == "notifications/events/event"
        assert event["params"]["_meta"][SUBSCRIPTION] == "seven"
        write(request("events/list", "last"))
        assert (await read())["id"] == "last"  # nothing of the one that was cancelled, not even an answer


# --- shapes ----------------------------------------------------------------------------------------------


async def every_kind(house: House) -> dict[str, list[dict[str, Any]]]:
    """Everything there is to be told, as an admin hears it, by type."""
    async with house.speaker(MODERN, "admin") as admin:
        begin = (await ask(admin, "poll", name="occurrence.due"))["cursor"]
        plain = await house.event(name="plain", metadata={"k": [1]}, description="d")
        hook = await house.event(name="hook", schedule="every 1h", action=HOOK, expires_after="10m", catch_up="none")
        house.world.courier.will(REFUSE, GONE)
        await house.comes_due()
        await house.comes_due(timedelta(minutes=1))
        await house.comes_due(timedelta(hours=5))
        async with house.speaker(MODERN) as alice:
            [item] = (await alice.call("wait_for_occurrences", seconds=0))["occurrences"]
            await alice.call("acknowledge_occurrence", occurrence_id=item["id"], outcome="done")
        late = await house.event(name="late", schedule="every 1h", catch_up="none")
        await house.comes_due(timedelta(hours=7))
        for event in (plain, hook, late):
            await house.core.events.delete(event.id, caller=await house.principal("admin"))
        await house.comes_due()
        return {topic.value: (await ask(admin, "poll", name=topic.value, cursor=begin))["events"] for topic in Topic}


async def test_what_is_told_has_the_shape_and_the_id_that_were_promised(house: House) -> None:
    described = {one["name"]: one for one in (await post(house, "events/list"))["result"]["events"]}
    heard = await every_kind(house)
    for name, events in heard.items():
        schema = described[name]["payloadSchema"]
        Draft202012Validator.check_schema(schema)
        Draft202012Validator.check_schema(described[name]["inputSchema"])
        validator = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
        assert events, name
        kind = name.partition(".")[2]
        for told_ in events:
            validator.validate(told_["data"])
            assert set(told_["data"]) <= set(schema["properties"]), told_
            assert (told_["name"], told_["timestamp"][-1]) == (name, "Z")
            assert "type" not in told_
            subject = told_["data"]["occurrence_id" if name.startswith("occurrence.") else "event_id"]
            if name == "occurrence.due":
                assert told_["eventId"] == subject
            elif name.startswith("occurrence."):
                assert told_["eventId"] == f"{subject}-{kind}"
            else:
                assert told_["eventId"].startswith(f"{subject}-{kind}-")
    every = [told_["eventId"] for events in heard.values() for told_ in events]
    assert len(every) == len(set(every))


async def test_an_item_whose_lease_lapsed_is_due_again_under_another_id(house: House) -> None:
    async with house.speaker(MODERN) as alice:
        cursor = (await ask(alice, "poll", name="occurrence.due"))["cursor"]
        await house.event()
        await house.comes_due()
        for _ in range(2):
            [item] = (await alice.call("wait_for_occurrences", seconds=0))["occurrences"]
            await house.comes_due(timedelta(minutes=16))
        ids = [one["eventId"] for one in (await ask(alice, "poll", name="occurrence.due", cursor=cursor))["events"]]
    assert ids[0] == item["id"]
    assert len(set(ids)) == len(ids) == 3
    assert all(one.startswith(f"{item['id']}-r") for one in ids[1:])


# --- where to begin --------------------------------------------------------------------------------------


async def test_a_cursor_older_than_what_is_kept_goes_on_from_the_oldest_and_says_so(house: House) -> None:
    async with house.speaker(MODERN) as alice:
        old = (await ask(alice, "poll", name="occurrence.due"))["cursor"]
        await house.event()
        await house.comes_due()
        await forgotten(house)
        kept = await house.event()
        await house.comes_due()
        answer = await ask(alice, "poll", name="occurrence.due", cursor=old)
        assert answer["truncated"] is True
        assert [one["data"]["event_id"] for one in answer["events"]] == [str(kept.id)]
        again = await ask(alice, "poll", name="occurrence.due", cursor=answer["cursor"])
        assert (again["truncated"], again["events"]) == (False, [])


async def test_a_cursor_of_another_journal_begins_now(house: House) -> None:
    await house.event()
    await house.comes_due()
    announcements = Announcements(house.world.store)
    alice = await house.principal()
    batch = await announcements.after(Cursor(uuid4(), 0), wanted(Topic.OCCURRENCE_DUE, {}), caller=alice, limit=10)
    assert (batch.announcements, batch.truncated) == ((), True)
    assert batch.cursor == await announcements.end()


async def test_an_age_without_a_cursor_is_not_looked_at(house: House) -> None:
    for age in (0, 60_000, -1, "x"):
        answer = await post(house, "events/poll", name="occurrence.due", maxAgeMs=age)
        assert (answer["result"]["events"], answer["result"]["truncated"]) == ([], False)


async def test_a_gap_in_mid_stream_is_another_active_from_before_what_follows(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with streaming(house, name="occurrence.due") as frames:
        first = await frames.notified("active")
        assert first["truncated"] is False
        # While the stream waits, the journal goes on and is cut behind its back: told all at once, as after a long stall.
        [stream] = house.face.hub.watching
        with monkeypatch.context() as stalled:
            stalled.setattr(stream, "stir", lambda: None)
            await house.event()
            await house.comes_due()
            await forgotten(house)
            event = await house.event()
            await house.comes_due()
        stream.stir()
        gap = await frames.notified("active")
        assert gap["truncated"] is True
        one = await frames.notified("event")
        assert one["data"]["event_id"] == str(event.id)
    async with house.speaker(MODERN) as alice:
        since = await ask(alice, "poll", name="occurrence.due", cursor=gap["cursor"])
    assert [told_["eventId"] for told_ in since["events"]] == [one["eventId"]]
