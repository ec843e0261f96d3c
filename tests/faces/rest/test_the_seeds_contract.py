"""rest.md §1: the first public README, to the letter. A client written for it works unchanged, for ever."""

import re
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.faces.rest.house import DAILY, House

INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")
EVENT_NAMES = {"name", "description", "schedule", "tags", "metadata", "id", "status", "created_at", "updated_at"}
OCCURRENCE_NAMES = {"id", "event_id", "scheduled_at", "status", "created_at", "updated_at"}


async def test_post_tokens_answers_the_token_and_its_six_fields(house: House) -> None:
    answer = await house.master.post(
        "/tokens", json={"type": "jwt", "sub": "rizqme", "access": "write", "scope": ["user:rizqme"]}
    )

    assert answer.status_code == 201
    made = answer.json()
    assert {"token", "type", "sub", "access", "scope", "expires_at"} <= made.keys()
    assert (made["type"], made["sub"], made["access"], made["scope"]) == ("jwt", "rizqme", "write", ["user:rizqme"])
    assert made["expires_at"] == (house.world.clock.now() + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert UUID(made["jti"])
    assert made["warnings"] == []


async def test_a_token_may_be_asked_for_without_its_type(house: House) -> None:
    answer = await house.master.post("/tokens", json={"sub": "a", "access": "read", "scope": ["user:a"]})
    assert (answer.status_code, answer.json()["type"]) == (201, "jwt")


async def test_post_events_answers_the_event(house: House) -> None:
    asked = {
        "name": "Daily Backup",
        "description": "Back it all up.",
        "schedule": "0 0 * * *",
        "tags": ["system:backup"],
        "metadata": {"keep": 7, "deep": {"list": [1, 2.5, None, True]}},
    }
    answer = await house.master.post("/events", json=asked)

    assert answer.status_code == 201
    made = answer.json()
    assert made.keys() >= EVENT_NAMES
    assert {name: made[name] for name in asked} == asked
    assert made["status"] == "active"
    assert str(UUID(made["id"])) == made["id"]
    assert INSTANT.fullmatch(made["created_at"])
    assert made["updated_at"] == made["created_at"]
    assert made["action"] == {"type": "inbox", "params": {}}


async def test_an_event_needs_no_more_than_a_name_and_a_schedule(house: House) -> None:
    made = await house.event()
    assert (made["description"], made["tags"], made["metadata"]) == ("", [], {})


async def test_get_event_answers_what_was_created(house: House) -> None:
    made = await house.event()
    answer = await house.master.get(f"/events/{made['id']}")
    assert answer.status_code == 200
    assert {name: answer.json()[name] for name in EVENT_NAMES} == {name: made[name] for name in EVENT_NAMES}


async def test_put_event_answers_the_changed_event(house: House) -> None:
    made = await house.event(tags=["a"])
    house.world.clock.advance(seconds=5)
    asked = {"name": "other", "description": "new", "schedule": "0 10 * * *", "tags": ["b"], "metadata": {"x": 1}}

    answer = await house.master.put(f"/events/{made['id']}", json=asked)

    assert answer.status_code == 200
    changed = answer.json()
    assert {name: changed[name] for name in asked} == asked
    assert changed["id"] == made["id"]
    assert changed["created_at"] == made["created_at"]
    assert datetime.fromisoformat(changed["updated_at"]) - datetime.fromisoformat(made["updated_at"]) == timedelta(
        seconds=5
    )


async def test_delete_event_answers_200_and_the_event_once(house: House) -> None:
    made = await house.event()
    first = await house.master.delete(f"/events/{made['id']}")
    assert (first.status_code, first.json()["id"], first.json()["status"]) == (200, made["id"], "deleted")
    assert (await house.master.delete(f"/events/{made['id']}")).status_code == 404
    assert (await house.master.get(f"/events/{made['id']}")).status_code == 404


async def test_get_events_is_an_array_newest_first_and_never_null(house: House) -> None:
    empty = await house.master.get("/events")
    assert (empty.status_code, empty.text) == (200, "[]")
    names = []
    for number in range(3):
        names.append((await house.event(name=f"event {number}"))["name"])
        house.world.clock.advance(seconds=1)
    listed = (await house.master.get("/events")).json()
    assert [event["name"] for event in listed] == names[::-1]
    assert (await house.master.get("/events?tags=nobody")).text == "[]"


async def test_get_events_by_tags_finds_any_of_them(house: House) -> None:
    for tags in (["a"], ["b"], ["a", "b"], ["c"]):
        await house.event(name="+".join(tags), tags=tags)

    async def named(query: str) -> set[str]:
        return {event["name"] for event in (await house.master.get(f"/events?{query}")).json()}

    assert await named("tags=a,b") == {"a", "b", "a+b"}
    assert await named("tags=a&tags=b") == {"a", "b", "a+b"}
    assert await named("tags=a,b&match=all") == {"a+b"}
    assert await named("tags=") == {"a", "b", "a+b", "c"}
    assert await named("tags=%25") == set()
    assert await named("tags=_") == set()


async def test_occurrences_have_the_seeds_six_names_latest_first(house: House) -> None:
    event = await house.event(tags=["x"])
    row = await house.inbox_occurrence(tags=["x"])
    one = await house.master.get(f"/occurrences/{row['id']}")
    assert one.status_code == 200
    assert one.json() == row
    assert row.keys() >= OCCURRENCE_NAMES
    assert INSTANT.fullmatch(row["scheduled_at"])

    listed = (await house.master.get("/occurrences?tags=x")).json()
    assert {found["event_id"] for found in listed} == {event["id"], row["event_id"]}
    instants = [datetime.fromisoformat(found["scheduled_at"]) for found in listed]
    assert instants == sorted(instants, reverse=True)
    assert (await house.master.get("/occurrences?tags=y")).text == "[]"


@pytest.mark.parametrize(
    ("status", "call"),
    [
        (400, ("POST", "/events", {"name": "", "schedule": "0 9 * * *"}, "master")),
        (401, ("GET", "/events", None, None)),
        (403, ("POST", "/events", dict(DAILY), "read")),
        (404, ("GET", f"/events/{uuid4()}", None, "master")),
        (404, ("GET", f"/occurrences/{uuid4()}", None, "master")),
    ],
)
async def test_every_error_has_its_text_under_error(
    house: House, status: int, call: tuple[str, str, Any, str | None]
) -> None:
    method, path, body, who = call
    clients = {"master": house.master, None: house.client(), "read": await house.as_("read", "user:a")}
    answer = await clients[who].request(method, path, json=body)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    told = answer.json()
    assert isinstance(told["error"], str)
    assert told["error"]


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", None, "application/json"])
async def test_a_body_is_read_as_json_whatever_its_content_type_says(house: House, content_type: str | None) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    answer = await house.master.post("/events", content=b'{"name": "a", "schedule": "0 9 * * *"}', headers=headers)
    assert answer.status_code == 201


async def test_text_beyond_ascii_comes_back_as_it_was(house: House) -> None:
    made = await house.event(name="Réunion 東京 🗓️", metadata={"größe": "é"})
    shown = (await house.master.get(f"/events/{made['id']}")).json()
    assert (shown["name"], shown["metadata"]) == ("Réunion 東京 🗓️", {"größe": "é"})
