"""Making the schema, and bringing an older one up to date, under the write lock."""

import sqlite3
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from qhronos_core.adapters import migrations
from qhronos_core.adapters.migrations import Applied, Migration
from qhronos_core.domain.ids import microseconds, new_id
from qhronos_core.failpoints import failpoint

_TABLE: Final = """
    CREATE TABLE IF NOT EXISTS schema_migrations (
      number INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, applied_at INTEGER NOT NULL) STRICT
"""


def known() -> Sequence[Migration]:
    return migrations.known(__package__)


def missing(connection: sqlite3.Connection) -> Sequence[Migration]:
    """Raises StoreRefusedError for a newer schema, or one made from other files. Writes nothing."""
    return migrations.missing(known(), applied(connection))


def applied(connection: sqlite3.Connection) -> Sequence[Applied]:
    exists = "SELECT 1 FROM sqlite_schema WHERE name = 'schema_migrations'"
    if not connection.execute(exists).fetchone():
        return []
    rows = connection.execute("SELECT number, name, checksum FROM schema_migrations ORDER BY number").fetchall()
    return [Applied(*row) for row in rows]


def migrate(connection: sqlite3.Connection, now: datetime) -> Sequence[str]:
    """Apply what is missing, within the caller's transaction; the names applied."""
    to_apply = missing(connection)
    if not to_apply:
        return []
    connection.execute(_TABLE)
    for migration in to_apply:
        for statement in _statements(migration.sql):
            connection.execute(statement)
            failpoint("mid_migration")
        connection.execute(
            "INSERT INTO schema_migrations VALUES (?, ?, ?, ?)",
            (migration.number, migration.name, migration.checksum, microseconds(now)),
        )
    stamp = microseconds(now)
    connection.execute(
        """
        INSERT OR IGNORE INTO store_meta (only, id, journal_epoch, created_at, looked_at) VALUES (1, ?, ?, ?, ?)
        """,
        (new_id(now).bytes, new_id(now).bytes, stamp, stamp),
    )
    return [migration.name for migration in to_apply]


def store_id(connection: sqlite3.Connection) -> UUID:
    return UUID(bytes=connection.execute("SELECT id FROM store_meta").fetchone()[0])


def _statements(sql: str) -> Iterator[str]:
    """One by one: `executescript` would commit the transaction it is called in."""
    gathered = ""
    for line in sql.splitlines(keepends=True):
        gathered += line
        if sqlite3.complete_statement(gathered):
            yield gathered
            gathered = ""
