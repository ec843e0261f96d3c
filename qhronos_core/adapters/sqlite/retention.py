"""Removing ended history. What may go is looked up by a reader; the writer removes it, if it may still go."""

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from qhronos_core.adapters.sqlite.statements import UNFINISHED, chunks, marks
from qhronos_core.adapters.sqlite.threads import Readers, Writer
from qhronos_core.domain.ids import microseconds
from qhronos_core.ports import REVOKED_FOR

_FINISHED: Final = "o.state IN ('completed', 'failed', 'missed', 'cancelled')"
# The latest of the schedule's, which alone are counted, stays though a triggered one is later.
_NOT_THE_LATEST: Final = """
    EXISTS (SELECT 1 FROM occurrences AS l
             WHERE l.event_id = o.event_id AND l.scheduled_at > o.scheduled_at
               AND (l.cause = 'schedule' OR o.cause <> 'schedule'))
"""
_OF_UNFINISHED: Final = f"SELECT 1 FROM occurrences AS o WHERE o.id = a.occurrence_id AND {UNFINISHED}"
_HAS_UNFINISHED: Final = f"SELECT 1 FROM occurrences WHERE event_id = e.id AND {UNFINISHED}"

# What was skipped keeps its row until its instant is as old: an instant that has a row is never planned again.
_OLD_OCCURRENCES: Final = f"""
    SELECT o.id FROM occurrences AS o
     WHERE o.finished_at < ?1 AND o.scheduled_at < ?1 AND {_FINISHED} AND {_NOT_THE_LATEST}
     ORDER BY o.finished_at LIMIT ?2
"""
_OLD_ATTEMPTS: Final = f"""
    SELECT a.rowid FROM attempts AS a
     WHERE a.finished_at < ? AND NOT EXISTS ({_OF_UNFINISHED}) ORDER BY a.finished_at LIMIT ?
"""
# By position, without a hole: the first entry that is young enough ends it.
_OLD_ENTRIES: Final = """
    SELECT position FROM (SELECT position, at FROM journal ORDER BY position LIMIT ?)
     WHERE position < coalesce((SELECT position FROM journal WHERE at >= ? ORDER BY position LIMIT 1), position + 1)
"""
_OCCURRENCES_OF_OLD_EVENTS: Final = f"""
    SELECT o.id FROM events AS e JOIN occurrences AS o ON o.event_id = e.id
     WHERE e.status = 'deleted' AND e.deleted_at < ? AND NOT EXISTS ({_HAS_UNFINISHED}) LIMIT ?
"""
_OLD_EVENTS: Final = """
    SELECT e.id FROM events AS e
     WHERE e.status = 'deleted' AND e.deleted_at < ?
       AND NOT EXISTS (SELECT 1 FROM occurrences WHERE event_id = e.id) ORDER BY e.deleted_at LIMIT ?
"""


_A_DAY: Final = 86_400_000_000  # microseconds
_REVOKED_FOR: Final = REVOKED_FOR // timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Before:
    """What ended earlier than these may go."""

    occurrences: datetime
    attempts: datetime
    journal: datetime
    deleted: datetime


async def retire(readers: Readers, writer: Writer, before: Before, limit: int, now: datetime) -> int:
    gone = 0
    occurrences = (microseconds(before.occurrences), limit)
    gone += await _remove(readers, writer, _OLD_OCCURRENCES, occurrences, _remove_occurrences)
    gone += await _remove(readers, writer, _OLD_ATTEMPTS, (microseconds(before.attempts), limit), _remove_attempts)
    gone += await _remove(readers, writer, _OLD_ENTRIES, (limit, microseconds(before.journal)), _remove_entries)
    deleted = (microseconds(before.deleted), limit)
    gone += await _remove(readers, writer, _OCCURRENCES_OF_OLD_EVENTS, deleted, _remove_history)
    gone += await _remove(readers, writer, _OLD_EVENTS, deleted, _remove_events)
    stamp = microseconds(now)
    return gone + await writer.write(lambda connection: _remove_expired(connection, stamp))


