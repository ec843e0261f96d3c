"""Taking what is due, settling what became of it, and taking from the inbox."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from qhronos_core.adapters.sqlite.events import end_event, read_events
from qhronos_core.adapters.sqlite.journal import write_entries
from qhronos_core.adapters.sqlite.moves import plan_if_free, write_consequences, write_move
from qhronos_core.adapters.sqlite.occurrences import free_in_inbox
from qhronos_core.adapters.sqlite.rows import OCCURRENCE_COLUMNS, at, occurrence_of
from qhronos_core.adapters.sqlite.statements import UNFINISHED, columns
from qhronos_core.domain.access import Reach
from qhronos_core.domain.event import Event, Overlap
from qhronos_core.domain.ids import EventId, OccurrenceId, microseconds
from qhronos_core.domain.judgement import expires_at
from qhronos_core.domain.lifecycle import DISPATCHING
from qhronos_core.domain.occurrence import Entry, EntryKind, Move, Occurrence
from qhronos_core.ports import Claim, Claimed, Clock, Due, Gap, InboxQuery, Judge

LOOK_EVERY: Final = timedelta(seconds=2)  # at most so often a node writes down that it looked: idle, it writes no more
LOOK_PAUSE: Final = timedelta(seconds=5)  # longer without anybody looking is a gap

_COLUMNS: Final = columns(OCCURRENCE_COLUMNS)
_DUE: Final = "due_at <= ? AND (lease_until IS NULL OR lease_until <= ?)"

_ANY_DUE: Final = f"SELECT 1 FROM occurrences WHERE {_DUE} LIMIT 1"
_TAKE_DUE: Final = f"""
    -- served by occurrences_due_idx (due_at) WHERE due_at IS NOT NULL: rows under a lease stay at its head and are
    -- passed over, at most as many as attempts are under way
    SELECT {_COLUMNS} FROM occurrences WHERE {_DUE} ORDER BY due_at LIMIT ?
"""
_COUNT_OTHERS: Final = f"""
    SELECT coalesce(sum(held IS NOT 'overlap'
                        AND (state <> 'pending' OR attempts_made > 0 OR round > 1 OR inbox_at IS NOT NULL)), 0),
           coalesce(sum(held IS 'overlap'), 0)
      FROM occurrences WHERE event_id = ? AND {UNFINISHED} AND id <> ?
"""


@dataclass(slots=True)
class Claimer:
    """One node's looks at what is due."""

    clock: Clock
    looked_at: datetime | None = None  # when this process last wrote down that it looked

    def nothing_due(self, connection: sqlite3.Connection) -> Claimed | None:
        """The answer where nothing is due and nothing need be written; else None. Needs no write lock."""
        now = self.clock.now()
        if self._must_tell(now):
            return None
        stamp = microseconds(now)
        if connection.execute(_ANY_DUE, (stamp, stamp)).fetchone():
            return None
        return Claimed((), 0, now, more=False)

    def claim_due(
        self, connection: sqlite3.Connection, *, node: str, lease: timedelta, limit: int, judge: Judge
    ) -> Claimed:
        """In a transaction that holds the write lock, so what is read here is still so when it is written."""
        now = self.clock.now()
        gap = self._look(connection, now)
        stamp = microseconds(now)
        taken = [occurrence_of(row) for row in connection.execute(_TAKE_DUE, (stamp, stamp, limit)).fetchall()]
        round_ = _Judging(connection, judge, now, read_events(connection, list({row.event_id for row in taken})))
        for occurrence in taken:
            round_.judge(Due(occurrence, round_.events[occurrence.event_id], now, node, lease, gap))
        round_.write()
        return Claimed(tuple(round_.claims), len(taken), now, more=len(taken) == limit)

    def _must_tell(self, now: datetime) -> bool:
        return self.looked_at is None or not timedelta(0) <= now - self.looked_at < LOOK_EVERY

    def _look(self, connection: sqlite3.Connection, now: datetime) -> Gap | None:
        """Write down that a node looked, and any time in which none did.

        While planned rows of an earlier gap are still unclaimed the new one begins where that began.
        """
        looked_at, since, until = connection.execute(
            "SELECT looked_at, gap_since, gap_until FROM store_meta"
        ).fetchone()
        if self._must_tell(now):
            stamp = microseconds(now)
            if now - at(looked_at) > LOOK_PAUSE:
                left = (
                    since is not None
                    and connection.execute(
                        f"SELECT 1 FROM occurrences WHERE due_at > ? AND due_at <= ? AND advances AND {_DUE} LIMIT 1",
                        (since, until, stamp, stamp),
                    ).fetchone()
                )
                since, until = (since if left else looked_at), stamp
            connection.execute(
                "UPDATE store_meta SET looked_at = ?, gap_since = ?, gap_until = ?", (stamp, since, until)
            )
            self.looked_at = now
        return None if since is None else Gap(at(since), at(until))


