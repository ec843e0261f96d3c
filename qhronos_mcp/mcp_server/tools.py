"""The eight tools. Each calls one use case and returns a view; none has a `try`.

The texts are short because every agent reads all of them in every conversation: together at most
2,000 tokens, as a test counts.
"""

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from inspect import cleandoc
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from mcp.server.mcpserver import Context, MCPServer
from mcp_types import ToolAnnotations
from pydantic import Field

from qhronos_core.domain.access import Principal
from qhronos_core.domain.errors import InvalidInputError, NotFoundError
from qhronos_core.domain.event import EventStatus
from qhronos_core.domain.ids import EPOCH, microseconds
from qhronos_core.domain.lifecycle import State
from qhronos_core.domain.schedule import parse_instant, spelled_out
from qhronos_core.ports import EventQuery, OccurrenceQuery, Page
from qhronos_core.usecases.events import EventAnswer
from qhronos_core.wiring import Core
from qhronos_mcp.mcp_server.arguments import (
    COUNTED,
    INSTANTS,
    changed_fields,
    event_fields,
    inbox_query,
    ref,
    with_instants_spelled_out,
)
from qhronos_mcp.mcp_server.face import Face
from qhronos_mcp.mcp_server.results import (
    Acknowledged,
    EventChanged,
    EventDeleted,
    EventList,
    EventShown,
    OccurrenceList,
    OccurrenceRow,
    OccurrenceShown,
    Triggered,
    View,
    Waited,
)
from qhronos_mcp.mcp_server.timeline import TOOL_METAS
from qhronos_mcp.mcp_server.waits import LongPoll

PAGE: Final = 4
DEFAULT_WAIT: Final = 25  # seconds; clients give up at 60
LONGEST_WAIT: Final = 50

ABSENT: Any = None
"""The default of an optional argument. Annotated with the plain type, since the SDK tries to read text as JSON
wherever an argument may be anything but text; a null is taken away before the call."""

EventRef = Annotated[str, Field(min_length=1, max_length=100, description="id or key")]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Schedule = Annotated[
    str,
    Field(
        description="cron, `every 15m`, `every weekday at 9am`, `in 2 hours`, `tomorrow 09:00`, RFC 3339 or RRULE:…",
    ),
]
Status = Literal["pending", "dispatching", "dispatched", "completed", "failed", "missed", "cancelled"]
Rows = Annotated[int, Field(ge=1, le=50), COUNTED]
Cursor = Annotated[str, Field(description="`more` of the page before")]


