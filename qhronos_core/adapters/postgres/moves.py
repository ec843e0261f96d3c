"""Writing decided moves: one statement for any number of them, and all that goes with each or not at all."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, LiteralString
from uuid import UUID

from qhronos_core.adapters.postgres.pool import Transaction
from qhronos_core.adapters.postgres.rows import (
    ATTEMPT,
    ATTEMPT_TYPES,
    ENTRY,
    ENTRY_TYPES,
    OCCURRENCE,
    OCCURRENCE_COLUMNS,
    OCCURRENCE_TYPES,
    attempt_row,
    document,
    entry_row,
    occurrence_row,
    uuids,
)
from qhronos_core.domain.ids import EventId, OccurrenceId
from qhronos_core.domain.occurrence import Move, Occurrence

Rows = list[tuple[Any, ...]]

WRITE_MOVES: Final[LiteralString] = f"""
    -- A row is written only if its fence and state are still those the move was decided on; what belongs to a move
    -- joins on `written`. Entries keep their order: the sort is below the INSERT that draws positions.
    -- What would wait for another attempt, its event deleted meanwhile, is due now: the next look cancels it.
    WITH m AS MATERIALIZED (
             SELECT * FROM json_to_recordset(%(moves)s) AS m (was_fence int, was_state text, ends boolean,
                                                              pauses text, {OCCURRENCE_TYPES})),
         written AS (
             UPDATE occurrences AS o
                SET updated_at = m.updated_at, round_began_at = m.round_began_at, state = m.state,
                    due_at = CASE WHEN m.state = 'pending' AND o.state = 'dispatching'
                                   AND (SELECT e.status FROM events AS e WHERE e.id = o.event_id) = 'deleted'
                                  THEN m.updated_at ELSE m.due_at END,
                    advances = m.advances, ordinal = m.ordinal, fence = m.fence, attempts_made = m.attempts_made,
                    attempts_before = m.attempts_before, round = m.round, event_version = m.event_version,
                    held = m.held, inbox_at = m.inbox_at, lease_until = m.lease_until, node = m.node,
                    holder = m.holder, claimed_at = m.claimed_at, missed = m.missed, missed_since = m.missed_since,
                    reason = m.reason, note = m.note, acknowledged_at = m.acknowledged_at, finished_at = m.finished_at,
                    deliveries = m.deliveries
               FROM m
              WHERE o.id = m.id AND o.fence = m.was_fence AND o.state = m.was_state
          RETURNING o.id),
         tried AS (
             INSERT INTO attempts ({ATTEMPT})
             SELECT {ATTEMPT}
               FROM json_to_recordset(%(attempts)s) AS a ({ATTEMPT_TYPES})
               JOIN written ON written.id = a.occurrence_id
                 ON CONFLICT DO NOTHING),
         planned AS (
             INSERT INTO occurrences ({OCCURRENCE_COLUMNS})
             SELECT {OCCURRENCE}
               FROM json_to_recordset(%(planned)s) AS o (by uuid, {OCCURRENCE_TYPES})
               JOIN written ON written.id = o.by
                 ON CONFLICT DO NOTHING
          RETURNING id),
         told AS (
             INSERT INTO journal ({ENTRY})
             SELECT {ENTRY}
               FROM json_to_recordset(%(entries)s) AS j (n int, by uuid, {ENTRY_TYPES})
               JOIN written ON written.id = j.by
              ORDER BY n),
         ended AS (
             UPDATE events SET status = 'inactive'
              WHERE id IN (SELECT m.event_id FROM m JOIN written USING (id) WHERE m.ends) AND status = 'active'),
         paused AS (
             UPDATE events AS e
                SET status = 'paused', paused_at = m.updated_at, paused_reason = m.pauses, paused_until = NULL,
                    version = e.version + 1, updated_at = m.updated_at
               FROM m JOIN written USING (id)
              WHERE e.id = m.event_id AND m.pauses IS NOT NULL AND e.status IN ('active', 'inactive'))
    SELECT true, id FROM written UNION ALL SELECT false, id FROM planned
"""

_LOCK_FREED: Final = """
    -- Everything this transaction will touch, in the order in which a change of the event locks it.
    SELECT FROM occurrences
     WHERE id = ANY (%(ids)s::uuid[]) OR (event_id = ANY (%(events)s::uuid[]) AND unfinished AND held = 'overlap')
     ORDER BY id FOR UPDATE
