"""Events: reading them, and the statements that write them."""

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from qhronos_core.adapters.cursors import ListOrder
from qhronos_core.adapters.rows import likeness
from qhronos_core.adapters.sqlite.batches import RowText
from qhronos_core.adapters.sqlite.errors import violates
from qhronos_core.adapters.sqlite.rows import (
    EVENT_BLOBS,
    EVENT_COLUMNS,
    EVENT_COLUMNS_FOR_FINDING,
    event_of,
    event_row,
    instant,
)
from qhronos_core.adapters.sqlite.statements import REACHED, Filter, chunks, columns, marks, reaches_few, scope_of
from qhronos_core.adapters.sqlite.threads import Readers
from qhronos_core.domain.access import Reach
from qhronos_core.domain.errors import EventNotFoundError, KeyTakenError, StaleError
from qhronos_core.domain.event import Event
from qhronos_core.domain.ids import EventId, TokenId, microseconds
from qhronos_core.ports import Clock, EventQuery, EventSave, Listing, Page, Quota

_COLUMNS: Final = columns(EVENT_COLUMNS)
_WRITTEN: Final = (*EVENT_COLUMNS, *EVENT_COLUMNS_FOR_FINDING)


# `IN (...)` is how events_live_idx knows that it serves.
COUNT_LIVE: Final = "SELECT count(*) FROM events WHERE created_by = ? AND status IN ('active', 'paused')"
RUNS_PER_DAY: Final = """
    SELECT coalesce(sum(runs_per_day), 0) FROM events
     WHERE created_by = ? AND status IN ('active', 'paused') AND (status = 'active' OR paused_until IS NOT NULL)
"""


class SqliteEvents:
    def __init__(self, readers: Readers, clock: Clock, store_id: UUID) -> None:
        self._readers = readers
        self._clock = clock
        self._store_id = store_id

    async def get(self, event_id: EventId) -> Event:
        found = await self.many([event_id])
        if event_id not in found:
            raise EventNotFoundError
        return found[event_id]

    async def many(self, event_ids: Sequence[EventId]) -> Mapping[EventId, Event]:
        return await self._readers.read(lambda connection: read_events(connection, event_ids))

    async def by_key(self, key: str, *, created_by: str | None = None) -> Sequence[Event]:
        wanted = Filter()
        wanted.add("key = ?", key)
        wanted.add("status <> 'deleted'")
        if created_by is not None:
            wanted.add("created_by = ?", created_by)
        sql = f"SELECT {_COLUMNS} FROM events WHERE {wanted.sql} ORDER BY created_at DESC, id DESC"
        rows = await self._readers.read(lambda connection: connection.execute(sql, wanted.parameters).fetchall())
        return [event_of(row) for row in rows]

    async def list(self, query: EventQuery, reach: Reach, page: Page, *, count: bool = False) -> Listing[Event]:
        order = ListOrder(self._store_id, "events", query)
        wanted = Filter()
        if query.statuses:
            wanted.add(f"e.status IN ({marks(len(query.statuses))})", *sorted(query.statuses))
        else:
            wanted.add("e.status <> 'deleted'")
        if query.key is not None:
            wanted.add("e.key = ?", query.key)
        if query.text:
            folded = query.text.casefold()
            places = " OR ".join(
                f"instr(folded({place}), ?) > 0" for place in ("e.name", "coalesce(e.key, '')", "e.description")
            )
            wanted.add(places, folded, folded, folded)
        wanted.tagged(query.tags, "e.id", every=query.match_all)
        wanted.within(reach, "e.id")
        position = Filter()
        if page.cursor is not None:
            created_at, id_ = order.position(page.cursor)
            position.add("(e.created_at, e.id) < (?, ?)", microseconds(created_at), id_.bytes)

        def read(connection: sqlite3.Connection) -> Listing[Event]:
            # events_newest_idx (created_at, id) gives the order; where few are reached, they are looked up and sorted
            if reaches_few(connection, reach):
                wanted.add(f"e.id IN ({REACHED})", scope_of(reach))
            sql = f"""
                SELECT {columns(EVENT_COLUMNS, "e")} FROM events AS e WHERE {wanted.sql} AND {position.sql}
                 ORDER BY e.created_at DESC, e.id DESC LIMIT ? OFFSET ?
            """
            parameters = (*wanted.parameters, *position.parameters, page.limit + 1, page.offset)
            rows = connection.execute(sql, parameters).fetchall()
            items = tuple(event_of(row) for row in rows[: page.limit])
            more = len(rows) > page.limit and items
            cursor = order.cursor(items[-1].created_at, items[-1].id) if more else None
            counted = f"SELECT count(*) FROM events AS e WHERE {wanted.sql}"
            total = connection.execute(counted, wanted.parameters).fetchone()[0] if count else None
            return Listing(items, cursor, total)

        return await self._readers.read(read)

    async def look_alikes(self, event: Event, reach: Reach, limit: int) -> Sequence[EventId]:
        alike = Filter()
        alike.add("e.created_by = ? AND e.likeness = ?", event.created_by, likeness(event))
        alike.add("e.status = 'active' AND e.status <> 'deleted' AND e.id <> ?", event.id.bytes)
        alike.within(reach, "e.id")
        sql = f"SELECT e.id FROM events AS e WHERE {alike.sql} LIMIT ?"  # no order: of a thousand alike any will do
        return await self._ids(sql, (*alike.parameters, limit))

    async def count_live(self, created_by: str) -> int:
        return await self._readers.read(lambda connection: _counted(connection, COUNT_LIVE, created_by))

    async def runs_per_day(self, created_by: str, *, but: EventId) -> int:
        return await self._readers.read(
            lambda connection: _counted(connection, f"{RUNS_PER_DAY} AND id <> ?", created_by, but.bytes)
        )

    async def of_token(self, jti: TokenId) -> Sequence[EventId]:
        sql = "SELECT id FROM events WHERE created_jti = ? AND status <> 'deleted' ORDER BY created_at, id"
        return await self._ids(sql, (jti.bytes,))

    async def to_resume(self, limit: int) -> Sequence[EventId]:
        sql = "SELECT id FROM events WHERE status = 'paused' AND paused_until <= ? ORDER BY paused_until LIMIT ?"
        return await self._ids(sql, (microseconds(self._clock.now()), limit))

    async def next_resume_at(self) -> datetime | None:
        sql = "SELECT min(paused_until) FROM events WHERE status = 'paused' AND paused_until IS NOT NULL"
        return instant(await self._readers.read(lambda connection: connection.execute(sql).fetchone()[0]))

    async def _ids(self, sql: str, parameters: tuple[object, ...]) -> Sequence[EventId]:
        rows = await self._readers.read(lambda connection: connection.execute(sql, parameters).fetchall())
        return [EventId(UUID(bytes=row[0])) for row in rows]


