"""One look at what is due: its rows judged one after another, each by what those before it have changed.

The same in both stores. Nothing is read or written here: the store has locked the rows, and writes the moves at once.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from qhronos_core.domain.event import Event, EventStatus
from qhronos_core.domain.ids import EventId
from qhronos_core.domain.occurrence import Held, Move, Occurrence
from qhronos_core.ports import Due, Gap, Judge

_EVENTS_KEPT: Final = 2_000


class EventCache:
    """Events of the last looks; used only at the version and status that were just read from the store."""

    def __init__(self, size: int = _EVENTS_KEPT) -> None:
        self._size = size
        self._kept: OrderedDict[EventId, Event] = OrderedDict()

    def at(self, event_id: EventId, version: int, status: str) -> Event | None:
        event = self._kept.get(event_id)
        if event is None or event.version != version:
            return None
        self._kept.move_to_end(event_id)
        return event if event.status.value == status else replace(event, status=EventStatus(status))

    def keep(self, events: Iterable[Event]) -> None:
        for event in events:
            self._kept[event.id] = event
            self._kept.move_to_end(event.id)
        while len(self._kept) > self._size:
            self._kept.popitem(last=False)


class Crowd:
    """The rows of one event among which a due one is judged: those outside the look counted, those inside as they stand now."""

    def __init__(self, begun: int, held: int, inside: Iterable[Occurrence]) -> None:
        self._begun = begun
        self._held = held
        self._inside = {occurrence.id: occurrence for occurrence in inside}

    def others(self, occurrence: Occurrence) -> tuple[int, int]:
        """How many others are begun and unfinished, and how many are held back."""
        others = [other for other in self._inside.values() if other.id != occurrence.id and not other.finished]
        held = sum(other.held is Held.OVERLAP for other in others)
        begun = sum(other.begun and other.held is not Held.OVERLAP for other in others)
        return self._begun + begun, self._held + held

    def now(self, occurrence: Occurrence) -> None:
        self._inside[occurrence.id] = occurrence


@dataclass(frozen=True, slots=True)
class Look:
    """What every row of one look is judged by."""

    judge: Judge
    now: datetime
    node: str
    lease: timedelta
    gap: Gap | None

    def judged(
        self,
        occurrences: Sequence[Occurrence],
        events: MutableMapping[EventId, Event],
        crowds: Mapping[EventId, Crowd],
    ) -> list[tuple[Move, Event]]:
        """Every move, earliest due first, with its event as it was when its turn came.

        `events` are changed as the next row of each needs them.

        A row whose event is not among `events` is left alone. `crowds`: of the events that mind overlap.
        """
        judged: list[tuple[Move, Event]] = []
        rows_of = Counter(occurrence.event_id for occurrence in occurrences)
        for occurrence in sorted(occurrences, key=lambda row: row.due_at or self.now):
            if (event := events.get(occurrence.event_id)) is None:
                continue
            crowd = crowds.get(event.id)
            unfinished, queued = (0, 0) if crowd is None else crowd.others(occurrence)
            due = Due(occurrence, event, self.now, self.node, self.lease, self.gap, unfinished, queued)
            move = self.judge.judge(due)
            judged.append((move, event))
            if rows_of[event.id] > 1:
                events[event.id] = _left_by(move, event)
            if crowd is not None:
                crowd.now(move.now)
        return judged


def _left_by(move: Move, event: Event) -> Event:
    """The event as the move leaves it, once it is written."""
    if event.status not in (EventStatus.ACTIVE, EventStatus.INACTIVE):
        return event
    if move.pauses_event is not None:
        at = move.now.updated_at
        paused = {"paused_at": at, "paused_until": None, "paused_reason": move.pauses_event}
        return event.changed(at, status=EventStatus.PAUSED, **paused)
    return replace(event, status=EventStatus.INACTIVE) if move.ends_event else event
