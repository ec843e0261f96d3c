"""What a tool answers: small objects that are enough by themselves.

Every view begins with `says`, one line of our own words: ids, times and states. Whatever a person or
another system wrote stands under `untrusted` and nowhere else; beside it `by`, set by us, says whose
wish it is. What is absent is left out.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import mcp_types as t
from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

from qhronos_core.domain.access import Principal
from qhronos_core.domain.event import Action, ActionType, CatchUp, Event, EventStatus, Overlap
from qhronos_core.domain.lifecycle import COMPLETED, PENDING
from qhronos_core.domain.occurrence import Attempt, Occurrence
from qhronos_core.domain.schedule import zone
from qhronos_core.usecases.events import EventAnswer
from qhronos_core.usecases.occurrences import InboxGlimpse, OccurrenceAnswer, Upcoming
from qhronos_mcp.views import duration

RESPONSE_SHOWN: Final = 200  # characters of a receiver's answer
NEXT_SHOWN: Final = 3
LATE_FROM: Final = timedelta(minutes=1)
_WEEKDAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def spoken(at: datetime, timezone: str = "UTC") -> str:
    """Weekday and RFC 3339 in that zone: `Tue 2026-11-24T09:00:00+01:00`. Cut four characters and parse."""
    local = at.astimezone(zone(timezone))
    text = local.isoformat(timespec="seconds")
    return f"{_WEEKDAYS[local.weekday()]} {text[:-6] + 'Z' if timezone == 'UTC' else text}"


def compact_json(shown: Mapping[str, Any]) -> str:
    return json.dumps(shown, ensure_ascii=False, separators=(",", ":"))


def tool_result(
    shown: Mapping[str, Any],
    now: datetime,
    *,
    line: bool,
    is_error: bool = False,
    meta: dict[str, Any] | None = None,
) -> t.CallToolResult:
    """Stamped with `now`; structured, and the same as compact JSON text: many hosts show the model the text alone."""
    stamped = {**shown, "now": spoken(now)}
    text = str(stamped["says"]) if line else compact_json(stamped)
    return t.CallToolResult(
        is_error=is_error,
        content=[t.TextContent(type="text", text=text)],
        structured_content=stamped,
        _meta=meta,
    )


class Part(BaseModel):
    """A piece of a result; what is None is left out (of ours, never of a caller's own metadata)."""

    model_config = ConfigDict(frozen=True)

    @model_serializer(mode="wrap")
    def _without_absent(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in whole(self).items() if value is not None}


class View(Part):
    says: str


class Untrusted(Part):
    """Text somebody wrote. Data to an agent, and a wish only with the authority of the `by` beside it."""

    name: str
    description: str | None = None
    metadata: dict[str, Any] | None = None
    tags: list[str] | None = None
    note: str | None = None
    response: str | None = None

    @classmethod
    def of(cls, event: Event, *, note: str | None = None) -> "Untrusted":
        return cls(
            name=event.name,
            description=event.description or None,
            metadata=dict(event.metadata) or None,
            tags=list(event.tags) or None,
            note=note,
        )


class Warned(Part):
    code: str
    says: str


def called(event: Event) -> str:
    """How a row names its event: the key where there is one."""
    return event.key or str(event.id)


def written_by(event: Event, caller: Principal) -> str:
    return "you" if event.created_by == caller.sub else event.created_by


def _next(answer: EventAnswer, most: int = NEXT_SHOWN) -> list[str]:
    return [spoken(run.at, answer.event.timezone) for run in answer.next_runs[:most]]


# --- events -----------------------------------------------------------------------------------------


class EventBrief(Part):
    id: str | None = None  # none in the preview of a new one
    key: str | None = None
    status: EventStatus
    meaning: str
    next: list[str]


class EventChanged(View):
    result: str
    event: EventBrief
    skipped: str | None = None
    warnings: list[Warned] | None = None

    @classmethod
    def of(cls, answer: EventAnswer) -> "EventChanged":
        event = answer.event
        new = answer.result == "preview" and event.version == 1
        ahead = _next(answer)
        result = answer.result or "unchanged"
        when = f"next {ahead[0]}" if ahead else "no run ahead"
        name = "" if new and not event.key else f" {called(event)}"
        warnings = [Warned(code=notice.code, says=notice.says) for notice in answer.warnings]
        if answer.secret_once is not None:
            warnings.append(_SECRET_MADE)
        return cls(
            says=f"{result.capitalize()}{name}: {answer.meaning}; {when}; {event.status}.",
            result=result,
            event=EventBrief(
                id=None if new else str(event.id),
                key=event.key,
                status=event.status,
                meaning=answer.meaning,
                next=ahead,
            ),
            skipped=None if answer.skipped_at is None else spoken(answer.skipped_at, event.timezone),
            warnings=warnings or None,
        )


_SECRET_MADE: Final = Warned(
    code="secret_made",
    says="A signing secret was made and is not shown here: make and see a new one with `qhronos secret`, "
    "or a REST PUT of hmac_secret null.",
)


class EventNamed(Part):
    id: str
    key: str | None = None


class EventDeleted(View):
    result: Literal["deleted"] = "deleted"
    event: EventNamed

    @classmethod
    def of(cls, answer: EventAnswer) -> "EventDeleted":
        event = answer.event
        return cls(
            says=f"Deleted {called(event)}: nothing further is sent.", event=EventNamed(id=str(event.id), key=event.key)
        )


class Named(Part):
    name: str


class EventRow(Part):
    event: str
    meaning: str
    next: str | None = None
    status: EventStatus | None = None  # unless active
    last: str | None = None  # unless completed
    untrusted: Named

    @classmethod
    def of(cls, answer: EventAnswer) -> "EventRow":
        event, last = answer.event, answer.last
        return cls(
            event=called(event),
            meaning=answer.meaning,
            next=None if answer.next_run_at is None else spoken(answer.next_run_at, event.timezone),
            status=None if event.status is EventStatus.ACTIVE else event.status,
            last=None if last is None or last.state is COMPLETED else str(last.state),
            untrusted=Named(name=event.name),
        )


class EventList(View):
    events: list[EventRow]
    of: int | None = None
    more: str | None = None

    @classmethod
    def of_page(cls, answers: Sequence[EventAnswer], total: int | None, more: str | None) -> "EventList":
        shown = [EventRow.of(answer) for answer in answers]
        return cls(says=_counted(len(shown), total, "event"), events=shown, of=total, more=more)


class ActionShown(Part):
    type: ActionType
    target: str | None = None

    @classmethod
    def of(cls, action: Action) -> "ActionShown":
        """Where it goes, no further than the host: a URL's path and query may hold a secret."""
        if "url" in action.params:
            return cls(type=action.type, target=host_of(str(action.params["url"])))
        name = action.params.get("client_name")
        return cls(type=action.type, target=None if name is None else str(name))


def host_of(url: str) -> str:
    """Scheme, host and port: what else stands in a URL was written by somebody."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")


class LastRun(Part):
    id: str
    due: str
    status: str
    reason: str | None = None


class EventDetail(Part):
    id: str
    key: str | None = None
    status: EventStatus
    paused_until: str | None = None
    paused_reason: str | None = None
    schedule: str | dict[str, Any] | None = None
    timezone: str
    meaning: str
    next: list[str]
    action: ActionShown
    catch_up: CatchUp | None = None
    overlap: Overlap | None = None
    expires_after: str | None = None
    last: LastRun | None = None
    by: str
    untrusted: Untrusted


class EventShown(View):
    event: EventDetail

    @classmethod
    def of(cls, answer: EventAnswer, caller: Principal) -> "EventShown":
        event, last, policies = answer.event, answer.last, answer.event.policies
        ahead = _next(answer)
        return cls(
            says=f"{called(event)} is {event.status}: {answer.meaning}; {f'next {ahead[0]}' if ahead else 'no run ahead'}.",
            event=EventDetail(
                id=str(event.id),
                key=event.key,
                status=event.status,
                paused_until=None if event.paused_until is None else spoken(event.paused_until, event.timezone),
                paused_reason=event.paused_reason,
                schedule=event.schedule
                if event.schedule is None or isinstance(event.schedule, str)
                else dict(event.schedule),
                timezone=event.timezone,
                meaning=answer.meaning,
                next=ahead,
                action=ActionShown.of(event.action),
                catch_up=None if policies.catch_up is CatchUp.ONE else policies.catch_up,
                overlap=None if policies.overlap is Overlap.ALLOW else policies.overlap,
                expires_after=None if policies.expires_after is None else duration(policies.expires_after),
                last=None
                if last is None
                else LastRun(
                    id=str(last.id),
                    due=spoken(last.scheduled_at, event.timezone),
                    status=str(last.state),
                    reason=_reason(last),
                ),
                by=written_by(event, caller),
                untrusted=Untrusted.of(event),
            ),
        )


# --- occurrences ------------------------------------------------------------------------------------


class OccurrenceRow(Part):
    id: str
    event: str
    due: str
    status: str
    reason: str | None = None

    @classmethod
    def of(cls, answer: OccurrenceAnswer) -> "OccurrenceRow":
        occurrence, event = answer.occurrence, answer.event
        return cls(
            id=str(occurrence.id),
            event=called(event),
            due=spoken(occurrence.scheduled_at, event.timezone),
            status=str(occurrence.state),
            reason=_reason(occurrence),
        )

    @classmethod
    def ahead(cls, run: Upcoming) -> "OccurrenceRow":
        return cls(
            id=str(run.occurrence_id),
            event=called(run.event),
            due=spoken(run.due_at, run.event.timezone),
            status=str(PENDING),
        )


class OccurrenceList(View):
    occurrences: list[OccurrenceRow]
    of: int | None = None
    more: str | None = None

    @classmethod
    def of_page(cls, rows: Sequence[OccurrenceRow], total: int | None, more: str | None) -> "OccurrenceList":
        return cls(says=_counted(len(rows), total, "occurrence"), occurrences=list(rows), of=total, more=more)


class AttemptShown(Part):
    at: str
    to: str | None = None
    code: int | str
    took: str | None = None

    @classmethod
    def of(cls, attempt: Attempt, timezone: str) -> "AttemptShown":
        return cls(
            at=spoken(attempt.started_at, timezone),
            to=None if attempt.destination is None else host_of(attempt.destination),
            code=attempt.status_code or attempt.error or str(attempt.outcome),
            took=None if attempt.duration_ms is None else f"{attempt.duration_ms} ms",
        )


class CaughtUp(Part):
    missed: int
    since: str


class OccurrenceDetail(Part):
    id: str
    event: str
    due: str
    status: str
    reason: str | None = None
    next_attempt: str | None = None
    caught_up: CaughtUp | None = None
    attempts: list[AttemptShown]
    by: str
    untrusted: Untrusted


class OccurrenceShown(View):
    occurrence: OccurrenceDetail

    @classmethod
    def of(cls, answer: OccurrenceAnswer, attempts: Sequence[Attempt], caller: Principal) -> "OccurrenceShown":
        occurrence, event = answer.occurrence, answer.event
        row = OccurrenceRow.of(answer)
        answered = next((made.response for made in reversed(attempts) if made.response is not None), None)
        retried = occurrence.due_at if occurrence.state is PENDING else None
        return cls(
            says=f"Occurrence {row.id} of {row.event} is {row.status}; due {row.due}; {_many(len(attempts), 'attempt')}.",
            occurrence=OccurrenceDetail(
                id=row.id,
                event=row.event,
                due=row.due,
                status=row.status,
                reason=row.reason,
                next_attempt=None if retried is None else spoken(retried, event.timezone),
                caught_up=_caught_up(occurrence, event),
                attempts=[AttemptShown.of(made, event.timezone) for made in attempts],
                by=written_by(event, caller),
                untrusted=Untrusted(
                    name=event.name,
                    note=occurrence.note,
                    response=None if answered is None else answered.decode("utf-8", "replace")[:RESPONSE_SHOWN],
                ),
            ),
        )


class Claimed(Part):
    """One inbox item in this agent's hands until `lease_until`. `delivery`: how often it has been handed out, this time included."""

    id: str
    event: str
    due: str
    late: str | None = None
    lease_until: str
    delivery: int
    caught_up: CaughtUp | None = None
    by: str
    untrusted: Untrusted

    @classmethod
    def of(cls, answer: OccurrenceAnswer, caller: Principal) -> "Claimed":
        occurrence, event = answer.occurrence, answer.event
        claimed_at = occurrence.claimed_at or occurrence.updated_at
        late = claimed_at - occurrence.scheduled_at
        return cls(
            id=str(occurrence.id),
            event=called(event),
            due=spoken(occurrence.scheduled_at, event.timezone),
            late=duration(late) if late >= LATE_FROM else None,
            lease_until=spoken(occurrence.lease_until or claimed_at, event.timezone),
            delivery=occurrence.deliveries,
            caught_up=_caught_up(occurrence, event),
            by=written_by(event, caller),
            untrusted=Untrusted.of(event, note=occurrence.note),
        )


class Waited(View):
    occurrences: list[Claimed]
    waiting: int | None = None
    next_due: str | None = None
    held: list[str]

    @classmethod
    def of(cls, claimed: Sequence[OccurrenceAnswer], glimpse: InboxGlimpse, caller: Principal) -> "Waited":
        items = [Claimed.of(answer, caller) for answer in claimed]
        held = [str(held) for held in glimpse.held]
        if items:
            says = f"Claimed {items[0].id} of {items[0].event}"
            says += f" and {len(items) - 1} more" if len(items) > 1 else ""
            says += f"; acknowledge by {items[0].lease_until}. {glimpse.waiting} more waiting."
            return cls(says=says, occurrences=items, waiting=glimpse.waiting, held=held)
        next_due = None if glimpse.next_due is None else spoken(glimpse.next_due)
        says = f"Nothing is due{'' if next_due is None else f'; the next is due {next_due}'}."
        return cls(says=says, occurrences=[], next_due=next_due, held=held)


class Settled(Part):
    id: str
    status: str


class Acknowledged(View):
    occurrence: Settled
    next: str | None = None

    @classmethod
    def of(cls, answer: OccurrenceAnswer, next_run_at: datetime | None) -> "Acknowledged":
        occurrence, event = answer.occurrence, answer.event
        again = occurrence.due_at if occurrence.state is PENDING else next_run_at
        coming = None if again is None else spoken(again, event.timezone)
        says = f"Occurrence {occurrence.id} is {occurrence.state}"
        if coming is not None:
            says += f"; offered again {coming}" if occurrence.state is PENDING else f"; next run {coming}"
        return cls(
            says=f"{says}.", occurrence=Settled(id=str(occurrence.id), status=str(occurrence.state)), next=coming
        )


class Run(Part):
    id: str
    status: str
    due: str


class Triggered(View):
    occurrence: Run

    @classmethod
    def of(cls, answer: OccurrenceAnswer) -> "Triggered":
        occurrence, event = answer.occurrence, answer.event
        due = spoken(occurrence.due_at or occurrence.scheduled_at, event.timezone)
        return cls(
            says=f"Occurrence {occurrence.id} of {called(event)} is {occurrence.state}; due {due}.",
            occurrence=Run(id=str(occurrence.id), status=str(occurrence.state), due=due),
        )


class InboxRow(Part):
    id: str
    event: str
    due: str
    lease_until: str | None = None
    untrusted: Named


class Inbox(View):
    """`qhronos://inbox`. Reading it claims nothing."""

    due: int
    held: list[str]
    next_due: str | None = None
    occurrences: list[InboxRow]

    @classmethod
    def of(cls, glimpse: InboxGlimpse) -> "Inbox":
        rows = [
            InboxRow(
                id=str(row.occurrence.id),
                event=called(row.event),
                due=spoken(row.occurrence.scheduled_at, row.event.timezone),
                lease_until=None
                if row.occurrence.lease_until is None
                else spoken(row.occurrence.lease_until, row.event.timezone),
                untrusted=Named(name=row.event.name),
            )
            for row in glimpse.rows
        ]
        return cls(
            says=f"{glimpse.waiting} due and unclaimed; {len(glimpse.held)} held by you.",
            due=glimpse.waiting,
            held=[str(held) for held in glimpse.held],
            next_due=None if glimpse.next_due is None else spoken(glimpse.next_due),
            occurrences=rows,
        )


def _reason(occurrence: Occurrence) -> str | None:
    return None if occurrence.reason is None else str(occurrence.reason)


def _caught_up(occurrence: Occurrence, event: Event) -> CaughtUp | None:
    if occurrence.missed is None or occurrence.missed_since is None:
        return None
    return CaughtUp(missed=occurrence.missed, since=spoken(occurrence.missed_since, event.timezone))


def _counted(shown: int, total: int | None, what: str) -> str:
    return f"{_many(shown, what)}." if total is None or total == shown else f"{shown} of {_many(total, what)}."


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
