"""S44, for what the tools' own test does not send: polls, streams, callbacks, tasks, completions, prompts, the app, and refusals."""

import json
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Any, Final

import pytest

from qhronos_core.domain.announcement import Topic
from tests.faces.mcp.house import House
from tests.faces.mcp.speakers import MODERN
from tests.faces.mcp.test_untrusted import MARKER, TEXTS, trusted
from tests.faces.mcp_events.asking import headers, request, streaming
from tests.faces.mcp_events.calling import Caller
from tests.faces.mcp_events.receiver import Receiver
from tests.world import GONE, HOOK

TASKS: Final = "io.modelcontextprotocol/tasks"
CLIENT: Final = "io.modelcontextprotocol/clientCapabilities"


async def sent(house: House, method: str, bearer: str = "alice", **params: Any) -> dict[str, Any]:
    """The raw answer, whatever it is; of a client that can do everything."""
    body = request(method, **params)
    body["params"]["_meta"][CLIENT] = {"extensions": {TASKS: {}}}
    name = params.get("name") or params.get("uri") or params.get("taskId")
    named = {"Mcp-Name": name} if isinstance(name, str) else {}
    async with house.http(bearer) as http:
        answer = await http.post(house.url, json=body, headers={**headers(method), **named})
        shown: dict[str, Any] = answer.json()
        return shown


async def a_marked_life(house: House) -> None:
    """Events whose every text is marked, with something of every kind in the journal."""
    await house.event(key="inbox", schedule="every 1h", **TEXTS)
    await house.event(key="hook", action=HOOK, **TEXTS)
    await house.event(key="late", schedule="every 1h", catch_up="none", **TEXTS)
    house.world.courier.will(GONE)
    await house.comes_due()


async def polled(house: House, begin: str) -> AsyncIterator[dict[str, Any]]:
    for topic in Topic:
        answer = await sent(house, "events/poll", "admin", name=topic.value, cursor=begin)
        assert answer["result"]["events"], topic
        yield answer


async def test_what_is_told_by_events_holds_text_of_others_under_untrusted_alone(
    caller: Caller, receiver: Receiver
) -> None:
    house = caller.house
    begin = (await sent(house, "events/poll", "admin", name="occurrence.due"))["result"]["cursor"]
    await caller.subscribe(receiver)
    async with streaming(house, name="occurrence.due") as frames:
        heard = [await frames.next()]
        await a_marked_life(house)
        heard += [await frames.next(), await frames.next(), await frames.next()]
    await caller.look()
    async with house.speaker(MODERN) as alice:
        for key in ("inbox", "late"):
            [item] = (await alice.call("wait_for_occurrences", seconds=0, event_id=key))["occurrences"]
            outcome = "done" if key == "inbox" else "failed"
            await alice.call("acknowledge_occurrence", occurrence_id=item["id"], outcome=outcome, note=f"{MARKER} note")
        await house.comes_due(timedelta(hours=7))
        for key in ("inbox", "late"):
            await alice.call("delete_event", event_id=key)
    heard += [message async for message in polled(house, begin)]
    heard += receiver.bodies
    heard.append({name: value for headers_, _ in receiver.got for name, value in headers_.items()})
    assert sum(MARKER in json.dumps(message) for message in heard) > 8
    for message in heard:
        assert MARKER not in json.dumps(trusted(message)), message


async def test_a_task_holds_it_where_the_tool_does(house: House) -> None:
    begun = await sent(house, "tools/call", name="wait_for_occurrences", arguments={"seconds": 50})
    task = begun["result"]["taskId"]
    await house.event(**TEXTS)
    await house.comes_due()
    for _ in range(2):
        looked = await sent(house, "tasks/get", taskId=task)
        assert looked["result"]["status"] == "completed"
        result = looked["result"]["result"]
        assert MARKER in json.dumps(result["structuredContent"])
        result["content"] = [json.loads(result["content"][0]["text"])]  # the same again, as text
        assert MARKER not in json.dumps(trusted(looked))


async def test_no_refusal_list_prompt_or_page_holds_it(house: House) -> None:
    await a_marked_life(house)
    [row, *_] = await house.world.occurrences_of(await house.event(key="other", **TEXTS))
    wrong = f"{MARKER} wrong"
    asked: list[tuple[str, Mapping[str, Any]]] = [
        ("tools/list", {}),
        ("resources/list", {}),
        ("resources/templates/list", {}),
        ("prompts/list", {}),
        ("events/list", {}),
        ("server/discover", {}),
        ("prompts/get", {"name": "plan_schedule", "arguments": {"goal": "g"}}),
        ("prompts/get", {"name": "diagnose_event", "arguments": {"event_id": str(row.event_id)}}),
        ("prompts/get", {"name": wrong}),
        ("prompts/get", {"name": "plan_schedule", "arguments": {wrong: "g"}}),
        ("resources/read", {"uri": "ui://qhronos/timeline"}),
        ("resources/read", {"uri": "qhronos://guide/schedules"}),
        ("resources/read", {"uri": f"qhronos://events/{MARKER}"}),
        ("resources/read", {"uri": f"qhronos://occurrences/{MARKER}"}),
        ("tools/call", {"name": wrong, "arguments": {}}),
        ("tools/call", {"name": "create_event", "arguments": {"name": "n", "schedule": "every 1s", "key": "inbox"}}),
        ("events/poll", {"name": wrong}),
        ("events/poll", {"name": "occurrence.due", "arguments": {wrong: 1}}),
        ("events/poll", {"name": "occurrence.due", "arguments": {"event_id": wrong}}),
        ("events/poll", {"name": "occurrence.due", "cursor": wrong}),
        ("events/stream", {"name": wrong}),
        (
            "events/subscribe",
            {"name": "occurrence.due", "delivery": {"url": f"https://{MARKER}.example/", "secret": "x"}},
        ),
        ("events/unsubscribe", {"name": "occurrence.due", "delivery": {"url": f"https://{MARKER}.example/"}}),
        ("tasks/get", {"taskId": wrong}),
        ("completion/complete", completion("event_id", "")),
        ("completion/complete", completion("occurrence_id", "")),
        ("completion/complete", completion("timezone", "Eur")),
        ("completion/complete", completion(wrong, MARKER)),
    ]
    for method, params in asked:
        answer = await sent(house, method, **params)
        if method == "resources/read":
            (answer.get("error", {}).get("data") or {}).pop("uri", None)  # what was asked for, as the protocol has it
        assert MARKER not in json.dumps(trusted(answer)), (method, params)


async def test_tags_are_completed_for_a_person_and_as_they_are(house: House) -> None:
    """The one place where text of others stands by itself: the values of an argument, for whoever types it."""
    await house.event(**TEXTS)
    answer = await sent(house, "completion/complete", **completion("tag", "ignore"))
    assert answer["result"]["completion"]["values"] == [f"{MARKER} tag"]


def completion(argument: str, value: str) -> dict[str, Any]:
    ref = {"type": "ref/resource", "uri": "qhronos://calendar/{tag}.ics"}
    return {"ref": ref, "argument": {"name": argument, "value": value}}


@pytest.mark.parametrize("field", ["name", "tags"])
async def test_hidden_characters_do_not_get_in(house: House, field: str) -> None:
    """S46, over the wire of MCP."""
    text = "pay\u202eyap\u200b\U000e0041"
    given = {"name": "n", "schedule": "@daily", field: text if field == "name" else [text]}
    answer = await sent(house, "tools/call", name="create_event", arguments=given)
    assert answer["result"]["isError"]
    assert text not in json.dumps(answer, ensure_ascii=False)
