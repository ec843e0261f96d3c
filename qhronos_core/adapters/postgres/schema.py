"""Bringing a database to the schema of this release, on a connection of its own."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, LiteralString

import psycopg
from psycopg import AsyncConnection

from qhronos_core.adapters.migrations import Applied, Migration, StoreRefusedError, known, missing
from qhronos_core.adapters.postgres.errors import domain_errors
from qhronos_core.adapters.postgres.time import NOW
from qhronos_core.domain.errors import StoreUnavailableError
from qhronos_core.failpoints import failpoint

CONNECT_TIMEOUT: Final = timedelta(seconds=5)
_OLDEST_SERVER: Final = 130_000

_LOCK: Final = "SELECT pg_advisory_xact_lock(%(key)s)"
_LOCK_KEY: Final = 0x7168726F6E6F73  # "qhronos"
_LOCK_WITHIN: Final = "SELECT set_config('lock_timeout', %(within)s, true)"  # of this transaction
_TABLE: Final = """
    CREATE TABLE IF NOT EXISTS schema_migrations (
        number int PRIMARY KEY, name text NOT NULL, checksum text NOT NULL, applied_at timestamptz NOT NULL)
"""
_IS_THERE: Final = "SELECT to_regclass('schema_migrations') IS NOT NULL"
_APPLIED: Final = "SELECT number, name, checksum FROM schema_migrations ORDER BY number"
_RECORD: Final = "INSERT INTO schema_migrations VALUES (%(number)s, %(name)s, %(checksum)s, clock_timestamp())"
_BEGIN_LOOKING: Final[LiteralString] = f"UPDATE store_meta SET looked_at = {NOW} WHERE looked_at IS NULL"


async def migrate(
    conninfo: str, *, connect_timeout: timedelta = CONNECT_TIMEOUT, wait: timedelta | None = None
) -> Sequence[str]:
    """Apply what is missing, all of it or nothing; another node that comes meanwhile waits and finds nothing to do.

    It waits for at most `wait`, if that is given: who serves has callers who want an answer.

    Raises:
        StoreRefusedError: the server is too old, or the schema is not one this release knows.
        StoreUnavailableError: the server does not answer, or another node took longer than `wait`.
    """
    with domain_errors():
        async with await _connect(conninfo, connect_timeout) as connection, connection.transaction():
            await _take_turn(connection, wait)
            await connection.execute(_TABLE)
            wanted = missing(known(__package__), await _applied(connection))
            for migration in wanted:
                await connection.execute(migration.sql.encode())
                failpoint("mid_migration")
                record = {"number": migration.number, "name": migration.name, "checksum": migration.checksum}
                await connection.execute(_RECORD, record)
            return [migration.name for migration in wanted]


async def _take_turn(connection: AsyncConnection[tuple[Any, ...]], wait: timedelta | None) -> None:
    if wait is None:
        await connection.execute(_LOCK, {"key": _LOCK_KEY})
        return
    await connection.execute(_LOCK_WITHIN, {"within": f"{max(1, wait // timedelta(milliseconds=1))}ms"})
    try:
        await connection.execute(_LOCK, {"key": _LOCK_KEY})
    except psycopg.errors.LockNotAvailable:
        raise StoreUnavailableError(
            "Another node is bringing the store up to date. Send the request again in a moment."
        ) from None
    await connection.execute(_LOCK_WITHIN, {"within": "0"})


async def lacks(conninfo: str, *, connect_timeout: timedelta = CONNECT_TIMEOUT) -> Sequence[Migration]:
    """What `migrate` would apply. Changes nothing, and raises the same."""
    with domain_errors():
        async with await _connect(conninfo, connect_timeout) as connection:
            row = await (await connection.execute(_IS_THERE)).fetchone()
            return missing(known(__package__), await _applied(connection) if row and row[0] else [])


async def begin_looking(
    conninfo: str, opened: Mapping[str, datetime | None], *, connect_timeout: timedelta = CONNECT_TIMEOUT
) -> None:
    """The first node ever to open the store begins to look at that moment (parameters of `NOW`): no gap lies before it."""
    with domain_errors():
        async with await _connect(conninfo, connect_timeout) as connection:
            await connection.execute(_BEGIN_LOOKING, opened)


async def _connect(conninfo: str, timeout: timedelta) -> AsyncConnection[tuple[Any, ...]]:
    connection = await psycopg.AsyncConnection.connect(
        conninfo,
        autocommit=True,
        application_name="qhronos migrate",
        connect_timeout=max(1, round(timeout.total_seconds())),
    )
    if connection.info.server_version < _OLDEST_SERVER:
        version = connection.info.server_version // 10_000
        await connection.close()
        raise StoreRefusedError(f"This is PostgreSQL {version}; Qhronos needs 13 or later.")
    return connection


async def _applied(connection: AsyncConnection[tuple[Any, ...]]) -> Sequence[Applied]:
    return [Applied(*row) for row in await (await connection.execute(_APPLIED)).fetchall()]
