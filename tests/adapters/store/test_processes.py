"""Several processes on one store: none takes what another has, and one that is killed leaves nothing half done."""

import asyncio
import multiprocessing
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, Final
from uuid import UUID

from qhronos_core.adapters.clock import SystemClock
from qhronos_core.domain.event import Event
from qhronos_core.domain.ids import EventId
from qhronos_core.domain.lifecycle import COMPLETED, DISPATCHING, PENDING
from qhronos_core.domain.occurrence import EntryKind, Move, Occurrence
from qhronos_core.ports import Changes, Due, EventSave, Store
from tests.adapters.store.places import Place
from tests.adapters.store.scenes import ScriptedJudge, an_event, an_occurrence, claim, completed, ids, journal, kept
from tests.clock import NOON, FakeClock

SPAWN: Final = multiprocessing.get_context("spawn")
LONG: Final = timedelta(hours=1)


def started(work: Any, *arguments: Any) -> tuple[SpawnProcess, "Connection[Any, Any]"]:
    """A process doing `work(connection, *arguments)`, and the other end of its connection."""
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=work, args=(theirs, *arguments), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def answered(ours: "Connection[Any, Any]") -> Any:
    assert ours.poll(30), "a process said nothing for 30 s"
    return ours.recv()


# --- claiming ---------------------------------------------------------------------------------------------


def claim_until_empty(pipe: "Connection[Any, Any]", place: Place, name: str) -> None:
    async def run() -> list[UUID]:
        taken: list[UUID] = []
        async with place.open(FakeClock(NOON)) as store:
            pipe.send("ready")
            pipe.recv()
            while True:
                judge = ScriptedJudge(claims_and_plans)
                looked = await store.claim_due(node=name, lease=LONG, limit=25, judge=judge)
                taken += [each.occurrence.id for each in looked.claims]
                settled = await store.settle([completed(each.occurrence, NOON) for each in looked.claims])
                assert len(settled) == len(looked.claims)
                if not looked.judged:
                    return taken

    pipe.send(asyncio.run(run()))


def claims_and_plans(due: Due) -> Move:
    """Claimed, and its successor planned: due at once until the fourth."""
    was = due.occurrence
    if was.ordinal == 4:
        return replace(claim(due), ends_event=True)
    successor = an_occurrence(due.event, was.scheduled_at + timedelta(seconds=1), ordinal=was.ordinal + 1)
    return replace(claim(due), planned=(successor,))


async def test_four_processes_claim_every_row_once_and_plan_every_successor_once(place: Place) -> None:
    events = [an_event() for _ in range(500)]
    began = NOON - timedelta(minutes=1)
    async with place.open(FakeClock(NOON)) as store:
        await kept(store, *events, *(an_occurrence(event, began) for event in events))

        others = [started(claim_until_empty, place, f"node-{number}") for number in range(4)]
        for _, pipe in others:
            assert await asyncio.to_thread(answered, pipe) == "ready"
        for _, pipe in others:
            pipe.send("go")
        taken = [await asyncio.to_thread(answered, pipe) for _, pipe in others]
        for process, _ in others:
            await asyncio.to_thread(process.join)

        everybody = [each for ours in taken for each in ours]
        assert len(everybody) == len(set(everybody)) == 2_000
        told = Counter((entry.kind, entry.occurrence_id) for entry in await journal(store))
        assert set(told.values()) == {1}
        assert len(told) == 4_000
        rows = await store.occurrences.many(everybody)
        assert {(row.state, row.attempts_made, row.fence) for row in rows.values()} == {(COMPLETED, 1, 2)}
        assert {event.status for event in (await store.events.many([event.id for event in events])).values()} == {
            "inactive"
        }


# --- being killed -----------------------------------------------------------------------------------------


def claim_and_make_for_ever(pipe: "Connection[Any, Any]", place: Place) -> None:
    """Claims with successors, settles, and makes events; tells of each event once its commit was answered."""

    async def run() -> None:
        async with place.open(FakeClock(NOON)) as store:
            pipe.send("ready")
            await asyncio.gather(make(store), work(store))

    async def make(store: Store) -> None:
        while True:
            event = an_event()
            await store.commit(
                Changes(saves=[EventSave(event)], planned=[an_occurrence(event, NOON - timedelta(minutes=1))])
            )
            pipe.send(event.id)

    async def work(store: Store) -> None:
        while True:
            looked = await store.claim_due(node="n", lease=LONG, limit=20, judge=ScriptedJudge(claims_and_plans))
            await store.settle([completed(each.occurrence, NOON) for each in looked.claims])

    asyncio.run(run())


async def test_a_process_killed_at_any_moment_leaves_whole_transactions_behind(place: Place) -> None:
    rng = random.Random(20260302)
    acknowledged: list[EventId] = []
    for _ in range(6):
        process, pipe = started(claim_and_make_for_ever, place)
        assert await asyncio.to_thread(answered, pipe) == "ready"
        assert await asyncio.to_thread(pipe.poll, 30)  # it has begun, however busy the machine is
        await asyncio.sleep(rng.uniform(0.02, 0.25))
        process.kill()
        await asyncio.to_thread(process.join)
        acknowledged += received(pipe)

    assert len(acknowledged) >= 6
    async with place.open(FakeClock(NOON)) as store:
        events = await store.events.many(acknowledged)
        assert len(events) == len(acknowledged)  # accepted means kept
        for event in events.values():
            await whole(store, event)


