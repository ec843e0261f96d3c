"""The eight tools, each in every protocol version."""

import asyncio
import base64
import json
from datetime import datetime, timedelta

import pytest

from qhronos_core.domain.occurrence import Reason
from tests.faces.mcp.house import House
from tests.faces.mcp.speakers import Speaker
from tests.world import REFUSE

TOOLS = [
    "create_event",
    "list_events",
    "update_event",
    "delete_event",
    "list_occurrences",
    "wait_for_occurrences",
    "acknowledge_occurrence",
    "trigger",
]
HINTS = {  # read-only, destructive, idempotent, open world
    "create_event": "---o",
    "list_events": "r-i-",
    "update_event": "-d-o",
    "delete_event": "-di-",
    "list_occurrences": "r-i-",
    "wait_for_occurrences": "----",
    "acknowledge_occurrence": "--i-",
    "trigger": "---o",
}
HOOK = "https://receiver.example/hook?secret=1"


async def test_the_tools_are_listed_in_a_stable_order_with_all_four_hints(alice: Speaker) -> None:
    tools = (await alice.client.list_tools()).tools
    assert [tool.name for tool in tools] == TOOLS
    for tool in tools:
        hints = tool.annotations
        assert hints is not None
        told = (hints.read_only_hint, hints.destructive_hint, hints.idempotent_hint, hints.open_world_hint)
        assert None not in told
        assert "".join(letter if hint else "-" for letter, hint in zip("rdio", told, strict=True)) == HINTS[tool.name]
        assert tool.output_schema is None


async def test_the_bounds_of_every_number_are_said_in_json_schema_s_own_words(alice: Speaker) -> None:
    tools = {tool.name: tool.input_schema["properties"] for tool in (await alice.client.list_tools()).tools}

    def bounds(tool: str, argument: str) -> tuple[object, object]:
        said = tools[tool][argument]
        assert set(said) <= {"type", "description", "default", "minimum", "maximum"}
        return said.get("minimum"), said.get("maximum")

    assert bounds("create_event", "max_occurrences") == (1, None)
    assert bounds("list_events", "limit") == (1, 50)
    assert bounds("list_occurrences", "limit") == (1, 50)
    assert bounds("wait_for_occurrences", "seconds") == (0, 50)
    assert bounds("wait_for_occurrences", "limit") == (1, 10)


async def test_an_event_is_created_and_said_back_in_words(alice: Speaker) -> None:
    made = await alice.call(
        "create_event", name="Stand-up", schedule="every weekday at 9am", timezone="Europe/Paris", key="standup"
    )
    assert not made.is_error
    assert made["result"] == "created"
    assert made["now"] == "Mon 2027-03-01T09:00:00Z"
    assert made["event"]["key"] == "standup"
    assert made["event"]["status"] == "active"
    assert "Europe/Paris" in made["event"]["meaning"]
    assert made["event"]["next"] == [
        "Tue 2027-03-02T09:00:00+01:00",
        "Wed 2027-03-03T09:00:00+01:00",
        "Thu 2027-03-04T09:00:00+01:00",
    ]
    assert made["event"]["next"][0] in made["says"]


async def test_the_text_of_a_result_is_the_same_object_as_compact_json(alice: Speaker) -> None:
    made = await alice.call("create_event", name="x", schedule="every 15m")
    assert json.loads(made.text) == made.shown
    assert made.text.startswith('{"says":"')
    assert ": " not in made.text.replace(made["says"], "").replace(made["event"]["meaning"], "")


async def test_creating_with_a_key_is_safe_to_repeat(alice: Speaker) -> None:
    async def create(**changed: str) -> tuple[str, str]:
        made = await alice.call("create_event", **{"name": "n", "schedule": "@daily", "key": "k", **changed})
        return made["result"], made["event"]["id"]

    first, event_id = await create(timezone="Asia/Tokyo", description="d")
    assert first == "created"
    assert await create() == ("unchanged", event_id)  # what is not named stays: the zone, the description
    assert await create(schedule="@weekly") == ("updated", event_id)
    one = await alice.call("list_events", event_id="k")
    assert one["event"]["timezone"] == "Asia/Tokyo"
    assert one["event"]["untrusted"]["description"] == "d"