class Tools:
    """What the tools are called with: who asks (`face`), and how to wait."""

    def __init__(self, face: Face, poll: LongPoll) -> None:
        self._face = face
        self._poll = poll

    @property
    def _core(self) -> Core:
        return self._face.core

    def register(self, server: MCPServer[Any]) -> frozenset[str]:
        """In the order in which they are listed: a stable order keeps an agent's prompt cache warm. Their names."""
        listed = (
            (self.create_event, "Schedule an event", _hints(open_world=True)),
            (self.list_events, "Find events", _hints(read_only=True, idempotent=True)),
            (self.update_event, "Change or pause an event", _hints(destructive=True, open_world=True)),
            (self.delete_event, "Delete an event", _hints(destructive=True, idempotent=True)),
            (self.list_occurrences, "What happened, what is coming", _hints(read_only=True, idempotent=True)),
            (self.wait_for_occurrences, "Wait for what is due", _hints()),
            (self.acknowledge_occurrence, "Acknowledge an occurrence", _hints(idempotent=True)),
            (self.trigger, "Run or retry now", _hints(open_world=True)),
        )
        for tool, title, hints in listed:
            description = " ".join(cleandoc(tool.__doc__ or "").split())
            meta = TOOL_METAS.get(tool.__name__)
            server.add_tool(tool, title=title, description=description, annotations=hints, meta=meta)
        return frozenset(tool.__name__ for tool, _, _ in listed)

    async def create_event(
        self,
        *,
        name: Name,
        schedule: Schedule,
        timezone: Annotated[str, Field(description="IANA; default UTC")] = ABSENT,
        key: Annotated[
            str, Field(max_length=100, description="your stable name: makes the call safe to repeat")
        ] = ABSENT,
        description: Annotated[str, Field(max_length=4000, description="what to do when due")] = ABSENT,
        action: Annotated[
            str | dict[str, Any],
            Field(description="`inbox` (default), https URL (webhook), `websocket:<client>` or {type, params}"),
        ] = ABSENT,
        metadata: Annotated[dict[str, Any], Field(description="handed back when due")] = ABSENT,
        tags: list[str] = ABSENT,
        start_time: Annotated[str, Field(description="no run before")] = ABSENT,
        end_time: Annotated[str, Field(description="no run after")] = ABSENT,
        max_occurrences: Annotated[int, Field(ge=1, description="then it ends"), COUNTED] = ABSENT,
        exclusions: Annotated[list[str], Field(description="dates or instants left out")] = ABSENT,
        catch_up: Annotated[
            Literal["one", "all", "none"], Field(description="runs missed while down; default one")
        ] = ABSENT,
        overlap: Annotated[
            Literal["allow", "skip", "queue"], Field(description="previous run unfinished; default allow")
        ] = ABSENT,
        expires_after: Annotated[str, Field(description="too late to be useful after, like `2h`")] = ABSENT,
        ack: Annotated[Literal["required"], Field(description="a webhook's 2xx is not enough")] = ABSENT,
        dry_run: bool = False,
    ) -> EventChanged:
        """Schedule an event, once or recurring; with a `key`, create or update it. The answer says the schedule
        back in words with the next runs. `dry_run` previews and keeps nothing."""
        fields = event_fields({name: value for name, value in locals().items() if value is not None})
        fields = with_instants_spelled_out(fields, timezone, self._core.clock.now())
        return EventChanged.of(await self._core.events.create(fields, caller=self._face.caller(), dry_run=dry_run))

    async def list_events(
        self,
        *,
        event_id: Annotated[str | None, Field(description="id or key: that event in full")] = ABSENT,
        q: Annotated[str, Field(description="text in name, key or description")] = ABSENT,
        tags: Annotated[list[str], Field(description="any of these")] = ABSENT,
        status: Literal["active", "paused", "inactive"] = ABSENT,
        limit: Rows = PAGE,
        cursor: Cursor = ABSENT,
    ) -> View:
        """Find events, newest first; with `event_id`, one in full with its next runs."""
        caller = self._face.caller()
        if event_id is not None:
            return EventShown.of(await self._core.events.get(ref(event_id), caller=caller), caller)
        filters = {"q": q, "tags": tags, "status": status}
        query = EventQuery(
            tags=tuple(tags or ()),
            statuses=frozenset({EventStatus(status)} if status is not None else ()),
            text=q,
        )
        page = Page(limit=limit, cursor=_position(cursor, filters))
        listing = await self._core.events.list(query, page, caller=caller, count=True)
        return EventList.of_page(listing.items, listing.total, _more(listing.next_cursor, filters))

    async def update_event(
        self,
        *,
        event_id: EventRef,
        changes: Annotated[dict[str, Any], Field(description="create_event fields to replace; null clears")] = ABSENT,
        do: Annotated[Literal["pause", "resume", "skip_next", "snooze"], Field(description="after `changes`")] = ABSENT,
        until: Annotated[str, Field(description="for pause; required for snooze; instant or duration")] = ABSENT,
        dry_run: bool = False,
    ) -> EventChanged:
        """Change an event's fields; pause, resume, skip its next run or snooze it. Resuming never fires the past."""
        caller, now = self._face.caller(), self._core.clock.now()
        fields = changed_fields(changes or {}, do, until, now)
        if fields.keys() & set(INSTANTS):
            own = None if "timezone" in fields else (await self._event(event_id, caller)).event.timezone
            fields = with_instants_spelled_out(fields, fields.get("timezone", own), now)
        answer = await self._core.events.update(ref(event_id), fields, caller=caller, dry_run=dry_run)
        return EventChanged.of(answer)

    async def delete_event(self, event_id: EventRef) -> EventDeleted:
        """Stop an event for good: nothing further is sent. To stop it for a while, pause it with update_event."""
        return EventDeleted.of(await self._core.events.delete(ref(event_id), caller=self._face.caller()))

    async def list_occurrences(
        self,
        *,
        occurrence_id: Annotated[UUID, Field(description="that one in full, with its attempts")] = ABSENT,
        event_id: Annotated[str, Field(description="id or key")] = ABSENT,
        status: Annotated[list[Status], Field(description="any of these")] = ABSENT,
        upcoming: Annotated[
            bool, Field(description="planned runs, soonest first; else the past, newest first")
        ] = False,
        since: Annotated[str, Field(description="instant, included")] = ABSENT,
        until: Annotated[str, Field(description="instant, not included")] = ABSENT,
        limit: Rows = PAGE,
        cursor: Cursor = ABSENT,
    ) -> View:
        """What happened and what is coming: runs of all events or of one, by status and time."""
        caller = self._face.caller()
        if occurrence_id:
            found = await self._core.occurrences.get(occurrence_id, caller=caller)
            attempts = await self._core.occurrences.attempts(occurrence_id, caller=caller)
            return OccurrenceShown.of(found, attempts, caller)
        filters = {"event_id": event_id, "status": status, "since": since, "until": until, "upcoming": upcoming}
        event = None if event_id is None else await self._event(event_id, caller)
        timezone = "UTC" if event is None else event.event.timezone
        now = self._core.clock.now()
        begins, ends = (None if at is None else spelled_out(at, timezone=timezone, now=now) for at in (since, until))
        query = OccurrenceQuery(
            event_id=None if event is None else event.event.id,
            states=frozenset(State(word) for word in status or ()),
            since=None if begins is None else parse_instant(begins, field="since", timezone=timezone),
            until=None if ends is None else parse_instant(ends, field="until", timezone=timezone),
            earliest_first=upcoming,
        )
        position = _position(cursor, filters)
        if upcoming:
            return await self._upcoming(query, limit, position, filters, caller)
        begin = None if position is None else _Back.read(position)
        if query.until is None:  # not the planned ones, but what is due now; on later pages, what was due then
            query = replace(query, until=begin.until if begin else await self._core.now() + _A_MOMENT)
        page = Page(limit=limit, cursor=begin.cursor if begin else None)
        listing = await self._core.occurrences.list(query, page, caller=caller, count=True)
        rows = [OccurrenceRow.of(answer) for answer in listing.items]
        more = None
        if listing.next_cursor is not None and query.until is not None:
            more = _more(str(_Back(query.until, listing.next_cursor)), filters)
        return OccurrenceList.of_page(rows, listing.total, more)

    async def wait_for_occurrences(
        self,
        ctx: Context[Core],
        *,
        seconds: Annotated[
            int, Field(ge=0, le=LONGEST_WAIT, description="how long; 0 only looks"), COUNTED
        ] = DEFAULT_WAIT,
        limit: Annotated[int, Field(ge=1, le=10, description="claimed at once: take one, finish it"), COUNTED] = 1,
        event_id: Annotated[str, Field(description="id or key")] = ABSENT,
        tags: Annotated[list[str], Field(description="any of these")] = ABSENT,
    ) -> Waited:
        """Wait until something in the inbox is due and claim it under a lease. Do what it says, then
        acknowledge_occurrence before `lease_until`; else it is offered again."""
        caller = self._face.caller()
        query = await inbox_query(self._core, caller, limit=limit, event_id=event_id, tags=tags)
        claimed = await self._poll.wait(query, seconds, caller, ctx.report_progress)
        return Waited.of(claimed, await self._core.occurrences.inbox(query, caller=caller), caller)

    async def acknowledge_occurrence(
        self,
        *,
        occurrence_id: UUID,
        outcome: Literal["done", "failed", "later"],
        note: Annotated[str, Field(max_length=500, description="kept in the record")] = ABSENT,
        delay: Annotated[str, Field(description="with later: offered again after this (5m)")] = ABSENT,
    ) -> Acknowledged:
        """Say how a claimed occurrence went. The same outcome again has the same answer."""
        caller = self._face.caller()
        answer = await self._core.occurrences.acknowledge(occurrence_id, outcome, caller=caller, delay=delay, note=note)
        next_run_at: datetime | None = None
        with suppress(NotFoundError):  # acknowledged, and its event deleted: nothing further comes
            next_run_at = (await self._core.events.get(answer.event.id, caller=caller)).next_run_at
        return Acknowledged.of(answer, next_run_at)

    async def trigger(
        self,
        *,
        event_id: Annotated[str, Field(description="id or key: run it once now")] = ABSENT,
        occurrence_id: Annotated[UUID, Field(description="failed or missed: send it again, same id")] = ABSENT,
    ) -> Triggered:
        """Run an event now, its schedule unchanged; or send a failed or missed occurrence again. Exactly one of both."""
        caller = self._face.caller()
        if bool(event_id) == bool(occurrence_id):
            fix = [{"occurrence_id": None}, {"event_id": None}] if event_id else []
            raise InvalidInputError.of("event_id", "Exactly one of event_id and occurrence_id.", fix=fix)
        if event_id:
            return Triggered.of(await self._core.events.trigger(ref(event_id), caller=caller))
        return Triggered.of(await self._core.occurrences.retry(occurrence_id, caller=caller))

    # --- shared -----------------------------------------------------------------------------------

    async def _event(self, event_id: str, caller: Principal) -> EventAnswer:
        return await self._core.events.get(ref(event_id), caller=caller)

    async def _upcoming(
        self,
        query: OccurrenceQuery,
        limit: int,
        position: str | None,
        filters: Mapping[str, Any],
        caller: Principal,
    ) -> OccurrenceList:
        """Computed runs have no rows, so a page begins at the instant of the last one shown, less those of it shown."""
        begin = _Ahead.read(position) if position is not None else _Ahead(None, 0)
        if begin.since is not None:
            query = replace(query, since=begin.since)
        if query.since is not None:
            query = replace(query, since=query.since - _A_MOMENT)  # included
        runs = await self._core.occurrences.upcoming(query, limit=limit + 1, skip=begin.shown, caller=caller)
        runs, rest = runs[:limit], runs[limit:]
        more = None
        if rest:
            last = runs[-1].due_at
            again = sum(1 for run in runs if run.due_at == last) + (begin.shown if last == begin.since else 0)
            more = _more(str(_Ahead(last, again)), filters)
        return OccurrenceList.of_page([OccurrenceRow.ahead(run) for run in runs], None, more)


