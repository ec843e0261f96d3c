"""rest.md §5: the three forms of a list, and that counting, cursors and links stay within what the caller reads."""

from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest

from tests.faces.rest.house import House


async def many(house: House, number: int, **fields: Any) -> list[str]:
    """Newest first."""
    names = []
    for index in range(number):
        names.append((await house.event(name=f"{index:03}", **fields))["name"])
        house.world.clock.advance(seconds=1)
    return names[::-1]


async def test_page_and_limit_answer_data_and_pagination(house: House) -> None:
    names = await many(house, 7)
    first = (await house.master.get("/events?page=1&limit=3")).json()
    assert first["pagination"] == {"page": 1, "limit": 3, "total": 7}
    last = (await house.master.get("/events?page=3&limit=3")).json()
    assert [event["name"] for event in first["data"]] == names[:3]
    assert [event["name"] for event in last["data"]] == names[6:]
    beyond = (await house.master.get("/events?page=9&limit=3")).json()
    assert (beyond["data"], beyond["pagination"]["total"]) == ([], 7)


async def test_page_or_limit_alone_is_enough(house: House) -> None:
    await many(house, 3)
    assert (await house.master.get("/events?page=1")).json()["pagination"] == {"page": 1, "limit": 50, "total": 3}
    assert (await house.master.get("/events?limit=2")).json()["pagination"] == {"page": 1, "limit": 2, "total": 3}


async def test_a_cursor_is_stable_while_rows_are_added(house: House) -> None:
    names = await many(house, 5)
    seen: list[Any] = []
    cursor: str | None = ""
    while cursor is not None:
        page = (await house.master.get(f"/events?limit=2&cursor={quote(cursor)}")).json()
        assert page.keys() == {"data", "next_cursor"}
        seen += [event["name"] for event in page["data"]]
        await house.event(name="late")
        cursor = page["next_cursor"]
    assert seen == names


async def test_a_cursor_is_a_position_and_not_a_permission(house: House) -> None:
    await many(house, 5, tags=["user:b"])
    mine = await house.event(tags=["user:a"])
    cursor = (await house.master.get("/events?limit=2&cursor=")).json()["next_cursor"]
    reader = await house.as_("read", "user:a")
    page = (await reader.get(f"/events?cursor={quote(cursor)}")).json()
    assert all(event["id"] == mine["id"] for event in page["data"])


async def test_an_array_of_more_than_1000_says_where_it_goes_on(house: House) -> None:
    for index in range(1003):
        given = {"name": f"{index}", "schedule": "every 24h", "tags": ["user:a"]}
        await house.world.events.create(given, caller=_owner())
        if index % 100 == 0:
            house.world.clock.advance(seconds=1)
    first = await house.master.get("/events?tags=user:a")
    assert len(first.json()) == 1000
    link = first.headers["link"]
    assert link.endswith('; rel="next"')
    rest = await house.master.get(link[1 : link.index(">")])
    assert len(rest.json()) == 3
    assert "link" not in rest.headers
    assert not {event["id"] for event in rest.json()} & {event["id"] for event in first.json()}


def _owner() -> Any:
    from tests.world import OWNER

    return OWNER


async def test_totals_and_pages_hold_only_what_the_caller_reads(house: House) -> None:
    await many(house, 4, tags=["user:b"])
    await many(house, 2, tags=["user:a"])
    reader = await house.as_("read", "user:a")
    page = (await reader.get("/events?page=1")).json()
    assert (page["pagination"]["total"], len(page["data"])) == (2, 2)
    assert (await reader.get("/events?page=2&limit=2")).json()["data"] == []


async def test_events_are_found_by_text_key_and_status(house: House) -> None:
    await house.event(name="Backup", key="ops/backup")
    await house.event(name="Other", description="the BACKUP of the backup")
    await house.event(name="Paused", status="paused")

    async def names(query: str) -> set[str]:
        return {event["name"] for event in (await house.master.get(f"/events?{query}")).json()}

    assert await names("q=backup") == {"Backup", "Other"}
    assert await names("key=ops/backup") == {"Backup"}
    assert await names("status=paused") == {"Paused"}
    assert await names("status=active,paused") == {"Backup", "Other", "Paused"}
    assert await names("q=") == {"Backup", "Other", "Paused"}


async def test_occurrences_are_found_by_event_status_and_time(house: House) -> None:
    row = await house.inbox_occurrence(tags=["x"])
    other = await house.event(tags=["y"])
    at = row["scheduled_at"]

    async def ids(query: str) -> set[str]:
        return {found["id"] for found in (await house.master.get(f"/occurrences?{query}")).json()}

    assert row["id"] in await ids("")
    assert await ids(f"event_id={row['event_id']}") == {row["id"]}
    assert row["id"] not in await ids(f"event_id={other['id']}")
    assert await ids("status=dispatched") == {row["id"]}
    assert await ids("status=dispatched,pending") >= {row["id"]}
    assert await ids("status=completed") == set()
    assert row["id"] in await ids(f"from={at}")
    assert row["id"] not in await ids(f"to={at}")
    assert await ids(f"tags=x&from={at}&to=2199-01-01T00:00:00%2B02:00") == {row["id"]}
    assert await ids(f"tags=x&from={at}&to=2199-01-01T00:00:00+02:00") == {row["id"]}


async def test_an_events_occurrences_take_the_same_filters(house: House) -> None:
    row = await house.inbox_occurrence()
    path = f"/events/{row['event_id']}/occurrences"
    assert [found["id"] for found in (await house.master.get(f"{path}?status=dispatched")).json()] == [row["id"]]
    assert (await house.master.get(f"{path}?status=failed")).json() == []
    assert (await house.master.get(f"{path}?limit=1")).json()["pagination"]["total"] == 1


@pytest.mark.parametrize("path", ["/tokens", "/audit"])
async def test_tokens_and_audit_page_like_the_rest(house: House, path: str) -> None:
    for number in range(5):
        await house.token("read", ["user:a"], sub=f"s{number}")
        house.world.clock.advance(timedelta(seconds=1))
    whole = (await house.master.get(path)).json()
    assert len(whole) >= 5
    seen: list[Any] = []
    cursor: str | None = ""
    while cursor is not None:
        page = (await house.master.get(f"{path}?limit=2&cursor={quote(cursor)}")).json()
        seen += page["data"]
        cursor = page["next_cursor"]
    assert seen == whole
    paged = (await house.master.get(f"{path}?page=2&limit=2")).json()
    assert paged["data"] == whole[2:4]
    assert paged["pagination"] == {"page": 2, "limit": 2, "total": len(whole)}


async def test_the_audit_begins_where_it_is_asked_to(house: House) -> None:
    await house.event()
    house.world.clock.advance(timedelta(hours=1))
    since = house.world.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
    event = await house.event()
    assert {row["event_id"] for row in (await house.master.get(f"/audit?from={since}")).json()} == {event["id"]}
