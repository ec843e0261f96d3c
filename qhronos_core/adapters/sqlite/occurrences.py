"""Occurrences and their attempts, as they are read."""

import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from qhronos_core.adapters.cursors import ListOrder
from qhronos_core.adapters.sqlite.rows import (
    ATTEMPT_COLUMNS,
    OCCURRENCE_COLUMNS,
    at,
    attempt_of,
    instant,
    occurrence_of,
)
from qhronos_core.adapters.sqlite.statements import (
    REACHED,
    UNFINISHED,
    Filter,
    chunks,
    columns,
    marks,
    reaches_few,
    scope_of,
)
from qhronos_core.adapters.sqlite.threads import Readers
from qhronos_core.domain.access import Reach
from qhronos_core.domain.errors import OccurrenceNotFoundError
from qhronos_core.domain.ids import EventId, OccurrenceId, microseconds
from qhronos_core.domain.occurrence import Attempt, Occurrence
from qhronos_core.ports import Claim, Clock, InboxQuery, Listing, OccurrenceQuery, Page

_COLUMNS: Final = columns(OCCURRENCE_COLUMNS)
_OF_O: Final = columns(OCCURRENCE_COLUMNS, "o")
_BACKLOG_COUNTED_TO: Final = 10_000
_NEVER: Final = 2**63 - 1

# `Occurrence.begun`, for a row that may still be pending.
_BEGUN: Final = "(attempts_made > 0 OR round > 1 OR inbox_at IS NOT NULL)"
_PLANNED: Final = f"advances AND state = 'pending' AND {UNFINISHED} AND NOT {_BEGUN}"


