"""Reading occurrences and their attempts."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Final, LiteralString
from uuid import UUID

from qhronos_core.adapters.cursors import ListOrder
from qhronos_core.adapters.postgres.filters import BEGUN, Where
from qhronos_core.adapters.postgres.floor import Floor
from qhronos_core.adapters.postgres.pool import Connections
from qhronos_core.adapters.postgres.rows import ATTEMPT, OCCURRENCE, attempt_of, occurrence_of, uuids
from qhronos_core.adapters.postgres.time import NOW, StoreTime
from qhronos_core.domain.access import Reach
from qhronos_core.domain.errors import OccurrenceNotFoundError
from qhronos_core.domain.ids import EventId, OccurrenceId
from qhronos_core.domain.occurrence import Attempt, Occurrence
from qhronos_core.ports import InboxQuery, Listing, OccurrenceQuery, Page

_BACKLOG_COUNTED_TO: Final = 10_000

_MANY: Final[LiteralString] = f"SELECT {OCCURRENCE} FROM occurrences AS o WHERE o.id = ANY (%(ids)s::uuid[])"
PLANNED_OF: Final[LiteralString] = f"""
    SELECT {OCCURRENCE} FROM occurrences AS o
     WHERE o.event_id = ANY (%(events)s::uuid[]) AND o.unfinished AND o.advances AND NOT {BEGUN}
     ORDER BY o.scheduled_at DESC
"""
_LAST_ORDINAL: Final = """
    SELECT ordinal FROM occurrences
     WHERE event_id = %(event)s AND cause = 'schedule'
       AND (created_at >= %(since)s OR (scheduled_at >= %(since)s AND coalesce(finished_at, %(since)s) >= %(since)s))
     ORDER BY created_at DESC, scheduled_at DESC LIMIT 1
"""
_HELD_BY_OVERLAP: Final[LiteralString] = f"""
    SELECT {OCCURRENCE} FROM occurrences AS o
     WHERE o.event_id = %(event)s AND o.unfinished AND o.held = 'overlap'
     ORDER BY o.scheduled_at, o.id
"""
_INSTANTS_AFTER: Final = "SELECT scheduled_at FROM occurrences WHERE event_id = %(event)s AND scheduled_at > %(after)s"
LATEST: Final[LiteralString] = f"""
    SELECT o.* FROM unnest(%(events)s::uuid[]) AS wanted (id)
      JOIN LATERAL (
           SELECT {OCCURRENCE} FROM occurrences AS o
            WHERE o.event_id = wanted.id AND {BEGUN}
            ORDER BY o.scheduled_at DESC LIMIT 1) AS o ON true
"""
_ATTEMPTS: Final[LiteralString] = f"SELECT {ATTEMPT} FROM attempts WHERE occurrence_id = %(id)s ORDER BY number"
_HELD_BY: Final[LiteralString] = f"""
    SELECT {OCCURRENCE} FROM occurrences AS o
     WHERE o.inbox_at IS NOT NULL AND o.holder = %(holder)s AND o.lease_until > (SELECT {NOW}) AND o.state = 'dispatched'
     ORDER BY o.inbox_at, o.id LIMIT %(limit)s
"""
NEXT_DUE: Final[LiteralString] = f"""
    -- An unlapsed lease hides its row until it ends; rows under one stand at the head of occurrences_due_idx, at most
    -- as many as are being sent. They matter only if nothing else is due already.
      WITH t AS MATERIALIZED (SELECT {NOW} AS now),
           free AS MATERIALIZED (
               SELECT (SELECT due_at FROM occurrences
                        WHERE due_at >= coalesce(%(floor)s::timestamptz, '-infinity')
                          AND (lease_until IS NULL OR lease_until <= (SELECT now FROM t) OR due_at > (SELECT now FROM t))
                        ORDER BY due_at LIMIT 1) AS due_at)
    SELECT CASE WHEN free.due_at <= t.now THEN free.due_at
                ELSE least(free.due_at, (SELECT min(lease_until) FROM occurrences
                                          WHERE due_at >= coalesce(%(floor)s::timestamptz, '-infinity')
                                            AND due_at <= (SELECT now FROM t)
                                            AND lease_until > (SELECT now FROM t))) END
      FROM t, free
"""
BACKLOG: Final[LiteralString] = f"""
      WITH t AS MATERIALIZED (SELECT {NOW} AS now)
    SELECT count(*), min(due_at)
      FROM (SELECT due_at FROM occurrences
             WHERE due_at >= coalesce(%(floor)s::timestamptz, '-infinity') AND due_at <= (SELECT now FROM t)
               AND (lease_until IS NULL OR lease_until <= (SELECT now FROM t))
             ORDER BY due_at LIMIT {_BACKLOG_COUNTED_TO}) AS due
