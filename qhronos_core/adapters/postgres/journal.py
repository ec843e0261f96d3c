"""Reading the journal with a cursor that never skips an entry because it was committed late.

Positions are drawn before commits, so a reader cannot simply go on after the highest it saw. A writer holds
RowExclusiveLock on the table from before it draws a position until its commit is seen by all. So: note the last
position drawn, then wait until today's holders of that lock are gone; nothing at or below it can appear any more. Writers
pay nothing, and a long transaction that does not write the journal delays nobody. Each step is a statement
of its own, since within one the snapshot would be older than the look at the locks.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from itertools import chain, repeat
from typing import Final, LiteralString
from uuid import UUID

from qhronos_core.adapters.cursors import LAST_NUMBER, ListOrder
from qhronos_core.adapters.postgres.events import PostgresEvents
from qhronos_core.adapters.postgres.pool import Connections
from qhronos_core.adapters.postgres.rows import ENTRY, entry_of
from qhronos_core.domain.journal import Cursor, JournalLine, JournalPage
from qhronos_core.domain.occurrence import Entry
from qhronos_core.ports import Listing, Page

_WAITS: Final = (0.001, 0.002)
_LAST_WAIT: Final = 0.005
_WAIT_AT_MOST: Final = 1.0  # seconds: then a writer is stuck, and readers stay where they were known to be safe

_HEAD: Final = """
    SELECT m.journal_epoch, m.retired_to, CASE WHEN drawn.is_called THEN drawn.last_value ELSE 0 END
      FROM store_meta AS m, journal_position AS drawn
"""
_WRITERS: Final = """
    SELECT virtualtransaction FROM pg_locks
     WHERE relation = 'journal'::regclass AND mode = 'RowExclusiveLock' AND granted
       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_AFTER: Final[LiteralString] = f"""
    SELECT position, {ENTRY} FROM journal WHERE position > %(after)s AND position <= %(safe)s
     ORDER BY position LIMIT %(limit)s
"""
_AUDIT: Final[LiteralString] = f"""
    SELECT position, {ENTRY} FROM journal
     WHERE actor IS NOT NULL AND (%(since)s::timestamptz IS NULL OR at >= %(since)s)
       AND (%(before)s::bigint IS NULL OR position < %(before)s)
     ORDER BY position DESC LIMIT %(limit)s OFFSET %(offset)s
"""

_AUDIT_COUNT: Final[LiteralString] = """
    SELECT count(*) FROM journal
     WHERE actor IS NOT NULL AND (%(since)s::timestamptz IS NULL OR at >= %(since)s)
"""


class PostgresJournal:
    def __init__(
        self, connections: Connections, events: PostgresEvents, identity: Callable[[], Awaitable[UUID]]
    ) -> None:
        self._connections = connections
        self._events = events
        self._identity = identity
        self._one_at_a_time = asyncio.Lock()
        self._safe = Cursor(UUID(int=0), 0)

    async def end(self) -> Cursor:
        safe, _ = await self._safe_end()
        return safe

    async def after(self, cursor: Cursor, *, limit: int) -> JournalPage:
        safe, retired_to = await self._safe_end()
        truncated = cursor.epoch != safe.epoch or not retired_to <= cursor.position <= safe.position
        if cursor.epoch == safe.epoch and cursor.position > safe.position:
            truncated = await self._never_drawn(cursor)
            if not truncated:
                return JournalPage((), cursor)
        after = retired_to if truncated else cursor.position
        rows = await self._connections.rows(_AFTER, {"after": after, "safe": safe.position, "limit": limit})
        entries = [(row[0], entry_of(row[1:])) for row in rows]
        events = await self._events.many(list({entry.event_id for _, entry in entries if entry.event_id is not None}))
        lines = tuple(
            JournalLine(position, entry, None if entry.event_id is None else events.get(entry.event_id))
            for position, entry in entries
        )
        read_to = lines[-1].position if len(lines) == limit else max(safe.position, after)
        return JournalPage(lines, Cursor(safe.epoch, read_to), truncated)

    async def audit(self, *, since: datetime | None, page: Page, count: bool = False) -> Listing[Entry]:
        order = ListOrder(await self._identity(), "audit", since)
        parameters = {
            "since": since,
            "before": min(order.position(page.cursor)[1].int, LAST_NUMBER) if page.cursor is not None else None,
            "limit": page.limit + 1,
            "offset": page.offset,
        }
        total = (await self._connections.rows(_AUDIT_COUNT, {"since": since}))[0][0] if count else None
        rows = await self._connections.rows(_AUDIT, parameters)
        items = [(row[0], entry_of(row[1:])) for row in rows[: page.limit]]
        next_cursor = None
        if len(rows) > page.limit and items:
            position, entry = items[-1]
            next_cursor = order.cursor(entry.at, UUID(int=position))
        return Listing(tuple(entry for _, entry in items), next_cursor, total)

    async def _safe_end(self) -> tuple[Cursor, int]:
        """The position up to which nothing can appear any more, and the last one that retention removed."""
        async with self._one_at_a_time:
            epoch, retired_to, drawn = (await self._connections.rows(_HEAD))[0]
            if self._safe == Cursor(epoch, drawn) or await self._writers_are_gone():
                self._safe = Cursor(epoch, drawn)
            elif self._safe.epoch != epoch:
                self._safe = Cursor(epoch, retired_to)
            return self._safe, retired_to

    async def _writers_are_gone(self) -> bool:
        """Wait for those who may have drawn a position already; False if one of them does not end."""
        waited = 0.0
        writers = await self._writers()
        for wait in chain(_WAITS, repeat(_LAST_WAIT)):
            if not writers:
                return True
            if waited > _WAIT_AT_MOST:
                return False
            await asyncio.sleep(wait)
            waited += wait
            writers &= await self._writers()
        raise AssertionError("unreachable")

    async def _writers(self) -> set[str]:
        return {row[0] for row in await self._connections.rows(_WRITERS)}

    async def _never_drawn(self, cursor: Cursor) -> bool:
        """A cursor ahead of us is another node's, a moment ahead; unless no position of it was ever drawn."""
        epoch, _, drawn = (await self._connections.rows(_HEAD))[0]
        return bool(cursor.epoch != epoch or cursor.position > drawn)
