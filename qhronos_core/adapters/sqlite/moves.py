"""Writing decided steps: a row changes only if its fence and state are still those the step was decided on."""

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from operator import attrgetter
from typing import Final

from qhronos_core.adapters.sqlite.events import end_event, pause_event
from qhronos_core.adapters.sqlite.journal import write_entries
from qhronos_core.adapters.sqlite.rows import (
    ATTEMPT_COLUMNS,
    MOVING_COLUMNS,
    OCCURRENCE_COLUMNS,
    attempt_row,
    column,
    occurrence_row,
)
from qhronos_core.adapters.sqlite.statements import UNFINISHED, columns, marks
from qhronos_core.domain.ids import EventId, microseconds
from qhronos_core.domain.occurrence import Attempt, Move, Occurrence

_MOVING: Final = attrgetter(*MOVING_COLUMNS)
_INSERT: Final = f"INTO occurrences ({columns(OCCURRENCE_COLUMNS)}) VALUES ({marks(len(OCCURRENCE_COLUMNS))})"
INSERT_PLANNED: Final = f"INSERT {_INSERT}"
# Its instant may have a row already: that row stands, and this one is left out.
_PLAN_IF_FREE: Final = f"INSERT OR IGNORE {_INSERT}"
_INSERT_ATTEMPT: Final = f"INSERT INTO attempts ({columns(ATTEMPT_COLUMNS)}) VALUES ({marks(len(ATTEMPT_COLUMNS))})"


def write_move(connection: sqlite3.Connection, move: Move) -> bool:
    """The row alone. False: it has moved on, and nothing was written.

    Only what the step changes is set: an index whose columns stay is not touched.
    """
    was = move.was
    changed = [
        (name, after)
        for name, before, after in zip(MOVING_COLUMNS, _MOVING(was), _MOVING(move.now), strict=True)
        if before is not after and before != after
    ]
    guarded = (*(column(value) for _, value in changed), was.id.bytes, was.fence, was.state)
    return connection.execute(_update(tuple(name for name, _ in changed)), guarded).rowcount == 1


@lru_cache(maxsize=256)
def _update(changed: tuple[str, ...]) -> str:
    settings = ", ".join(f"{name} = ?" for name in changed) or "fence = fence"
    return f"UPDATE occurrences SET {settings} WHERE id = ? AND fence = ? AND state = ?"


def write_consequences(
    connection: sqlite3.Connection, moves: Sequence[Move], now: datetime
) -> list[tuple[Move, Occurrence]]:
    """All that is written with moves whose rows were: attempts, planned rows, what becomes of the event, the journal.

    Returns the planned rows left out because their instant has a row already, with their moves.
    """
    write_attempts(connection, [move.attempt for move in moves if move.attempt is not None])
    left_out: list[tuple[Move, Occurrence]] = []
    for move in moves:
        left_out += [(move, planned) for planned in move.planned if not plan_if_free(connection, planned)]
        if move.ends_event:
            end_event(connection, move.was.event_id)
        if move.pauses_event is not None:
            pause_event(connection, move.was.event_id, move.pauses_event, now)
        if move.frees_queue:
            free_oldest_held(connection, move.was.event_id, now)
    write_entries(connection, [entry for move in moves for entry in move.entries])
    return left_out


def write_attempts(connection: sqlite3.Connection, attempts: Sequence[Attempt]) -> None:
    if attempts:
        connection.executemany(_INSERT_ATTEMPT, [attempt_row(attempt) for attempt in attempts])


def plan_if_free(connection: sqlite3.Connection, planned: Occurrence) -> bool:
    return connection.execute(_PLAN_IF_FREE, occurrence_row(planned)).rowcount == 1


def free_oldest_held(connection: sqlite3.Connection, event_id: EventId, now: datetime) -> None:
    """The oldest row an earlier occurrence held back is due now. Its fence grows: whoever read it held reads again."""
    sql = f"""
        UPDATE occurrences SET held = NULL, due_at = ?, fence = fence + 1, updated_at = ?
         WHERE id = (SELECT id FROM occurrences
                      WHERE event_id = ? AND {UNFINISHED} AND held = 'overlap' ORDER BY scheduled_at LIMIT 1)
    """
    connection.execute(sql, (microseconds(now), microseconds(now), event_id.bytes))
