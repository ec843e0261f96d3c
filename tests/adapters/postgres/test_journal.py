"""A cursor skips nothing, though entries are committed in another order than they were numbered."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from typing import Any, Final

import psycopg
import pytest

from qhronos_core.adapters.postgres import PostgresStore, open_postgres_store
from qhronos_core.domain.journal import Cursor

Connection = psycopg.AsyncConnection[Any]

_WRITE: Final = "INSERT INTO journal (at, kind, detail) VALUES (now(), 'event.updated', '{}') RETURNING position"


@pytest.fixture
async def writers(url: str) -> AsyncIterator[list[Connection]]:
    opened = [await psycopg.AsyncConnection.connect(url) for _ in range(8)]
    yield opened
    for connection in opened:
        await connection.close()


async def written(writer: Connection) -> int:
    """One entry, numbered and not yet committed."""
    row = await (await writer.execute(_WRITE)).fetchone()
    assert row is not None
    return int(row[0])


async def positions_after(store: PostgresStore, cursor: Cursor) -> tuple[list[int], Cursor]:
    page = await store.journal.after(cursor, limit=100)
    return [line.position for line in page.lines], page.cursor


async def test_an_entry_committed_late_is_waited_for(store: PostgresStore, writers: list[Connection]) -> None:
    slow, quick = writers[:2]
    begin = await store.journal.end()
    first = await written(slow)
    second = await written(quick)
    await quick.commit()
    reading = asyncio.create_task(positions_after(store, begin))
    await asyncio.sleep(0.05)
    assert not reading.done()

    await slow.commit()
    positions, cursor = await reading
    assert positions == [first, second]
    assert cursor.position == second


async def test_an_entry_that_was_undone_is_waited_for_no_longer(
    store: PostgresStore, writers: list[Connection]
) -> None:
    begin = await store.journal.end()
    undone = await written(writers[0])
    kept = await written(writers[1])
    await writers[1].commit()
    await writers[0].rollback()
    positions, cursor = await positions_after(store, begin)
    assert positions == [kept]
    assert undone < kept == cursor.position


async def test_a_writer_that_is_stuck_holds_readers_where_it_is_safe_and_no_longer_than_a_moment(
    store: PostgresStore, writers: list[Connection]
) -> None:
    stuck, other = writers[:2]
    before = await written(other)
    await other.commit()
    begin, _ = Cursor((await store.journal.end()).epoch, 0), None
    late = await written(stuck)
    later = await written(other)
    await other.commit()

    began = time.monotonic()
    positions, cursor = await positions_after(store, begin)
    assert time.monotonic() - began < 3
    assert (positions, cursor.position) == ([before], before)

    await stuck.commit()
    assert (await positions_after(store, cursor))[0] == [late, later]


async def test_a_long_transaction_that_writes_no_entry_delays_nobody(
    store: PostgresStore, writers: list[Connection]
) -> None:
    await writers[0].execute("CREATE TABLE of_another_program AS SELECT pg_current_xact_id()")
    await writers[0].execute("SELECT count(*) FROM journal")
    begin = await store.journal.end()
    position = await written(writers[1])
    await writers[1].commit()

    began = time.monotonic()
    assert (await positions_after(store, begin))[0] == [position]
    assert time.monotonic() - began < 0.5
    await writers[0].rollback()


async def test_under_many_writers_every_reader_reads_every_entry_once_and_in_order(
    store: PostgresStore, url: str, writers: list[Connection]
) -> None:
    begin = await store.journal.end()
    writing = True

    async def write(writer: Connection) -> None:
        for _ in range(40):
            for _ in range(random.randint(1, 3)):
                await written(writer)
            await asyncio.sleep(random.random() * 0.01)
            await (writer.rollback() if random.random() < 0.1 else writer.commit())

    async def read(reader: PostgresStore) -> list[int]:
        found, cursor, last = [], begin, False
        while True:
            last = not writing
            positions, cursor = await positions_after(reader, cursor)
            found += positions
            if last and not positions:
                return found

    async with open_postgres_store(url) as other:
        readers = [asyncio.create_task(read(reader)) for reader in (store, store, other)]
        naive = asyncio.create_task(_naive(url, lambda: writing))
        await asyncio.gather(*(write(writer) for writer in writers))
        writing = False
        found = await asyncio.gather(*readers)
        seen_naively = await naive
    async with await psycopg.AsyncConnection.connect(url) as look:
        rows = await (await look.execute("SELECT position FROM journal ORDER BY position")).fetchall()
    there = [row[0] for row in rows]
    assert found == [there, there, there]
    assert len(seen_naively) < len(there)  # else the writers did not overlap, and nothing was tested


async def _naive(url: str, goes_on: Any) -> set[int]:
    """What a reader sees that simply goes on after the highest position it saw."""
    seen = {0}
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        while goes_on():
            cursor = await connection.execute("SELECT position FROM journal WHERE position > %s", [max(seen)])
            seen |= {row[0] for row in await cursor.fetchall()}
            await asyncio.sleep(0.001)
    return seen - {0}