"""


class PostgresOccurrences:
    def __init__(
        self,
        connections: Connections,
        dispatch: Connections,
        floor: Floor,
        time: StoreTime,
        identity: Callable[[], Awaitable[UUID]],
    ) -> None:
        self._connections = connections
        self._dispatch = dispatch
        self._floor = floor
        self._time = time
        self._identity = identity

    async def get(self, occurrence_id: OccurrenceId) -> Occurrence:
        found = await self.many([occurrence_id])
        if occurrence_id not in found:
            raise OccurrenceNotFoundError
        return found[occurrence_id]

    async def many(self, occurrence_ids: Sequence[OccurrenceId]) -> Mapping[OccurrenceId, Occurrence]:
        if not occurrence_ids:
            return {}
        rows = await self._connections.rows(_MANY, {"ids": uuids(occurrence_ids)})
        return {occurrence.id: occurrence for occurrence in map(occurrence_of, rows)}

    async def list(
        self, query: OccurrenceQuery, reach: Reach, page: Page, *, count: bool = False
    ) -> Listing[Occurrence]:
        order = ListOrder(await self._identity(), "occurrences", query)
        where = Where().occurrences(query, reach)
        # without a word about the event, the join says nothing
        source: LiteralString = "occurrences AS o JOIN events AS e ON e.id = o.event_id"
        if reach.everything and not query.tags and not query.live:
            source = "occurrences AS o"
        total: int | None = None
        if count:
            counted: LiteralString = f"SELECT count(*) FROM {source} WHERE {where.text}"
            total = (await self._connections.rows(counted, where.parameters))[0][0]
        way: LiteralString = "" if query.earliest_first else "DESC"
        if page.cursor is not None:
            at, id_ = order.position(page.cursor)
            beyond: LiteralString = ">" if query.earliest_first else "<"
            where.add(f"(o.scheduled_at, o.id) {beyond} (%(at)s, %(id)s)", at=at, id=id_)
        statement: LiteralString = f"""
            SELECT {OCCURRENCE} FROM {source} WHERE {where.text}
             ORDER BY o.scheduled_at {way}, o.id {way} LIMIT %(limit)s OFFSET %(offset)s
        """
        parameters = {**where.parameters, "limit": page.limit + 1, "offset": page.offset}
        found = [occurrence_of(row) for row in await self._connections.rows(statement, parameters)]
        items = tuple(found[: page.limit])
        more = len(found) > page.limit and items
        return Listing(items, order.cursor(items[-1].scheduled_at, items[-1].id) if more else None, total)

    async def planned(self, event_id: EventId) -> Occurrence | None:
        return (await self.planned_of([event_id])).get(event_id)

    async def planned_of(self, event_ids: Sequence[EventId]) -> Mapping[EventId, Occurrence]:
        if not event_ids:
            return {}
        rows = await self._connections.rows(PLANNED_OF, {"events": uuids(event_ids)})
        return {occurrence.event_id: occurrence for occurrence in map(occurrence_of, rows)}

    async def last_ordinal(self, event_id: EventId, *, since: datetime) -> int:
        rows = await self._connections.rows(_LAST_ORDINAL, {"event": event_id, "since": since})
        return int(rows[0][0]) if rows else 0

    async def held_by_overlap(self, event_id: EventId) -> Sequence[Occurrence]:
        rows = await self._connections.rows(_HELD_BY_OVERLAP, {"event": event_id})
        return [occurrence_of(row) for row in rows]

    async def instants_after(self, event_id: EventId, after: datetime) -> frozenset[datetime]:
        rows = await self._connections.rows(_INSTANTS_AFTER, {"event": event_id, "after": after})
        return frozenset(row[0] for row in rows)

    async def latest(self, event_ids: Sequence[EventId]) -> Mapping[EventId, Occurrence]:
        if not event_ids:
            return {}
        rows = await self._connections.rows(LATEST, {"events": uuids(event_ids)})
        return {occurrence.event_id: occurrence for occurrence in map(occurrence_of, rows)}

    async def attempts(self, occurrence_id: OccurrenceId) -> Sequence[Attempt]:
        return [attempt_of(row) for row in await self._connections.rows(_ATTEMPTS, {"id": occurrence_id})]

    async def held_by(self, holder: str, limit: int) -> Sequence[Occurrence]:
        parameters = {**self._time.parameter(), "holder": holder, "limit": limit}
        return [occurrence_of(row) for row in await self._connections.rows(_HELD_BY, parameters)]

    async def inbox(self, query: InboxQuery, reach: Reach, *, limit: int) -> Sequence[Occurrence]:
        where = Where().inbox(query, reach)
        statement: LiteralString = f"""
            SELECT {OCCURRENCE} FROM occurrences AS o JOIN events AS e ON e.id = o.event_id
             WHERE o.inbox_at IS NOT NULL AND o.state = 'dispatched' AND {where.text}
             ORDER BY o.inbox_at, o.id LIMIT %(limit)s
        """
        rows = await self._connections.rows(statement, {**where.parameters, "limit": limit})
        return [occurrence_of(row) for row in rows]

    async def waiting(self, query: InboxQuery, reach: Reach) -> int:
        where = Where().inbox(query, reach)
        statement: LiteralString = f"""
            SELECT count(*) FROM occurrences AS o JOIN events AS e ON e.id = o.event_id
             WHERE o.inbox_at IS NOT NULL AND o.state = 'dispatched'
               AND (o.lease_until IS NULL OR o.lease_until <= (SELECT {NOW})) AND {where.text}
        """
        rows = await self._connections.rows(statement, {**where.parameters, **self._time.parameter()})
        return int(rows[0][0])

    async def next_due_within(self, query: InboxQuery, reach: Reach) -> datetime | None:
        where = Where().inbox(query, reach)
        statement: LiteralString = f"""
            SELECT o.due_at FROM occurrences AS o JOIN events AS e ON e.id = o.event_id
             WHERE o.due_at IS NOT NULL AND o.unfinished AND o.state = 'pending'
               AND e.action_type = 'inbox' AND e.status IN ('active', 'inactive') AND {where.text}
             ORDER BY o.due_at LIMIT 1
        """
        rows = await self._connections.rows(statement, where.parameters)
        return rows[0][0] if rows else None

    async def next_due(self) -> datetime | None:
        parameters = {**self._time.parameter(), **await self._floor.parameter()}
        next_at: datetime | None = (await self._dispatch.rows(NEXT_DUE, parameters))[0][0]
        return next_at

    async def backlog(self) -> tuple[int, datetime | None]:
        parameters = {**self._time.parameter(), **await self._floor.parameter()}
        count, earliest = (await self._connections.rows(BACKLOG, parameters))[0]
        return int(count), earliest
