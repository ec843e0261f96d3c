"""Taking what is due, settling what became of it, and taking from the inbox."""

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

import orjson

from qhronos_core.adapters.judging import Crowd, EventCache, Look
from qhronos_core.adapters.sqlite.batches import RowText
from qhronos_core.adapters.sqlite.events import deleted_among, end_events, read_events
from qhronos_core.adapters.sqlite.journal import write_entries
from qhronos_core.adapters.sqlite.moves import all_stand, plan_where_free, write_consequences, write_move, write_moves
from qhronos_core.adapters.sqlite.occurrences import free_in_inbox
from qhronos_core.adapters.sqlite.rows import OCCURRENCE_BLOBS, OCCURRENCE_COLUMNS, at, occurrence_of
from qhronos_core.adapters.sqlite.statements import BEGUN, UNFINISHED, columns, marks
from qhronos_core.adapters.turns import Turns
from qhronos_core.domain.access import Reach
from qhronos_core.domain.event import Event, Overlap
from qhronos_core.domain.ids import EventId, OccurrenceId, microseconds
from qhronos_core.domain.judgement import expires_at
from qhronos_core.domain.lifecycle import DISPATCHING, PENDING
from qhronos_core.domain.occurrence import Entry, EntryKind, Move, Occurrence
from qhronos_core.ports import Claim, Claimed, Clock, Gap, InboxQuery, Judge

LOOK_EVERY: Final = timedelta(seconds=2)  # at most so often a node writes down that it looked: idle, it writes no more
LOOK_PAUSE: Final = timedelta(seconds=5)  # longer without anybody looking is a gap

_DUE: Final = "due_at <= ? AND (lease_until IS NULL OR lease_until <= ?)"
_AS_TEXT: Final = RowText(OCCURRENCE_COLUMNS, OCCURRENCE_BLOBS, "o")
_LANE: Final = OCCURRENCE_COLUMNS.index("lane")

ANY_DUE: Final = f"SELECT 1 FROM occurrences WHERE {_DUE} LIMIT 1"
LANES_DUE: Final = f"""
    -- from each lane's first row to the next lane, by occurrences_lane_idx (lane, due_at) WHERE due_at IS NOT NULL
    WITH RECURSIVE every (lane) AS (
           SELECT min(lane) FROM occurrences WHERE due_at IS NOT NULL
            UNION ALL
           SELECT (SELECT o.lane FROM occurrences AS o WHERE o.due_at IS NOT NULL AND o.lane > every.lane
                    ORDER BY o.lane LIMIT 1)
             FROM every WHERE every.lane IS NOT NULL)
    SELECT json_group_array(every.lane) FROM every
     WHERE EXISTS (SELECT 1 FROM occurrences AS o WHERE o.lane = every.lane AND {_DUE})
"""
TAKE_OF_LANES: Final = f"""
    -- the earliest due of each of some lanes, likewise
    SELECT json_group_array(json_array({_AS_TEXT.sql}, e.version, e.status))
      FROM json_each(?) AS turn
     CROSS JOIN occurrences AS o ON o.id IN (
             SELECT id FROM occurrences WHERE lane = turn.value AND {_DUE} ORDER BY due_at LIMIT ?)
      LEFT JOIN events AS e ON e.id = o.event_id
"""
TAKE_DUE: Final = f"""
    -- served by occurrences_due_idx (due_at) WHERE due_at IS NOT NULL: rows under a lease stay at its head and are
    -- passed over, at most as many as attempts are under way
    SELECT json_group_array(json_array({_AS_TEXT.sql}, e.version, e.status))
      FROM (SELECT {columns(OCCURRENCE_COLUMNS)} FROM occurrences WHERE {_DUE} ORDER BY due_at LIMIT ?) AS o
      LEFT JOIN events AS e ON e.id = o.event_id
"""


