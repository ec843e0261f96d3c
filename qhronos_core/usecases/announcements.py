"""Reading the journal for one principal and one subscription: what poll, stream and webhook have in common."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from qhronos_core.domain import access
from qhronos_core.domain.access import Principal, Reach
from qhronos_core.domain.announcement import IN_A_ROW, Announcement, Batch, Topic, Wanted, announcement, hears, wanted
from qhronos_core.domain.errors import EventNotFoundError, InvalidInputError, NotFoundError
from qhronos_core.domain.journal import Cursor, JournalLine, JournalPage
from qhronos_core.domain.lifecycle import COMPLETED, FAILED, MISSED
from qhronos_core.domain.occurrence import Reason
from qhronos_core.ports import OccurrenceQuery, Page, Store

_PAGE: Final = 500
_PAGES: Final = 10  # read at once for one caller; then it is told to come again
_LOOKED_BACK: Final = 50
_EVERYTHING: Final = Reach(everything=True)


class Pages(Protocol):
    """A journal to read from: the store's, or a copy that several readers share."""

    async def after(self, cursor: Cursor, *, limit: int) -> JournalPage: ...


class NoSuchTopicError(NotFoundError):
    """The event type is not one of ours."""

    code = "unknown_event_type"

    def __init__(self) -> None:
        super().__init__(f"The event types are {', '.join(Topic)}.")


class Announcements:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def admit(self, name: str, arguments: Mapping[str, Any], *, caller: Principal) -> Wanted:
        """What is asked for, if the caller may ask for it now.

        Raises:
            NoSuchTopicError: no such type.
            InvalidInputError: arguments of the wrong form.
            EventNotFoundError: an `event_id` that is absent, deleted, or not the caller's to read.
            ForbiddenError: a confined master.
        """
        access.reach(caller, access.READ)
        try:
            asked = wanted(Topic(name), arguments)
        except ValueError as error:
            if isinstance(error, InvalidInputError):
                raise
            raise NoSuchTopicError() from None
        if asked.event_id is not None and not await self.still_readable(asked, caller=caller):
            raise EventNotFoundError
        return asked

    async def still_readable(self, asked: Wanted, *, caller: Principal) -> bool:
        """Whether the one event that was asked for, if one was, is the caller's to read."""
        if asked.event_id is None:
            return True
        found = await self._store.events.many([asked.event_id])
        return hears(caller, found.get(asked.event_id)) and asked.event_id in found

    async def end(self) -> Cursor:
        return await self._store.journal.end()

    async def begin(self, text: str | None) -> tuple[Cursor, bool]:
        """Where to read from, and whether that is later than the cursor that was given.

        A cursor of another journal, or of none, begins now; one older than what is kept, with the oldest that is.
        """
        if text is None:
            return await self.end(), False
        try:
            given = Cursor.read(text)
        except InvalidInputError:
            return await self.end(), True
        page = await self._store.journal.after(given, limit=1)
        if not page.truncated:
            return given, False
        end = await self.end()
        if given.epoch != end.epoch or given.position > end.position:
            return end, True
        return Cursor(end.epoch, page.lines[0].position - 1) if page.lines else end, True

    async def after(
        self,
        cursor: Cursor,
        asked: Wanted,
        *,
        caller: Principal,
        limit: int,
        max_age: timedelta | None = None,
        journal: Pages | None = None,
    ) -> Batch:
        """Up to `limit` announcements after `cursor`, each judged by what the caller may read now.

        After a cursor of another journal there is nothing: what this one holds was before the reader's time.
        """
        oldest = None if max_age is None else await self._store.now() - max_age
        found: list[Announcement] = []
        skipped = truncated = False
        for _ in range(_PAGES):
            page = await (journal or self._store.journal).after(cursor, limit=_PAGE)
            truncated |= page.truncated
            if page.truncated and page.cursor.epoch != cursor.epoch:
                return Batch((), await self.end(), True, truncated)
            for told in await self._told(page.lines, page.cursor, asked, caller, oldest):
                if told is None:
                    skipped = True
                    continue
                if len(found) == limit:
                    return Batch(tuple(found), found[-1].cursor, True, truncated, skipped)
                found.append(told)
            if any(asked.ends_with(line, caller) for line in page.lines):
                return Batch(tuple(found), page.cursor, False, truncated, skipped, lost=True)
            if len(page.lines) < _PAGE:
                return Batch(tuple(found), page.cursor, False, truncated, skipped)
            cursor = page.cursor
        return Batch(tuple(found), cursor, True, truncated, skipped)

    async def _told(
        self, lines: Sequence[JournalLine], cursor: Cursor, asked: Wanted, caller: Principal, oldest: datetime | None
    ) -> list[Announcement | None]:
        """Of these lines those that are asked for and may be heard; None for what is older than was asked for."""
        mine = [line for line in lines if asked.takes(line) and hears(caller, line.event)]
        ids = {line.entry.occurrence_id for line in mine} - {None}
        rows = await self._store.occurrences.many([row for row in ids if row is not None]) if ids else {}
        told: list[Announcement | None] = []
        for line in mine:
            in_a_row = 0
            if asked.topic is Topic.EVENT_FAILING:
                in_a_row = await self._failed_in_a_row(line)
                if in_a_row != IN_A_ROW and line.entry.detail.get("reason") != Reason.GONE:
                    continue
            if oldest is not None and line.entry.at < oldest:
                told.append(None)
                continue
            row = None if line.entry.occurrence_id is None else rows.get(line.entry.occurrence_id)
            told.append(announcement(asked.topic, line, cursor.epoch, row, in_a_row=in_a_row))
        return told

    async def _failed_in_a_row(self, line: JournalLine) -> int:
        """How many of the event's occurrences had failed when this one did, one after the other, itself included."""
        at = line.entry.at
        query = OccurrenceQuery(
            event_id=line.entry.event_id,
            states=frozenset({COMPLETED, FAILED, MISSED}),
            until=at + timedelta(microseconds=1),
        )
        listed = await self._store.occurrences.list(query, _EVERYTHING, Page(limit=_LOOKED_BACK))
        before = [
            row
            for row in listed.items
            if row.id != line.entry.occurrence_id and row.finished_at is not None and row.finished_at <= at
        ]
        before.sort(key=lambda row: (row.finished_at, row.scheduled_at), reverse=True)
        failed = 1
        for row in before:
            if row.state is not FAILED:
                break
            failed += 1
        return failed
