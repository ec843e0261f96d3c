"""What one creator may have is counted where it is written: requests side by side end together at the quota."""

import asyncio
from datetime import timedelta

import pytest

from qhronos_core.adapters.local.signals import LocalSignals
from qhronos_core.domain.access import Access, Principal
from qhronos_core.domain.errors import QuotaExceededError
from qhronos_core.domain.event import EventStatus
from qhronos_core.domain.judgement import Judgement
from qhronos_core.ports import EventQuery, Page, Store
from qhronos_core.usecases.events import EventCases, EventRules
from tests.adapters.store.scenes import after, look, within
from tests.clock import FakeClock
from tests.world import PLAIN_KEEPER, anywhere

WRITER = Principal("writer", Access.WRITE, frozenset({"user:writer"}), holder="writer")
OTHER = Principal("other", Access.WRITE, frozenset({"user:other"}), holder="other")


def cases(store: Store, *, quota_events: int = 0, quota_runs_per_day: int = 0) -> EventCases:
    rules = EventRules(quota_events=quota_events, quota_runs_per_day=quota_runs_per_day)
    return EventCases(store, LocalSignals(), keeper=PLAIN_KEEPER, check_destination=anywhere, rules=rules)


async def created(events: EventCases, caller: Principal, many: int, **fields: str) -> int:
    """How many of `many` at once were let through."""

    async def one() -> bool:
        try:
            await events.create({"name": "n", "schedule": "0 9 * * *", **fields}, caller=caller)
        except QuotaExceededError:
            return False
        return True

    return sum(await asyncio.gather(*(one() for _ in range(many))))


@pytest.mark.parametrize("kept", [0, 3])
async def test_creating_side_by_side_ends_at_the_quota_of_live_events(store: Store, kept: int) -> None:
    events = cases(store, quota_events=7)
    assert await created(events, WRITER, kept) == kept
    assert await created(events, WRITER, 40) == 7 - kept
    assert await store.events.count_live("writer") == 7
    assert await created(events, OTHER, 2) == 2


async def test_creating_side_by_side_ends_at_the_quota_of_runs(store: Store) -> None:
    events = cases(store, quota_runs_per_day=100)
    assert await created(events, WRITER, 20, schedule="every 1h") == 4


async def test_changing_side_by_side_ends_at_the_quota_of_runs(store: Store) -> None:
    events = cases(store, quota_runs_per_day=100)
    made = [(await events.create({"name": "n", "schedule": "@daily"}, caller=WRITER)).event for _ in range(10)]

    async def faster(number: int) -> bool:
        try:
            await events.update(made[number].id, {"schedule": "every 1h"}, caller=WRITER)
        except QuotaExceededError:
            return False
        return True

    changed = sum(await asyncio.gather(*(faster(number) for number in range(10))))
    assert changed == 3  # 3 x 24 + 7
    assert sum(event.runs_per_day for event in (await store.events.many([one.id for one in made])).values()) == 79


async def test_over_a_quota_that_was_lowered_one_may_still_slow_down_and_pause(store: Store) -> None:
    event = (await cases(store).create({"name": "n", "schedule": "every 1m"}, caller=WRITER)).event
    lowered = cases(store, quota_runs_per_day=100, quota_events=1)
    with pytest.raises(QuotaExceededError):
        await lowered.update(event.id, {"schedule": "every 30s"}, caller=WRITER)
    await lowered.update(event.id, {"description": "too fast"}, caller=WRITER)
    await lowered.update(event.id, {"status": "paused"}, caller=WRITER)
    with pytest.raises(QuotaExceededError):
        await lowered.update(event.id, {"status": "active"}, caller=WRITER)
    await lowered.update(event.id, {"status": "active", "schedule": "every 1h"}, caller=WRITER)


async def test_what_has_ended_is_no_part_of_the_quota_until_it_has_more_to_run(store: Store, clock: FakeClock) -> None:
    events = cases(store, quota_events=2)
    once = (await events.create({"name": "n", "schedule": "in 10m"}, caller=WRITER)).event
    clock.advance(timedelta(minutes=10))
    await look(store, Judgement())
    assert (await store.events.get(once.id)).status is EventStatus.INACTIVE
    assert await created(events, WRITER, 3) == 2
    with pytest.raises(QuotaExceededError):
        await events.update(once.id, {"schedule": "@daily"}, caller=WRITER)


async def test_a_pause_that_ends_by_itself_frees_nothing(store: Store) -> None:
    """What resumes by itself is asked nothing then: else any number of runs could be planned for one instant."""
    events = cases(store, quota_runs_per_day=100)
    soon = after(hours=1).isoformat()
    assert await created(events, WRITER, 20, schedule="every 1h", paused_until=soon) == 4
    assert await created(events, OTHER, 20, schedule="every 1h") == 4
    (resting, *_) = (await store.events.list(EventQuery(), within("user:other"), Page())).items
    await events.update(resting.id, {"status": "paused"}, caller=OTHER)
    assert await created(events, OTHER, 1, schedule="every 1h") == 1
    with pytest.raises(QuotaExceededError):
        await events.update(resting.id, {"paused_until": soon}, caller=OTHER)
    active = EventQuery(statuses=frozenset({EventStatus.ACTIVE}))
    (running, *_) = (await store.events.list(active, within("user:other"), Page())).items
    await events.update(running.id, {"paused_until": soon}, caller=OTHER)