async def _remove(
    readers: Readers,
    writer: Writer,
    find: str,
    parameters: tuple[Any, ...],
    remove: Callable[[sqlite3.Connection, Sequence[Any]], int],
) -> int:
    rows = await readers.read(lambda connection: connection.execute(find, parameters).fetchall())
    gone = 0
    for some in chunks([row[0] for row in rows]):
        gone += await writer.write(lambda connection, some=some: remove(connection, some))  # type: ignore[misc]
    return gone


def _remove_occurrences(connection: sqlite3.Connection, ids: Sequence[bytes]) -> int:
    """Finished is not for ever (a failed one may be sent again) and neither is the latest row: both are asked anew."""
    rows = connection.execute(
        f"SELECT o.id FROM occurrences AS o WHERE o.id IN ({marks(len(ids))}) AND {_FINISHED} AND {_NOT_THE_LATEST}",
        ids,
    ).fetchall()
    return _remove_with_attempts(connection, [row[0] for row in rows])


def _remove_history(connection: sqlite3.Connection, ids: Sequence[bytes]) -> int:
    """Of a deleted event everything goes, its latest row too; a deleted event never comes back."""
    rows = connection.execute(
        f"SELECT o.id FROM occurrences AS o WHERE o.id IN ({marks(len(ids))}) AND {_FINISHED}", ids
    ).fetchall()
    return _remove_with_attempts(connection, [row[0] for row in rows])


def _remove_with_attempts(connection: sqlite3.Connection, ids: Sequence[bytes]) -> int:
    connection.execute(f"DELETE FROM attempts WHERE occurrence_id IN ({marks(len(ids))})", ids)
    return connection.execute(f"DELETE FROM occurrences WHERE id IN ({marks(len(ids))})", ids).rowcount


def _remove_attempts(connection: sqlite3.Connection, rowids: Sequence[int]) -> int:
    # rowids are reused only from the top, and the top is young
    sql = f"DELETE FROM attempts AS a WHERE a.rowid IN ({marks(len(rowids))}) AND NOT EXISTS ({_OF_UNFINISHED})"
    return connection.execute(sql, rowids).rowcount


def _remove_entries(connection: sqlite3.Connection, positions: Sequence[int]) -> int:
    gone = connection.execute(f"DELETE FROM journal WHERE position IN ({marks(len(positions))})", positions).rowcount
    connection.execute("UPDATE store_meta SET journal_trimmed_to = max(journal_trimmed_to, ?)", (max(positions),))
    return gone


def _remove_events(connection: sqlite3.Connection, ids: Sequence[bytes]) -> int:
    empty = "NOT EXISTS (SELECT 1 FROM occurrences AS o WHERE o.event_id = {})"
    for table in ("event_tags", "event_labels"):
        connection.execute(
            f"DELETE FROM {table} WHERE event_id IN ({marks(len(ids))}) AND {empty.format(f'{table}.event_id')}", ids
        )
    return connection.execute(
        f"DELETE FROM events WHERE id IN ({marks(len(ids))}) AND {empty.format('events.id')}", ids
    ).rowcount


def _remove_expired(connection: sqlite3.Connection, now: int) -> int:
    """Answers past their time, revocations of tokens that have expired by themselves, waits that ran out a day ago."""
    gone = connection.execute("DELETE FROM idempotency WHERE expires_at <= ?", (now,)).rowcount
    gone += connection.execute(
        "DELETE FROM revocations WHERE jti IN (SELECT jti FROM tokens WHERE expires_at <= ?)", (now - _REVOKED_FOR,)
    ).rowcount
    gone += connection.execute("DELETE FROM waits WHERE ends_at <= ?", (now - _A_DAY,)).rowcount
    return gone
