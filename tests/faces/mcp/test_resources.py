"""What is read by address."""

from datetime import timedelta
from urllib.parse import quote

import pytest
from mcp.shared.exceptions import MCPError

from tests.faces.mcp.house import House
from tests.faces.mcp.speakers import Speaker


async def test_the_lists_hold_templates_and_not_a_resource_an_event(alice: Speaker, house: House) -> None:
    await house.event()
    resources = (await alice.client.list_resources()).resources
    assert {str(resource.uri) for resource in resources} == {
        "qhronos://inbox",
        "qhronos://guide/schedules",
        "ui://qhronos/timeline",
    }
    templates = (await alice.client.list_resource_templates()).resource_templates
    assert {template.uri_template for template in templates} == {
        "qhronos://events/{event_id}",
        "qhronos://occurrences/{occurrence_id}",
        "qhronos://calendar/{tag}.ics",
    }


async def test_reading_the_inbox_claims_nothing(alice: Speaker, house: House) -> None:
    await house.event(key="a")
    assert (await alice.read_json("qhronos://inbox"))["next_due"] == "Mon 2027-03-01T10:00:00Z"
    await house.comes_due()
    for _ in range(2):
        inbox = await alice.read_json("qhronos://inbox")
        assert (inbox["due"], inbox["held"]) == (1, [])
    [row] = inbox["occurrences"]
    assert row["event"] == "a"
    assert row["untrusted"] == {"name": "an event"}
    [item] = (await alice.call("wait_for_occurrences"))["occurrences"]
    inbox = await alice.read_json("qhronos://inbox")
    assert (inbox["due"], inbox["held"]) == (0, [item["id"]])
    assert inbox["occurrences"][0]["lease_until"] == "Mon 2027-03-01T10:15:00Z"


async def test_an_event_is_read_by_id_and_by_key(alice: Speaker, house: House) -> None:
    event = await house.event(key="team/standup")
    by_id = await alice.read_json(f"qhronos://events/{event.id}")
    by_key = await alice.read_json(f"qhronos://events/{quote('team/standup', safe='')}")
    assert by_id == by_key
    assert by_id["event"] == (await alice.call("list_events", event_id="team/standup"))["event"]


async def test_an_occurrence_is_read_by_id(alice: Speaker, house: House) -> None:
    await house.event(key="k")
    await house.comes_due()
    [row] = (await alice.call("list_occurrences"))["occurrences"]
    read = await alice.read_json(f"qhronos://occurrences/{row['id']}")
    assert read["occurrence"]["status"] == "dispatched"
    assert read["now"] == "Mon 2027-03-01T10:00:00Z"


async def test_what_is_absent_and_what_is_another_s_is_not_found_alike(alice: Speaker, house: House) -> None:
    theirs = await house.event("bob", key="theirs")
    await house.comes_due()
    [occurrence] = await house.world.occurrences_of(theirs)
    absent = "01a40051-6a80-70f4-a5a2-c535109b277b"
    told = set()
    for uri in (
        f"qhronos://events/{theirs.id}",
        f"qhronos://events/{absent}",
        "qhronos://events/theirs",
        f"qhronos://occurrences/{occurrence.id}",
        f"qhronos://occurrences/{absent}",
        "qhronos://occurrences/nonsense",
        "qhronos://nothing",
    ):
        with pytest.raises(MCPError) as refused:
            await alice.read(uri)
        assert refused.value.error.code == -32602, uri
        told.add(refused.value.error.message)
    assert "No such event. List events to see those your token reaches." in told


async def test_a_calendar_holds_the_coming_runs_of_a_tag(alice: Speaker, house: House) -> None:
    await house.event(
        name="Stand-up; all, hands",
        key="k",
        schedule="every 1h",
        tags=["team: été"],
        description="line one\nline two " + "x" * 80,
    )
    await house.event(name="other", tags=["other"])
    await house.event("bob", name="bob's", tags=["team: été"])
    calendar = await alice.read(f"qhronos://calendar/{quote('team: été', safe='')}.ics")
    lines = calendar.split("\r\n")
    assert lines[0] == "BEGIN:VCALENDAR"
    assert lines[-2:] == ["END:VCALENDAR", ""]
    assert max(len(line.encode()) for line in lines) <= 75
    unfolded = calendar.replace("\r\n ", "")
    assert unfolded.count("BEGIN:VEVENT") == 200
    assert "SUMMARY:Stand-up\\; all\\, hands" in unfolded
    assert "DESCRIPTION:line one\\nline two" in unfolded
    assert "DTSTART:20270301T100000Z" in unfolded
    assert "bob" not in unfolded
    assert "other" not in unfolded
    runs = (await alice.call("list_occurrences", event_id="k", upcoming=True))["occurrences"]
    assert all(f"UID:{run['id']}" in unfolded for run in runs)


async def test_reading_again_after_time_has_passed_tells_the_new_state(alice: Speaker, house: House) -> None:
    event = await house.event(schedule="every 1h")
    before = await alice.read_json(f"qhronos://events/{event.id}")
    await house.comes_due(timedelta(hours=1))
    after = await alice.read_json(f"qhronos://events/{event.id}")
    assert before["event"]["next"][1] == after["event"]["next"][0]


async def test_the_guide_is_ours_alone_and_says_how_schedules_are_written(alice: Speaker) -> None:
    guide = await alice.read("qhronos://guide/schedules")
    for word in ("cron", "RRULE", "every weekday at 9:30am", "catch_up", "overlap"):
        assert word in guide
