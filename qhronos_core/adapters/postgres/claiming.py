"""Taking what is due, and settling it: the statements of the dispatcher, and of agents who take from the inbox.

Locks are taken in one order: occurrences, then events, then the journal. A claim never waits for an occurrence (SKIP
LOCKED), and between its statements there is only arithmetic, so whoever waits for its rows waits for milliseconds.
"""

import time
from collections.abc import Mapping, Sequence, Set
from datetime import datetime, timedelta
from typing import Any, Final, LiteralString
from uuid import UUID

from psycopg import AsyncConnection

from qhronos_core.adapters.judging import Crowd, EventCache, Look
from qhronos_core.adapters.postgres import waits
from qhronos_core.adapters.postgres.filters import BEGUN, Where
from qhronos_core.adapters.postgres.floor import Floor
from qhronos_core.adapters.postgres.moves import (
    LOCK_EVENTS,
    WRITE_MOVES,
    Written,
    free_queues,
    frees,
    lock_freed,
    parameters_of,
    plan_on,
)
from qhronos_core.adapters.postgres.pool import Connections, Transaction
from qhronos_core.adapters.postgres.rows import EVENT, OCCURRENCE, event_of, occurrence_of, uuids
from qhronos_core.adapters.postgres.time import NOW, StoreTime
from qhronos_core.adapters.turns import Turns
from qhronos_core.domain.access import Reach
from qhronos_core.domain.event import Event, Overlap
from qhronos_core.domain.ids import EventId, OccurrenceId
from qhronos_core.domain.judgement import expires_at
from qhronos_core.domain.lifecycle import DISPATCHING
from qhronos_core.domain.occurrence import Entry, EntryKind, Move, Occurrence
from qhronos_core.ports import Claim, Claimed, Clock, Gap, InboxQuery, Judge

_LOOK_EVERY: Final = 1.0  # seconds
_GAP_AFTER: Final = 5  # seconds
_MOST_AT_ONCE: Final = 1000
_SLOW: Final = 0.1  # seconds
_YET_TO_COME: Final = 5  # times the reading of a claim: its writing, a look whether it still stands, settling in turn

