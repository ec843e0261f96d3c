"""Writing decided steps: a row changes only if its fence and state are still those the step was decided on."""

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any, Final

from qhronos_core.adapters.sqlite.batches import count_standing, ids_present, insert, update_occurrences
from qhronos_core.adapters.sqlite.events import end_events, pause_event
from qhronos_core.adapters.sqlite.journal import write_entries
from qhronos_core.adapters.sqlite.rows import (
    ATTEMPT_COLUMNS,
    MOVING_COLUMNS,
    OCCURRENCE_COLUMNS,
    attempt_row,
    occurrence_row,
)
from qhronos_core.adapters.sqlite.statements import UNFINISHED, columns, marks
from qhronos_core.domain.ids import EventId, OccurrenceId, microseconds
from qhronos_core.domain.occurrence import Attempt, Move, Occurrence

_MOVING: Final = attrgetter(*MOVING_COLUMNS)
_INSERT_OCCURRENCES: Final = f"INSERT INTO occurrences ({columns(OCCURRENCE_COLUMNS)})"
INSERT_PLANNED: Final = f"{_INSERT_OCCURRENCES} VALUES ({marks(len(OCCURRENCE_COLUMNS))})"
_INSERT_ATTEMPTS: Final = f"INSERT INTO attempts ({columns(ATTEMPT_COLUMNS)})"


def write_move(connection: sqlite3.Connection, move: Move) -> bool:
    """The row alone. False: it has moved on, and nothing was written."""
    changed, row = _step(move)
    return update_occurrences(connection, changed, [row]) == 1


def write_moves(connection: sqlite3.Connection, moves: Sequence[Move]) -> None:
    """The rows alone, each known to stand as its move was decided on: read, or counted, in this very transaction."""
    steps: dict[tuple[str, ...], list[list[Any]]] = {}
    for move in moves:
        changed, row = _step(move)
        steps.setdefault(changed, []).append(row)
    if sum(update_occurrences(connection, changed, rows) for changed, rows in steps.items()) != len(moves):
        raise RuntimeError("a row has moved under the write lock")


def all_stand(connection: sqlite3.Connection, moves: Sequence[Move]) -> bool:
    """Whether every row is as its move was decided on, and no row has two."""
    rows = [_was(move) for move in moves]
    return len({row[0] for row in rows}) == len(rows) == count_standing(connection, rows)


def _was(move: Move) -> list[Any]:
    return [move.was.id.bytes, move.was.fence, move.was.state]


def _step(move: Move) -> tuple[tuple[str, ...], list[Any]]:
    """The columns a move changes, and what `update_occurrences` wants: an index whose columns stay is not touched."""
    changed, row = [], _was(move)
    for name, before, after in zip(MOVING_COLUMNS, _MOVING(move.was), _MOVING(move.now), strict=True):
        if before is not after and before != after:
            changed.append(name)
            # a StrEnum is bound as its text, a bool as 0 or 1
            row.append(microseconds(after) if type(after) is datetime else after)
    if not changed:
        changed.append("fence")
        row.append(move.now.fence)
    return tuple(changed), row


def write_consequences(
    connection: sqlite3.Connection, moves: Sequence[Move], now: datetime
) -> list[tuple[Move, Occurrence]]:
    """All that is written with moves whose rows were: attempts, planned rows, what becomes of the event, the journal.

    Returns the planned rows left out because their instant has a row already, with their moves.
    """
    write_attempts(connection, [move.attempt for move in moves if move.attempt is not None])
    planned = [(move, row) for move in moves for row in move.planned]
    taken = plan_where_free(connection, [row for _, row in planned])
    end_events(connection, [move.was.event_id for move in moves if move.ends_event])
    for move in moves:
        if move.pauses_event is not None:
            pause_event(connection, move.was.event_id, move.pauses_event, now)
        if move.frees_queue:
            free_oldest_held(connection, move.was.event_id, now)
    write_entries(connection, [entry for move in moves for entry in move.entries])
    return [(move, row) for move, row in planned if row.id in taken]


def write_attempts(connection: sqlite3.Connection, attempts: Sequence[Attempt]) -> None:
    insert(connection, _INSERT_ATTEMPTS, [attempt_row(attempt) for attempt in attempts])


def plan_where_free(connection: sqlite3.Connection, planned: Sequence[Occurrence]) -> frozenset[OccurrenceId]:
    """Insert them, but for those whose instant has a row already: that row stands. The ids of those left out."""
    present = set(ids_present(connection, "occurrences", [row.id.bytes for row in planned]))
    insert(connection, _INSERT_OCCURRENCES, [occurrence_row(row) for row in planned if row.id.bytes not in present])
    return frozenset(row.id for row in planned if row.id.bytes in present)


def free_oldest_held(connection: sqlite3.Connection, event_id: EventId, now: datetime) -> None:
    """The oldest row an earlier occurrence held back is due now. Its fence grows: whoever read it held reads again."""
    sql = f"""
        UPDATE occurrences SET held = NULL, due_at = ?, fence = fence + 1, updated_at = ?
         WHERE id = (SELECT id FROM occurrences
                      WHERE event_id = ? AND {UNFINISHED} AND held = 'overlap' ORDER BY scheduled_at LIMIT 1)
    """
    connection.execute(sql, (microseconds(now), microseconds(now), event_id.bytes))