async def test_a_dry_run_previews_and_keeps_nothing(alice: Speaker) -> None:
    preview = await alice.call("create_event", name="n", schedule="@daily", dry_run=True)
    assert preview["result"] == "preview"
    assert "id" not in preview["event"]
    assert len(preview["event"]["next"]) == 3
    assert (await alice.call("list_events"))["of"] == 0


@pytest.mark.parametrize(
    ("action", "shown"),
    [
        ("inbox", {"type": "inbox"}),
        (HOOK, {"type": "webhook", "target": "https://receiver.example"}),
        ("websocket:desk-1", {"type": "websocket", "target": "desk-1"}),
        (
            {"type": "apicall", "params": {"method": "PUT", "url": "https://api.example:8443/x"}},
            {"type": "apicall", "target": "https://api.example:8443"},
        ),
    ],
)
async def test_an_action_has_short_forms_and_shows_its_host_alone(
    house: House, action: object, shown: dict[str, str]
) -> None:
    async with house.speaker("2026-07-28") as alice:
        made = await alice.call("create_event", name="n", schedule="@daily", action=action, key="k")
        assert not made.is_error, made.text
        assert (await alice.call("list_events", event_id="k"))["event"]["action"] == shown


async def test_a_webhook_secret_is_never_shown_but_told_of(alice: Speaker) -> None:
    made = await alice.call("create_event", name="n", schedule="@daily", action=HOOK)
    assert [warning["code"] for warning in made["warnings"]] == ["secret_made"]
    assert "whsec_" not in made.text


async def test_events_are_found_newest_first_and_page_by_page(alice: Speaker, house: House) -> None:
    for number in range(6):
        house.world.clock.advance(seconds=1)
        await alice.call("create_event", name=f"n{number}", schedule="@daily", key=f"k{number}", tags=["t"])
    page = await alice.call("list_events")
    assert [row["event"] for row in page["events"]] == ["k5", "k4", "k3", "k2"]
    assert page["of"] == 6
    assert page["events"][0] == {
        "event": "k5",
        "meaning": page["events"][0]["meaning"],
        "next": "Tue 2027-03-02T00:00:00Z",
        "untrusted": {"name": "n5"},
    }
    rest = await alice.call("list_events", cursor=page["more"])
    assert [row["event"] for row in rest["events"]] == ["k1", "k0"]
    assert "more" not in rest.shown


async def test_a_cursor_is_bound_to_its_filter(alice: Speaker) -> None:
    for number in range(2):
        await alice.call("create_event", name="n", schedule="@daily", key=f"k{number}", tags=["t"])
    more = (await alice.call("list_events", limit=1, tags=["t"]))["more"]
    assert not (await alice.call("list_events", limit=2, tags=["t"], cursor=more)).is_error
    for other in (await alice.call("list_events", cursor=more), await alice.call("list_events", cursor="zzz")):
        assert other.is_error
        assert other["code"] == "invalid_cursor"
        assert other["fix"] == [{"cursor": None}]


async def test_a_very_frequent_event_is_warned_of(alice: Speaker) -> None:
    async def warned(schedule: str, **more: object) -> list[str]:
        made = await alice.call("create_event", name="n", schedule=schedule, dry_run=True, **more)
        return [warning["says"] for warning in made.shown.get("warnings", []) if warning["code"] == "very_frequent"]

    assert await warned("every 5s") == ["This is very frequent: 17,280 runs a day."]
    assert await warned("* * * * *") == ["This is very frequent: 1,440 runs a day."]
    assert await warned("every 2m") == []
    assert await warned("every weekday at 9am") == []


