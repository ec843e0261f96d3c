"""The one file: what is refused, and left as it is; what happens when it goes away (F57, F58, F62, F63)."""
# ruff: noqa: ASYNC240

import asyncio
import errno
import hashlib
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from qhronos_core.adapters.migrations import StoreRefusedError
from qhronos_core.adapters.sqlite import SqliteStore, open_sqlite_store, threads
from qhronos_core.adapters.sqlite import file as store_file
from qhronos_core.domain.errors import StoreUnavailableError
from qhronos_core.ports import Changes, EventSave
from tests.adapters.store.scenes import an_event, an_occurrence, completed, kept, look
from tests.clock import NOON, FakeClock


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data dir, with ünicode?#%20"


@pytest.fixture
async def store(data_dir: Path) -> AsyncIterator[SqliteStore]:
    async with open_sqlite_store(data_dir, clock=FakeClock()) as opened:
        yield opened


async def made(data_dir: Path) -> None:
    """A store with one event, closed again."""
    async with open_sqlite_store(data_dir, clock=FakeClock()) as opened:
        await kept(opened, an_event())


def bytes_of(data_dir: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in data_dir.iterdir()}


async def refusal(data_dir: Path) -> str:
    """Why it is refused; not a byte of what was there is changed by asking."""
    before = bytes_of(data_dir) if data_dir.is_dir() else None
    with pytest.raises(StoreRefusedError) as refused:
        async with open_sqlite_store(data_dir, clock=FakeClock()):
            pass
    if before is not None:
        after = bytes_of(data_dir)
        assert {name: after.get(name) for name in before} == before
    return str(refused.value)


# --- at the start -----------------------------------------------------------------------------------------


async def test_only_the_owner_may_read_what_is_made(data_dir: Path, store: SqliteStore) -> None:
    await kept(store, an_event())
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
    for path in data_dir.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_what_was_kept_is_there_after_the_store_was_closed_and_opened(data_dir: Path) -> None:
    event = an_event()
    async with open_sqlite_store(data_dir, clock=FakeClock()) as first:
        await kept(first, event)
    async with open_sqlite_store(data_dir, clock=FakeClock()) as second:
        assert await second.events.get(event.id) == event


async def test_a_file_that_is_no_database_is_refused_untouched(data_dir: Path) -> None:
    data_dir.mkdir()
    (data_dir / "qhronos.db").write_text("dear diary")
    assert "not a database of ours" in await refusal(data_dir)


async def test_another_programs_database_is_refused_untouched(data_dir: Path) -> None:
    data_dir.mkdir()
    with closing(sqlite3.connect(data_dir / "qhronos.db")) as theirs:
        theirs.execute("CREATE TABLE events (id)")
        theirs.commit()
    assert "another program's database" in await refusal(data_dir)


async def test_a_newer_schema_is_refused_untouched(data_dir: Path) -> None:
    await made(data_dir)
    with closing(sqlite3.connect(data_dir / "qhronos.db")) as newer:
        newer.execute("INSERT INTO schema_migrations VALUES (9999, '9999_of_tomorrow', 'x', 0)")
        newer.commit()
        newer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert "9999_of_tomorrow" in await refusal(data_dir)


async def test_a_schema_made_from_another_text_is_refused_untouched(data_dir: Path) -> None:
    await made(data_dir)
    with closing(sqlite3.connect(data_dir / "qhronos.db")) as changed:
        changed.execute("UPDATE schema_migrations SET checksum = 'x' WHERE number = 1")
        changed.commit()
        changed.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert "another text" in await refusal(data_dir)


@pytest.mark.parametrize("page", [1, 2, 5])
async def test_a_damaged_page_is_refused_untouched_with_the_way_back(data_dir: Path, page: int) -> None:
    await made(data_dir)
    path = data_dir / "qhronos.db"
    damaged = bytearray(path.read_bytes())
    start = max(100, (page - 1) * 4096)  # the header tells that it is ours; what follows is noise
    damaged[start : page * 4096] = os.urandom(page * 4096 - start)
    path.write_bytes(damaged)
    told = await refusal(data_dir)
    assert "damaged" in told
    assert "backup" in told


async def test_a_file_cut_short_is_refused_untouched(data_dir: Path) -> None:
    await made(data_dir)
    path = data_dir / "qhronos.db"
    path.write_bytes(path.read_bytes()[:20_000])
    assert "damaged" in await refusal(data_dir)


async def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert str(tmp_path / "file" / "data") in await refusal(tmp_path / "file" / "data")


