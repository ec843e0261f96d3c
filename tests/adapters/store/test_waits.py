"""Waits that outlive their request: rows, and the claim that is written into one."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

from qhronos_core.domain.ids import new_id
from qhronos_core.ports import InboxQuery, Store, Wait, WaitState
from tests.adapters.store.places import Place
from tests.adapters.store.scenes import ALL, an_event, handed_over, ids, kept, row
from tests.clock import NOON, FakeClock


def a_wait(**fields: Any) -> Wait:
    wait = Wait(new_id(NOON), "h", InboxQuery(2), created_at=NOON, updated_at=NOON, ends_at=NOON + timedelta(hours=1))
    return replace(wait, **fields)


async def test_a_wait_is_read_back_as_it_was_written(store: Store) -> None:
    event = an_event()
    wait = a_wait(query=InboxQuery(3, event.id, ("user:a", "b")))
    await store.waits.start(wait, most=20)
    assert await store.waits.get(wait.id) == wait
    assert await store.waits.get(new_id(NOON)) is None


async def test_what_is_claimed_for_a_wait_is_written_into_it_once(store: Store, clock: FakeClock) -> None:
    event, wait = an_event(), a_wait()
    first, second, third = (handed_over(event, NOON - timedelta(minutes=n)) for n in (3, 2, 1))
    await kept(store, event, first, second, third)
    await store.waits.start(wait, most=20)
    clock.advance(seconds=5)

    taken = await store.claim_inbox(wait.query, ALL, holder="h", actor="ada", wait_id=wait.id)

    assert ids(taken) == [first.id, second.id]
    kept_wait = await store.waits.get(wait.id)
    assert kept_wait is not None
    assert kept_wait.occurrence_ids == (first.id, second.id)
    assert kept_wait.updated_at == clock.now()
    assert not await store.claim_inbox(wait.query, ALL, holder="h", actor="ada", wait_id=wait.id)
    assert (await row(store, third)).holder is None


async def test_two_looks_at_one_wait_at_once_claim_once(place: Place, clock: FakeClock) -> None:
    async with place.open(clock) as one, place.open(clock) as other:
        event, wait = an_event(), a_wait(query=InboxQuery(1))
        await kept(one, event, *(handed_over(event, NOON - timedelta(minutes=n)) for n in range(20)))
        await one.waits.start(wait, most=20)
        looks = [
            store.claim_inbox(wait.query, ALL, holder="h", actor="ada", wait_id=wait.id) for store in (one, other) * 5
        ]
        taken = [item for answer in await asyncio.gather(*looks) for item in answer]
        assert len(taken) == 1


async def test_nothing_is_claimed_for_a_wait_that_has_ended_or_never_was(store: Store) -> None:
    event, wait = an_event(), a_wait()
    await kept(store, event, handed_over(event))
    await store.waits.start(wait, most=20)
    await store.waits.end(wait.id, WaitState.CANCELLED)
    for wait_id in (wait.id, new_id(NOON)):
        assert not await store.claim_inbox(wait.query, ALL, holder="h", actor="ada", wait_id=wait_id)


async def test_a_wait_ends_once_and_keeps_its_first_answer(store: Store, clock: FakeClock) -> None:
    wait = a_wait()
    await store.waits.start(wait, most=20)
    clock.advance(seconds=9)
    told = await store.waits.end(wait.id, WaitState.COMPLETED, answer={"says": "é", "n": [1, None]})
    assert told == replace(
        wait, state=WaitState.COMPLETED, answer={"says": "é", "n": [1, None]}, updated_at=clock.now()
    )
    clock.advance(seconds=9)
    assert await store.waits.end(wait.id, WaitState.CANCELLED) == told
    assert await store.waits.end(new_id(NOON), WaitState.CANCELLED) is None


async def test_of_one_holder_so_many_waits_go_on_at_once_and_no_more(store: Store, clock: FakeClock) -> None:
    waits = [a_wait(), a_wait(ends_at=NOON + timedelta(seconds=1))]
    for wait in waits:
        assert await store.waits.start(wait, most=2)
    refused = a_wait()
    assert not await store.waits.start(refused, most=2)
    assert await store.waits.get(refused.id) is None
    assert await store.waits.start(a_wait(holder="another"), most=2)
    await store.waits.end(waits[0].id, WaitState.COMPLETED, answer={})
    assert await store.waits.start(a_wait(), most=2)
    assert not await store.waits.start(a_wait(), most=2)
    clock.advance(seconds=1)
    assert await store.waits.start(a_wait(), most=2)


async def test_waits_that_begin_side_by_side_are_counted_too(place: Place, clock: FakeClock) -> None:
    async with place.open(clock) as one, place.open(clock) as other:
        started = await asyncio.gather(*(store.waits.start(a_wait(), most=3) for store in (one, other) * 6))
        assert sum(started) == 3


async def test_a_wait_that_ran_out_a_day_ago_is_removed(store: Store, clock: FakeClock) -> None:
    wait = a_wait()
    await store.waits.start(wait, most=20)

    async def retire() -> int:
        now = clock.now()
        return await store.retire(
            occurrences_before=now, attempts_before=now, journal_before=now, deleted_before=now, limit=10
        )

    clock.set(wait.ends_at + timedelta(hours=23))
    await retire()
    assert await store.waits.get(wait.id) is not None
    clock.advance(timedelta(hours=1))
    assert await retire() == 1
    assert await store.waits.get(wait.id) is None