@pytest.mark.parametrize(
    ("until", "instant"),
    [
        ("tomorrow 09:00", "2027-03-02T00:00:00Z"),
        ("today at 11pm", "2027-03-01T14:00:00Z"),
        ("On Friday at noon", "2027-03-05T03:00:00Z"),
        ("2h", "2027-03-01T11:00:00Z"),
    ],
)
async def test_an_instant_may_be_said_in_words_in_the_event_s_zone(alice: Speaker, until: str, instant: str) -> None:
    """mcp.md §3.3: durations and instants take the words of schedules.md, §4 of which has these."""
    await alice.call("create_event", name="n", schedule="0 21 * * 1", timezone="Asia/Tokyo", key="k")
    await alice.call("update_event", event_id="k", do="pause", until=until)
    shown = (await alice.call("list_events", event_id="k"))["event"]
    assert datetime.fromisoformat(shown["paused_until"][4:]) == datetime.fromisoformat(instant)


async def test_a_snooze_a_bound_and_a_filter_take_words_too(alice: Speaker) -> None:
    made = await alice.call(
        "create_event",
        name="n",
        schedule="every day at 9am",
        timezone="Asia/Tokyo",
        key="k",
        start_time="tomorrow 09:00",
        end_time="on friday at 9am",
    )
    assert [at[4:14] for at in made["event"]["next"]] == ["2027-03-02", "2027-03-03", "2027-03-04"]
    snoozed = await alice.call("update_event", event_id="k", do="snooze", until="tomorrow at noon")
    assert snoozed["event"]["next"][0] == "Tue 2027-03-02T12:00:00+09:00"
    moved = await alice.call("update_event", event_id="k", changes={"end_time": "on thursday at 9am"})
    assert len(moved["event"]["next"]) == 3
    bounds = {"since": "on wednesday at midnight", "until": "on thursday at midnight"}
    [row] = (await alice.call("list_occurrences", event_id="k", upcoming=True, **bounds))["occurrences"]
    assert row["due"] == "Wed 2027-03-03T09:00:00+09:00"
    zoned = await alice.call(
        "update_event", event_id="k", changes={"timezone": "EST5"}, do="pause", until="today 23:00"
    )
    assert zoned["code"] == "unknown_timezone"


async def test_events_are_found_by_text_tag_and_status(alice: Speaker) -> None:
    await alice.call("create_event", name="water the plants", schedule="@daily", key="a", tags=["home"])
    await alice.call("create_event", name="pay", schedule="@daily", key="b", tags=["money"])
    await alice.call("update_event", event_id="b", do="pause")

    async def found(**filters: object) -> list[str]:
        return [row["event"] for row in (await alice.call("list_events", **filters))["events"]]

    assert await found(q="PLANTS") == ["a"]
    assert await found(tags=["money", "other"]) == ["b"]
    assert await found(status="paused") == ["b"]
    assert (await alice.call("list_events", status="paused"))["events"][0]["status"] == "paused"


async def test_one_event_in_full_says_whose_wish_it_is(alice: Speaker) -> None:
    await alice.call(
        "create_event",
        name="n",
        schedule="0 9 * * *",
        key="k",
        description="d",
        metadata={"a": None},
        catch_up="none",
        overlap="skip",
        expires_after="2h",
    )
    event = (await alice.call("list_events", event_id="k"))["event"]
    assert event["schedule"] == "0 9 * * *"
    assert event["by"] == "you"
    assert (event["catch_up"], event["overlap"], event["expires_after"]) == ("none", "skip", "2h")
    assert event["untrusted"] == {"name": "n", "description": "d", "metadata": {"a": None}}


async def test_an_event_is_changed_paused_resumed_skipped_and_snoozed(alice: Speaker) -> None:
    await alice.call("create_event", name="n", schedule="@daily", key="k")

    async def update(**arguments: object) -> dict[str, object]:
        updated = await alice.call("update_event", event_id="k", **arguments)
        assert not updated.is_error, updated.text
        return updated.shown

    changed = await update(changes={"schedule": "@weekly", "description": "new"})
    assert changed["result"] == "updated"
    assert (await update(changes={"description": "new"}))["result"] == "unchanged"
    assert (await update(do="pause"))["event"]["status"] == "paused"  # type: ignore[index]
    assert (await update(do="resume"))["event"]["status"] == "active"  # type: ignore[index]
    assert (await update(do="skip_next"))["skipped"] == "Sun 2027-03-07T00:00:00Z"
    snoozed = await update(do="snooze", until="90m")
    assert snoozed["event"]["next"][0] == "Sun 2027-03-14T01:30:00Z"  # type: ignore[index]
    assert (await update(do="pause", until="2027-04-01T00:00:00Z"))["event"]["status"] == "paused"  # type: ignore[index]
    assert (await update(changes={"description": None}, dry_run=True))["result"] == "preview"
    assert (await alice.call("list_events", event_id="k"))["event"]["untrusted"]["description"] == "new"