async def test_a_file_that_may_not_be_written_is_refused_with_the_fix(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await made(data_dir)

    def refuse(path: Path, flags: int, mode: int = 0) -> int:  # permissions do not bind root, who may run this
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr("qhronos_core.adapters.sqlite.file.os.open", refuse)
    told = await refusal(data_dir)
    assert str(data_dir) in told
    assert "writable" in told


async def test_a_network_file_system_is_refused(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_file, "_file_system", lambda _: "nfs4")
    assert "network file system (nfs4)" in await refusal(data_dir)


async def test_the_directory_above_tells_the_file_system(tmp_path: Path) -> None:
    assert store_file._file_system(Path("/proc")) == "proc"
    assert store_file._file_system(tmp_path) not in {None, "proc"}


async def test_a_file_left_empty_by_a_start_that_was_killed_is_made_into_a_store(data_dir: Path) -> None:
    data_dir.mkdir()
    (data_dir / "qhronos.db").touch()
    async with open_sqlite_store(data_dir, clock=FakeClock()) as opened:
        await kept(opened, an_event())


async def test_a_file_marked_but_not_yet_filled_is_made_into_a_store(data_dir: Path) -> None:
    data_dir.mkdir()
    with closing(sqlite3.connect(data_dir / "qhronos.db")) as killed:
        killed.execute(f"PRAGMA application_id = {store_file.APPLICATION_ID}")
    async with open_sqlite_store(data_dir, clock=FakeClock()) as opened:
        await kept(opened, an_event())


async def test_a_store_whose_making_was_killed_half_way_is_rolled_back_and_made(data_dir: Path) -> None:
    killed = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA application_id = " + sys.argv[2])
connection.execute("PRAGMA cache_size = 1")
connection.execute("BEGIN IMMEDIATE")
connection.execute("CREATE TABLE half (made)")
connection.execute("INSERT INTO half VALUES (randomblob(1000000))")
os._exit(9)
"""
    data_dir.mkdir()
    command = [sys.executable, "-c", killed, str(data_dir / "qhronos.db"), str(store_file.APPLICATION_ID)]
    await asyncio.to_thread(lambda: subprocess.run(command, check=False))
    assert (data_dir / "qhronos.db-journal").exists()
    async with open_sqlite_store(data_dir, clock=FakeClock()) as store:
        await kept(store, an_event())
    with closing(sqlite3.connect(data_dir / "qhronos.db")) as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'half'").fetchone() == (0,)


# --- while it runs ----------------------------------------------------------------------------------------


async def test_a_removed_file_is_not_made_anew_and_nothing_is_acknowledged_into_the_void(
    data_dir: Path, store: SqliteStore
) -> None:
    await kept(store, an_event())
    aside = data_dir.with_name("aside")
    data_dir.rename(aside)

    for _ in range(2):
        with pytest.raises(StoreUnavailableError):
            await kept(store, an_event())
        with pytest.raises(StoreUnavailableError):
            await store.events.count_live("ada")
        with pytest.raises(StoreUnavailableError):
            await look(store)
    assert not data_dir.exists()
    assert "removed or replaced" in (await store.status())["problem"]

    aside.rename(data_dir)
    await kept(store, an_event())
    assert await store.events.count_live("ada") == 2
    assert "problem" not in await store.status()


async def test_a_file_removed_in_the_middle_of_a_write_has_not_acknowledged_it(
    data_dir: Path, store: SqliteStore
) -> None:
    def removed_meanwhile(_: sqlite3.Connection) -> None:
        data_dir.rename(data_dir.with_name("aside"))

    with pytest.raises(StoreUnavailableError):
        await store._writer.write(removed_meanwhile)


async def test_another_file_in_its_place_is_not_written(data_dir: Path, store: SqliteStore, tmp_path: Path) -> None:
    await made(tmp_path / "other")
    for path in list(data_dir.iterdir()):
        path.unlink()
    (tmp_path / "other" / "qhronos.db").rename(data_dir / "qhronos.db")
    before = (data_dir / "qhronos.db").read_bytes()

    with pytest.raises(StoreUnavailableError):
        await kept(store, an_event())

    assert (data_dir / "qhronos.db").read_bytes() == before


async def test_a_closed_store_is_unavailable(data_dir: Path) -> None:
    async with open_sqlite_store(data_dir, clock=FakeClock()) as closed:
        pass
    with pytest.raises(StoreUnavailableError):
        await kept(closed, an_event())
    with pytest.raises(StoreUnavailableError):
        await closed.events.count_live("ada")
    await closed.aclose()


async def test_what_was_asked_before_the_close_is_still_written(data_dir: Path) -> None:
    events = [an_event() for _ in range(200)]
    async with open_sqlite_store(data_dir, clock=FakeClock()) as closing_:
        writes = [asyncio.create_task(kept(closing_, event)) for event in events]
        await asyncio.sleep(0)
    await asyncio.gather(*writes)
    async with open_sqlite_store(data_dir, clock=FakeClock()) as again:
        assert await again.events.count_live("ada") == 200


# --- another process has the write lock -------------------------------------------------------------------


@contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    with closing(sqlite3.connect(data_dir / "qhronos.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


async def test_a_write_waits_for_another_processs_lock_and_readers_wait_for_nobody(
    data_dir: Path, store: SqliteStore
) -> None:
    event = an_event()
    with locked(data_dir):
        write = asyncio.create_task(kept(store, event))
        done, _ = await asyncio.wait([write], timeout=0.3)
        assert not done
        assert await store.events.count_live("ada") == 0
    await write
    assert await store.events.get(event.id) == event


async def test_a_write_gives_up_when_its_patience_ends_and_the_next_one_is_not_hurt(
    data_dir: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "PATIENCE", 0.2)
    with locked(data_dir):
        with pytest.raises(StoreUnavailableError):
            await kept(store, an_event())
        assert await asyncio.gather(*(kept(store, an_event()) for _ in range(3)), return_exceptions=True) != [None] * 3
    await kept(store, an_event())
    assert await store.events.count_live("ada") == 1


async def test_a_look_at_nothing_needs_no_lock(data_dir: Path, store: SqliteStore) -> None:
    await look(store)  # tells that it looked
    with locked(data_dir):
        assert (await asyncio.wait_for(look(store), 5)).judged == 0


# --- a disk that fails ------------------------------------------------------------------------------------


@pytest.mark.parametrize("room", range(0, 24, 3))
async def test_a_full_disk_leaves_whole_transactions_and_passes(data_dir: Path, room: int) -> None:
    """F58: the file may grow by so many pages and no more, at whatever statement that is met."""
    clock = FakeClock()
    async with open_sqlite_store(data_dir, clock=clock) as store:
        event = an_event()
        planned = an_occurrence(event)
        await kept(store, event, planned)
        connection = store._writer._connection
        assert connection is not None
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + room}")

        refused = 0
        for _ in range(30):
            big = an_event(description="x" * 3_000)
            try:
                await kept(store, big, an_occurrence(big, NOON))
                looked = await look(store, limit=5)
                await store.settle([completed(each.occurrence, NOON) for each in looked.claims])
            except StoreUnavailableError:
                refused += 1
        assert refused

        connection = store._writer._open()
        connection.execute("PRAGMA max_page_count = 1000000")
        last = an_event()
        await kept(store, last)
        assert await store.events.get(last.id) == last
    await whole(data_dir)


async def test_after_a_failed_write_to_the_disk_the_connection_is_made_anew(store: SqliteStore) -> None:
    """F25: what a connection believes after an I/O error is not trusted."""
    writer = store._writer
    before = writer._connection

    def fails(_: sqlite3.Connection) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        error.sqlite_errorname = "SQLITE_IOERR_FSYNC"
        raise error

    event = an_event()
    outcomes = await asyncio.gather(
        writer.write(fails), store.commit(Changes(saves=[EventSave(event)])), return_exceptions=True
    )
    assert isinstance(outcomes[0], StoreUnavailableError)
    assert writer._connection is not before
    # The one that shared the moment was told the truth: written, or not.
    assert bool(await store.events.many([event.id])) == (outcomes[1] is None)
    await kept(store, an_event())


async def test_a_bug_is_not_passed_off_as_an_absent_store(store: SqliteStore) -> None:
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        await store._writer.write(lambda connection: connection.execute("SELECT * FROM nonsense"))
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        await store._readers.read(lambda connection: connection.execute("SELECT * FROM nonsense"))
    await kept(store, an_event())


async def test_readers_cannot_write(store: SqliteStore) -> None:
    with pytest.raises(StoreUnavailableError):
        await store._readers.read(lambda connection: connection.execute("DELETE FROM events"))


# --- threads ----------------------------------------------------------------------------------------------


async def test_writes_that_wait_together_share_transactions(store: SqliteStore) -> None:
    commits: list[str] = []
    connection = store._writer._connection
    assert connection is not None
    connection.set_trace_callback(lambda statement: commits.append(statement) if statement == "COMMIT" else None)

    await asyncio.gather(*(kept(store, an_event()) for _ in range(256)))

    assert len(commits) < 64
    assert await store.events.count_live("ada") == 256


async def test_two_event_loops_may_use_one_store(store: SqliteStore) -> None:
    outcome: list[int] = []

    def elsewhere() -> None:
        async def count() -> None:
            await kept(store, an_event())
            outcome.append(await store.events.count_live("ada"))

        asyncio.run(count())

    thread = threading.Thread(target=elsewhere)
    thread.start()
    await asyncio.gather(*(kept(store, an_event()) for _ in range(20)))
    await asyncio.to_thread(thread.join)
    assert await store.events.count_live("ada") == 21
    assert outcome


async def test_the_write_ahead_log_is_folded_back_when_idle(
    data_dir: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "_IDLE", 0.01)
    await kept(store, *(an_event(description="x" * 1_000) for _ in range(100)))
    for _ in range(500):
        if (data_dir / "qhronos.db").stat().st_size > 200_000:
            break
        await asyncio.sleep(0.01)
    else:
        pytest.fail("the file never grew")


async def whole(data_dir: Path) -> None:
    with closing(sqlite3.connect(data_dir / "qhronos.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        half = connection.execute("""
            SELECT count(*) FROM events AS e
             WHERE NOT EXISTS (SELECT 1 FROM occurrences AS o WHERE o.event_id = e.id) AND description <> ''
        """).fetchone()
        assert half == (0,)
