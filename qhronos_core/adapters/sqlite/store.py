"""The embedded store: one SQLite file, any number of processes on one machine."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Mapping, Sequence, Set
from contextlib import asynccontextmanager, closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

from qhronos_core.adapters.migrations import StoreRefusedError
from qhronos_core.adapters.sqlite import changes as writing
from qhronos_core.adapters.sqlite import claims, migrating, occurrences, presence, retention, tokens, waits
from qhronos_core.adapters.sqlite.errors import awaits_rollback, is_busy
from qhronos_core.adapters.sqlite.events import SqliteEvents
from qhronos_core.adapters.sqlite.file import FILE_NAME, StoreFile, mark_as_ours
from qhronos_core.adapters.sqlite.journal import SqliteJournal, begin_epoch
from qhronos_core.adapters.sqlite.occurrences import SqliteOccurrences
from qhronos_core.adapters.sqlite.sealed import SqliteSealedValues
from qhronos_core.adapters.sqlite.subscriptions import SqliteSubscriptions
from qhronos_core.adapters.sqlite.threads import Readers, Writer
from qhronos_core.adapters.sqlite.tokens import SqliteTokens
from qhronos_core.adapters.writes import Writes
from qhronos_core.domain.access import Reach
from qhronos_core.domain.ids import OccurrenceId
from qhronos_core.domain.occurrence import Move, Occurrence
from qhronos_core.ports import Changes, Claim, Claimed, Clock, InboxQuery, Judge, RememberedAnswer

_OPENING: Final = 10.0  # seconds two processes may spend making the same new file


class SqliteStore:
    """Implements `ports.Store`. Opened by `open_sqlite_store`."""

    def __init__(
        self,
        file: StoreFile,
        connection: sqlite3.Connection,
        clock: Clock,
        store_id: UUID,
        *,
        applied: Sequence[str] = (),
    ) -> None:
        """`applied`: the migrations that its opening has applied."""
        self._file = file
        self._clock = clock
        self._applied = applied
        self._writes = Writes(clock.monotonic)
        self._writer = Writer(file, connection, self._writes)
        self._readers = Readers(file)
        self._claimer = claims.Claimer(clock)
        self.events = SqliteEvents(self._readers, clock, store_id)
        self.occurrences = SqliteOccurrences(self._readers, clock, store_id)
        self.journal = SqliteJournal(self._readers, store_id)
        self.tokens = SqliteTokens(self._readers, store_id)
        self.waits = waits.SqliteWaits(self._readers, self._writer, clock)
        self.subscriptions = SqliteSubscriptions(self._readers, self._writer, clock)
        self.sealed = SqliteSealedValues(self._readers, self._writer)
        self.presence = presence.SqlitePresence(self._readers, self._writer, clock)

    async def now(self) -> datetime:
        return self._clock.now()

    async def commit(self, changes: Changes) -> int:
        return await self._writer.write(lambda connection: writing.commit(connection, changes, self._clock.now()))

    async def claim_due(
        self, *, node: str, lease: timedelta, limit: int, judge: Judge, without: Set[int] = frozenset()
    ) -> Claimed:
        return await self._writer.write(
            lambda connection: self._claimer.claim_due(
                connection, node=node, lease=lease, limit=limit, judge=judge, without=without
            ),
            peek=self._claimer.nothing_due,
        )

    async def look(self) -> None:
        if self._claimer.must_tell(self._clock.now()):
            await self._writer.write(self._claimer.look)

    async def settle(self, moves: Sequence[Move]) -> frozenset[OccurrenceId]:
        return await self._writer.write(lambda connection: claims.settle(connection, moves, self._clock.now()))

    async def claim_inbox(
        self,
        query: InboxQuery,
        reach: Reach,
        *,
        holder: str,
        actor: str,
        told: Mapping[str, Any] | None = None,
        wait_id: UUID | None = None,
    ) -> Sequence[Occurrence]:
        def work(connection: sqlite3.Connection) -> Sequence[Occurrence]:
            now = self._clock.now()
            if wait_id is not None and not waits.may_claim(connection, wait_id):
                return []
            taken = claims.claim_inbox(connection, query, reach, holder=holder, actor=actor, told=told, now=now)
            if wait_id is not None and taken:
                waits.record(connection, wait_id, [row.id for row in taken], now)
            return taken

        return await self._writer.write(work)

    async def still_wanted(self, claims: Sequence[Claim]) -> frozenset[OccurrenceId]:
        return await self._readers.read(lambda connection: occurrences.still_wanted(connection, claims))

    async def remembered(self, principal: str, path: str, key: str) -> RememberedAnswer | None:
        now = self._clock.now()
        return await self._readers.read(lambda connection: tokens.remembered(connection, principal, path, key, now))

    async def retire(
        self,
        *,
        occurrences_before: datetime,
        attempts_before: datetime,
        journal_before: datetime,
        deleted_before: datetime,
        limit: int,
    ) -> int:
        before = retention.Before(occurrences_before, attempts_before, journal_before, deleted_before)
        return await retention.retire(self._readers, self._writer, before, limit, self._clock.now())

    async def zones_version(self) -> str | None:
        sql = "SELECT zones_version FROM store_meta"
        found: str | None = await self._readers.read(lambda connection: connection.execute(sql).fetchone()[0])
        return found

    async def status(self) -> Mapping[str, Any]:
        told: dict[str, Any] = {"kind": "sqlite", "version": sqlite3.sqlite_version, "bytes": self._file.sizes()}
        try:
            applied = await self._readers.read(migrating.applied)
        except Exception as error:
            return {**told, "problem": self._file.problem or f"{type(error).__name__}: {error}"}
        return {**told, "migrations": [migration.name for migration in applied]}

    async def damage(self) -> Sequence[str]:
        def check(connection: sqlite3.Connection) -> Sequence[str]:
            try:
                found = [row[0] for row in connection.execute("PRAGMA quick_check(5)")]
            except sqlite3.DatabaseError as error:  # so damaged that it cannot even be looked at
                return [str(error)]
            return [] if found == ["ok"] else found

        return await self._readers.read(check)

    @property
    def takes_writes(self) -> bool:
        return self._writes.taken

    async def begin_epoch(self) -> None:
        await self._writer.write(lambda connection: begin_epoch(connection, uuid4()))

    async def migrate(self) -> Sequence[str]:
        found = await self._writer.write(lambda connection: migrating.migrate(connection, self._clock.now()))
        return [*self._applied, *found]

    async def aclose(self) -> None:
        await self._readers.aclose()
        await self._writer.aclose()


@asynccontextmanager
async def open_sqlite_store(data_dir: Path, *, clock: Clock, migrate: bool = True) -> AsyncIterator[SqliteStore]:
    """The store in `<data_dir>/qhronos.db`, made or brought up to date if need be; closed at the end.

    `migrate` False: one that is not there, or of an earlier schema, is refused and left as it is.

    Raises:
        StoreRefusedError: what is there must not be used as it is; says why and what to do. Nothing was changed.
    """
    file = StoreFile(data_dir / FILE_NAME)
    connection, applied = await asyncio.to_thread(_opened, file, clock, migrate)
    store = SqliteStore(file, connection, clock, migrating.store_id(connection), applied=applied)
    try:
        yield store
    finally:
        await store.aclose()


def _opened(file: StoreFile, clock: Clock, migrate: bool) -> tuple[sqlite3.Connection, Sequence[str]]:
    file.prepare(make=migrate)
    deadline = time.monotonic() + _OPENING
    while True:
        try:
            return _made_ready(file, clock, migrate)
        except sqlite3.OperationalError as error:
            # Two processes make the same file: changing its journal mode does not wait by itself.
            if not is_busy(error) or time.monotonic() > deadline:
                raise StoreRefusedError(f"The store {file.path} cannot be opened: {error}.") from error
            time.sleep(0.01)
        except sqlite3.DatabaseError as error:
            raise file.damaged(str(error)) from error


def _look_at(file: StoreFile, migrate: bool) -> None:
    with closing(file.connect(read_only=True)) as reader:
        if migrating.missing(reader) and not migrate:
            raise file.earlier()
        file.check_whole(reader)


def _made_ready(file: StoreFile, clock: Clock, migrate: bool) -> tuple[sqlite3.Connection, Sequence[str]]:
    """A connection to write with, to a file that is whole and of this release's schema, and what was applied for it."""
    applied: Sequence[str] = ()
    if file.sizes()["file"]:
        try:
            _look_at(file, migrate)
        except sqlite3.OperationalError as error:
            if not awaits_rollback(error):
                raise
            with closing(file.connect()) as writer:  # which undoes what a killed process left half done
                writer.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            _look_at(file, migrate)
    connection = file.connect()
    try:
        mark_as_ours(connection)
        if migrating.missing(connection):
            connection.execute("BEGIN IMMEDIATE")
            applied = migrating.migrate(connection, clock.now())
            connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection, applied