async def test_a_deleted_event_is_gone_and_deleting_again_says_so(alice: Speaker) -> None:
    made = await alice.call("create_event", name="n", schedule="@daily", key="k")
    deleted = await alice.call("delete_event", event_id="k")
    assert deleted["result"] == "deleted"
    assert deleted["event"] == {"id": made["event"]["id"], "key": "k"}
    again = await alice.call("delete_event", event_id=made["event"]["id"])
    assert again.is_error
    assert again["code"] == "event_not_found"


async def test_what_is_coming_has_ids_already_and_pages(alice: Speaker, house: House) -> None:
    await alice.call("create_event", name="a", schedule="every 30m", key="a")
    await alice.call("create_event", name="b", schedule="every 1h", key="b")
    page = await alice.call("list_occurrences", upcoming=True)
    assert [(row["event"], row["due"][15:20], row["status"]) for row in page["occurrences"]] == [
        ("a", "09:30", "pending"),
        *sorted([("a", "10:00", "pending"), ("b", "10:00", "pending")]),
        ("a", "10:30", "pending"),
    ] or [row["due"][15:20] for row in page["occurrences"]] == ["09:30", "10:00", "10:00", "10:30"]
    rest = await alice.call("list_occurrences", upcoming=True, cursor=page["more"])
    assert [row["due"][15:20] for row in rest["occurrences"]] == ["11:00", "11:00", "11:30", "12:00"]
    first_id = page["occurrences"][0]["id"]
    await house.comes_due(timedelta(minutes=30))
    one = await alice.call("list_occurrences", occurrence_id=first_id)
    assert one["occurrence"]["status"] == "dispatched"


async def test_a_page_of_coming_runs_may_end_between_runs_of_one_instant(house: House) -> None:
    async with house.speaker("2026-07-28") as alice:
        for key in "abc":
            await alice.call("create_event", name=key, schedule="@hourly", key=key)
        seen, cursor = [], None
        for _ in range(4):
            page = await alice.call("list_occurrences", upcoming=True, limit=2, cursor=cursor)
            seen += [(row["due"], row["event"]) for row in page["occurrences"]]
            cursor = page["more"]
        assert len(set(seen)) == 8
        assert seen == sorted(seen, key=lambda row: row[0])


async def test_what_happened_is_told_newest_first_without_what_is_planned(alice: Speaker, house: House) -> None:
    event = await house.event(schedule="every 1h", key="k")
    await house.comes_due()
    await house.comes_due()
    page = await alice.call("list_occurrences", event_id="k")
    assert [row["due"][15:20] for row in page["occurrences"]] == ["11:00", "10:00"]
    assert {row["status"] for row in page["occurrences"]} == {"dispatched"}
    assert page["of"] == 2
    since = await alice.call("list_occurrences", event_id=str(event.id), since="2027-03-01T10:30:00Z")
    assert len(since["occurrences"]) == 1
    until = await alice.call("list_occurrences", event_id="k", until="2027-03-01T11:00:00Z")
    assert [row["due"][15:20] for row in until["occurrences"]] == ["10:00"]


async def test_what_happened_goes_on_from_page_to_page_while_time_goes_on(house: House) -> None:
    await house.event(schedule="every 1h", key="k")
    for _ in range(3):
        await house.comes_due()
    async with house.speaker("2026-07-28") as alice:
        page = await alice.call("list_occurrences", limit=2)
        await house.comes_due()
        rest = await alice.call("list_occurrences", limit=2, cursor=page["more"])
    assert [row["due"][15:20] for row in page["occurrences"]] == ["12:00", "11:00"]
    assert [row["due"][15:20] for row in rest["occurrences"]] == ["10:00"], rest.text
    assert (rest["of"], "more" in rest.shown) == (3, False)  # of the list that was begun