_LOOK: Final[LiteralString] = """
    -- Nobody looked for a while: what came due meanwhile may be late. An older gap stays open as long as rows of it wait.
      WITH t AS MATERIALIZED (SELECT coalesce(%(now)s::timestamptz, clock_timestamp()) AS now)
    UPDATE store_meta AS m
       SET gap_since = CASE WHEN t.now - m.looked_at <= make_interval(secs => %(gap)s) THEN m.gap_since
                            WHEN EXISTS (SELECT FROM occurrences AS o
                                          WHERE o.due_at > m.gap_since AND o.due_at <= m.gap_until
                                            AND o.state = 'pending') THEN m.gap_since
                            ELSE m.looked_at END,
           gap_until = CASE WHEN t.now - m.looked_at <= make_interval(secs => %(gap)s) THEN m.gap_until
                            WHEN m.looked_at IS NULL THEN NULL
                            ELSE t.now END,
           looked_at = t.now
      FROM t
 RETURNING m.gap_since, m.gap_until
"""
LOCK_DUE: Final[LiteralString] = f"""
    -- Served by occurrences_due_idx alone, in its order. `now` is a sub-select, since a volatile call cannot be an index
    -- condition. The inner LIMIT is a number, since under a generic plan a parameter there is taken for a tenth of
    -- the table, and all of it is sorted; the outer one says how many, and stops the locking with it.
      WITH t AS MATERIALIZED (SELECT {NOW} AS now)
    SELECT t.now, due.*
      FROM t LEFT JOIN (
               SELECT * FROM (
                   SELECT {OCCURRENCE} FROM occurrences AS o
                    WHERE o.due_at >= coalesce(%(floor)s::timestamptz, '-infinity') AND o.due_at <= (SELECT now FROM t)
                      AND (o.lease_until IS NULL OR o.lease_until <= (SELECT now FROM t))
                    ORDER BY o.due_at LIMIT 1000
                      FOR UPDATE SKIP LOCKED) AS earliest
                LIMIT %(limit)s) AS due ON true
"""
LANES_DUE: Final[LiteralString] = f"""
    -- From each lane's first row to the next lane, by occurrences_lane_idx.
    WITH RECURSIVE t AS MATERIALIZED (SELECT {NOW} AS now),
         every (lane) AS (
             (SELECT o.lane FROM occurrences AS o WHERE o.due_at IS NOT NULL ORDER BY o.lane LIMIT 1)
              UNION ALL
             SELECT (SELECT o.lane FROM occurrences AS o WHERE o.due_at IS NOT NULL AND o.lane > every.lane
                      ORDER BY o.lane LIMIT 1)
               FROM every WHERE every.lane IS NOT NULL)
    SELECT every.lane FROM every
     WHERE every.lane IS NOT NULL
       AND EXISTS (SELECT FROM occurrences AS o
                    WHERE o.lane = every.lane
                      AND o.due_at >= coalesce(%(floor)s::timestamptz, '-infinity') AND o.due_at <= (SELECT now FROM t)
                      AND (o.lease_until IS NULL OR o.lease_until <= (SELECT now FROM t)))
"""
LOCK_OF_LANES: Final[LiteralString] = f"""
    -- As LOCK_DUE, a share from each of some lanes. Served by occurrences_lane_idx alone, since only that has the order asked for:
    -- `lane = ...` and an order of due_at would do for the other, which holds the whole flood before a lane's first row.
      WITH t AS MATERIALIZED (SELECT {NOW} AS now)
    SELECT t.now, due.*
      FROM t LEFT JOIN (
               SELECT taken.* FROM unnest(%(lanes)s::int[], %(shares)s::int[]) AS turn (lane, share), LATERAL (
                   SELECT * FROM (
                       SELECT {OCCURRENCE} FROM occurrences AS o
                        WHERE (o.lane, o.due_at) >= (turn.lane, coalesce(%(floor)s::timestamptz, '-infinity'))
                          AND (o.lane, o.due_at) <= (turn.lane, (SELECT now FROM t)) AND o.due_at IS NOT NULL
                          AND (o.lease_until IS NULL OR o.lease_until <= (SELECT now FROM t))
                        ORDER BY o.lane, o.due_at LIMIT 1000
                          FOR UPDATE SKIP LOCKED) AS earliest
                    LIMIT turn.share) AS taken) AS due ON true
"""
VERSIONS: Final = "SELECT id, version, status FROM events WHERE id = ANY (%(events)s::uuid[])"
_EVENTS: Final[LiteralString] = f"SELECT {EVENT} FROM events AS e WHERE e.id = ANY (%(events)s::uuid[])"
CROWD: Final[LiteralString] = f"""
    -- What else of these events is begun and unfinished, or held back. Served by occurrences_open_idx.
    SELECT o.event_id, count(*) FILTER (WHERE {BEGUN} AND o.held IS DISTINCT FROM 'overlap'),
           count(*) FILTER (WHERE o.held = 'overlap')
      FROM occurrences AS o
     WHERE o.event_id = ANY (%(events)s::uuid[]) AND o.unfinished AND o.id <> ALL (%(ids)s::uuid[])
     GROUP BY o.event_id
"""
_AS_THEY_ARE: Final[LiteralString] = f"SELECT {OCCURRENCE} FROM occurrences AS o WHERE o.id = ANY (%(ids)s::uuid[])"
_STILL_WANTED: Final = """
    SELECT o.id
      FROM unnest(%(ids)s::uuid[], %(fences)s::int[], %(versions)s::int[]) AS c (id, fence, version)
      JOIN occurrences AS o ON o.id = c.id AND o.fence = c.fence AND o.state = 'dispatching'
      JOIN events AS e ON e.id = o.event_id AND e.version = c.version
     WHERE e.status <> 'deleted' AND (e.status <> 'paused' OR o.round_began_at > e.paused_at)
"""


