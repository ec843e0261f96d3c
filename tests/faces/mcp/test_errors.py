"""A mistake is answered with what was wrong and with corrections that are accepted."""

from datetime import timedelta
from typing import Any

import pytest

from tests.faces.mcp.house import House
from tests.faces.mcp.speakers import Speaker

MISTAKES: list[tuple[str, dict[str, Any], str, str | None]] = [
    ("create_event", {"name": "n", "schedule": "15m"}, "invalid_schedule", "schedule"),
    ("create_event", {"name": "n", "schedule": "0 0 30 2 *"}, "never_happens", "schedule"),
    ("create_event", {"name": "n", "schedule": "30 0 9 * * *"}, "invalid_schedule", "schedule"),
    ("create_event", {"name": "n", "schedule": "@daily", "timezone": "EDT"}, "unknown_timezone", "timezone"),
    ("create_event", {"name": "n", "schedule": "@daily", "timezone": "europe/paris"}, "unknown_timezone", "timezone"),
    ("create_event", {"name": "n", "schedule": "@daily", "action": "example.com/hook"}, "invalid_action", "action"),
    ("create_event", {"name": "n", "schedule": "@daily", "catch_up": "al"}, "invalid_argument", "catch_up"),
    ("create_event", {"name": "n" * 201, "schedule": "@daily"}, "invalid_argument", "name"),
    ("create_event", {"name": "n", "schedule": "@daily", "max_occurrences": 0}, "invalid_argument", "max_occurrences"),
    ("create_event", {"name": "n", "schedule": "@daily", "expires_after": "5"}, "invalid_duration", "expires_after"),
    ("create_event", {"name": "n", "schedul": "@daily", "timzone": "UTC"}, "unknown_argument", "schedul"),
    ("create_event", {"name": "n", "schedule": "@daily", "tags": "home"}, "invalid_argument", "tags"),
    ("update_event", {"event_id": "k", "changes": {"schedule": "15m"}}, "invalid_schedule", "changes.schedule"),
    ("update_event", {"event_id": "k", "changes": {"shedule": "@daily"}}, "unknown_argument", "changes.shedule"),
    (
        "update_event",
        {"event_id": "k", "description": "d", "changes": {"name": "m"}},
        "unknown_argument",
        "changes.description",
    ),
    ("update_event", {"event_id": "k", "changes": {"action": "x.example"}}, "invalid_action", "changes.action"),
    ("update_event", {"event_id": "k", "do": "snooze"}, "invalid_argument", "until"),
    ("update_event", {"event_id": "k", "until": "1h"}, "invalid_argument", "until"),
    ("update_event", {"event_id": "k", "until": "x"}, "invalid_argument", "until"),
    ("update_event", {"event_id": "k", "until": "2001-01-01T00:00:00Z"}, "invalid_argument", "until"),
    ("update_event", {"event_id": "k", "do": "resume", "until": "1h"}, "invalid_argument", "until"),
    ("update_event", {"event_id": "k"}, "nothing_to_do", None),
    ("list_events", {"limit": 51}, "invalid_argument", "limit"),
    ("list_events", {"status": "activ"}, "invalid_argument", "status"),
    ("create_event", {"name": " " * 201, "schedule": "@daily"}, "invalid_argument", "name"),
    ("create_event", {"name": "n", "schedule": 5}, "invalid_argument", "schedule"),
    ("create_event", {"name": "n", "schedule": "@daily", "timezone": 5}, "invalid_argument", "timezone"),
    ("create_event", {"name": "n", "schedule": "@daily", "start_time": 5}, "invalid_argument", "start_time"),
    ("create_event", {"name": "n", "schedule": "@daily", "expires_after": 5}, "invalid_argument", "expires_after"),
    ("create_event", {"name": "n", "schedule": "@daily", "key": "a b" * 60}, "invalid_argument", "key"),
    ("create_event", {"name": "n", "schedule": "@daily", "exclusions": "x"}, "invalid_argument", "exclusions"),
    ("create_event", {"name": "n", "schedule": "@daily", "exclusions": "2030-12-25"}, "invalid_argument", "exclusions"),
    ("create_event", {"name": "n", "schedule": "@daily", "tags": ""}, "invalid_argument", "tags"),
    ("create_event", {"name": "n", "schedule": "@daily", "metadata": "x"}, "invalid_argument", "metadata"),
    ("create_event", {"name": "n", "schedule": "@daily", "metadata": "a\0b"}, "invalid_argument", "metadata"),
    ("create_event", {"name": "n", "schedule": "@daily", "metadata": "x" * 70_000}, "invalid_argument", "metadata"),
    ("create_event", {"name": "n", "schedule": "@daily", "action": 5}, "invalid_argument", "action"),
    ("create_event", {"name": "n", "schedule": "@daily", "ack": "no"}, "invalid_argument", "ack"),
    ("update_event", {"event_id": "k", "changes": {"key": "z"}}, "unknown_argument", "changes.key"),
    ("update_event", {"event_id": "k", "do": "snoze"}, "invalid_argument", "do"),
    ("update_event", {"event_id": "k", "do": "resum", "until": "1h"}, "invalid_argument", "do"),
    ("update_event", {"event_id": "k", "do": "pause", "until": 5}, "invalid_argument", "until"),
    (
        "create_event",
        {"name": "n", "schedule": "@daily", "max_occurrences": True},
        "invalid_argument",
        "max_occurrences",
    ),
    ("list_events", {"limit": True}, "invalid_argument", "limit"),
    ("wait_for_occurrences", {"seconds": True}, "invalid_argument", "seconds"),
    ("list_events", {"cursor": 5}, "invalid_argument", "cursor"),
    ("list_events", {"q": 5}, "invalid_argument", "q"),
    ("list_events", {"tags": "t"}, "invalid_argument", "tags"),
    ("list_occurrences", {"status": "failed"}, "invalid_argument", "status"),
    ("list_occurrences", {"status": "x"}, "invalid_argument", "status"),
    ("list_occurrences", {"since": 5}, "invalid_argument", "since"),
    ("list_occurrences", {"since": "yesterday"}, "invalid_schedule", "since"),
    ("wait_for_occurrences", {"seconds": 90}, "invalid_argument", "seconds"),
    ("list_events", {"limit": "many"}, "invalid_argument", "limit"),
    ("list_events", {"event_id": ""}, "event_not_found", None),
    ("update_event", {"event_id": "k", "do": "snooze", "until": "400d"}, "invalid_argument", "until"),
    ("wait_for_occurrences", {"seconds": -1}, "invalid_argument", "seconds"),
]