@pytest.mark.parametrize("upcoming", [True, False])
async def test_a_forged_cursor_is_an_invalid_one_and_no_crash(house: House, upcoming: bool) -> None:
    await house.event(schedule="every 1h", key="k")
    for _ in range(2):
        await house.comes_due()
    instant = "2030-01-01T00:00:00+00:00"
    forged = [
        "",
        "nonsense",
        " 5",
        "2030-01-01 5",
        "0001-01-01T00:00:00+00:00 5",
        f"{instant} x",
        f"{instant} -5",
        "6 x",
    ]
    async with house.speaker("2026-07-28") as alice:
        page = await alice.call("list_occurrences", upcoming=upcoming, limit=1)
        for position in forged:
            refused = await alice.call(
                "list_occurrences", upcoming=upcoming, limit=1, cursor=_forged(page["more"], position)
            )
            assert refused.is_error, position
            assert refused["code"] == "invalid_cursor", refused.text


async def test_a_forged_cursor_makes_no_node_count_for_long(house: House) -> None:
    await house.event(schedule="every 1h", key="k")
    async with house.speaker("2026-07-28") as alice:
        page = await alice.call("list_occurrences", upcoming=True, limit=1)
        cursor = _forged(page["more"], f"2030-01-01T00:00:00+00:00 {10**8}")
        async with asyncio.timeout(5):
            far = await alice.call("list_occurrences", upcoming=True, limit=1, cursor=cursor)
    assert far["occurrences"] == []


def _forged(cursor: str, position: str) -> str:
    """The mark of that list, which is no secret, before a position of somebody's own making."""
    mark = base64.urlsafe_b64decode(cursor + "==")[:6]
    return base64.urlsafe_b64encode(mark + position.encode()).decode().rstrip("=")


async def test_one_occurrence_in_full_shows_its_attempts(alice: Speaker, house: House) -> None:
    await alice.call(
        "create_event", name="n", schedule="in 1 hour", key="k", action=HOOK, expires_after="10s", tags=["user:alice"]
    )
    house.world.courier.will(REFUSE)
    await house.comes_due()
    await house.comes_due(timedelta(seconds=20))
    [row] = (await alice.call("list_occurrences"))["occurrences"]
    assert (row["status"], row["reason"]) == ("failed", Reason.EXPIRED)
    one = (await alice.call("list_occurrences", occurrence_id=row["id"]))["occurrence"]
    [attempt] = one["attempts"]
    assert attempt["at"] == "Mon 2027-03-01T10:00:00Z"
    assert attempt["code"] == 500
    assert one["by"] == "you"


async def test_what_is_due_is_claimed_once_and_acknowledged(alice: Speaker, house: House) -> None:
    await house.event(schedule="every 1h", key="k", description="call home", metadata={"n": 1})
    await house.comes_due()
    waited = await alice.call("wait_for_occurrences")
    [item] = waited["occurrences"]
    assert item["event"] == "k"
    assert item["due"] == "Mon 2027-03-01T10:00:00Z"
    assert item["lease_until"] == "Mon 2027-03-01T10:15:00Z"
    assert item["delivery"] == 1
    assert item["by"] == "you"
    assert item["untrusted"] == {"name": "an event", "description": "call home", "metadata": {"n": 1}}
    assert waited["waiting"] == 0
    assert waited["held"] == [item["id"]]
    assert (await alice.call("wait_for_occurrences", seconds=0))["occurrences"] == []

    done = await alice.call("acknowledge_occurrence", occurrence_id=item["id"], outcome="done", note="rang")
    assert done["occurrence"] == {"id": item["id"], "status": "completed"}
    assert done["next"] == "Mon 2027-03-01T11:00:00Z"
    again = await alice.call("acknowledge_occurrence", occurrence_id=item["id"], outcome="done", note="rang")
    assert again["occurrence"] == done["occurrence"]
    other = await alice.call("acknowledge_occurrence", occurrence_id=item["id"], outcome="failed")
    assert other["code"] == "already_settled"
    one = (await alice.call("list_occurrences", occurrence_id=item["id"]))["occurrence"]
    assert one["untrusted"]["note"] == "rang"


