"""The kinds of rule. Each answers one question, `next_after`: the first instant strictly later, or none.

A rule knows nothing of bounds and exclusions: those are the timetable's.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar, Final, Protocol

from qhronos_core.domain.schedule.cron import Cron
from qhronos_core.domain.schedule.pattern import LONGEST_GAP, lost_days, shows
from qhronos_core.domain.schedule.recurrence import Recurrence
from qhronos_core.domain.schedule.wallclock import HORIZON, WallClock, instant_of, seconds

SHORTEST_INTERVAL: Final = timedelta(seconds=1)
LONGEST_INTERVAL: Final = timedelta(days=366)
_END: Final = instant_of(HORIZON)


class Rule(Protocol):
    """When something comes due."""

    @property
    def kind(self) -> str: ...

    @property
    def repeats(self) -> bool: ...

    def next_after(self, instant: datetime, before: int = HORIZON) -> datetime | None:
        """The first instant strictly later than `instant` and before `before` (seconds since 1970, at most the year 2200)."""

    def moved(self, instant: datetime) -> bool:
        """Whether the run at `instant` stands for a wall time that does not exist on its day."""

    def lost(self, clock: WallClock, after: int, until: int) -> list[tuple[int, int]]:
        """The days in (after, until] whose every run fell into a gap and is not made up: (end of the gap, first wall time lost)."""


@dataclass(frozen=True, slots=True)
class CronRule:
    """A cron expression on the wall of one zone. `kind` is `phrase` if it was said as a sentence."""

    cron: Cron
    clock: WallClock
    kind: str = "cron"

    repeats: ClassVar[bool] = True

    def next_after(self, instant: datetime, before: int = HORIZON) -> datetime | None:
        found = self.cron.next_at(self.clock, seconds(instant) + 1, before)
        return None if found is None else instant_of(found)

    def moved(self, instant: datetime) -> bool:
        return self.cron.fixed and not shows(self.cron, self.clock, seconds(instant))

    def lost(self, clock: WallClock, after: int, until: int) -> list[tuple[int, int]]:
        return lost_days(self.cron, clock, after, until, made_up=LONGEST_GAP if self.cron.fixed else 0)


@dataclass(frozen=True, slots=True)
class RecurrenceRule:
    """An iCalendar rule, or the later dialect's object said as one. `text` is the rule as RFC 5545 writes it."""

    recurrence: Recurrence
    text: str

    kind: ClassVar[str] = "recurrence"
    repeats: ClassVar[bool] = True

    def next_after(self, instant: datetime, before: int = HORIZON) -> datetime | None:
        found = self.recurrence.next_at(seconds(instant) + 1, before)
        return None if found is None else instant_of(found)

    def moved(self, instant: datetime) -> bool:
        return self.recurrence.moved(seconds(instant))

    def lost(self, clock: WallClock, after: int, until: int) -> list[tuple[int, int]]:  # noqa: ARG002
        return self.recurrence.lost(after, until)


@dataclass(frozen=True, slots=True)
class IntervalRule:
    """Every `length` of elapsed time. `first` is the first run; run k is at `first` + k x `length`, by arithmetic."""

    length: timedelta
    first: datetime

    kind: ClassVar[str] = "interval"
    repeats: ClassVar[bool] = True

    def next_after(self, instant: datetime, before: int = HORIZON) -> datetime | None:
        if instant < self.first:
            found = self.first
        elif instant >= _END:
            return None
        else:
            found = self.first + ((instant - self.first) // self.length + 1) * self.length
        return found if seconds(found) < before else None

    def moved(self, instant: datetime) -> bool:  # noqa: ARG002
        return False

    def lost(self, clock: WallClock, after: int, until: int) -> list[tuple[int, int]]:  # noqa: ARG002
        return []

    def count(self, after: datetime, until: datetime) -> int:
        """How many runs lie in (`after`, `until`]."""
        return max(self._up_to(until) - self._up_to(after), 0)

    def _up_to(self, instant: datetime) -> int:
        return (
            (min(instant, _END - timedelta(microseconds=1)) - self.first) // self.length + 1
            if instant >= self.first
            else 0
        )


@dataclass(frozen=True, slots=True)
class OnceRule:
    """One instant. `shift` is by how much a wall time that does not exist had to be moved."""

    at: datetime
    kind: str
    wall: bool = False
    shift: timedelta = timedelta(0)

    repeats: ClassVar[bool] = False

    def next_after(self, instant: datetime, before: int = HORIZON) -> datetime | None:
        return self.at if self.at > instant and seconds(self.at) < before else None

    def moved(self, instant: datetime) -> bool:  # noqa: ARG002
        return bool(self.shift)

    def lost(self, clock: WallClock, after: int, until: int) -> list[tuple[int, int]]:  # noqa: ARG002
        return []
