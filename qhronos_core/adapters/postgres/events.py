"""Reading events."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Final, LiteralString
from uuid import UUID

from qhronos_core.adapters.cursors import ListOrder
from qhronos_core.adapters.postgres.filters import Where
from qhronos_core.adapters.postgres.pool import Connections
from qhronos_core.adapters.postgres.rows import EVENT, event_of, uuids
from qhronos_core.adapters.postgres.time import NOW, StoreTime
from qhronos_core.adapters.rows import likeness
from qhronos_core.domain.access import Reach
from qhronos_core.domain.errors import EventNotFoundError
from qhronos_core.domain.event import Event
from qhronos_core.domain.ids import EventId, TokenId
from qhronos_core.ports import EventQuery, Listing, Page

_GET: Final[LiteralString] = f"SELECT {EVENT} FROM events AS e WHERE e.id = %(id)s"
_MANY: Final[LiteralString] = f"SELECT {EVENT} FROM events AS e WHERE e.id = ANY (%(ids)s::uuid[])"
_BY_KEY: Final[LiteralString] = f"""
    SELECT {EVENT} FROM events AS e
     WHERE e.key = %(key)s AND e.status <> 'deleted' AND (%(by)s::text IS NULL OR e.created_by = %(by)s)
     ORDER BY e.created_at DESC, e.id DESC
"""
_ALIKE: Final = "e.created_by = %(by)s AND e.likeness = %(likeness)s AND e.status = 'active' AND e.id <> %(id)s"
_COUNT_LIVE: Final = "SELECT count(*) FROM events WHERE created_by = %(by)s AND status IN ('active', 'paused')"
_RUNS_PER_DAY: Final = """
    SELECT coalesce(sum(runs_per_day), 0)::bigint FROM events
     WHERE created_by = %(by)s AND status IN ('active', 'paused') AND (status = 'active' OR paused_until IS NOT NULL)
       AND id <> %(but)s
"""
_OF_TOKEN: Final = "SELECT id FROM events WHERE created_jti = %(jti)s AND status <> 'deleted' ORDER BY created_at, id"
_TO_RESUME: Final[LiteralString] = f"""
    SELECT id FROM events WHERE status = 'paused' AND paused_until <= (SELECT {NOW}) ORDER BY paused_until LIMIT %(limit)s
"""
_NEXT_RESUME: Final = "SELECT min(paused_until) FROM events WHERE status = 'paused' AND paused_until IS NOT NULL"


class PostgresEvents:
    def __init__(self, connections: Connections, time: StoreTime, identity: Callable[[], Awaitable[UUID]]) -> None:
        self._connections = connections
        self._time = time
        self._identity = identity

    async def get(self, event_id: EventId) -> Event:
        rows = await self._connections.rows(_GET, {"id": event_id})
        if not rows:
            raise EventNotFoundError
        return event_of(rows[0])

    async def many(self, event_ids: Sequence[EventId]) -> Mapping[EventId, Event]:
        if not event_ids:
            return {}
        rows = await self._connections.rows(_MANY, {"ids": uuids(event_ids)})
        return {event.id: event for event in map(event_of, rows)}

    async def by_key(self, key: str, *, created_by: str | None = None) -> Sequence[Event]:
        return [event_of(row) for row in await self._connections.rows(_BY_KEY, {"key": key, "by": created_by})]

    async def list(self, query: EventQuery, reach: Reach, page: Page, *, count: bool = False) -> Listing[Event]:
        order = ListOrder(await self._identity(), "events", query)
        where = Where().events(query).reached(reach)
        total: int | None = None
        if count:
            counted: LiteralString = f"SELECT count(*) FROM events AS e WHERE {where.text}"
            total = (await self._connections.rows(counted, where.parameters))[0][0]
        if page.cursor is not None:
            at, id_ = order.position(page.cursor)
            where.add("(e.created_at, e.id) < (%(at)s, %(id)s)", at=at, id=id_)
        statement: LiteralString = f"""
            SELECT {EVENT} FROM events AS e WHERE {where.text}
             ORDER BY e.created_at DESC, e.id DESC LIMIT %(limit)s OFFSET %(offset)s
        """
        parameters = {**where.parameters, "limit": page.limit + 1, "offset": page.offset}
        events = [event_of(row) for row in await self._connections.rows(statement, parameters)]
        items = tuple(events[: page.limit])
        more = len(events) > page.limit and items
        return Listing(items, order.cursor(items[-1].created_at, items[-1].id) if more else None, total)

    async def look_alikes(self, event: Event, reach: Reach, limit: int) -> Sequence[EventId]:
        where = Where().add(_ALIKE, by=event.created_by, likeness=likeness(event), id=event.id).reached(reach)
        statement: LiteralString = f"""
            SELECT e.id FROM events AS e WHERE {where.text} LIMIT %(limit)s
        """
        return [row[0] for row in await self._connections.rows(statement, {**where.parameters, "limit": limit})]

    async def count_live(self, created_by: str) -> int:
        return int((await self._connections.rows(_COUNT_LIVE, {"by": created_by}))[0][0])

    async def runs_per_day(self, created_by: str, *, but: EventId) -> int:
        return int((await self._connections.rows(_RUNS_PER_DAY, {"by": created_by, "but": but}))[0][0])

    async def of_token(self, jti: TokenId) -> Sequence[EventId]:
        return [row[0] for row in await self._connections.rows(_OF_TOKEN, {"jti": jti})]

    async def to_resume(self, limit: int) -> Sequence[EventId]:
        parameters = {**self._time.parameter(), "limit": limit}
        return [row[0] for row in await self._connections.rows(_TO_RESUME, parameters)]

    async def next_resume_at(self) -> datetime | None:
        next_at: datetime | None = (await self._connections.rows(_NEXT_RESUME))[0][0]
        return next_at