_AS_TEXT: Final = RowText(EVENT_COLUMNS, EVENT_BLOBS, "events")


def read_events(connection: sqlite3.Connection, event_ids: Sequence[EventId]) -> dict[EventId, Event]:
    """Those that are there, deleted ones too."""
    found: dict[EventId, Event] = {}
    for some in chunks(event_ids):
        sql = f"SELECT json_group_array(json_array({_AS_TEXT.sql})) FROM events WHERE id IN ({marks(len(some))})"
        text = connection.execute(sql, [event_id.bytes for event_id in some]).fetchone()[0]
        for row in _AS_TEXT.read(text):
            event = event_of(row)
            found[event.id] = event
    return found


_INSERT: Final = f"INSERT INTO events ({columns(_WRITTEN)}) VALUES ({marks(len(_WRITTEN))})"
_REPLACE: Final = f"""
    UPDATE events SET {", ".join(f"{name} = ?" for name in _WRITTEN)}
     WHERE id = ? AND version = ? AND status = ?
"""
# What is not changed is not written back: it may have been sealed anew since the event was read.
_REPLACE_ALL_BUT_SECRETS: Final = _REPLACE.replace("secrets = ?", "secrets = iif(? IS NULL, NULL, secrets)")


def save_event(connection: sqlite3.Connection, save: EventSave) -> None:
    """Raises StaleError where `was` has moved, KeyTakenError where another live event of the creator has the key."""
    event, was = save.event, save.was
    try:
        if was is None:
            connection.execute(_INSERT, event_row(event))
        else:
            statement = _REPLACE_ALL_BUT_SECRETS if event.secrets == was.secrets else _REPLACE
            if connection.execute(statement, (*event_row(event), was.id.bytes, was.version, was.status)).rowcount != 1:
                raise StaleError
    except sqlite3.IntegrityError as error:
        if violates(error, "events.key", "events.created_by"):
            raise KeyTakenError from error
        if violates(error, "events.id"):  # the same commit once more, after a lost answer
            raise StaleError from error
        raise
    if was is None or was.tags != event.tags:
        _replace_texts(connection, "event_tags (tag, event_id)", event.id, set(event.tags), fresh=was is None)
    if was is None or was.labels != event.labels:
        _replace_texts(connection, "event_labels (label, event_id)", event.id, event.labels, fresh=was is None)


def _replace_texts(
    connection: sqlite3.Connection, table: str, event_id: EventId, texts: set[str] | frozenset[str], *, fresh: bool
) -> None:
    if not fresh:
        connection.execute(f"DELETE FROM {table.split(maxsplit=1)[0]} WHERE event_id = ?", (event_id.bytes,))
    connection.executemany(f"INSERT INTO {table} VALUES (?, ?)", [(text, event_id.bytes) for text in sorted(texts)])


def is_within(connection: sqlite3.Connection, quota: Quota) -> bool:
    """Whether a creator has no more than that, as it is written so far."""
    if quota.events is not None and _counted(connection, COUNT_LIVE, quota.created_by) > quota.events:
        return False
    return quota.runs_per_day is None or _counted(connection, RUNS_PER_DAY, quota.created_by) <= quota.runs_per_day


def _counted(connection: sqlite3.Connection, sql: str, *parameters: object) -> int:
    return int(connection.execute(sql, parameters).fetchone()[0])


def deleted_among(connection: sqlite3.Connection, event_ids: Collection[EventId]) -> frozenset[EventId]:
    found: set[EventId] = set()
    for some in chunks(list(event_ids)):
        sql = f"SELECT id FROM events WHERE id IN ({marks(len(some))}) AND status = 'deleted'"
        found.update(
            EventId(UUID(bytes=id_)) for (id_,) in connection.execute(sql, [event_id.bytes for event_id in some])
        )
    return frozenset(found)


def end_events(connection: sqlite3.Connection, event_ids: Sequence[EventId]) -> None:
    """No instant is left. Not a change of what was asked for, so the version stays."""
    for some in chunks(event_ids):
        sql = f"UPDATE events SET status = 'inactive' WHERE id IN ({marks(len(some))}) AND status = 'active'"
        connection.execute(sql, [event_id.bytes for event_id in some])


def pause_event(connection: sqlite3.Connection, event_id: EventId, reason: str, now: datetime) -> None:
    sql = """
        UPDATE events
           SET status = 'paused', paused_reason = ?, paused_at = ?, paused_until = NULL,
               updated_at = ?, version = version + 1
         WHERE id = ? AND status IN ('active', 'inactive')
    """
    connection.execute(sql, (reason, microseconds(now), microseconds(now), event_id.bytes))