class _Judging:
    """One batch: each row judged by what is true when its turn comes, writes gathered as far as that allows."""

    def __init__(
        self, connection: sqlite3.Connection, judge: Judge, now: datetime, events: dict[EventId, Event]
    ) -> None:
        self.events = events
        self.claims: list[Claim] = []
        self._connection = connection
        self._judge = judge
        self._now = now
        self._unwritten: list[Move] = []

    def judge(self, due: Due) -> None:
        counted = due.event.policies.overlap is not Overlap.ALLOW
        if counted:
            self.write()  # an earlier row of the event, begun in this batch, counts
            parameters = (due.event.id.bytes, due.occurrence.id.bytes)
            unfinished, queued = self._connection.execute(_COUNT_OTHERS, parameters).fetchone()
            due = replace(due, unfinished=unfinished, queued=queued)
        move = self._judge.judge(due)
        self._unwritten.append(move)
        if move.now.state is DISPATCHING:
            self.claims.append(Claim(move.now, due.event))
        if move.ends_event or move.pauses_event is not None:
            self.write()
            self.events |= read_events(self._connection, [due.event.id])

    def write(self) -> None:
        moves, self._unwritten = self._unwritten, []
        for move in moves:
            write_move(self._connection, move)
        for move, planned in write_consequences(self._connection, moves, self._now):
            if planned.advances:
                self._plan_beyond(self.events[move.was.event_id], planned)

    def _plan_beyond(self, event: Event, taken: Occurrence) -> None:
        """The instant has a row already (triggered, or of an older rule): the next that has none."""
        nxt = self._judge.advance(event, taken, self._now)
        while nxt is not None and not plan_if_free(self._connection, nxt):
            nxt = self._judge.advance(event, nxt, self._now)
        if nxt is None:
            end_event(self._connection, event.id)
            write_entries(self._connection, [Entry(self._now, EntryKind.EVENT_ENDED, event.id)])


def settle(connection: sqlite3.Connection, moves: Sequence[Move], now: datetime) -> frozenset[OccurrenceId]:
    """Those written; the others were a zombie's."""
    written = [move for move in moves if write_move(connection, move)]
    write_consequences(connection, written, now)
    return frozenset(move.was.id for move in written)


def claim_inbox(
    connection: sqlite3.Connection, query: InboxQuery, reach: Reach, *, holder: str, actor: str, now: datetime
) -> Sequence[Occurrence]:
    wanted = free_in_inbox(query, reach, now)
    sql = f"""
        SELECT {columns(OCCURRENCE_COLUMNS, "o")} FROM occurrences AS o CROSS JOIN events AS e ON e.id = o.event_id
         WHERE {wanted.sql} ORDER BY o.inbox_at, o.id
    """
    free = connection.execute(sql, wanted.parameters)
    taken = []
    for row in free:
        item = occurrence_of(row)
        event = read_events(connection, [item.event_id])[item.event_id]
        expiry = expires_at(event, item)
        if expiry is not None and expiry <= now:
            continue  # of no use any more; the next look gives it up
        lapse = now + event.policies.ack_timeout
        taken.append(
            Move(
                item,
                item.changed(
                    now,
                    fence=item.fence + 1,
                    holder=holder,
                    claimed_at=now,
                    lease_until=lapse,
                    due_at=min(lapse, expiry) if expiry else lapse,
                ),
                entries=(Entry(now, EntryKind.OCCURRENCE_CLAIMED, item.event_id, item.id, actor),),
            )
        )
        if len(taken) == query.limit:
            break
    free.close()
    for move in taken:
        write_move(connection, move)
        write_entries(connection, move.entries)
    return [move.now for move in taken]