"""
LOCK_EVENTS: Final = "SELECT id, version, status FROM events WHERE id = ANY (%(events)s::uuid[]) ORDER BY id FOR UPDATE"
_FREE_QUEUE: Final = """
    -- A claim that holds a row back has the event locked while it looks, and so have we: nothing is held unseen.
    -- The fence grows: whoever read the row as held reads again.
    UPDATE occurrences
       SET held = NULL, due_at = %(at)s, fence = fence + 1, updated_at = %(at)s
     WHERE id IN (SELECT DISTINCT ON (event_id) id FROM occurrences
                   WHERE event_id = ANY (%(events)s::uuid[]) AND unfinished AND held = 'overlap'
                   ORDER BY event_id, scheduled_at, id)
"""
_INSERT_PLANNED: Final[LiteralString] = f"""
    WITH planned AS (
        INSERT INTO occurrences ({OCCURRENCE_COLUMNS})
        SELECT {OCCURRENCE} FROM json_to_recordset(%(planned)s) AS o ({OCCURRENCE_TYPES})
            ON CONFLICT DO NOTHING
     RETURNING id)
    SELECT id FROM planned
"""
_END_EVENTS: Final[LiteralString] = f"""
    WITH ended AS (
        UPDATE events SET status = 'inactive' WHERE id = ANY (%(events)s::uuid[]) AND status = 'active' RETURNING id)
    INSERT INTO journal ({ENTRY}) SELECT %(at)s::timestamptz, 'event.ended', id, NULL, NULL, '{{}}' FROM ended
"""


@dataclass(frozen=True, slots=True)
class Written:
    """Of the moves given: which took hold, and which planned rows are new."""

    moves: frozenset[OccurrenceId]
    planned: frozenset[OccurrenceId]

    @classmethod
    def of(cls, rows: Rows) -> "Written":
        return cls(frozenset(row[1] for row in rows if row[0]), frozenset(row[1] for row in rows if not row[0]))


def parameters_of(moves: Sequence[Move]) -> dict[str, str]:
    """For `WRITE_MOVES`. Sorted, so that two batches of the same rows lock them in one order."""
    moves = sorted(moves, key=lambda move: move.was.id)
    return {
        "moves": document([_move_row(move) for move in moves]),
        "attempts": document([attempt_row(move.attempt) for move in moves if move.attempt is not None]),
        "planned": document(
            [{"by": move.was.id, **occurrence_row(planned)} for move in moves for planned in move.planned]
        ),
        "entries": document(
            [
                {"n": n, "by": by, **entry_row(entry)}
                for n, (by, entry) in enumerate((move.was.id, entry) for move in moves for entry in move.entries)
            ]
        ),
    }


def _move_row(move: Move) -> dict[str, Any]:
    row = occurrence_row(move.now)
    row["was_fence"] = move.was.fence
    row["was_state"] = move.was.state
    if move.ends_event:
        row["ends"] = True
    if move.pauses_event is not None:
        row["pauses"] = move.pauses_event
    return row


def frees(moves: Iterable[Move]) -> Mapping[EventId, datetime]:
    """The events of whose queues the moves free one, and when."""
    return {move.was.event_id: move.now.updated_at for move in moves if move.frees_queue}


async def lock_freed(transaction: Transaction, moves: Sequence[Move], events: Iterable[EventId]) -> None:
    """Before the moves: the rows they touch and the held rows, one of which they free."""
    await transaction.send(_LOCK_FREED, {"ids": uuids(move.was.id for move in moves), "events": uuids(events)})


async def free_queues(transaction: Transaction, freed: Mapping[EventId, datetime]) -> None:
    """After the moves: the oldest row each event's queue holds becomes due."""
    await transaction.send(LOCK_EVENTS, {"events": uuids(freed)})
    for event_id, at in freed.items():
        await transaction.send(_FREE_QUEUE, {"events": uuids([event_id]), "at": at})


async def plan_on(
    transaction: Transaction, passed: Sequence[Occurrence], following: Callable[[Occurrence], Occurrence | None]
) -> None:
    """Plan each event's next instant, given rows whose own instant had one already; an event without one ends."""
    ended: list[Occurrence] = []
    while passed:
        proposed: dict[UUID, Occurrence] = {}
        for row in passed:
            if (following_row := following(row)) is None:
                ended.append(row)
            else:
                proposed[following_row.id] = following_row
        if not proposed:
            break
        parameters = {"planned": document([occurrence_row(row) for row in proposed.values()])}
        inserted = {row[0] for row in await transaction.rows(_INSERT_PLANNED, parameters)}
        passed = [row for row in proposed.values() if row.id not in inserted]
    if ended:
        await transaction.send(_END_EVENTS, {"events": uuids(row.event_id for row in ended), "at": ended[0].updated_at})
