"""Connections to the server: two pools of them, so that whatever callers do, dispatching keeps its own.

Connections are made when they are needed and again whenever they were lost, for ever. A transaction the
server undid for the sake of another is run again, unseen; one whose COMMIT was not answered is looked up by its
id. That it cannot be known is said only where the server crashed in that very moment, or cannot be asked.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, LiteralString, TypeVar

import psycopg
import structlog
from psycopg import AsyncConnection, AsyncCursor
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from qhronos_core.adapters.postgres.errors import AWAY, LOST_A_RACE, domain_errors, why_away
from qhronos_core.adapters.writes import Writes
from qhronos_core.domain.errors import StoreUnavailableError

_log = structlog.get_logger(__name__)

T = TypeVar("T")
Row = tuple[Any, ...]
Parameters = Mapping[str, Any]

_RUNS: Final = 6  # of a transaction that keeps losing races or connections
_READ_BACK_FOR: Final = timedelta(seconds=3)
_RECONNECT_FOR: Final = timedelta(seconds=2)  # then the next call begins anew: the waits between never grow long
_WAIT_WHILE_AWAY: Final = 0.5  # seconds; once nothing answered, callers are not kept waiting to learn it again


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """`wait`: for a free connection, then the store counts as away. `prepare_threshold` None: behind PgBouncer."""

    size: int = 10
    dispatch_size: int = 3  # one claims, one settles, one asks whether claims that came late still stand
    wait: timedelta = timedelta(seconds=5)
    connect_timeout: timedelta = timedelta(seconds=5)
    statement_timeout: timedelta = timedelta(seconds=30)
    idle_in_transaction: timedelta = timedelta(seconds=30)
    prepare_threshold: int | None = 5


_CONFIGURE: Final = """
    SELECT set_config('timezone', 'UTC', false),
           set_config('default_transaction_isolation', 'read committed', false),
           set_config('statement_timeout', %(statement)s, false),
           set_config('idle_in_transaction_session_timeout', %(idle)s, false),
           set_config('jit', 'off', false)
"""
_BEGIN_LIFE: Final = """
    INSERT INTO server_life (one) SELECT true WHERE NOT EXISTS (SELECT FROM server_life) ON CONFLICT DO NOTHING
"""
_TRANSACTION_ID: Final = "SELECT pg_current_xact_id()::text, (SELECT id::text FROM server_life)"
_WHAT_BECAME_OF: Final = """
    SELECT CASE WHEN id::text = %(life)s THEN pg_xact_status(%(id)s::xid8) ELSE 'another life' END FROM server_life
"""
_SealedId = tuple[str, str]
"""The id of a transaction, and the life of the server in which it means that one: after a crash ids are given again."""


class Transaction:
    """An open transaction. Statements are sent at once and wait for each other's answers only when rows are asked for."""

    def __init__(self, connection: AsyncConnection[Row]) -> None:
        self.connection = connection
        self._sealed: AsyncCursor[Row] | None = None

    async def send(self, statement: LiteralString, parameters: Parameters | None = None) -> AsyncCursor[Row]:
        """Send it; its error may come with the answer to a later one."""
        return await self.connection.cursor(binary=True).execute(statement, parameters)

    async def rows(self, statement: LiteralString, parameters: Parameters | None = None) -> list[Row]:
        return await (await self.send(statement, parameters)).fetchall()

    async def seal(self) -> None:
        """Called by whoever writes, with the last of the writes: asks for the id by which a lost COMMIT is looked up."""
        self._sealed = await self.send(_TRANSACTION_ID)

    async def id(self) -> _SealedId | None:
        """None: nothing was written."""
        row = None if self._sealed is None else await self._sealed.fetchone()
        return None if row is None else (str(row[0]), str(row[1]))