@dataclass(slots=True)
class Claimer:
    """One node's looks at what is due. Used by the writer's thread alone."""

    clock: Clock
    looked_at: datetime | None = None  # when this process last wrote down that it looked
    _events: EventCache = field(default_factory=EventCache)
    _turns: Turns = field(default_factory=Turns)

    def nothing_due(self, connection: sqlite3.Connection) -> Claimed | None:
        """The answer where nothing is due and nothing need be written; else None. Needs no write lock."""
        now = self.clock.now()
        if self.must_tell(now):
            return None
        stamp = microseconds(now)
        if connection.execute(ANY_DUE, (stamp, stamp)).fetchone():
            return None
        return Claimed((), 0, now, more=False)

    def look(self, connection: sqlite3.Connection) -> None:
        self._look(connection, self.clock.now())

    def claim_due(
        self,
        connection: sqlite3.Connection,
        *,
        node: str,
        lease: timedelta,
        limit: int,
        judge: Judge,
        without: Set[int],
    ) -> Claimed:
        """In a transaction that holds the write lock, so what is read here is still so when it is written."""
        now = self.clock.now()
        look = Look(judge, now, node, lease, self._look(connection, now))
        rows, more = self._take(connection, microseconds(now), limit, without)
        due = [occurrence_of(row) for row in rows]
        events = self._events_of(connection, {row.event_id: rows[place][-2:] for place, row in enumerate(due)})
        judged = look.judged(due, events, _crowds(connection, events.values(), due))
        moves = [move for move, _ in judged]
        write_moves(connection, moves)
        for move, planned in write_consequences(connection, moves, now):
            if planned.advances:
                _plan_beyond(connection, judge, events[move.was.event_id], planned, now)
        claims = tuple(Claim(move.now, event) for move, event in judged if move.now.state is DISPATCHING)
        return Claimed(claims, len(judged), now, more=more, held_for=lease.total_seconds(), moves=judged)

    def _take(
        self, connection: sqlite3.Connection, stamp: int, limit: int, without: Set[int]
    ) -> tuple[list[list[Any]], bool]:
        """The rows of TAKE_DUE, earliest first or of each lane in turn; whether more is due."""
        if self._turns.must_ask(without=without):
            began = self._turns.monotonic()
            lanes = orjson.loads(_one(connection, LANES_DUE, (stamp, stamp)))
            self._turns.found(lanes, since=began)
        shares = self._turns.next(limit, without=without)
        if not shares and not without:
            rows = _AS_TEXT.read(_one(connection, TAKE_DUE, (stamp, stamp, limit)))
        else:
            lanes_by_share: dict[int, list[int]] = defaultdict(list)  # a LIMIT cannot name a column
            for lane, share in shares.items():
                lanes_by_share[share].append(lane)
            rows = []
            for share, lanes in lanes_by_share.items():
                taken = _one(connection, TAKE_OF_LANES, (orjson.dumps(lanes).decode(), stamp, stamp, share))
                rows += _AS_TEXT.read(taken)
        return rows, self._turns.took([row[_LANE] for row in rows], limit=limit, shares=shares, without=without)

    def _events_of(self, connection: sqlite3.Connection, at: Mapping[EventId, Sequence[Any]]) -> dict[EventId, Event]:
        """The events at the version and status just read; what is not at hand is read whole."""
        found: dict[EventId, Event] = {}
        unknown: list[EventId] = []
        for event_id, (version, status) in at.items():
            if (event := self._events.at(event_id, version, status)) is None:
                unknown.append(event_id)
            else:
                found[event_id] = event
        read = read_events(connection, unknown)
        self._events.keep(read.values())
        return found | read

    def must_tell(self, now: datetime) -> bool:
        """Whether it is time to write down again that this process looks."""
        return self.looked_at is None or not timedelta(0) <= now - self.looked_at < LOOK_EVERY

    def _look(self, connection: sqlite3.Connection, now: datetime) -> Gap | None:
        """Write down that a node looked, and any time in which none did.

        While planned rows of an earlier gap are still unclaimed the new one begins where that began.
        """
        looked_at, since, until = connection.execute(
            "SELECT looked_at, gap_since, gap_until FROM store_meta"
        ).fetchone()
        if self.must_tell(now):
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