_A_MOMENT: Final = timedelta(microseconds=1)


def _hints(
    *, read_only: bool = False, destructive: bool = False, idempotent: bool = False, open_world: bool = False
) -> ToolAnnotations:
    """All four are always sent: a host's own defaults are the dangerous ones."""
    return ToolAnnotations(
        read_only_hint=read_only, destructive_hint=destructive, idempotent_hint=idempotent, open_world_hint=open_world
    )


# --- paging -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Ahead:
    """Where a page of computed runs ended: the last instant, and how many at that very instant were shown."""

    since: datetime | None
    shown: int

    def __str__(self) -> str:
        return f"{self.since.isoformat() if self.since else ''} {self.shown}"

    @classmethod
    def read(cls, text: str) -> "_Ahead":
        """Raises InvalidInputError (`invalid_cursor`) for what is none of ours."""
        since, _, shown = text.rpartition(" ")
        if not shown.isascii() or not shown.isdecimal() or len(shown) > _SHOWN_DIGITS:
            raise _foreign()
        return cls(_aware(since), int(shown))


@dataclass(frozen=True, slots=True)
class _Back:
    """Where a page of what happened ended: the list's own position, and until when the list reaches.

    The pages are of one list, whose end stays where it was while time goes on.
    """

    until: datetime
    cursor: str

    def __str__(self) -> str:
        """Short, since an agent reads it."""
        return f"{microseconds(self.until):x} {self.cursor}"

    @classmethod
    def read(cls, text: str) -> "_Back":
        """Raises InvalidInputError (`invalid_cursor`) for what is none of ours."""
        until, _, cursor = text.partition(" ")
        if not _HEX.fullmatch(until):
            raise _foreign()
        return cls(EPOCH + timedelta(microseconds=int(until, 16)), cursor)


