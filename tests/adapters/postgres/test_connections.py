"""What a store on a server must survive: the server's restart, a lost answer, a lost race, too many callers."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from structlog.testing import capture_logs

from qhronos_core.adapters.postgres import PoolSettings, PostgresStore, open_postgres_store
from qhronos_core.adapters.postgres.pool import Transaction
from qhronos_core.domain.errors import InvalidInputError, KeyTakenError, StaleError, StoreUnavailableError
from qhronos_core.domain.lifecycle import COMPLETED
from qhronos_core.domain.occurrence import Held, Move
from qhronos_core.ports import Changes, EventQuery, EventSave, InboxQuery, Page, Store
from tests.adapters.store.scenes import (
    ALL,
    LEASE,
    an_entry,
    an_event,
    an_occurrence,
    completed,
    ended,
    handed_over,
    journal,
    kept,
    look,
    row,
)
from tests.clock import NOON, FakeClock
from tests.faults.rig.proxy import Cut, Proxy, proxied
from tests.servers import Postgres, private_postgres

UNPREPARED = PoolSettings(prepare_threshold=None)  # so that the proxy can read along


@pytest.fixture
async def cut_store(url: str, clock: FakeClock) -> AsyncIterator[tuple[PostgresStore, Proxy]]:
    async with (
        proxied(url) as (through, proxy),
        open_postgres_store(through, clock=clock, settings=UNPREPARED) as store,
    ):
        await store.now()
        yield store, proxy


# --- a server that is away ----------------------------------------------------------------------------


async def test_a_store_opens_at_once_whether_or_not_the_server_answers() -> None:
    began = time.monotonic()
    async with open_postgres_store("postgresql://nobody@127.0.0.1:1/nothing") as store:
        assert time.monotonic() - began < 0.1
        for call in (store.now, lambda: store.commit(Changes(entries=[an_entry()])), lambda: look(store)):
            with pytest.raises(StoreUnavailableError) as refusal:
                await call()
            assert "127.0.0.1" not in str(refusal.value)


async def test_the_status_of_a_store_that_does_not_answer_says_so_and_no_address() -> None:
    async with open_postgres_store("postgresql://nobody:secret@127.0.0.1:1/nothing") as store:
        status = await store.status()
    assert status["kind"] == "postgresql"
    assert status["problem"]
    assert not any(word in str(status) for word in ("secret", "127.0.0.1", "nobody"))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"password": "wrong"}, "it refuses the user or the password"),
        ({"dbname": "nothing"}, "it has no such database"),
        ({"port": "1"}, "nothing listens there"),
    ],
)
async def test_an_absence_is_logged_once_with_what_the_operator_can_mend(
    url: str, changed: dict[str, str], reason: str
) -> None:
    with capture_logs() as logged:
        async with open_postgres_store(make_conninfo(url, **changed)) as store:
            for _ in range(3):
                with pytest.raises(StoreUnavailableError):
                    await store.now()
    told = [entry for entry in logged if entry["event"] == "postgresql_does_not_answer"]
    assert [(entry["reason"], entry["host"]) for entry in told] == [(reason, "127.0.0.1")]


async def test_a_store_that_was_opened_before_its_server_works_once_that_is_there(
    url: str, postgres_server: Postgres, clock: FakeClock
) -> None:
    postgres_server.stop("immediate")
    async with open_postgres_store(url, clock=clock) as store:
        with pytest.raises(StoreUnavailableError):
            await store.now()
        await asyncio.to_thread(postgres_server.start)
        assert await store.now() == clock.now()


async def test_where_the_store_answers_slowly_a_lease_is_longer_by_what_settling_will_take(
    cut_store: tuple[PostgresStore, Proxy], clock: FakeClock
) -> None:
    """F10: else the lease of a claim that took seconds lapses while its outcome is written."""
    store, proxy = cut_store
    event = an_event()
    await kept(store, event, an_occurrence(event, clock.now()))
    proxy.to_server.latency = 0.2  # a second until it is written, then one more look and the settling
    claimed = await look(store)
    longer = claimed.claims[0].occurrence.lease_until
    assert longer is not None
    assert timedelta(seconds=2) <= longer - clock.now() - LEASE < timedelta(seconds=20)
    assert 2 <= claimed.held_for - LEASE.total_seconds() < 20


async def test_where_it_answers_at_once_a_lease_is_what_was_asked_for(store: PostgresStore, clock: FakeClock) -> None:
    event = an_event()
    await kept(store, event, an_occurrence(event, clock.now()))
    claimed = await look(store)
    assert claimed.claims[0].occurrence.lease_until == clock.now() + LEASE


async def test_a_restart_in_the_middle_loses_nothing_acknowledged_and_needs_no_new_store(
    store: PostgresStore, postgres_server: Postgres
) -> None:
    acknowledged, refused = [], 0
    restarting = asyncio.create_task(asyncio.sleep(0))
    for n in range(60):
        if n == 20:
            restarting = asyncio.create_task(asyncio.to_thread(postgres_server.restart, "immediate"))
        event = an_event()
        try:
            await store.commit(Changes(saves=[EventSave(event)], planned=[an_occurrence(event)]))
            acknowledged.append(event.id)
            await look(store)
        except StoreUnavailableError:
            refused += 1
            await asyncio.sleep(0.05)
    await restarting
    deadline = time.monotonic() + 10
    while True:
        try:
            found = await store.events.many(acknowledged)
            break
        except StoreUnavailableError:
            assert time.monotonic() < deadline
    assert set(found) == set(acknowledged)
    assert len(acknowledged) > 20


async def test_after_a_crash_the_id_of_a_transaction_proves_nothing(
    store: PostgresStore, postgres_server: Postgres
) -> None:
    """What was not yet on disk is lost with its id, which another transaction is then given."""

    async def write(transaction: Transaction) -> tuple[str, str] | None:
        await transaction.send("UPDATE store_meta SET looked_at = looked_at")
        await transaction.seal()
        return await transaction.id()

    sealed = await store._callers.transaction(write)
    assert sealed is not None
    assert await store._callers._committed(sealed)
    await asyncio.to_thread(postgres_server.restart, "fast")
    assert await store._callers._committed(sealed)
    await asyncio.to_thread(postgres_server.restart, "immediate")
    with pytest.raises(StoreUnavailableError):
        await store._callers._committed(sealed)


# --- an answer that never comes -------------------------------------------------------------------------


@pytest.mark.parametrize("where", [Cut.AFTER, Cut.BEFORE])
async def test_a_create_cut_inside_its_commit_makes_one_event(
    cut_store: tuple[PostgresStore, Proxy], where: Cut
) -> None:
    store, proxy = cut_store
    for n in range(20):
        proxy.cut(b"COMMIT", where)
        event = an_event(key=f"k{n}")
        await store.commit(Changes(saves=[EventSave(event)], planned=[an_occurrence(event)], entries=[an_entry(event)]))
    assert proxy.cuts == 20
    assert (await store.events.list(EventQuery(), ALL, Page(limit=1), count=True)).total == 20
    assert len(await journal(store)) == 20


@pytest.mark.parametrize("where", [Cut.AFTER, Cut.BEFORE])
async def test_a_refusal_is_still_a_refusal_when_a_connection_was_cut_before(
    cut_store: tuple[PostgresStore, Proxy], where: Cut
) -> None:
    store, proxy = cut_store
    event = an_event(key="k")
    await kept(store, event)
    proxy.cut(b"INSERT INTO events", where)
    with pytest.raises(KeyTakenError):
        await kept(store, an_event(key="k"))
    proxy.cut(b"UPDATE events", where)
    with pytest.raises(StaleError):
        await store.commit(Changes(saves=[EventSave(event, replace(event, version=9))]))


@pytest.mark.parametrize("where", [Cut.AFTER, Cut.BEFORE])
async def test_a_claim_cut_inside_its_commit_is_the_nodes_own(
    cut_store: tuple[PostgresStore, Proxy], where: Cut
) -> None:
    store, proxy = cut_store
    event = an_event()
    await kept(store, event, an_occurrence(event))
    proxy.cut(b"COMMIT", where)
    (claim,) = (await look(store)).claims
    assert (await row(store, claim.occurrence)) == claim.occurrence
    assert claim.occurrence.fence == 1


@pytest.mark.parametrize("where", [Cut.AFTER, Cut.BEFORE])
async def test_an_outcome_whose_answer_was_cut_counts_as_written_once(
    cut_store: tuple[PostgresStore, Proxy], where: Cut
) -> None:
    store, proxy = cut_store
    event = an_event()
    await kept(store, event, an_occurrence(event))
    (claim,) = (await look(store)).claims
    move = completed(claim.occurrence, claim.occurrence.scheduled_at)
    proxy.cut(b"json_to_recordset", where)

    assert await store.settle([move]) == {claim.occurrence.id}
    assert await store.settle([move]) == frozenset()
    assert proxy.cuts == 1
    assert (await row(store, claim.occurrence)).state is COMPLETED
    assert len(await store.occurrences.attempts(claim.occurrence.id)) == 1
    assert [entry.kind for entry in await journal(store)] == ["occurrence.due", "occurrence.completed"]


async def test_an_outcome_still_being_written_when_its_answer_was_cut_counts_once_it_is(
    cut_store: tuple[PostgresStore, Proxy], url: str
) -> None:
    store, proxy = cut_store
    event = an_event()
    await kept(store, event, an_occurrence(event))
    (claim,) = (await look(store)).claims
    async with await psycopg.AsyncConnection.connect(url) as other:
        await other.execute("SELECT FROM occurrences WHERE id = %s FOR UPDATE", [claim.occurrence.id])
        proxy.cut(b"json_to_recordset", Cut.BEHIND)
        settling = asyncio.create_task(store.settle([completed(claim.occurrence, claim.occurrence.scheduled_at)]))
        await _until_somebody_waits(url, 2)
        await other.rollback()
    assert await settling == {claim.occurrence.id}
    assert [entry.kind for entry in await journal(store)] == ["occurrence.due", "occurrence.completed"]


@pytest.mark.parametrize("where", [Cut.AFTER, Cut.BEFORE])
async def test_an_inbox_item_taken_when_the_answer_was_cut_is_the_takers(
    cut_store: tuple[PostgresStore, Proxy], where: Cut
) -> None:
    store, proxy = cut_store
    event = an_event()
    await kept(store, event, handed_over(event))
    proxy.cut(b"COMMIT", where)
    (item,) = await store.claim_inbox(InboxQuery(), ALL, holder="h", actor="ada")
    assert await store.occurrences.held_by("h", 10) == [item]
    assert item.fence == 1


# --- races -----------------------------------------------------------------------------------------------


async def test_a_deadlock_is_run_again_unseen(store: PostgresStore, url: str) -> None:
    event = an_event()
    rows = sorted((an_occurrence(event, NOON - timedelta(minutes=n)) for n in (1, 2)), key=lambda each: each.id)
    await kept(store, event, *rows)
    claims = {claim.occurrence.id: claim.occurrence for claim in (await look(store)).claims}
    moves = [completed(claims[each.id], each.scheduled_at) for each in rows]

    async with await psycopg.AsyncConnection.connect(url) as other:
        await other.execute("SET deadlock_timeout = '1min'")  # so that it is the store's statement that is undone
        await other.execute("SELECT FROM occurrences WHERE id = %s FOR UPDATE", [rows[1].id])
        settling = asyncio.create_task(store.settle(moves))
        await _until_somebody_waits(url)
        await other.execute("SELECT FROM occurrences WHERE id = %s FOR UPDATE", [rows[0].id])
        await other.rollback()
        assert await settling == {each.id for each in rows}


async def test_who_frees_a_queued_row_takes_its_locks_in_the_order_of_a_change_of_the_event(
    store: PostgresStore, url: str
) -> None:
    event = an_event()
    instants = [NOON - timedelta(minutes=n) for n in range(2)]
    queued_at, held_at = sorted(instants, key=lambda at: an_occurrence(event, at).id)
    queued = an_occurrence(event, queued_at, held=Held.OVERLAP, due_at=None, advances=False)
    held = handed_over(event, held_at)
    await kept(store, event, queued, held)
    move = Move(held, ended(held, NOON), frees_queue=True)

    async with await psycopg.AsyncConnection.connect(url) as changing:
        await changing.execute("SET lock_timeout = '500ms'")  # shorter than it takes to notice a deadlock
        await changing.execute("SELECT FROM occurrences WHERE id = %s FOR UPDATE", [queued.id])
        acknowledging = asyncio.create_task(store.commit(Changes(moves=[move])))
        await _until_somebody_waits(url)
        await changing.execute("SELECT FROM occurrences WHERE id = %s FOR UPDATE", [held.id])
        await changing.rollback()
    await acknowledging
    assert (await row(store, queued)).held is None


async def test_twenty_writers_of_one_event_each_win_once_or_are_told(store: PostgresStore) -> None:
    event = an_event()
    await kept(store, event, an_occurrence(event))

    async def renamed(n: int) -> int:
        tries = 0
        while True:
            tries += 1
            was = await store.events.get(event.id)
            try:
                await store.commit(Changes(saves=[EventSave(was.changed(was.updated_at, name=f"name {n}"), was)]))
            except StaleError:
                continue
            return tries

    tries = await asyncio.gather(*(renamed(n) for n in range(20)))
    assert (await store.events.get(event.id)).version == 21
    assert sum(tries) > 20


async def test_callers_that_go_away_in_the_middle_leave_every_connection_usable(store: PostgresStore) -> None:
    kept_ids, events = [], [an_event() for _ in range(60)]
    for n, event in enumerate(events):
        work = asyncio.create_task(kept(store, event, an_occurrence(event)))
        await asyncio.sleep(n / 10_000)
        work.cancel()
        await asyncio.wait([work])
        if not work.cancelled():
            kept_ids.append(event.id)
    found = await store.events.many([event.id for event in events])
    assert set(kept_ids) <= set(found)
    assert len(await store.occurrences.planned_of([event.id for event in events])) == len(found)
    async with asyncio.timeout(10):
        await asyncio.gather(*(kept(store, an_event()) for _ in range(30)))


@pytest.mark.parametrize("text", ["\x00", "half \ud800"])
async def test_a_text_that_cannot_be_kept_is_the_callers_fault(store: PostgresStore, text: str) -> None:
    for query in (EventQuery(text=text), EventQuery(tags=(text,)), EventQuery(key=text)):
        with pytest.raises(InvalidInputError):
            await store.events.list(query, ALL, Page())
    assert (await store.events.list(EventQuery(), ALL, Page())).items == ()


# --- too many callers ---------------------------------------------------------------------------------------


async def test_callers_that_use_up_their_connections_do_not_hold_up_dispatching(url: str, clock: FakeClock) -> None:
    settings = PoolSettings(size=2, wait=timedelta(milliseconds=300))
    async with open_postgres_store(url, clock=clock, settings=settings) as store:
        event = an_event()
        await kept(store, event, an_occurrence(event))
        await look(store, limit=1)  # the dispatcher's are open
        hogs = [asyncio.create_task(store._callers.rows("SELECT pg_sleep(1.5)")) for _ in range(2)]
        await asyncio.sleep(0.2)

        with pytest.raises(StoreUnavailableError):
            await store.now()
        began = time.monotonic()
        for _ in range(20):
            await look(store)
            await store.occurrences.next_due()
        assert time.monotonic() - began < 1
        await asyncio.gather(*hogs)
        assert await store.now() == clock.now()


async def test_a_server_without_a_free_connection_refuses_callers_and_dispatching_goes_on(clock: FakeClock) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(private_postgres({"max_connections": "20", "superuser_reserved_connections": "0"}))
        settings = PoolSettings(size=4, wait=timedelta(milliseconds=300))
        async with open_postgres_store(server.new_database(), clock=clock, settings=settings) as store:
            event = an_event()
            await kept(store, event, an_occurrence(event))
            await look(store)
            held = []
            while True:
                try:
                    held.append(stack.enter_context(psycopg.connect(server.url)))
                except psycopg.OperationalError:
                    break
            hogs = [asyncio.create_task(store._callers.rows("SELECT pg_sleep(1)")) for _ in range(4)]
            await asyncio.sleep(0.1)
            with pytest.raises(StoreUnavailableError):
                await store.now()
            for _ in range(10):
                await look(store)
            await asyncio.gather(*hogs, return_exceptions=True)
            for connection in held:
                connection.close()
            await _works_again(store)


async def _works_again(store: Store) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            await asyncio.gather(*(store.now() for _ in range(8)))
            return
        except StoreUnavailableError:
            assert time.monotonic() < deadline


async def _until_somebody_waits(url: str, how_many: int = 1) -> None:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as watching:
        deadline = time.monotonic() + 10
        while True:
            cursor = await watching.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
            if ((await cursor.fetchone()) or (0,))[0] >= how_many:
                return
            assert time.monotonic() < deadline
            await asyncio.sleep(0.005)