def received(pipe: "Connection[Any, Any]") -> list[EventId]:
    found = []
    try:
        while pipe.poll():
            found.append(pipe.recv())
    except EOFError:
        pass
    return found


async def whole(store: Store, event: Event) -> None:
    """Claim, successor and journal both or neither: the rows are a chain, each with what was told of it."""
    instants = sorted(await store.occurrences.instants_after(event.id, NOON - LONG))
    rows = list((await store.occurrences.many([an_occurrence(event, at).id for at in instants])).values())
    rows.sort(key=lambda row: row.scheduled_at)
    assert [row.ordinal for row in rows] == list(range(1, len(rows) + 1))
    *begun, last = rows
    assert all(row.state in (DISPATCHING, COMPLETED) for row in begun)
    if event.status == "inactive":
        assert last.ordinal == 4
    else:
        assert (last.state, last.advances) == (PENDING, True)
    for row in rows:
        assert len(await store.occurrences.attempts(row.id)) == (row.state is COMPLETED)


# --- opening at once --------------------------------------------------------------------------------------


def open_once(pipe: "Connection[Any, Any]", place: Place) -> None:
    async def run() -> Sequence[str]:
        pipe.send("ready")
        pipe.recv()
        async with place.open(SystemClock()) as store:
            applied = list(await store.migrate())
            event = an_event()
            await kept(store, event, an_occurrence(event))
            return applied

    pipe.send(asyncio.run(run()))


async def test_processes_that_open_a_new_store_at_once_make_one(place: Place) -> None:
    others = [started(open_once, place) for _ in range(3)]
    for _, pipe in others:
        assert await asyncio.to_thread(answered, pipe) == "ready"
    for _, pipe in others:
        pipe.send("go")
    for _, pipe in others:
        await asyncio.to_thread(answered, pipe)

    async with place.open(SystemClock()) as store:
        assert await store.migrate() == []
        assert await store.events.count_live("ada") == 3
        status = await store.status()
        assert len(set(status["migrations"])) == len(status["migrations"]) >= 1


async def test_a_second_process_sees_at_once_what_the_first_committed(place: Place) -> None:
    clock = FakeClock()
    async with place.open(clock) as one, place.open(clock) as other:
        for _ in range(20):
            event = an_event()
            await kept(one, event, an_occurrence(event))
            assert await other.events.get(event.id) == event
            assert (await other.occurrences.planned(event.id)) is not None


# --- one process, many callers ------------------------------------------------------------------------------


async def test_commits_that_share_a_moment_succeed_and_fail_each_by_itself(place: Place) -> None:
    async with place.open(FakeClock()) as store:
        taken = an_event(key="k")
        await kept(store, taken)
        events = [an_event(key="k" if number % 5 == 0 else None) for number in range(100)]

        writes = (kept(store, event, an_occurrence(event)) for event in events)
        outcomes = await asyncio.gather(*writes, return_exceptions=True)

        assert [isinstance(outcome, Exception) for outcome in outcomes] == [number % 5 == 0 for number in range(100)]
        assert await store.events.count_live("ada") == 81
        planned = await store.occurrences.planned_of([event.id for event in events])
        assert planned.keys() == {event.id for number, event in enumerate(events) if number % 5}


async def test_a_caller_who_goes_away_takes_nobody_with_them_and_nothing_is_half_written(place: Place) -> None:
    async with place.open(FakeClock()) as store:
        pairs = [(event := an_event(), an_occurrence(event)) for _ in range(60)]
        tasks = [asyncio.create_task(kept(store, *pair)) for pair in pairs]
        await asyncio.sleep(0)
        for task in tasks[::3]:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        await kept(store, an_event())

        for number, ((event, planned), outcome) in enumerate(zip(pairs, outcomes, strict=True)):
            found = await store.events.many([event.id])
            assert bool(found) == bool(await store.occurrences.many([planned.id]))
            assert bool(found) or number % 3 == 0
            assert outcome is None or isinstance(outcome, asyncio.CancelledError)


async def test_many_moves_in_one_second_stay_well_under_it(place: Place) -> None:
    """No figure, only a floor: a claim and a settle of 500 rows may not take seconds."""
    async with place.open(FakeClock()) as store:
        event = an_event()
        rows: list[Occurrence] = [an_occurrence(event, NOON - timedelta(seconds=number)) for number in range(500)]
        await kept(store, event, *rows)
        began = time.monotonic()
        looked = await store.claim_due(node="n", lease=LONG, limit=500, judge=ScriptedJudge())
        await store.settle([completed(each.occurrence, NOON) for each in looked.claims])
        assert time.monotonic() - began < 5
        assert sorted(ids(rows)) == sorted(each.occurrence.id for each in looked.claims)
        due = [entry for entry in await journal(store) if entry.kind is EntryKind.OCCURRENCE_DUE]
        assert len(due) == 500