class SqliteOccurrences:
    def __init__(self, readers: Readers, clock: Clock, store_id: UUID) -> None:
        self._readers = readers
        self._clock = clock
        self._store_id = store_id

    async def get(self, occurrence_id: OccurrenceId) -> Occurrence:
        found = await self.many([occurrence_id])
        if occurrence_id not in found:
            raise OccurrenceNotFoundError
        return found[occurrence_id]

    async def many(self, occurrence_ids: Sequence[OccurrenceId]) -> Mapping[OccurrenceId, Occurrence]:
        def read(connection: sqlite3.Connection) -> dict[OccurrenceId, Occurrence]:
            found = {}
            for some in chunks(occurrence_ids):
                sql = f"SELECT {_COLUMNS} FROM occurrences WHERE id IN ({marks(len(some))})"
                for row in connection.execute(sql, [id_.bytes for id_ in some]).fetchall():
                    occurrence = occurrence_of(row)
                    found[occurrence.id] = occurrence
            return found

        return await self._readers.read(read)

    async def list(
        self, query: OccurrenceQuery, reach: Reach, page: Page, *, count: bool = False
    ) -> Listing[Occurrence]:
        order = ListOrder(self._store_id, "occurrences", query)
        wanted = Filter()
        if query.event_id is not None:
            wanted.add("o.event_id = ?", query.event_id.bytes)
        if query.states:
            wanted.add(f"o.state IN ({marks(len(query.states))})", *sorted(query.states))
        if query.since is not None:
            wanted.add("o.scheduled_at >= ?", microseconds(query.since))
        if query.until is not None:
            wanted.add("o.scheduled_at < ?", microseconds(query.until))
        wanted.tagged(query.tags, "o.event_id", every=query.match_all)
        wanted.within(reach, "o.event_id")
        if query.live or not reach.everything:
            wanted.add("EXISTS (SELECT 1 FROM events AS e WHERE e.id = o.event_id AND e.status <> 'deleted')")
        beyond, direction = (">", "ASC") if query.earliest_first else ("<", "DESC")
        position = Filter()
        if page.cursor is not None:
            scheduled_at, id_ = order.position(page.cursor)
            position.add(f"(o.scheduled_at, o.id) {beyond} (?, ?)", microseconds(scheduled_at), id_.bytes)
        ordered = f"ORDER BY o.scheduled_at {direction}, o.id {direction} LIMIT ? OFFSET ?"

        def read(connection: sqlite3.Connection) -> Listing[Occurrence]:
            few = query.event_id is None and reaches_few(connection, reach)
            parameters = [*wanted.parameters, *position.parameters]
            if few:
                # Of each event reached as many as the page could take, by (event_id, scheduled_at); then the page.
                sql = f"""
                    SELECT {_OF_O} FROM (SELECT DISTINCT event_id FROM ({REACHED})) AS r
                     CROSS JOIN occurrences AS o ON o.id IN (
                       SELECT o.id FROM occurrences AS o
                        WHERE o.event_id = r.event_id AND {wanted.sql} AND {position.sql}
                        ORDER BY o.scheduled_at {direction} LIMIT ?)
                     {ordered}
                """
                parameters = [scope_of(reach), *parameters, page.limit + page.offset + 1]
            else:
                # occurrences_listed_idx (scheduled_at, id) gives the order; of one event, (event_id, scheduled_at)
                sql = f"SELECT {_OF_O} FROM occurrences AS o WHERE {wanted.sql} AND {position.sql} {ordered}"
            rows = connection.execute(sql, (*parameters, page.limit + 1, page.offset)).fetchall()
            items = tuple(occurrence_of(row) for row in rows[: page.limit])
            more = len(rows) > page.limit and items
            cursor = order.cursor(items[-1].scheduled_at, items[-1].id) if more else None
            if few:
                wanted.add(f"o.event_id IN ({REACHED})", scope_of(reach))
            counted = f"SELECT count(*) FROM occurrences AS o WHERE {wanted.sql}"
            total = connection.execute(counted, wanted.parameters).fetchone()[0] if count else None
            return Listing(items, cursor, total)

        return await self._readers.read(read)

    async def planned(self, event_id: EventId) -> Occurrence | None:
        return (await self.planned_of([event_id])).get(event_id)

    async def planned_of(self, event_ids: Sequence[EventId]) -> Mapping[EventId, Occurrence]:
        def read(connection: sqlite3.Connection) -> dict[EventId, Occurrence]:
            found = {}
            for some in chunks(event_ids):
                sql = f"SELECT {_COLUMNS} FROM occurrences WHERE event_id IN ({marks(len(some))}) AND {_PLANNED}"
                for row in connection.execute(sql, [id_.bytes for id_ in some]).fetchall():
                    occurrence = occurrence_of(row)
                    found[occurrence.event_id] = occurrence
            return found

        return await self._readers.read(read)

    async def last_ordinal(self, event_id: EventId, *, since: datetime) -> int:
        sql = """
            SELECT ordinal FROM occurrences
             WHERE event_id = ?1 AND cause = 'schedule'
               AND (created_at >= ?2 OR (scheduled_at >= ?2 AND coalesce(finished_at, ?2) >= ?2))
             ORDER BY created_at DESC, scheduled_at DESC LIMIT 1
        """
        row = await self._one(sql, (event_id.bytes, microseconds(since)))
        return row[0] if row else 0

    async def held_by_overlap(self, event_id: EventId) -> Sequence[Occurrence]:
        sql = f"""
            SELECT {_COLUMNS} FROM occurrences
             WHERE event_id = ? AND {UNFINISHED} AND held = 'overlap' ORDER BY scheduled_at
        """
        return await self._rows(sql, (event_id.bytes,))

    async def instants_after(self, event_id: EventId, after: datetime) -> frozenset[datetime]:
        sql = "SELECT scheduled_at FROM occurrences WHERE event_id = ? AND scheduled_at > ?"
        parameters = (event_id.bytes, microseconds(after))
        rows = await self._readers.read(lambda connection: connection.execute(sql, parameters).fetchall())
        return frozenset(at(row[0]) for row in rows)

    async def latest(self, event_ids: Sequence[EventId]) -> Mapping[EventId, Occurrence]:
        sql = f"""
            SELECT {_COLUMNS} FROM occurrences
             WHERE event_id = ? AND (state <> 'pending' OR {_BEGUN}) ORDER BY scheduled_at DESC LIMIT 1
        """

        def read(connection: sqlite3.Connection) -> dict[EventId, Occurrence]:
            found = {}
            for event_id in event_ids:
                if row := connection.execute(sql, (event_id.bytes,)).fetchone():
                    found[event_id] = occurrence_of(row)
            return found

        return await self._readers.read(read)

    async def attempts(self, occurrence_id: OccurrenceId) -> Sequence[Attempt]:
        sql = f"SELECT {columns(ATTEMPT_COLUMNS)} FROM attempts WHERE occurrence_id = ? ORDER BY number"
        parameters = (occurrence_id.bytes,)
        rows = await self._readers.read(lambda connection: connection.execute(sql, parameters).fetchall())
        return [attempt_of(row) for row in rows]

    async def held_by(self, holder: str, limit: int) -> Sequence[Occurrence]:
        sql = f"""
            SELECT {_COLUMNS} FROM occurrences
             WHERE inbox_at IS NOT NULL AND state = 'dispatched' AND holder = ? AND lease_until > ?
             ORDER BY inbox_at, id LIMIT ?
        """
        return await self._rows(sql, (holder, microseconds(self._clock.now()), limit))

    async def inbox(self, query: InboxQuery, reach: Reach, *, limit: int) -> Sequence[Occurrence]:
        wanted = _in_inbox(query, reach)
        sql = f"""
            SELECT {_OF_O} FROM occurrences AS o CROSS JOIN events AS e ON e.id = o.event_id
             WHERE {wanted.sql} ORDER BY o.inbox_at, o.id LIMIT ?
        """
        return await self._rows(sql, (*wanted.parameters, limit))

    async def waiting(self, query: InboxQuery, reach: Reach) -> int:
        wanted = free_in_inbox(query, reach, self._clock.now())
        sql = f"""
            SELECT count(*) FROM occurrences AS o CROSS JOIN events AS e ON e.id = o.event_id WHERE {wanted.sql}
        """
        return int((await self._one(sql, tuple(wanted.parameters)))[0])

    async def next_due_within(self, query: InboxQuery, reach: Reach) -> datetime | None:
        wanted = Filter()
        wanted.add("o.due_at IS NOT NULL AND o.state = 'pending'")
        wanted.add("e.action_type = 'inbox' AND e.status IN ('active', 'inactive')")
        _narrow(wanted, query, reach)

        def read(connection: sqlite3.Connection) -> int | None:
            if query.event_id is not None or reaches_few(connection, reach):
                # from the events: each has a row or a few in occurrences_unfinished_idx
                if not reach.everything:
                    wanted.add(f"e.id IN ({REACHED})", scope_of(reach))
                sql = f"""
                    SELECT min(o.due_at) FROM events AS e
                     CROSS JOIN occurrences AS o ON o.event_id = e.id AND o.{UNFINISHED} WHERE {wanted.sql}
                """
            else:
                # the first that fits, in the order of occurrences_due_idx
                sql = f"""
                    SELECT o.due_at FROM occurrences AS o CROSS JOIN events AS e ON e.id = o.event_id
                     WHERE {wanted.sql} ORDER BY o.due_at LIMIT 1
                """
            row = connection.execute(sql, wanted.parameters).fetchone()
            return row[0] if row else None

        return instant(await self._readers.read(read))

    async def next_due(self) -> datetime | None:
        return instant(await self._readers.read(lambda connection: next_due(connection, self._now())))

    async def backlog(self) -> tuple[int, datetime | None]:
        sql = f"""
            SELECT count(*), min(due_at) FROM (
              SELECT due_at FROM occurrences
               WHERE due_at <= ? AND (lease_until IS NULL OR lease_until <= ?)
               ORDER BY due_at LIMIT {_BACKLOG_COUNTED_TO})
        """
        now = self._now()
        row = await self._one(sql, (now, now))
        return row[0], instant(row[1])

    def _now(self) -> int:
        return microseconds(self._clock.now())

    async def _rows(self, sql: str, parameters: tuple[Any, ...]) -> Sequence[Occurrence]:
        rows = await self._readers.read(lambda connection: connection.execute(sql, parameters).fetchall())
        return [occurrence_of(row) for row in rows]

    async def _one(self, sql: str, parameters: tuple[Any, ...]) -> Any:
        return await self._readers.read(lambda connection: connection.execute(sql, parameters).fetchone())


