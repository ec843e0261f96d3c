"""rest.md §5: a call that is sent again does its work once. By `key`, and by `Idempotency-Key`."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from tests.faces.rest.house import DAILY, House
from tests.world import REFUSE

HOOK = "https://receiver.example/hook"


async def test_a_key_creates_then_finds_then_updates(house: House) -> None:
    asked = {**DAILY, "key": "standup"}
    created = await house.master.post("/events", json=asked)
    assert (created.status_code, created.json()["result"]) == (201, "created")
    house.world.clock.advance(seconds=1)
    again = await house.master.post("/events", json=asked)
    assert (again.status_code, again.json()["result"]) == (200, "unchanged")
    assert again.json()["updated_at"] == created.json()["updated_at"]
    changed = await house.master.post("/events", json={**asked, "description": "new"})
    assert (changed.status_code, changed.json()["result"]) == (200, "updated")
    assert {answer.json()["id"] for answer in (created, again, changed)} == {created.json()["id"]}
    assert changed.json()["name"] == DAILY["name"]


async def test_a_relative_instant_is_the_same_while_it_is_pending(house: House) -> None:
    asked = {"name": "call", "schedule": "in 2 hours", "key": "call"}
    first = (await house.master.post("/events", json=asked)).json()
    house.world.clock.advance(timedelta(minutes=30))
    again = (await house.master.post("/events", json=asked)).json()
    assert (again["result"], again["next_run_at"]) == ("unchanged", first["next_run_at"])


async def test_deleting_frees_the_key(house: House) -> None:
    first = await house.event(key="k")
    await house.master.delete(f"/events/{first['id']}")
    second = await house.event(key="k")
    assert second["id"] != first["id"]


async def test_a_key_is_fixed_after_creation(house: House) -> None:
    event = await house.event(key="k")
    assert (await house.master.put(f"/events/{event['id']}", json={"key": "other"})).status_code == 400
    assert (await house.master.put(f"/events/{event['id']}", json={"key": "k"})).status_code == 200


async def test_fifty_equal_creates_at_once_make_one_event(house: House) -> None:
    client = house.master
    answers = await asyncio.gather(*(client.post("/events", json={**DAILY, "key": "one"}) for _ in range(50)))
    assert sorted({answer.status_code for answer in answers}) == [200, 201]
    assert [answer.status_code for answer in answers].count(201) == 1
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len((await client.get("/events")).json()) == 1


async def test_fifty_equal_creates_at_once_with_an_idempotency_key_make_one_event(house: House) -> None:
    client = house.client(await house.token("write", ["user:a"]), **{"Idempotency-Key": "abc"})
    answers = await asyncio.gather(*(client.post("/events", json=dict(DAILY)) for _ in range(50)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 201}) == 1
    for answer in answers:
        if answer.status_code == 409:
            assert answer.json()["code"] == "idempotency_in_progress"
    assert len((await house.master.get("/events")).json()) == 1


async def test_a_repeat_has_the_same_status_and_body_and_says_so(house: House) -> None:
    headers = {"Idempotency-Key": '"abc"'}
    first = await house.master.post("/events", json=dict(DAILY), headers=headers)
    house.world.clock.advance(timedelta(hours=1))
    again = await house.master.post(
        "/events", json=dict(reversed(list(DAILY.items()))), headers={"Idempotency-Key": "abc"}
    )
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"


async def test_a_secret_shown_once_is_not_shown_again(house: House) -> None:
    headers = {"Idempotency-Key": "abc"}
    asked = {**DAILY, "webhook": HOOK}
    first = (await house.master.post("/events", json=asked, headers=headers)).json()
    again = (await house.master.post("/events", json=asked, headers=headers)).json()
    secret = first.pop("hmac_secret")
    assert len(secret) >= 24
    assert again == first


async def test_another_body_under_the_same_key_is_refused(house: House) -> None:
    headers = {"Idempotency-Key": "abc"}
    await house.master.post("/events", json=dict(DAILY), headers=headers)
    other = await house.master.post("/events", json={**DAILY, "name": "other"}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_mismatch")
    assert len((await house.master.get("/events")).json()) == 1


async def test_the_key_is_the_tokens_and_the_paths_own(house: House) -> None:
    headers = {"Idempotency-Key": "abc"}
    first = await house.as_("write", "user:a")
    second = await house.as_("write", "user:a")
    made = (await first.post("/events", json=dict(DAILY), headers=headers)).json()
    other = (await second.post("/events", json=dict(DAILY), headers=headers)).json()
    assert made["id"] != other["id"]
    run = await first.post(f"/events/{made['id']}/trigger", headers=headers)
    assert run.status_code == 201


async def test_it_is_forgotten_after_a_day(house: House) -> None:
    headers = {"Idempotency-Key": "abc"}
    first = await house.master.post("/events", json=dict(DAILY), headers=headers)
    house.world.clock.advance(timedelta(hours=24, seconds=1))
    later = await house.master.post("/events", json=dict(DAILY), headers=headers)
    assert later.json()["id"] != first.json()["id"]


async def test_trigger_ack_and_retry_are_repeatable_too(house: House) -> None:
    headers = {"Idempotency-Key": "abc"}
    row = await house.failed_occurrence()
    paths: list[tuple[str, Any]] = [
        (f"/events/{row['event_id']}/trigger", None),
        (f"/occurrences/{row['id']}/retry", None),
        (f"/occurrences/{(await house.inbox_occurrence())['id']}/ack", {"outcome": "done"}),
    ]
    for path, body in paths:
        first = await house.master.post(path, json=body, headers=headers)
        again = await house.master.post(path, json=body, headers=headers)
        assert first.is_success, first.text
        assert (again.status_code, again.json()) == (first.status_code, first.json()), path
        assert again.headers["idempotent-replayed"] == "true"
    assert len((await house.master.get(f"/events/{row['event_id']}/occurrences")).json()) == 2


async def test_sending_all_that_match_again_is_repeatable_too(house: House) -> None:
    headers = {"Idempotency-Key": "abc"}
    row = await house.failed_occurrence()
    path = f"/occurrences/retry?event_id={row['event_id']}&status=failed"
    dry = await house.master.post(f"{path}&dry_run=true", headers=headers)
    assert [each["id"] for each in dry.json()] == [row["id"]]
    first = await house.master.post(path, headers=headers)
    assert (first.status_code, first.json()[0]["status"]) == (200, "pending")
    house.world.courier.will(REFUSE)
    await house.world.settle_down()
    assert (await house.master.get(f"/occurrences/{row['id']}")).json()["status"] == "failed"
    again = await house.master.post(path, headers=headers)
    assert (again.status_code, again.json()) == (200, first.json())
    assert again.headers["idempotent-replayed"] == "true"
    assert (await house.master.get(f"/occurrences/{row['id']}")).json()["status"] == "failed"  # not sent again
    other = await house.master.post("/occurrences/retry?status=failed", headers=headers)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_mismatch")


async def test_a_refused_request_is_not_remembered(house: House) -> None:
    headers = {"Idempotency-Key": "abc"}
    assert (await house.master.post("/events", json={"name": ""}, headers=headers)).status_code == 400
    assert (await house.master.post("/events", json=dict(DAILY), headers=headers)).status_code == 201


async def test_a_dry_run_keeps_nothing_of_the_key(house: House) -> None:
    headers = {"Idempotency-Key": "abc"}
    dry = await house.master.post("/events?dry_run=true", json=dict(DAILY), headers=headers)
    assert (dry.status_code, dry.json()["result"]) == (200, "preview")
    assert "id" not in dry.json()
    assert (await house.master.get("/events")).json() == []
    assert (await house.master.post("/events", json=dict(DAILY), headers=headers)).status_code == 201


async def test_a_dry_run_shows_no_secret_that_would_sign_nothing(house: House) -> None:
    hook = {**DAILY, "webhook": "https://example.com/hook"}
    dry = (await house.master.post("/events?dry_run=true", json=hook)).json()
    assert "hmac_secret" not in dry
    assert dry["hmac_secret_set"] is True
    event = await house.event(webhook="https://example.com/hook")
    dry = (await house.master.put(f"/events/{event['id']}?dry_run=true", json={"hmac_secret": None})).json()
    assert "hmac_secret" not in dry


async def test_a_dry_run_of_a_change_shows_it_and_changes_nothing(house: House) -> None:
    event = await house.event()
    dry = await house.master.put(f"/events/{event['id']}?dry_run=true", json={"schedule": "0 10 * * *"})
    assert (dry.status_code, dry.json()["id"], dry.json()["schedule"]) == (200, event["id"], "0 10 * * *")
    assert (await house.master.get(f"/events/{event['id']}")).json()["schedule"] == "0 9 * * *"


@pytest.mark.parametrize("key", ["", '""', "a b", "é", "x" * 256, '"' + "x" * 256 + '"', "a\tb"])
async def test_a_bad_idempotency_key_is_400(house: House, key: str) -> None:
    answer = await house.master.post("/events", json=dict(DAILY), headers=[(b"idempotency-key", key.encode("latin-1"))])
    assert answer.status_code == 400
    longest = "x" * 255
    assert (
        await house.master.post("/events", json=dict(DAILY), headers={"Idempotency-Key": longest})
    ).status_code == 201


async def test_a_put_without_a_change_touches_nothing(house: House) -> None:
    event = await house.event(webhook=HOOK)
    house.world.clock.advance(seconds=5)
    for body in ({}, {"name": event["name"]}, {"status": "active"}, {"webhook": HOOK}):
        answer = await house.master.put(f"/events/{event['id']}", json=body)
        assert (answer.status_code, answer.json()["result"]) == (200, "unchanged"), body
        assert answer.json()["updated_at"] == event["updated_at"]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"schedule": "in 2 hours"},
        {"schedule": {"frequency": "daily", "interval": 2}},
        {"webhook": HOOK, "hmac_secret": "whsec_" + "A" * 32},
        {"webhook": "q:laptop"},
        {
            "action": {
                "type": "apicall",
                "params": {
                    "url": HOOK,
                    "headers": {"Authorization": "Bearer x", "X-K": "v"},
                    "secret_headers": ["X-K"],
                },
            }
        },
        {"status": "paused", "paused_until": "2100-01-01T00:00:00Z"},
        {"tags": ["user:a", "plain"], "expires_after": "90m", "ack_timeout": "1h", "retry": {"max_attempts": 3}},
        {"max_occurrences": 5, "exclusions": ["2027-12-25"], "end_time": "2028-01-01T00:00:00Z"},
        {"key": "k", "timezone": "Europe/Paris", "start_time": "2027-06-01T00:00:00Z"},
    ],
)
async def test_an_answer_sent_back_as_it_is_changes_nothing(house: House, fields: dict[str, Any]) -> None:
    """So an answer can be edited and PUT: what only answers carry has no effect, and what is equal is no change."""
    event = await house.event(**fields)
    house.world.clock.advance(seconds=30)
    shown = (await house.master.get(f"/events/{event['id']}")).json()
    answer = await house.master.put(f"/events/{event['id']}", json=shown)
    assert (answer.status_code, answer.json().get("result")) == (200, "unchanged"), answer.text
    edited = await house.master.put(f"/events/{event['id']}", json={**shown, "description": "edited"})
    assert (edited.status_code, edited.json()["result"], edited.json()["description"]) == (200, "updated", "edited")
    assert edited.json()["schedule"] == shown["schedule"]


async def test_two_editors_of_different_fields_both_keep_their_change(house: House) -> None:
    event = await house.event()
    changes: list[dict[str, Any]] = [{"name": "new"}, {"description": "new"}, {"tags": ["new"]}, {"metadata": {"n": 1}}]
    answers = await asyncio.gather(*(house.master.put(f"/events/{event['id']}", json=each) for each in changes))
    assert {answer.status_code for answer in answers} == {200}
    shown = (await house.master.get(f"/events/{event['id']}")).json()
    assert (shown["name"], shown["description"], shown["tags"], shown["metadata"]) == ("new", "new", ["new"], {"n": 1})


async def test_null_clears_what_has_a_default(house: House) -> None:
    event = await house.event(
        description="x",
        tags=["a"],
        metadata={"a": 1},
        timezone="Europe/Paris",
        expires_after="1h",
        overlap="skip",
        max_occurrences=3,
    )
    cleared = dict.fromkeys(
        ("description", "tags", "metadata", "timezone", "expires_after", "overlap", "max_occurrences")
    )
    shown = (await house.master.put(f"/events/{event['id']}", json=cleared)).json()
    assert {name: shown[name] for name in cleared} == {
        "description": "",
        "tags": [],
        "metadata": {},
        "timezone": "UTC",
        "expires_after": None,
        "overlap": "allow",
        "max_occurrences": None,
    }