async def test_an_empty_wait_says_when_the_next_is_due(alice: Speaker, house: House) -> None:
    await house.event(schedule="every 1h")
    empty = await alice.call("wait_for_occurrences", seconds=0)
    assert empty["occurrences"] == []
    assert empty["next_due"] == "Mon 2027-03-01T10:00:00Z"
    assert empty["held"] == []
    assert "waiting" not in empty.shown


async def test_later_offers_it_again_and_a_lapsed_lease_does_too(alice: Speaker, house: House) -> None:
    await house.event(key="k")
    await house.comes_due()
    [item] = (await alice.call("wait_for_occurrences"))["occurrences"]
    later = await alice.call("acknowledge_occurrence", occurrence_id=item["id"], outcome="later", delay="10m")
    assert later["occurrence"]["status"] == "pending"
    assert later["next"] == "Mon 2027-03-01T10:10:00Z"
    await house.comes_due(timedelta(minutes=10))
    [again] = (await alice.call("wait_for_occurrences"))["occurrences"]
    assert (again["id"], again["delivery"]) == (item["id"], 2)
    assert again["late"] == "10m"
    await house.comes_due(timedelta(minutes=15))
    [third] = (await alice.call("wait_for_occurrences"))["occurrences"]
    assert (third["id"], third["delivery"]) == (item["id"], 3)


async def test_a_delivery_is_a_claim_and_nothing_else_counts(alice: Speaker, house: House) -> None:
    await house.event(key="k")
    for _ in range(3):
        await alice.call("update_event", event_id="k", do="snooze", until="20m")
    await alice.call("update_event", event_id="k", do="pause")
    await alice.call("update_event", event_id="k", do="resume")
    await house.comes_due(timedelta(hours=2))
    [item] = (await alice.call("wait_for_occurrences"))["occurrences"]
    assert item["delivery"] == 1
    await alice.call("acknowledge_occurrence", occurrence_id=item["id"], outcome="failed")
    await alice.call("trigger", occurrence_id=item["id"])
    await house.comes_due(timedelta(0))
    [again] = (await alice.call("wait_for_occurrences"))["occurrences"]
    assert (again["id"], again["delivery"]) == (item["id"], 2)


async def test_only_what_was_asked_for_is_claimed(alice: Speaker, house: House) -> None:
    await house.event(key="a", tags=["red"])
    await house.event(key="b", tags=["blue"])
    await house.comes_due()
    assert (await alice.call("wait_for_occurrences", event_id="b"))["occurrences"][0]["event"] == "b"
    assert (await alice.call("wait_for_occurrences", seconds=0, tags=["blue"]))["occurrences"] == []
    assert (await alice.call("wait_for_occurrences", tags=["red"], limit=10))["occurrences"][0]["event"] == "a"


async def test_an_event_is_run_now_and_a_failed_occurrence_sent_again(alice: Speaker, house: House) -> None:
    await house.event(key="k")
    ran = await alice.call("trigger", event_id="k")
    assert ran["occurrence"]["status"] == "pending"
    await house.world.settle_down()
    [item] = (await alice.call("wait_for_occurrences"))["occurrences"]
    assert item["id"] == ran["occurrence"]["id"]
    refused = await alice.call("trigger", occurrence_id=item["id"])
    assert refused["code"] == "not_finished"
    await alice.call("acknowledge_occurrence", occurrence_id=item["id"], outcome="failed")
    again = await alice.call("trigger", occurrence_id=item["id"])
    assert again["occurrence"]["id"] == item["id"]
    assert again["occurrence"]["status"] == "pending"
    both = await alice.call("trigger", event_id="k", occurrence_id=item["id"])
    assert both["fix"] == [{"occurrence_id": None}, {"event_id": None}]


async def test_a_line_of_text_is_enough_for_a_host_that_shows_both(house: House) -> None:
    async with house.speaker("2025-11-25", query="?text=line") as alice:
        made = await alice.call("create_event", name="n", schedule="@daily", key="k")
        assert made.text == made["says"]
        missing = await alice.call("list_events", event_id="nope")
        assert missing.text == missing["says"]