_SHOWN_DIGITS: Final = 9
_HEX: Final = re.compile(r"[0-9a-f]{1,14}")  # up to some two thousand years of microseconds


def _aware(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise _foreign() from None
    if at.utcoffset() is None or not 1970 <= at.year < 9999:
        raise _foreign()
    return at


def _foreign() -> InvalidInputError:
    why = "This cursor belongs to another list. Begin again without it."
    return InvalidInputError.of("cursor", why, code="invalid_cursor", fix=[{"cursor": None}])


def _more(position: str | None, filters: Mapping[str, Any]) -> str | None:
    """A position bound to the filter it was made under: with another it would skip or repeat."""
    if position is None:
        return None
    return base64.urlsafe_b64encode(_mark(filters) + position.encode()).decode().rstrip("=")


def _position(cursor: str | None, filters: Mapping[str, Any]) -> str | None:
    """Raises InvalidInputError (`invalid_cursor`) for a cursor of another list."""
    if cursor is None:
        return None
    try:
        raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        mark, position = raw[:6], raw[6:].decode()
    except (binascii.Error, ValueError):
        mark, position = b"", ""
    if mark != _mark(filters):
        raise _foreign()
    return position


def _mark(filters: Mapping[str, Any]) -> bytes:
    told = json.dumps({name: value for name, value in filters.items() if value}, sort_keys=True, default=str)
    return hashlib.sha256(told.encode()).digest()[:6]
