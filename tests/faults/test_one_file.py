"""One file for several processes, and its write-ahead log (F60, F61). Double claims: tests/adapters/store/test_processes.py."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from qhronos_core.adapters.sqlite import SqliteStore, open_sqlite_store, threads
from tests.adapters.store.scenes import an_event, an_occurrence, kept
from tests.adapters.store.test_processes import answered, started
from tests.clock import FakeClock

STEADY = 1_000 * 4_120  # bytes: the thousand pages after which SQLite folds the log back


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    async with open_sqlite_store(tmp_path, clock=FakeClock()) as opened:
        yield opened


def flood(pipe: "Connection[Any, Any]", directory: Path) -> None:
    """Writes as fast as it can, for ever."""

    async def run() -> None:
        async with open_sqlite_store(directory, clock=FakeClock()) as store:
            pipe.send("ready")
            while True:
                events = [an_event() for _ in range(100)]
                await asyncio.gather(*(kept(store, event, an_occurrence(event)) for event in events))

    asyncio.run(run())


async def test_beside_processes_that_write_without_end_nobody_waits_two_seconds(
    store: SqliteStore, tmp_path: Path
) -> None:
    """F60. SQLite's lock is fair to nobody; the writers take turns."""
    others = [started(flood, tmp_path) for _ in range(2)]
    try:
        for _, pipe in others:
            assert await asyncio.to_thread(answered, pipe) == "ready"
        waited = []
        for _ in range(40):
            began = time.monotonic()
            await kept(store, an_event())
            waited.append(time.monotonic() - began)
    finally:
        for process, _ in others:
            process.kill()
            process.join()
    assert max(waited) < 2, waited


async def test_beside_one_whose_transactions_are_long_nobody_waits_for_more_than_two_of_them(
    store: SqliteStore, tmp_path: Path
) -> None:
    """F60. On a slow disk each takes long, and the lock is free for less than a millisecond in between."""

    def slow(connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE store_meta SET looked_at = looked_at")
        time.sleep(0.4)

    async def without_end(other: SqliteStore) -> None:
        while True:
            await other._writer.write(slow)

    async with open_sqlite_store(tmp_path, clock=FakeClock()) as other:
        writing = [asyncio.create_task(without_end(other)) for _ in range(2)]
        await asyncio.sleep(0.2)
        waited = []
        for _ in range(4):
            began = time.monotonic()
            await kept(store, an_event())
            waited.append(time.monotonic() - began)
        for task in writing:
            task.cancel()
    assert max(waited) < 1.6, waited


async def written(store: SqliteStore, megabytes: float) -> None:
    for _ in range(int(megabytes * 4)):
        events = [an_event(description="x" * 4_000) for _ in range(32)]
        await asyncio.gather(*(kept(store, event, an_occurrence(event)) for event in events))


async def test_the_log_grows_while_a_stranger_reads_says_so_and_is_folded_back_afterwards(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F61."""
    log = tmp_path / "qhronos.db-wal"
    monkeypatch.setattr(threads, "_WAL_WARNING", 3 * STEADY)
    monkeypatch.setattr(threads, "_TENDED_EVERY", 5)
    await written(store, 2)
    with closing(sqlite3.connect(tmp_path / "qhronos.db", isolation_level=None)) as stranger:
        stranger.execute("BEGIN")
        stranger.execute("SELECT count(*) FROM events").fetchall()
        with capture_logs() as logs:
            for _ in range(40):
                await written(store, 1)
                if any(entry["event"] == "write_ahead_log_is_large" for entry in logs):
                    break
        [warning, *_] = [entry for entry in logs if entry["event"] == "write_ahead_log_is_large"]
        assert warning["bytes"] > 3 * STEADY
        stranger.execute("ROLLBACK")
    sizes = []
    for _ in range(8):
        await written(store, 1)
        sizes.append(log.stat().st_size)
    assert max(sizes[2:]) <= 2 * STEADY + 200_000, sizes