def _crowds(connection: sqlite3.Connection, events: Iterable[Event], due: Sequence[Occurrence]) -> dict[EventId, Crowd]:
    """Of the events that mind overlap: what else of each is begun and unfinished, or held back."""
    minding = [event.id for event in events if event.policies.overlap is not Overlap.ALLOW]
    if not minding:
        return {}
    sql = crowds_sql(len(minding), len(due))
    parameters = [*(event_id.bytes for event_id in minding), *(row.id.bytes for row in due)]
    counted = {bytes.fromhex(of): (begun, held) for of, begun, held in orjson.loads(_one(connection, sql, parameters))}
    return {
        event_id: Crowd(*counted.get(event_id.bytes, (0, 0)), (row for row in due if row.event_id == event_id))
        for event_id in minding
    }


def crowds_sql(events: int, due: int) -> str:
    return f"""
        -- served by occurrences_unfinished_idx
        SELECT json_group_array(json_array(hex(event_id), begun, held))
          FROM (SELECT event_id, sum(held IS NOT 'overlap' AND {BEGUN}) AS begun, sum(held IS 'overlap') AS held
                  FROM occurrences
                 WHERE event_id IN ({marks(events)}) AND {UNFINISHED} AND id NOT IN ({marks(due)})
                 GROUP BY event_id)
    """


def _plan_beyond(connection: sqlite3.Connection, judge: Judge, event: Event, taken: Occurrence, now: datetime) -> None:
    """The instant has a row already (triggered, or of an older rule): the next that has none."""
    following = judge.advance(event, taken, now)
    while following is not None and plan_where_free(connection, [following]):
        following = judge.advance(event, following, now)
    if following is None:
        end_events(connection, [event.id])
        write_entries(connection, [Entry(now, EntryKind.EVENT_ENDED, event.id)])


def settle(connection: sqlite3.Connection, moves: Sequence[Move], now: datetime) -> frozenset[OccurrenceId]:
    """Those written; the others were a zombie's."""
    moves = _due_now_if_deleted(connection, moves)
    if all_stand(connection, moves):
        written = list(moves)
        write_moves(connection, written)
    else:
        written = [move for move in moves if write_move(connection, move)]
    write_consequences(connection, written, now)
    return frozenset(move.was.id for move in written)


def _due_now_if_deleted(connection: sqlite3.Connection, moves: Sequence[Move]) -> Sequence[Move]:
    """What would wait for another attempt, its event deleted meanwhile, is due now: the next look cancels it."""
    waiting = {
        move.was.id: move.was.event_id for move in moves if move.now.state is PENDING and move.was.state is DISPATCHING
    }
    if not waiting:
        return moves
    gone = deleted_among(connection, frozenset(waiting.values()))
    return [_due_now(move) if waiting.get(move.was.id) in gone else move for move in moves]


def _due_now(move: Move) -> Move:
    at = move.now.updated_at
    return replace(move, now=move.now.changed(at, due_at=at))


def _one(connection: sqlite3.Connection, sql: str, parameters: Sequence[Any]) -> Any:
    return connection.execute(sql, parameters).fetchone()[0]


def claim_inbox(
    connection: sqlite3.Connection,
    query: InboxQuery,
    reach: Reach,
    *,
    holder: str,
    actor: str,
    told: Mapping[str, Any] | None,
    now: datetime,
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
                    deliveries=item.deliveries + 1,
                    lease_until=lapse,
                    due_at=min(lapse, expiry) if expiry else lapse,
                ),
                entries=(Entry(now, EntryKind.OCCURRENCE_CLAIMED, item.event_id, item.id, actor, told or {}),),
            )
        )
        if len(taken) == query.limit:
            break
    free.close()
    for move in taken:
        write_move(connection, move)
        write_entries(connection, move.entries)
    return [move.now for move in taken]