class Claiming:
    def __init__(
        self, dispatch: Connections, callers: Connections, floor: Floor, time_: StoreTime, clock: Clock | None
    ) -> None:
        self._dispatch = dispatch
        self._floor = floor
        self._callers = callers
        self._time = time_
        self._clock = clock
        self._events = EventCache()
        self._turns = Turns()
        self._looked: float | None = None
        self._gap: Gap | None = None

    async def claim_due(self, *, node: str, lease: timedelta, limit: int, judge: Judge, without: Set[int]) -> Claimed:
        called_at = time.monotonic()
        await self.look()
        floor = await self._floor.parameter()

        async def claim(transaction: Transaction) -> Claimed:
            began = time.monotonic()
            now, occurrences, more = await self._lock_due(transaction, floor, min(limit, _MOST_AT_ONCE), without)
            if not occurrences:
                return Claimed((), 0, now, more=more)
            events = await self._events_of(transaction, occurrences)
            crowds = await self._crowds(transaction, events, occurrences)
            reading = time.monotonic() - began
            leased = lease if reading < _SLOW else lease + timedelta(seconds=_YET_TO_COME * reading)
            judged = Look(judge, now, node, leased, self._gap).judged(occurrences, events, crowds)
            await self._write(transaction, [move for move, _ in judged], events, judge, now)
            claims = tuple(Claim(move.now, event) for move, event in judged if move.now.state is DISPATCHING)
            held_for = began - called_at + leased.total_seconds()
            return Claimed(claims, len(judged), now, more=more, held_for=held_for, moves=judged)

        return await self._dispatch.transaction(claim)

    async def _lock_due(
        self, transaction: Transaction, floor: Mapping[str, datetime | None], limit: int, without: Set[int]
    ) -> tuple[datetime, list[Occurrence], bool]:
        """The earliest due, or of each lane in turn, locked; and whether more is due."""
        asked = {**self._time.parameter(), **floor}
        began = time.monotonic()
        if self._turns.must_ask(without=without):
            found = await transaction.rows(LANES_DUE, asked)
            self._turns.found([row[0] for row in found], since=began)
            began = time.monotonic()
        shares = self._turns.next(limit, without=without)
        if shares or without:
            of_lanes = {"lanes": list(shares), "shares": list(shares.values())}
            rows = await transaction.rows(LOCK_OF_LANES, {**asked, **of_lanes})
        else:
            rows = await transaction.rows(LOCK_DUE, {**asked, "limit": limit})
        self._floor.looked(time.monotonic() - began)
        occurrences = [occurrence_of(row[1:]) for row in rows if row[1] is not None]
        more = self._turns.took(
            [occurrence.lane for occurrence in occurrences], limit=limit, shares=shares, without=without
        )
        return rows[0][0], occurrences, more

    async def settle(self, moves: Sequence[Move]) -> frozenset[OccurrenceId]:
        moves = list({move.was.id: move for move in reversed(moves)}.values())  # of two for one row the first holds
        if not moves:
            return frozenset()
        if any(move.frees_queue for move in moves):
            return await self._settle_and_free(moves)
        tried = False

        async def write(connection: AsyncConnection[Any]) -> frozenset[OccurrenceId]:
            nonlocal tried
            again, tried = tried, True
            cursor = await connection.cursor(binary=True).execute(WRITE_MOVES, parameters_of(moves))
            written = Written.of(await cursor.fetchall()).moves
            rest = [move for move in moves if move.was.id not in written] if again else []
            return written | await _written_before(connection, rest) if rest else written

        return await self._dispatch.again(write)

    async def claim_inbox(
        self,
        query: InboxQuery,
        reach: Reach,
        *,
        holder: str,
        actor: str,
        told: Mapping[str, Any] | None,
        wait_id: UUID | None,
    ) -> Sequence[Occurrence]:
        where = Where().inbox(query, reach)
        lock_free: LiteralString = f"""
            WITH t AS MATERIALIZED (SELECT {NOW} AS now)
            SELECT (SELECT now FROM t), {OCCURRENCE}
              FROM occurrences AS o JOIN events AS e ON e.id = o.event_id
             WHERE o.inbox_at IS NOT NULL AND o.state = 'dispatched'
               AND (o.lease_until IS NULL OR o.lease_until <= (SELECT now FROM t)) AND {where.text}
             ORDER BY o.inbox_at, o.id LIMIT %(limit)s
               FOR UPDATE OF o SKIP LOCKED
        """

        async def claim(transaction: Transaction) -> Sequence[Occurrence]:
            if wait_id is not None and not await waits.may_claim(transaction, wait_id):
                return ()
            parameters = {**where.parameters, **self._time.parameter(), "limit": query.limit}
            rows = await transaction.rows(lock_free, parameters)
            if not rows:
                return []
            now: datetime = rows[0][0]
            free = [occurrence_of(row[1:]) for row in rows]
            events = await self._events_of(transaction, free)
            moves = []
            for was in free:
                event = events.get(was.event_id)
                expiry = None if event is None else expires_at(event, was)
                if event is None or (expiry is not None and expiry <= now):
                    continue  # the dispatcher has the last word about it
                until = now + event.policies.ack_timeout
                taken = was.changed(
                    now,
                    fence=was.fence + 1,
                    holder=holder,
                    claimed_at=now,
                    deliveries=was.deliveries + 1,
                    lease_until=until,
                    due_at=until if expiry is None else min(until, expiry),
                )
                entry = Entry(now, EntryKind.OCCURRENCE_CLAIMED, was.event_id, was.id, actor, told or {})
                moves.append(Move(was, taken, entries=(entry,)))
            if moves:
                if wait_id is not None:
                    await waits.record(transaction, wait_id, [move.now.id for move in moves], now)
                await transaction.send(WRITE_MOVES, parameters_of(moves))
                await transaction.seal()
            return [move.now for move in moves]

        return await self._callers.transaction(claim)

    async def still_wanted(self, claims: Sequence[Claim]) -> frozenset[OccurrenceId]:
        parameters = {
            "ids": uuids(claim.occurrence.id for claim in claims),
            "fences": [claim.occurrence.fence for claim in claims],
            "versions": [claim.event.version for claim in claims],
        }
        return frozenset(row[0] for row in await self._dispatch.rows(_STILL_WANTED, parameters))

    async def look(self) -> None:
        """Tell the store that somebody looks, about once a second, and learn how long nobody did."""
        mark = time.monotonic() if self._clock is None else self._clock.now().timestamp()
        if self._looked is not None and abs(mark - self._looked) < _LOOK_EVERY:
            return
        since, until = (await self._dispatch.rows(_LOOK, {**self._time.parameter(), "gap": _GAP_AFTER}))[0]
        self._looked = mark
        self._gap = None if since is None or until is None else Gap(since, until)

    async def _events_of(self, transaction: Transaction, occurrences: Sequence[Occurrence]) -> dict[EventId, Event]:
        """The events as they are now: read after the rows were locked, by which time a change of them is seen or waits."""
        found: dict[EventId, Event] = {}
        unknown: list[EventId] = []
        wanted = {"events": uuids({occurrence.event_id for occurrence in occurrences})}
        for event_id, version, status in await transaction.rows(VERSIONS, wanted):
            if (event := self._events.at(event_id, version, status)) is None:
                unknown.append(event_id)
            else:
                found[event_id] = event
        if unknown:
            read = [event_of(row) for row in await transaction.rows(_EVENTS, {"events": uuids(unknown)})]
            self._events.keep(read)
            found.update((event.id, event) for event in read)
        return found

    async def _crowds(
        self, transaction: Transaction, events: Mapping[EventId, Event], occurrences: Sequence[Occurrence]
    ) -> Mapping[EventId, Crowd]:
        """For events that mind overlap. They are locked, so that nobody else begins or ends one of their rows unseen."""
        minding = [event.id for event in events.values() if event.policies.overlap is not Overlap.ALLOW]
        if not minding:
            return {}
        await transaction.send(LOCK_EVENTS, {"events": uuids(minding)})
        batch = uuids(occurrence.id for occurrence in occurrences)
        rows = await transaction.rows(CROWD, {"events": uuids(minding), "ids": batch})
        counted = {event_id: (begun, held) for event_id, begun, held in rows}
        return {
            event_id: Crowd(
                *counted.get(event_id, (0, 0)),
                (occurrence for occurrence in occurrences if occurrence.event_id == event_id),
            )
            for event_id in minding
        }

    async def _write(
        self,
        transaction: Transaction,
        moves: Sequence[Move],
        events: Mapping[EventId, Event],
        judge: Judge,
        now: datetime,
    ) -> None:
        cursor = await transaction.send(WRITE_MOVES, parameters_of(moves))
        await transaction.seal()
        written = Written.of(await cursor.fetchall())
        passed = [row for move in moves for row in move.planned if row.advances and row.id not in written.planned]
        if passed:
            await plan_on(transaction, passed, lambda row: judge.advance(events[row.event_id], row, now))
        if freed := frees(moves):
            await free_queues(transaction, freed)

    async def _settle_and_free(self, moves: Sequence[Move]) -> frozenset[OccurrenceId]:
        async def write(transaction: Transaction) -> frozenset[OccurrenceId]:
            await lock_freed(transaction, moves, frees(moves))
            cursor = await transaction.send(WRITE_MOVES, parameters_of(moves))
            await transaction.seal()
            written = Written.of(await cursor.fetchall()).moves
            await free_queues(transaction, frees(move for move in moves if move.was.id in written))
            return written

        return await self._dispatch.transaction(write)


async def _written_before(connection: AsyncConnection[Any], moves: Sequence[Move]) -> frozenset[OccurrenceId]:
    """Which of the moves stand in the store: the answer to an earlier try was lost, but it may have been written."""
    parameters = {"ids": uuids(move.was.id for move in moves)}
    rows = await (await connection.cursor(binary=True).execute(_AS_THEY_ARE, parameters)).fetchall()
    there = {occurrence.id: occurrence for occurrence in map(occurrence_of, rows)}
    return frozenset(move.was.id for move in moves if there.get(move.was.id) == move.now)
