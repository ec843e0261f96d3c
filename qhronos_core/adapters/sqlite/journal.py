"""The journal: one writer at a time, so the order of positions is the order of commits, and none is skipped."""

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from qhronos_core.adapters.cursors import LAST_NUMBER, ListOrder
from qhronos_core.adapters.sqlite.batches import insert
from qhronos_core.adapters.sqlite.events import read_events
from qhronos_core.adapters.sqlite.rows import ENTRY_COLUMNS, entry_of, entry_row
from qhronos_core.adapters.sqlite.statements import Filter, columns
from qhronos_core.adapters.sqlite.threads import Readers
from qhronos_core.domain.ids import EPOCH, microseconds
from qhronos_core.domain.journal import Cursor, JournalLine, JournalPage
from qhronos_core.domain.occurrence import Entry
from qhronos_core.ports import Listing, Page

_COLUMNS: Final = columns(ENTRY_COLUMNS)


class SqliteJournal:
    def __init__(self, readers: Readers, store_id: UUID) -> None:
        self._readers = readers
        self._store_id = store_id

    async def end(self) -> Cursor:
        return await self._readers.read(lambda connection: Cursor(_epoch(connection)[0], _last_position(connection)))

    async def after(self, cursor: Cursor, *, limit: int) -> JournalPage:
        def read(connection: sqlite3.Connection) -> JournalPage:
            epoch, trimmed_to = _epoch(connection)
            last = _last_position(connection)
            truncated = cursor.epoch != epoch or not trimmed_to <= cursor.position <= last
            start = trimmed_to if truncated else cursor.position
            rows = connection.execute(
                f"SELECT position, {_COLUMNS} FROM journal WHERE position > ? ORDER BY position LIMIT ?", (start, limit)
            ).fetchall()
            entries = [(row[0], entry) for row in rows if (entry := entry_of(row[1:])) is not None]
            events = read_events(connection, list({entry.event_id for _, entry in entries if entry.event_id}))
            lines = tuple(
                JournalLine(position, entry, events.get(entry.event_id) if entry.event_id else None)
                for position, entry in entries
            )
            return JournalPage(lines, Cursor(epoch, rows[-1][0] if rows else start), truncated)

        return await self._readers.read(read)

    async def audit(self, *, since: datetime | None, page: Page, count: bool = False) -> Listing[Entry]:
        order = ListOrder(self._store_id, "audit", since)
        wanted = Filter()
        wanted.add("actor IS NOT NULL")
        if since is not None:
            wanted.add("at >= ?", microseconds(since))
        total_sql, total_parameters = f"SELECT count(*) FROM journal WHERE {wanted.sql}", list(wanted.parameters)
        if page.cursor is not None:
            wanted.add("position < ?", min(order.position(page.cursor)[1].int, LAST_NUMBER))
        sql = f"""
            -- served by journal_actor_idx (position)
            SELECT position, {_COLUMNS} FROM journal WHERE {wanted.sql} ORDER BY position DESC LIMIT ? OFFSET ?
        """
        parameters = (*wanted.parameters, page.limit + 1, page.offset)

        def read(connection: sqlite3.Connection) -> tuple[list[Any], int | None]:
            total = connection.execute(total_sql, total_parameters).fetchone()[0] if count else None
            return connection.execute(sql, parameters).fetchall(), total

        rows, total = await self._readers.read(read)
        more = len(rows) > page.limit and page.limit
        shown = rows[: page.limit]
        items = tuple(entry for row in shown if (entry := entry_of(row[1:])) is not None)
        return Listing(items, order.cursor(EPOCH, UUID(int=shown[-1][0])) if more else None, total)


def _epoch(connection: sqlite3.Connection) -> tuple[UUID, int]:
    """The journal's epoch, and the last position retention removed."""
    row = connection.execute("SELECT journal_epoch, journal_trimmed_to FROM store_meta").fetchone()
    return UUID(bytes=row[0]), row[1]


def _last_position(connection: sqlite3.Connection) -> int:
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'journal'").fetchone()
    return row[0] if row else 0


def write_entries(connection: sqlite3.Connection, entries: Sequence[Entry]) -> None:
    insert(connection, f"INSERT INTO journal ({_COLUMNS})", [entry_row(entry) for entry in entries])


def begin_epoch(connection: sqlite3.Connection, epoch: UUID) -> None:
    was, _ = _epoch(connection)
    connection.execute("UPDATE store_meta SET journal_epoch = ?", (epoch.bytes,))
    connection.execute("UPDATE subscriptions SET epoch = ? WHERE epoch = ?", (epoch.bytes, was.bytes))
