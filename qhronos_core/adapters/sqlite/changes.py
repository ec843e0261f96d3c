"""What one decision writes, all of it or nothing. The write lock is held, so no claim can come in between."""

import sqlite3
from datetime import datetime
from typing import Final

from qhronos_core.adapters.sqlite.events import is_within, save_event
from qhronos_core.adapters.sqlite.journal import write_entries
from qhronos_core.adapters.sqlite.moves import INSERT_PLANNED, write_consequences, write_move
from qhronos_core.adapters.sqlite.rows import OCCURRENCE_COLUMNS, occurrence_of, occurrence_row
from qhronos_core.adapters.sqlite.statements import UNFINISHED, columns
from qhronos_core.adapters.sqlite.tokens import remember, save_revocations, save_tokens
from qhronos_core.domain.errors import StaleError
from qhronos_core.domain.ids import EventId, microseconds
from qhronos_core.domain.occurrence import Entry, EntryKind, Occurrence, Reason
from qhronos_core.ports import Changes


def commit(connection: sqlite3.Connection, changes: Changes, now: datetime) -> int:
    """Raises StaleError, KeyTakenError, RepeatedRequestError; the caller's savepoint undoes what was written before."""
    at = changes.at or now
    if not all(write_move(connection, move) for move in changes.moves):
        raise StaleError
    if any(planned.advances for _, planned in write_consequences(connection, changes.moves, now)):
        raise StaleError
    for planned in changes.withdrawn:
        _withdraw(connection, planned)
    cancelled = sum(_cancel_unfinished(connection, *swept, at) for swept in changes.cancel_unfinished)
    for event_id in changes.let_go:
        _let_go(connection, event_id, at)
    for planned in changes.planned:
        _plan(connection, planned)
    for save in changes.saves:
        save_event(connection, save)
    if changes.quota is not None and not is_within(connection, changes.quota):
        raise StaleError
    save_tokens(connection, changes.tokens)
    save_revocations(connection, changes.revocations)
    if changes.answer is not None:
        remember(connection, changes.answer, now)
    if changes.zones_version is not None:
        connection.execute("UPDATE store_meta SET zones_version = ?", (changes.zones_version,))
    write_entries(connection, changes.entries)
    return cancelled


def _withdraw(connection: sqlite3.Connection, planned: Occurrence) -> None:
    sql = "DELETE FROM occurrences WHERE id = ? AND fence = ? AND state = ?"
    if connection.execute(sql, (planned.id.bytes, planned.fence, planned.state)).rowcount != 1:
        raise StaleError


def _plan(connection: sqlite3.Connection, planned: Occurrence) -> None:
    try:
        connection.execute(INSERT_PLANNED, occurrence_row(planned))
    except sqlite3.IntegrityError as error:
        raise StaleError from error


_UNFINISHED_OF: Final = f"""
    SELECT {columns(OCCURRENCE_COLUMNS)} FROM occurrences
     WHERE event_id = ? AND {UNFINISHED} AND state <> 'dispatching' ORDER BY scheduled_at
"""
_CANCEL: Final = """
    UPDATE occurrences
       SET state = 'cancelled', reason = ?, due_at = NULL, held = NULL, inbox_at = NULL, lease_until = NULL,
           advances = 0, fence = fence + 1, updated_at = ?, finished_at = ?
     WHERE id = ?
"""


def _cancel_unfinished(connection: sqlite3.Connection, event_id: EventId, reason: Reason, at: datetime) -> int:
    rows = [occurrence_of(row) for row in connection.execute(_UNFINISHED_OF, (event_id.bytes,)).fetchall()]
    stamp = microseconds(at)
    connection.executemany(_CANCEL, [(reason, stamp, stamp, row.id.bytes) for row in rows])
    detail = {"reason": reason.value}
    write_entries(
        connection, [Entry(at, EntryKind.OCCURRENCE_CANCELLED, event_id, row.id, detail=detail) for row in rows]
    )
    return len(rows)


def _let_go(connection: sqlite3.Connection, event_id: EventId, at: datetime) -> None:
    """Due now, though never before its instant; the next look judges whether an earlier one still holds it back."""
    sql = f"""
        UPDATE occurrences
           SET held = NULL, due_at = max(scheduled_at, ?), fence = fence + 1, updated_at = ?
         WHERE event_id = ? AND {UNFINISHED} AND held = 'pause'
    """
    connection.execute(sql, (microseconds(at), microseconds(at), event_id.bytes))