def next_due(connection: sqlite3.Connection, now: int) -> int | None:
    """A leased row is looked at when its lease lapses, another at its `due_at`.

    No lease ends before its row is due, so only leased rows ahead of the first free one can come before it: both
    statements read the head of occurrences_due_idx and no further.
    """
    free = connection.execute(
        """
        SELECT due_at FROM occurrences
         WHERE due_at IS NOT NULL AND (lease_until IS NULL OR lease_until <= ?) ORDER BY due_at LIMIT 1
        """,
        (now,),
    ).fetchone()
    lapse = connection.execute(
        "SELECT min(max(due_at, lease_until)) FROM occurrences WHERE due_at <= ? AND lease_until > ?",
        (free[0] if free else _NEVER, now),
    ).fetchone()[0]
    instants = [found for found in (free[0] if free else None, lapse) if found is not None]
    return min(instants, default=None)


def _in_inbox(query: InboxQuery, reach: Reach) -> Filter:
    """Items of the inbox that await their acknowledgement; `o` and `e` in the statement."""
    wanted = Filter()
    wanted.add("o.inbox_at IS NOT NULL AND o.state = 'dispatched' AND e.status <> 'deleted'")
    _narrow(wanted, query, reach)
    return wanted


def free_in_inbox(query: InboxQuery, reach: Reach, now: datetime) -> Filter:
    """Likewise those no holder has."""
    wanted = _in_inbox(query, reach)
    wanted.add("o.lease_until IS NULL OR o.lease_until <= ?", microseconds(now))
    return wanted


def _narrow(wanted: Filter, query: InboxQuery, reach: Reach) -> None:
    if query.event_id is not None:
        wanted.add("o.event_id = ?", query.event_id.bytes)
    wanted.tagged(query.tags, "e.id")
    wanted.within(reach, "e.id")


def still_wanted(connection: sqlite3.Connection, claims: Sequence[Claim]) -> frozenset[OccurrenceId]:
    sql = """
        SELECT 1 FROM occurrences AS o JOIN events AS e ON e.id = o.event_id
         WHERE o.id = ? AND o.fence = ? AND o.state = 'dispatching' AND e.version = ? AND e.status <> 'deleted'
           AND (e.status <> 'paused' OR (NOT o.advances AND o.round_began_at > e.paused_at))
    """
    return frozenset(
        claim.occurrence.id
        for claim in claims
        if connection.execute(sql, (claim.occurrence.id.bytes, claim.occurrence.fence, claim.event.version)).fetchone()
    )