@pytest.mark.parametrize(("tool", "arguments", "code", "field"), MISTAKES)
async def test_each_offered_fix_merged_into_the_call_is_accepted(
    house: House, tool: str, arguments: dict[str, Any], code: str, field: str | None
) -> None:
    await house.event(key="k", schedule="@daily")
    await house.comes_due(timedelta(days=1))  # so that a wait is answered at once
    async with house.speaker("2026-07-28") as alice:
        refused = await alice.call(tool, **arguments)
        assert refused.is_error, refused.text
        assert (refused["code"], refused.shown.get("field")) == (code, field), refused.text
        assert set(refused.shown) <= {"says", "error", "code", "field", "fix", "now"}
        assert "pydantic" not in refused.text
        trying = {"dry_run": True} if tool in ("create_event", "update_event") else {}
        for fix in refused.shown.get("fix", []):
            accepted = await alice.call(tool, **{**arguments, **fix, **trying})
            assert not accepted.is_error, (fix, accepted.text)


async def test_an_unknown_tool_is_told_the_tools_there_are(alice: Speaker) -> None:
    refused = await alice.call("make_event")
    assert refused.is_error
    assert refused["code"] == "unknown_tool"
    assert "create_event" in refused["error"]


async def test_what_is_absent_and_what_is_another_s_read_the_same(alice: Speaker, house: House) -> None:
    theirs = await house.event("bob", key="theirs")
    absent = "01a40051-6a80-70f4-a5a2-c535109b277b"
    for tool in ("update_event", "delete_event", "trigger"):
        other = await alice.call(tool, event_id=str(theirs.id))
        none = await alice.call(tool, event_id=absent)
        assert other.shown == {**none.shown, **_with(none.shown, absent, str(theirs.id))}
    assert (await alice.call("list_events", event_id="theirs"))["code"] == "event_not_found"


def _with(shown: dict[str, Any], before: str, after: str) -> dict[str, Any]:
    return {name: text.replace(before, after) if isinstance(text, str) else text for name, text in shown.items()}


async def test_a_token_that_may_only_read_is_told_so(house: House) -> None:
    await house.event(key="k")
    async with house.speaker("2025-11-25", "reader") as reader:
        assert (await reader.call("list_events", event_id="k"))["event"]["by"] == "you"
        refused = await reader.call("update_event", event_id="k", do="pause")
        assert refused["code"] == "forbidden"
        assert (await reader.call("create_event", name="n", schedule="@daily"))["code"] == "forbidden"
        raw = await reader.client.call_tool("delete_event", {"event_id": "k"})
        assert raw.meta is not None
        assert raw.meta["mcp/www_authenticate"] == ['Bearer error="insufficient_scope"']
        assert (await reader.call("wait_for_occurrences", seconds=0))["occurrences"] == []


async def test_null_is_the_same_as_absent_and_text_that_looks_like_json_stays_text(alice: Speaker) -> None:
    made = await alice.call(
        "create_event", name="n", schedule="@daily", key="k", description='{"a": 1}', action=None, tags=None
    )
    assert not made.is_error, made.text
    shown = await alice.call("list_events", event_id="k", q=None, limit=None)
    assert shown["event"]["untrusted"]["description"] == '{"a": 1}'


async def test_a_list_or_object_sent_as_json_text_is_understood(alice: Speaker) -> None:
    made = await alice.call(
        "create_event",
        name="n",
        schedule="@daily",
        key="k",
        tags='["a", "b"]',
        metadata='{"x": 1}',
        max_occurrences="3",
    )
    assert not made.is_error, made.text
    untrusted = (await alice.call("list_events", event_id="k"))["event"]["untrusted"]
    assert (untrusted["tags"], untrusted["metadata"]) == (["a", "b"], {"x": 1})


async def test_a_crash_tells_nothing_of_itself(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def crash(*_: object, **__: object) -> None:
        raise RuntimeError("the password is hunter2")

    monkeypatch.setattr(house.core.events, "list", crash)
    async with house.speaker("2025-11-25") as alice:
        result = await alice.client.call_tool("list_events", {})
    assert result.is_error
    assert "hunter2" not in result.model_dump_json()
