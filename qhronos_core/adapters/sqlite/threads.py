"""The threads that speak to SQLite: one that writes, a few that read. Nobody else touches a connection."""

import asyncio
import queue
import random
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import structlog

from qhronos_core.adapters.sqlite.errors import domain_errors, is_away, is_busy, spoils_connection
from qhronos_core.adapters.sqlite.file import StoreFile
from qhronos_core.adapters.writes import Writes
from qhronos_core.domain.errors import StoreUnavailableError

_log = structlog.get_logger(__name__)

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

PATIENCE: Final = 10.0  # seconds a write waits for another process's lock before the store counts as away (F57)
GROUP: Final = 64  # writes that share one transaction, and so one fsync
_POLL_LEAST: Final = 0.0005
_POLL_MOST: Final = 0.004
_WATCHED: Final = 5.0  # seconds that a lock is watched closely; one held longer is looked at less often
_POLL_LATER: Final = 0.05
_LONG: Final = 0.05  # seconds: whoever holds the lock for longer lets others look whether it is free
_IDLE: Final = 1.0  # seconds without a write after which the write-ahead log is folded back
_WAL_WARNING: Final = 64 * 2**20
_TENDED_EVERY: Final = 1_000  # commits between looks at the log's size
_READERS: Final = 3


@dataclass(slots=True)
class _Job:
    work: Work[Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    deadline: float
    peek: Work[Any] | None = None
    result: Any = None
    error: BaseException | None = None

    def answer(self) -> None:
        """On the event loop."""
        if self.future.done():  # the caller went away; what was written stays written
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


@dataclass(slots=True)
class _Fairness:
    """Whether other processes want the lock too. SQLite wakes nobody: without a pause the holder takes it again at once."""

    contended_until: float = 0.0
    taken_at: float = 0.0
    rng: random.Random = field(default_factory=random.Random)

    def waited(self) -> None:
        self.contended_until = time.monotonic() + 1.0

    def taken(self) -> None:
        self.taken_at = time.monotonic()

    def yield_turn(self) -> None:
        """Whoever came while a long transaction was under way sleeps a little between looks, unseen: wait as long."""
        now = time.monotonic()
        held = now - self.taken_at
        if held > _LONG:
            pause = min(max(held / 20, _POLL_MOST), _POLL_LATER)
            time.sleep(self.rng.uniform(pause, 2 * pause))
        elif now < self.contended_until:
            time.sleep(self.rng.uniform(_POLL_LEAST, _POLL_MOST))


class Writer:
    """One connection, one thread, `BEGIN IMMEDIATE`.

    Writes that wait at the same time share a transaction, each in a savepoint of its own, and are
    answered after the common commit: what one of them raises undoes that one alone.
    """

    def __init__(self, file: StoreFile, connection: sqlite3.Connection, writes: Writes) -> None:
        self._file = file
        self._writes = writes
        self._connection: sqlite3.Connection | None = connection
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closed = False
        self._fairness = _Fairness()
        self._commits = 0
        self._folded = True
        connection.execute("PRAGMA busy_timeout = 0")  # waiting is done here, in short jittered steps
        self._thread = threading.Thread(target=self._run, name="qhronos-sqlite-writer", daemon=True)
        self._thread.start()

    async def write(self, work: Work[T], *, peek: Work[T | None] | None = None) -> T:
        """Run `work` in a transaction and return what it returned, once that is on the disk.

        `peek` is asked first, without the write lock; an answer that is not None makes the work needless.

        Raises:
            StoreUnavailableError: nothing was written, unless the commit itself failed, when reading back tells.
        """
        if self._closed:
            raise StoreUnavailableError
        loop = asyncio.get_running_loop()
        job = _Job(work, loop, loop.create_future(), time.monotonic() + PATIENCE, peek)
        self._jobs.put(job)
        return await job.future  # type: ignore[no-any-return]

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            self._jobs.put(None)
            await asyncio.to_thread(self._thread.join)

    # --- in the thread --------------------------------------------------------------------------

    def _run(self) -> None:
        while (jobs := self._next_jobs()) is not None:
            if jobs:
                jobs = self._peeked(jobs)
            if jobs:
                self._transact(jobs)
                self._answer(jobs)
                self._fairness.yield_turn()
        if self._connection is not None:
            self._connection.close()

    def _next_jobs(self) -> list[_Job] | None:
        """Those waiting now, at most GROUP; an empty list after an idle while; None at the end."""
        try:
            job = self._jobs.get(timeout=None if self._folded else _IDLE)
        except queue.Empty:
            self._tend_log()
            self._folded = True
            return []
        jobs = []
        while job is not None:
            jobs.append(job)
            if len(jobs) == GROUP:
                return jobs
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return jobs
        if jobs:
            self._jobs.put(None)  # the end, met behind the last jobs: do these first
            return jobs
        return None

    def _peeked(self, jobs: list[_Job]) -> list[_Job]:
        """Answer those whose peek says all; the others."""
        answered: list[_Job] = []
        left: list[_Job] = []
        for job in jobs:
            if job.peek is not None:
                try:
                    self._file.require_present()
                    with domain_errors():
                        job.result = job.peek(self._open())
                except Exception as error:
                    job.error = error
            (left if job.result is None and job.error is None else answered).append(job)
        self._answer(answered)
        return left

    def _transact(self, jobs: list[_Job]) -> None:
        """One transaction for all. Afterwards each job has its result or its error."""
        try:
            self._file.require_present()
            connection = self._begin(jobs)
            if connection is None:
                return
            before = connection.total_changes
            waiting = [job for job in jobs if job.error is None]
            for job in waiting:
                self._save(connection, job, alone=len(waiting) == 1)
            if any(job.error is None for job in waiting):
                connection.execute("COMMIT")
                self._folded = False
                if connection.total_changes > before:
                    self._writes.succeeded()
            elif connection.in_transaction:
                connection.execute("ROLLBACK")
            self._file.require_present()
        except Exception as error:
            self._lose(jobs, error)
        self._commits += 1
        if self._commits % _TENDED_EVERY == 0:
            self._tend_log()

    def _save(self, connection: sqlite3.Connection, job: _Job, *, alone: bool) -> None:
        """One job in its savepoint. Raises only what undid the whole transaction."""
        if not alone:
            connection.execute("SAVEPOINT job")
        try:
            job.result = job.work(connection)
        except Exception as error:
            if not connection.in_transaction:  # a full or failing disk: SQLite has undone everything (F58)
                raise
            if spoils_connection(error):
                raise
            job.error = _translated(error)
            self._note(error)
            if not alone:
                connection.execute("ROLLBACK TO job")
        if not alone:
            connection.execute("RELEASE job")

    def _begin(self, jobs: list[_Job]) -> sqlite3.Connection | None:
        """Take the write lock, waiting for other processes; None when every job's patience has ended."""
        wait, began = _POLL_LEAST, time.monotonic()
        while True:
            try:
                connection = self._open()
                connection.execute("BEGIN IMMEDIATE")
                self._fairness.taken()
                return connection
            except sqlite3.OperationalError as error:
                if not is_busy(error):
                    raise
            self._fairness.waited()
            now = time.monotonic()
            for job in jobs:
                if job.error is None and now >= job.deadline:
                    job.error = StoreUnavailableError()
            if all(job.error is not None for job in jobs):
                return None
            time.sleep(self._fairness.rng.uniform(_POLL_LEAST, wait))
            wait = min(wait * 1.5, _POLL_MOST if now - began < _WATCHED else _POLL_LATER)

    def _lose(self, jobs: list[_Job], error: Exception) -> None:
        """The transaction is gone, with every job in it; the connection too, if it cannot be trusted."""
        if is_away(error):
            _log.warning("store_write_failed", error_code=getattr(error, "sqlite_errorname", type(error).__name__))
        self._note(error)
        for job in jobs:
            job.error = job.error or _translated(error)
        connection = self._connection
        if connection is None:
            return
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._drop()
        if spoils_connection(error):
            self._drop()

    def _note(self, error: Exception) -> None:
        """What another process holds up is not counted: it waits for a lock, not for room."""
        if is_away(error) and not is_busy(error):
            self._writes.refused(getattr(error, "sqlite_errorname", ""))

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = self._file.connect()
            self._connection.execute("PRAGMA busy_timeout = 0")
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            try:
                self._connection.close()
            except sqlite3.Error:
                _log.warning("store_close_failed")
            self._connection = None

    def _tend_log(self) -> None:
        """Fold the write-ahead log back, as far as readers allow; say so when it has grown large (F61)."""
        try:
            self._open().execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except sqlite3.Error as error:
            if not is_busy(error):
                _log.warning("checkpoint_failed", error_code=getattr(error, "sqlite_errorname", ""))
        if (size := self._file.sizes()["write_ahead_log"]) > _WAL_WARNING:
            _log.warning("write_ahead_log_is_large", bytes=size)

    @staticmethod
    def _answer(jobs: list[_Job]) -> None:
        """Hand every answer to its event loop, all of one loop in one call."""
        by_loop: dict[asyncio.AbstractEventLoop, list[_Job]] = {}
        for job in jobs:
            by_loop.setdefault(job.loop, []).append(job)
        for loop, answered in by_loop.items():
            try:
                loop.call_soon_threadsafe(_answer_all, answered)
            except RuntimeError:  # the loop has ended: nobody is left to be told
                continue


def _answer_all(jobs: list[_Job]) -> None:
    for job in jobs:
        job.answer()


def _translated(error: Exception) -> Exception:
    if is_away(error):
        unavailable = StoreUnavailableError()
        unavailable.__cause__ = error
        return unavailable
    return error


class Readers:
    """A few threads with a read-only connection each: in the write-ahead log readers wait for nobody."""

    def __init__(self, file: StoreFile) -> None:
        self._file = file
        self._mine = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._closed = False
        self._executor = ThreadPoolExecutor(_READERS, thread_name_prefix="qhronos-sqlite-reader")

    async def read(self, work: Work[T]) -> T:
        """What `work` finds, in one snapshot. Raises StoreUnavailableError."""
        if self._closed:
            raise StoreUnavailableError
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._read, work)

    def _read(self, work: Work[T]) -> T:
        self._file.require_present()
        with domain_errors():
            connection = self._connection()
            try:
                connection.execute("BEGIN")
                try:
                    return work(connection)
                finally:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
            except sqlite3.Error as error:
                if spoils_connection(error):
                    self._drop(connection)
                raise

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._mine, "connection", None)
        if connection is None:
            connection = self._file.connect(read_only=True)
            connection.create_function("folded", 1, str.casefold, deterministic=True)
            self._mine.connection = connection
            self._connections.append(connection)
        return connection

    def _drop(self, connection: sqlite3.Connection) -> None:
        self._mine.connection = None
        self._connections.remove(connection)
        connection.close()

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            await asyncio.to_thread(self._executor.shutdown)
            for connection in self._connections:
                connection.close()
            self._connections.clear()
