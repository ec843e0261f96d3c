"""Events, occurrences and judges for the store suite: plain values, nothing of a store's own."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from qhronos_core.domain.access import Level, Reach
from qhronos_core.domain.event import Action, ActionType, Event
from qhronos_core.domain.ids import EventId, OccurrenceId, new_event_id, occurrence_id
from qhronos_core.domain.journal import Cursor
from qhronos_core.domain.lifecycle import COMPLETED, DISPATCHED, DISPATCHING, State
from qhronos_core.domain.occurrence import Attempt, AttemptOutcome, Entry, EntryKind, Move, Occurrence
from qhronos_core.ports import Changes, Claimed, Due, EventSave, Judge, Store
from tests.clock import NOON

ALL: Final = Reach(everything=True)
LEASE: Final = timedelta(minutes=1)
MINUTE: Final = timedelta(minutes=1)
_MOMENTS = itertools.count()


def after(**length: float) -> datetime:
    return NOON + timedelta(**length)


def an_event(*labels: str, **fields: Any) -> Event:
    """Each one made a little later than the one before; an inbox event unless it says otherwise."""
    made = NOON - timedelta(days=1) + timedelta(milliseconds=next(_MOMENTS))
    event = Event(
        id=new_event_id(made),
        created_by="ada",
        name="water the plants",
        schedule="* * * * *",
        anchor_at=made,
        created_at=made,
        updated_at=made,
        tags=labels,
        labels=frozenset(label for label in labels if ":" in label),
    )
    return replace(event, **fields)


def a_webhook(*labels: str, **fields: Any) -> Event:
    return an_event(*labels, action=Action(ActionType.WEBHOOK, {"url": "https://example.com/"}), **fields)


def an_occurrence(event: Event, at: datetime = NOON, **fields: Any) -> Occurrence:
    """The planned row of one instant, due at it."""
    planned = Occurrence(
        id=occurrence_id(event.id, at),
        event_id=event.id,
        scheduled_at=at,
        created_at=event.created_at,
        updated_at=event.created_at,
        round_began_at=event.created_at,
        due_at=at,
        ordinal=1,
    )
    return replace(planned, **fields)


def handed_over(event: Event, at: datetime = NOON, **fields: Any) -> Occurrence:
    """An inbox item, free to take."""
    return an_occurrence(
        event, at, **{"state": DISPATCHED, "due_at": None, "inbox_at": at, "advances": False, **fields}
    )


def finished(event: Event, at: datetime = NOON, state: State = COMPLETED, **fields: Any) -> Occurrence:
    return an_occurrence(event, at, **{"state": state, "due_at": None, "finished_at": at, "advances": False, **fields})


def within(*scope: str, level: Level = Level.READ) -> Reach:
    return Reach(everything=False, scope=frozenset(scope), level=level)


def an_entry(event: Event | None = None, kind: EntryKind = EntryKind.EVENT_UPDATED, **fields: Any) -> Entry:
    return Entry(NOON, kind, event.id if event else None, **fields)


# --- judging ----------------------------------------------------------------------------------------


def claimed(due: Due, **fields: Any) -> Occurrence:
    """The row as its claim leaves it."""
    was = due.occurrence
    return was.changed(
        due.now,
        **{
            "state": DISPATCHING,
            "fence": was.fence + 1,
            "attempts_made": was.attempts_made + 1,
            "lease_until": due.now + due.lease,
            "claimed_at": due.now,
            "node": due.node,
            "advances": False,
            "event_version": due.event.version,
            **fields,
        },
    )


def ended(was: Occurrence, at: datetime, state: State = COMPLETED, **fields: Any) -> Occurrence:
    return was.changed(
        at,
        **{
            "state": state,
            "due_at": None,
            "lease_until": None,
            "inbox_at": None,
            "held": None,
            "advances": False,
            "fence": was.fence + 1,
            "finished_at": at,
            **fields,
        },
    )


def claim(due: Due) -> Move:
    """Claims whatever is due, also over a lapsed lease; plans nothing."""
    entry = Entry(due.now, EntryKind.OCCURRENCE_DUE, due.event.id, due.occurrence.id)
    return Move(due.occurrence, claimed(due), entries=(entry,))


@dataclass
class ScriptedJudge:
    """Decides by `decides`, and remembers what it was asked; `ahead` are the instants it knows of for every event."""

    decides: Callable[[Due], Move] = claim
    ahead: Sequence[datetime] = ()
    asked: list[Due] = field(default_factory=list)
    advanced: list[datetime] = field(default_factory=list)

    def judge(self, due: Due) -> Move:
        self.asked.append(due)
        return self.decides(due)

    def advance(self, event: Event, past: Occurrence, now: datetime) -> Occurrence | None:
        self.advanced.append(past.scheduled_at)
        later = [instant for instant in self.ahead if instant > past.scheduled_at]
        return an_occurrence(event, min(later), ordinal=past.ordinal + 1) if later else None


def completed(was: Occurrence, at: datetime, **fields: Any) -> Move:
    attempt = Attempt(was.id, was.attempts_made, at, at, AttemptOutcome.ACCEPTED, 200, node="n")
    entry = Entry(at, EntryKind.OCCURRENCE_COMPLETED, was.event_id, was.id)
    return replace(Move(was, ended(was, at), attempt=attempt, entries=(entry,)), **fields)


# --- acting on a store --------------------------------------------------------------------------------


async def kept(store: Store, *things: Event | Occurrence) -> None:
    """These events and occurrences, in one commit."""
    await store.commit(
        Changes(
            saves=[EventSave(thing) for thing in things if isinstance(thing, Event)],
            planned=[thing for thing in things if isinstance(thing, Occurrence)],
        )
    )


async def look(
    store: Store,
    judge: Judge | None = None,
    *,
    limit: int = 100,
    node: str = "n",
    without: frozenset[int] = frozenset(),
) -> Claimed:
    return await store.claim_due(node=node, lease=LEASE, limit=limit, judge=judge or ScriptedJudge(), without=without)


async def row(store: Store, occurrence: Occurrence) -> Occurrence:
    return await store.occurrences.get(occurrence.id)


async def journal(store: Store) -> list[Entry]:
    """All of it, from the first entry."""
    end = await store.journal.end()
    cursor, entries = Cursor(end.epoch, 0), []
    while (page := await store.journal.after(cursor, limit=1_000)).lines:
        entries += [line.entry for line in page.lines]
        cursor = page.cursor
    return entries


async def kinds(store: Store) -> list[EntryKind]:
    return [entry.kind for entry in await journal(store)]


def ids(things: Iterable[Event | Occurrence]) -> list[UUID]:
    return [thing.id for thing in things]


def unknown_event() -> EventId:
    return new_event_id(NOON)


def unknown_occurrence() -> OccurrenceId:
    return occurrence_id(unknown_event(), NOON)
