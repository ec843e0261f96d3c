"""rest.md §10: the faults of the original that a REST client can see, each proved absent. The others: tests/scheduler, tests/faces."""

import asyncio
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from qhronos_core.domain.payload import payload
from tests.faces.rest.house import DAILY, JWT_SECRET, MASTER, House, a_house
from tests.world import HOOK, REFUSE


async def next_runs(house: House, count: int, **fields: Any) -> list[str]:
    event = await house.event(**fields)
    shown = (await house.master.get(f"/events/{event['id']}/preview?count={count}")).json()
    return [run["at"][:16] for run in shown["next"]]


async def test_01_a_bearer_that_is_no_valid_token_is_refused_on_every_route(house: House) -> None:
    for path in ("/events", "/occurrences", "/tokens", "/audit", "/metrics"):
        assert (await house.client("anything-at-all").get(path)).status_code == 401


async def test_02_scopes_limit_what_is_read_and_written_in_lists_too(house: House) -> None:
    for label in ("user:a", "user:b"):
        await house.event(tags=[label])
    writer = await house.as_("write", "user:a")
    assert [event["tags"] for event in (await writer.get("/events")).json()] == [["user:a"]]
    assert (await writer.post("/events", json={**DAILY, "tags": ["user:b"]})).status_code == 403


async def test_05_apicall_is_accepted_and_sent(house: House) -> None:
    action = {"type": "apicall", "params": {"url": "https://api.example/x", "method": "PATCH", "body": {"a": 1}}}
    event = await house.event(schedule="in 1 hour", action=action)
    assert event["action"] == action
    house.world.clock.advance(timedelta(hours=1))
    await house.world.settle_down()
    assert [delivery.event.action.type for delivery in house.world.courier.deliveries] == ["apicall"]


async def test_06_hmac_secret_is_in_no_later_answer_and_no_default_exists(house: House) -> None:
    given = await house.event(action=HOOK, hmac_secret="canary-secret-of-24-bytes-or-more")
    made = [await house.event(action=HOOK) for _ in range(2)]
    assert "hmac_secret" not in given
    assert made[0]["hmac_secret"] != made[1]["hmac_secret"]
    assert "canary" not in (await house.master.get("/events")).text
    none = await house.event()
    assert (none["hmac_secret_set"], "hmac_secret" in none) == (False, False)


async def test_07_an_occurrence_has_its_own_instant_and_id(house: House) -> None:
    event = await house.event(schedule="every 1h", action=HOOK)
    for _ in range(2):
        house.world.clock.advance(timedelta(hours=1))
        await house.world.settle_down()
    rows = (await house.master.get(f"/events/{event['id']}/occurrences?status=completed")).json()
    assert len({row["id"] for row in rows}) == len({row["scheduled_at"] for row in rows}) == 2
    sent = [(str(each.occurrence.id), each.occurrence.scheduled_at) for each in house.world.courier.deliveries]
    assert {occurrence for occurrence, _ in sent} == {row["id"] for row in rows}


async def test_07_the_payload_and_rest_write_the_instant_alike(house: House) -> None:
    event = await house.event(action=HOOK)
    house.world.clock.advance(timedelta(microseconds=250_000))  # a fraction that ends in zeros
    row = (await house.master.post(f"/events/{event['id']}/trigger")).json()
    await house.world.settle_down()
    (sent,) = house.world.courier.deliveries
    assert payload(sent.event, sent.occurrence)["scheduled_at"] == row["scheduled_at"]


async def test_08_the_receivers_status_code_and_answer_are_kept_with_the_attempt(house: House) -> None:
    from dataclasses import replace

    event = await house.event(schedule="in 1 hour", action=HOOK, retry={"max_attempts": 1})
    house.world.courier.will(replace(REFUSE, response=b"not today"))
    house.world.clock.advance(timedelta(hours=1))
    await house.world.settle_down()
    row = (await house.master.get(f"/events/{event['id']}/occurrences")).json()[0]
    attempts = (await house.master.get(f"/occurrences/{row['id']}/attempts?include=response")).json()
    assert [(each["number"], each["status_code"], each["response"]) for each in attempts] == [(1, 500, "not today")]


async def test_09_interval_omitted_is_1(house: House) -> None:
    omitted = await next_runs(house, 3, schedule={"frequency": "daily"}, start_time="2027-04-01T09:00:00Z")
    one = await next_runs(house, 3, schedule={"frequency": "daily", "interval": 1}, start_time="2027-04-01T09:00:00Z")
    assert omitted == one == ["2027-04-01T09:00", "2027-04-02T09:00", "2027-04-03T09:00"]


async def test_10_each_bad_member_of_a_schedule_has_its_own_message(house: House) -> None:
    told = set()
    bad: list[dict[str, Any]] = [
        {"frequency": "sometimes"},
        {"frequency": "daily", "interval": 0},
        {"frequency": "weekly", "by_day": ["XX"]},
        {"frequency": "monthly", "by_month_day": [32]},
        {"frequency": "yearly", "by_month": [13]},
        {"frequency": "daily", "count": 0},
        {"frequency": "daily", "until": "whenever"},
        {"frequency": "daily", "colour": "red"},
    ]
    for schedule in bad:
        answer = await house.master.post("/events", json={"name": "x", "schedule": schedule})
        assert answer.status_code == 400
        told.add(answer.json()["error"])
    assert len(told) == len(bad)


async def test_11_a_put_on_a_paused_event_leaves_it_paused_and_sends_nothing(house: House) -> None:
    event = await house.event(schedule="every 1h", action=HOOK)
    await house.master.put(f"/events/{event['id']}", json={"status": "paused"})
    changed = (await house.master.put(f"/events/{event['id']}", json={"name": "other", "schedule": "every 30m"})).json()
    assert changed["status"] == "paused"
    house.world.clock.advance(timedelta(hours=3))
    await house.world.settle_down()
    assert house.world.courier.deliveries == []


