"""Which occurrence comes next.

Each active event has exactly one planned row (`advances`): creating an event and claiming an
occurrence plan the same way, with these functions. Everything further ahead is computed, not stored.
"""

from collections.abc import Set
from datetime import datetime
from typing import Final

from qhronos_core.domain.event import Event
from qhronos_core.domain.ids import occurrence_id
from qhronos_core.domain.lanes import lane_of
from qhronos_core.domain.occurrence import Cause, Occurrence
from qhronos_core.domain.schedule import Timetable, names_instant

COUNTED_TO: Final = 10_000  # runs missed in an outage are counted exactly up to here


def timetable(event: Event) -> Timetable:
    """The parsed rule of an event that was accepted; cached by its text."""
    return Timetable.of(
        event.schedule,
        timezone=event.timezone,
        anchor=event.anchor_at,
        start_time=event.start_time,
        end_time=event.end_time,
        exclusions=event.exclusions,
    )


def at_instant(event: Event, instant: datetime, ordinal: int, now: datetime) -> Occurrence:
    """The planned row of one instant."""
    return Occurrence(
        id=occurrence_id(event.id, instant),
        event_id=event.id,
        scheduled_at=instant,
        created_at=now,
        updated_at=now,
        round_began_at=now,
        due_at=instant,
        ordinal=ordinal,
        event_version=event.version,
        lane=lane_of(event),
    )


def first(event: Event, now: datetime, *, ordinal: int = 1, taken: Set[datetime] = frozenset()) -> Occurrence | None:
    """The first occurrence of a rule accepted `now`. An instant in `taken` has a row and is never planned again."""
    table = timetable(event)
    instant = table.first(now)
    while instant is not None and instant in taken:
        instant = table.next_after(instant)
    return _numbered(event, instant, ordinal, now)


def following(
    event: Event, after: datetime, ordinal: int, now: datetime, *, taken: Set[datetime] = frozenset()
) -> Occurrence | None:
    """The occurrence at the first instant later than `after`, as the `ordinal`th; None if there is none left."""
    table = timetable(event)
    instant = table.next_after(after)
    while instant is not None and instant in taken:
        instant = table.next_after(instant)
    return _numbered(event, instant, ordinal, now)


def successor(event: Event, past: Occurrence, now: datetime) -> Occurrence | None:
    """Counted from the last scheduled instant, never from `now` alone, so nothing is skipped and nothing drifts."""
    if names_instant(event.schedule):
        return None
    return following(event, past.scheduled_at, past.ordinal + 1, now)


def triggered(event: Event, instant: datetime, now: datetime) -> Occurrence:
    """A run asked for by hand: it does not move the schedule and does not count."""
    return Occurrence(
        id=occurrence_id(event.id, instant),
        event_id=event.id,
        scheduled_at=instant,
        created_at=now,
        updated_at=now,
        round_began_at=now,
        due_at=now,
        cause=Cause.TRIGGER,
        advances=False,
        event_version=event.version,
        lane=lane_of(event),
    )


def _numbered(event: Event, instant: datetime | None, ordinal: int, now: datetime) -> Occurrence | None:
    if instant is None or (event.max_occurrences is not None and ordinal > event.max_occurrences):
        return None
    return at_instant(event, instant, ordinal, now)


def missed_count(event: Event, since: Occurrence, until: datetime) -> int:
    """How many instants lie in [since.scheduled_at, until], `since` included; exact up to COUNTED_TO.

    Where occurrences are counted it is exact always: which is the last of them hangs on it.
    """
    limit = COUNTED_TO if event.max_occurrences is None else event.max_occurrences - since.ordinal
    return 1 + timetable(event).count_between(since.scheduled_at, until, limit)


def next_instants(event: Event, since: datetime, until: datetime, count: int) -> list[datetime]:
    """The first `count` instants in (since, until]."""
    table = timetable(event)
    found: list[datetime] = []
    instant = table.next_after(since)
    while instant is not None and instant <= until and len(found) < count:
        found.append(instant)
        instant = table.next_after(instant)
    return found
