"""Claims under a server's concurrency: cheap updates, and changes that no claim of an old version outlives."""

import asyncio
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import psycopg
import pytest

from qhronos_core.adapters.postgres import open_postgres_store
from qhronos_core.domain.event import Event, EventStatus, Overlap, Policies
from qhronos_core.domain.occurrence import Held, Move, Occurrence
from qhronos_core.ports import Changes, Due, EventSave
from tests.adapters.store.scenes import (
    ScriptedJudge,
    a_webhook,
    an_event,
    an_occurrence,
    claimed,
    completed,
    ended,
    kept,
    look,
)
from tests.clock import NOON, FakeClock
from tests.servers import private_postgres

_UPDATES: Final = """
    SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'occurrences'
"""


# A backend hands in what it counted at latest when it ends, before it leaves this view (PostgreSQL, "The Cumulative
# Statistics System"); a client that has closed its connection knows nothing of when that is.
_OTHERS: Final = """
    SELECT count(*) FROM pg_stat_activity
     WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""


def updates_of(url: str) -> tuple[int, int]:
    with psycopg.connect(url, autocommit=True) as connection:
        while connection.execute(_OTHERS).fetchone() != (0,):
            pass
        row = connection.execute(_UPDATES).fetchone()
        assert row is not None
        return row[0], row[1]


async def test_a_claim_changes_no_index(url: str, clock: FakeClock) -> None:
    """HOT updates: at least nine in ten. A column of an index that a claim changes would make it none."""
    before = updates_of(url)
    async with open_postgres_store(url, clock=clock) as store:
        event = a_webhook()
        rows = [an_occurrence(event, NOON - timedelta(seconds=n)) for n in range(2_000)]
        await kept(store, event, *rows)
        while (await look(store, node="a-host-with-rather-a-long-name-12345-a1b2c3")).more:
            pass
    updated, hot = (after - earlier for after, earlier in zip(updates_of(url), before, strict=True))
    assert updated == 2_000
    assert hot >= 0.9 * updated


@pytest.fixture(scope="module")
def url_with_commit_times() -> Iterator[str]:
    with private_postgres({"track_commit_timestamp": "on"}) as server:
        yield server.new_database()


async def test_no_claim_of_an_old_version_commits_after_the_change_that_ended_it(
    url_with_commit_times: str, clock: FakeClock
) -> None:
    """P6, by the server's own commit times: claims and pauses race, also for successors that claims just planned."""
    url = url_with_commit_times

    def plans_on(due: Due) -> Move:
        was = due.occurrence
        successor = an_occurrence(due.event, was.scheduled_at + timedelta(microseconds=1), ordinal=was.ordinal + 1)
        if due.event.status is not EventStatus.ACTIVE:
            return Move(was, was.changed(due.now, held=Held.PAUSE, due_at=None, fence=was.fence + 1))
        return Move(was, claimed(due), planned=(successor,) if was.ordinal < 40 else ())

    async def pauses(event: Event) -> None:
        await asyncio.sleep(random.random() * 0.05)
        paused = event.changed(NOON, status=EventStatus.PAUSED, paused_at=NOON)
        await other.commit(Changes(saves=[EventSave(paused, event)]))

    async with open_postgres_store(url, clock=clock) as store, open_postgres_store(url, clock=clock) as other:
        old_claims: list[tuple[Occurrence, Event]] = []
        while len(old_claims) < 200:
            events = [a_webhook() for _ in range(10)]
            await kept(store, *events, *(an_occurrence(event, NOON - timedelta(seconds=1)) for event in events))
            pausing = asyncio.gather(*map(pauses, events))
            while not pausing.done():
                looked = await asyncio.gather(
                    *(look(each, ScriptedJudge(plans_on), limit=5) for each in (store, other))
                )
                old_claims += [(claim.occurrence, claim.event) for found in looked for claim in found.claims]
            await pausing
        assert all(event.version == 1 for _, event in old_claims)
    with psycopg.connect(url) as connection:
        late = connection.execute(_CLAIMED_AFTER_THE_CHANGE).fetchall()
    assert late == []


_CLAIMED_AFTER_THE_CHANGE: Final = """
    SELECT o.id FROM occurrences AS o JOIN events AS e ON e.id = o.event_id
     WHERE o.state = 'dispatching' AND e.status = 'paused'
       AND pg_xact_commit_timestamp(o.xmin) > pg_xact_commit_timestamp(e.xmin)
"""


@pytest.mark.parametrize("overlap", [Overlap.SKIP, Overlap.QUEUE])
async def test_two_nodes_never_begin_two_of_an_event_that_minds_and_leave_none_held_for_ever(
    url: str, clock: FakeClock, overlap: Overlap
) -> None:
    def minds(due: Due) -> Move:
        was = due.occurrence
        if due.unfinished and overlap is Overlap.QUEUE:
            return Move(was, was.changed(due.now, held=Held.OVERLAP, due_at=None, fence=was.fence + 1))
        if due.unfinished:
            return Move(was, ended(was, due.now))
        return Move(was, claimed(due))

    async with open_postgres_store(url, clock=clock) as store, open_postgres_store(url, clock=clock) as other:
        events = [an_event(policies=Policies(overlap=overlap)) for _ in range(10)]
        rows = [an_occurrence(event, NOON - timedelta(seconds=n)) for event in events for n in range(6)]
        await kept(store, *events, *rows)
        under_way: dict[Any, Occurrence] = {}
        done = 0
        while under_way or (await store.occurrences.backlog())[0]:
            looked = await asyncio.gather(*(look(each, ScriptedJudge(minds), limit=7) for each in (store, other)))
            for claim in (claim for found in looked for claim in found.claims):
                assert claim.event.id not in under_way
                under_way[claim.event.id] = claim.occurrence
            moves = [replace(completed(row, NOON), frees_queue=True) for row in under_way.values()]
            random.shuffle(moves)
            settling, under_way = moves[: len(moves) // 2 + 1], {}
            kept_back = {move.was.event_id: move.was for move in moves[len(settling) :]}
            looks = asyncio.gather(*(look(each, ScriptedJudge(minds), limit=7) for each in (store, other)))
            settled = await store.settle(settling)
            assert settled == {move.was.id for move in settling}
            done += len(settled)
            under_way = kept_back
            for claim in (claim for found in await looks for claim in found.claims):
                assert claim.event.id not in under_way
                under_way[claim.event.id] = claim.occurrence
        found = (await store.occurrences.many([row.id for row in rows])).values()
        assert all(row.finished for row in found)
        assert done == (60 if overlap is Overlap.QUEUE else done)