class Connections:
    """One pool. Usable from the moment it is made; opened at first use, on the loop of that use."""

    def __init__(
        self,
        conninfo: str,
        settings: PoolSettings,
        *,
        name: str,
        size: int,
        prepare: Callable[[], Awaitable[None]],
        writes: Writes,
        reserved: bool = False,
    ) -> None:
        """`prepare` is awaited before the first statement. `reserved`: all are opened at once and kept for good."""
        self._settings = settings
        self._prepare = prepare
        self._writes = writes
        self._prepared = False
        self._wait = settings.wait.total_seconds()
        self._answered = True
        self._opened = False
        self._reserved = reserved
        given = conninfo_to_dict(conninfo)
        self._where = {"host": str(given.get("host", "localhost")), "port": str(given.get("port", 5432))}
        defaults = {
            "application_name": "qhronos",
            "connect_timeout": max(1, round(settings.connect_timeout.total_seconds())),
            "target_session_attrs": "read-write",  # of several hosts the primary; never a standby
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            "tcp_user_timeout": 30_000,
        }
        self._pool: AsyncConnectionPool[AsyncConnection[Row]] = AsyncConnectionPool(
            conninfo,
            kwargs={
                **{name: value for name, value in defaults.items() if name not in given},
                "autocommit": True,
                "prepare_threshold": settings.prepare_threshold,
            },
            configure=self._configure,
            min_size=size if reserved else 1,
            max_size=size,
            max_lifetime=float("inf") if reserved else 3600.0,
            reconnect_timeout=_RECONNECT_FOR.total_seconds(),
            open=False,
            name=name,
        )

    async def rows(self, statement: LiteralString, parameters: Parameters | None = None) -> list[Row]:
        """One statement, which is its own transaction, and must do no harm if it is run twice."""

        async def run(connection: AsyncConnection[Row]) -> list[Row]:
            return await (await connection.cursor(binary=True).execute(statement, parameters)).fetchall()

        return await self.again(run)

    async def again(self, work: Callable[[AsyncConnection[Row]], Awaitable[T]]) -> T:
        """Run `work`, and run it again if its connection is lost or the server undoes it; so it must bear repeating.

        Raises:
            StoreUnavailableError: nothing answered in time.
        """
        with domain_errors():
            for run in range(1, _RUNS + 1):
                try:
                    async with self._connection() as connection:
                        return await work(connection)
                except LOST_A_RACE:
                    await _back_off(run, last=run == _RUNS)
                except AWAY as error:
                    self._note(error)
                    if not _lost(error) or run == _RUNS:
                        raise
                    await self._forget()
        raise AssertionError("unreachable")

    async def transaction(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """Run `work` in a transaction and commit it; run it anew where it is certain that nothing was written.

        Raises:
            StoreUnavailableError: nothing was written; or (only if the server could not be asked) it is not known.
        """
        with domain_errors():
            for run in range(1, _RUNS + 1):
                committing: _SealedId | None = None
                try:
                    async with self._connection() as connection, _undone_if_it_fails(connection):
                        await connection.execute("BEGIN")
                        transaction = Transaction(connection)
                        result = await work(transaction)
                        committing = await transaction.id()
                        await connection.execute("COMMIT")
                    if committing is not None:
                        self._writes.succeeded()
                    return result
                except LOST_A_RACE:
                    await _back_off(run, last=run == _RUNS)
                except AWAY as error:
                    self._note(error)
                    if not _lost(error):
                        raise
                    await self._forget()
                    if committing is not None and await self._committed(committing):
                        return result
                    if run == _RUNS:
                        raise
        raise AssertionError("unreachable")

    async def aclose(self) -> None:
        if self._opened:
            await self._pool.close()

    def figures(self) -> Mapping[str, int]:
        """What the pool counts of itself."""
        return self._pool.get_stats()

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[AsyncConnection[Row]]:
        try:
            if not self._prepared:
                await self._prepare()
                self._prepared = True
            if not self._opened:
                self._opened = True
                await self._pool.open(wait=False)
            connection = await self._pool.getconn(self._wait if self._answered else min(_WAIT_WHILE_AWAY, self._wait))
        except (psycopg.OperationalError, StoreUnavailableError) as error:
            self.does_not_answer(error)
            raise
        self._answered = True
        try:
            yield connection
        except BaseException:
            if connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                await _undo(connection)
            raise
        finally:
            await self._pool.putconn(connection)

    def does_not_answer(self, error: Exception) -> None:
        """Said once for each absence, by the callers' pool alone."""
        came_from_the_driver = isinstance(error, psycopg.Error) or error.__cause__ is not None
        if self._answered and not self._reserved and came_from_the_driver:
            _log.warning("postgresql_does_not_answer", **self._where, reason=why_away(error))
        self._answered = False

    async def _configure(self, connection: AsyncConnection[Row]) -> None:
        await connection.execute(_BEGIN_LIFE)
        await connection.execute(
            _CONFIGURE,
            {
                "statement": f"{self._settings.statement_timeout // timedelta(milliseconds=1)}ms",
                "idle": f"{self._settings.idle_in_transaction // timedelta(milliseconds=1)}ms",
            },
        )

    def _note(self, error: Exception) -> None:
        if isinstance(error, psycopg.errors.DiskFull):
            self._writes.refused("disk_full")

    async def _forget(self) -> None:
        """One connection was lost, so the idle ones most likely were too: make them anew rather than try each."""
        await self._pool.drain()

    async def _committed(self, sealed: _SealedId) -> bool:
        """Whether the server committed it.

        Raises:
            StoreUnavailableError: it cannot be asked; or it has crashed, or been replaced by a standby, meanwhile.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _READ_BACK_FOR.total_seconds()
        while loop.time() < deadline:
            try:
                async with self._connection() as connection:
                    cursor = await connection.execute(_WHAT_BECAME_OF, {"id": sealed[0], "life": sealed[1]})
                    row = await cursor.fetchone()
            except AWAY:
                await asyncio.sleep(0.1)
                continue
            match row:
                case ("committed",):
                    return True
                case ("aborted",):
                    return False
                case ("in progress",):  # the server has not noticed yet that we are gone
                    await asyncio.sleep(0.02)
                case _:
                    break
        raise StoreUnavailableError()


@asynccontextmanager
async def _undone_if_it_fails(connection: AsyncConnection[Row]) -> AsyncIterator[None]:
    """A pipeline, left in order whatever happened in it: else the driver warns of each transaction that was refused."""
    failure: Exception | None = None
    async with connection.pipeline() as pipeline:
        try:
            yield
        except Exception as error:
            failure = error
            with suppress(psycopg.Error):
                await pipeline.sync()
    if failure is not None:
        raise failure


async def _undo(connection: AsyncConnection[Row]) -> None:
    try:
        await connection.rollback()
    except psycopg.Error:
        await connection.close()


async def _back_off(run: int, *, last: bool) -> None:
    if last:
        raise StoreUnavailableError()
    await asyncio.sleep(random.uniform(0, 0.005 * 2**run))  # noqa: S311  jitter, not a secret


def _lost(error: Exception) -> bool:
    """Whether the connection is gone (and not merely: no room, no time)."""
    if isinstance(error, psycopg.errors.ReadOnlySqlTransaction | psycopg.InterfaceError):
        return True
    if isinstance(error, PoolTimeout | PoolClosed | TooManyRequests) or not isinstance(error, psycopg.Error):
        return False
    return error.sqlstate is None or error.sqlstate.startswith(("08", "57P"))