async def test_13_the_last_failed_attempt_leaves_a_failed_occurrence_listed_and_open_to_retry(house: House) -> None:
    row = await house.failed_occurrence()
    assert (row["status"], row["reason"]) == ("failed", "exhausted")
    assert row["id"] in {each["id"] for each in (await house.master.get("/occurrences?status=failed")).json()}
    again = await house.master.post(f"/occurrences/{row['id']}/retry")
    assert (again.status_code, again.json()["id"], again.json()["status"]) == (200, row["id"], "pending")
    await house.world.settle_down()
    assert (await house.master.get(f"/occurrences/{row['id']}")).json()["status"] == "completed"


async def test_13_all_failed_ones_are_retried_at_once_within_reach(house: House) -> None:
    mine = [await house.failed_occurrence(tags=["user:a"]) for _ in range(2)]
    other = await house.failed_occurrence(tags=["user:b"])
    writer = await house.as_("write", "user:a")
    dry = (await writer.post("/occurrences/retry?dry_run=true")).json()
    assert {row["id"] for row in dry} == {row["id"] for row in mine}
    assert {row["status"] for row in (await writer.get("/occurrences?status=failed")).json()} == {"failed"}
    retried = (await writer.post("/occurrences/retry?status=failed")).json()
    assert {row["id"]: row["status"] for row in retried} == {row["id"]: "pending" for row in mine}
    assert (await house.master.get(f"/occurrences/{other['id']}")).json()["status"] == "failed"


async def test_15_monthly_on_day_31_skips_the_months_without_one(house: House) -> None:
    schedule = {"frequency": "monthly", "by_month_day": [31]}
    runs = await next_runs(house, 4, schedule=schedule, start_time="2027-04-01T09:00:00Z")
    assert [run[:10] for run in runs] == ["2027-05-31", "2027-07-31", "2027-08-31", "2027-10-31"]


async def test_16_count_counts_over_the_events_life(house: House) -> None:
    event = await house.event(
        schedule={"frequency": "daily", "count": 3}, start_time="2027-04-01T09:00:00Z", action=HOOK
    )
    for _ in range(6):
        now = house.world.clock.now()
        house.world.clock.set(max(now, datetime.fromisoformat("2027-04-01T08:00:00+00:00")) + timedelta(days=1))
        await house.world.settle_down()
    assert (await house.master.get(f"/events/{event['id']}")).json()["status"] == "inactive"
    assert len(house.world.courier.deliveries) == 3


async def test_17_weekly_with_interval_2_counts_calendar_weeks_from_monday(house: House) -> None:
    schedule = {"frequency": "weekly", "interval": 2, "by_day": ["MO", "FR"]}
    runs = await next_runs(house, 4, schedule=schedule, start_time="2027-04-01T09:00:00Z")  # a Thursday
    assert [run[:10] for run in runs] == ["2027-04-02", "2027-04-12", "2027-04-16", "2027-04-26"]


async def test_18_parallel_calls_do_not_exceed_burst_plus_refill(tmp_path: Path) -> None:
    async with a_house(tmp_path, rate_limits={}) as house:
        client = await house.as_("write", "user:a")
        first = await asyncio.gather(*(client.get("/events") for _ in range(200)))
        house.world.clock.advance(seconds=3)
        second = await asyncio.gather(*(client.get("/events") for _ in range(200)))
        allowed = sum(answer.status_code == 200 for answer in (*first, *second))
        assert allowed <= (50 + 3 * 200 / 60) * 1.01


async def test_20_an_empty_list_is_an_empty_array(house: House) -> None:
    for path in ("/events", "/occurrences", "/tokens", "/audit?from=2100-01-01T00:00:00Z", "/events?tags=x"):
        assert (await house.master.get(path)).text == "[]"


async def test_21_retry_after_is_a_whole_number(tmp_path: Path) -> None:
    limits = {"read_write": {"per_minute": 7, "burst": 1}}
    async with a_house(tmp_path, rate_limits=limits) as house:
        client = await house.as_("read", "user:a")
        answers = [await client.get("/events") for _ in range(3)]
        assert re.fullmatch(r"[1-9][0-9]*", answers[-1].headers["retry-after"])


async def test_22_status_shows_no_secret_and_no_token_that_works(house: House) -> None:
    for client in (house.client(), house.master, await house.as_("admin")):
        told = (await client.get("/status")).text
        assert MASTER not in told
        assert JWT_SECRET not in told
        for candidate in re.findall(r"[A-Za-z0-9_-]{20,}(?:\.[A-Za-z0-9_-]+)*", told):
            assert (await house.client(candidate).get("/events")).status_code == 401


@pytest.mark.parametrize("status", ["inactive", "paused"])
async def test_the_later_dialects_inactive_is_read_as_paused(house: House, status: str) -> None:
    event = await house.event()
    answer = await house.master.put(f"/events/{event['id']}", json={"status": status})
    assert (answer.status_code, answer.json()["status"]) == (200, "paused")


async def test_deleting_by_put_is_refused_with_delete_as_the_way(house: House) -> None:
    event = await house.event()
    answer = await house.master.put(f"/events/{event['id']}", json={"status": "deleted"})
    assert answer.status_code == 400
    assert "DELETE" in answer.text


async def test_the_later_dialects_once_is_a_start_time_alone(house: House) -> None:
    made = await house.master.post("/events", json={"name": "x", "start_time": "2027-04-01T09:00:00Z"})
    assert made.status_code == 201
    assert made.json()["next_run_at"] == "2027-04-01T09:00:00Z"
    assert len(made.json()["next_runs"]) == 1
