"""The clock on the wall of a zone, as stretches of unbroken time between its changes.

All reckoning is in whole seconds since 1970: `at` counts UTC seconds, `wall` the seconds a clock
on the wall would have counted. Within one stretch `wall = at + offset`. Where stretches meet the
wall clock jumps: forward over a *gap* of wall times that never happen, or back over a *fold* of
wall times that happen twice. Rules search stretch by stretch, so both are met where they are and
nothing is converted and hoped for.
"""

from bisect import bisect_right
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple

from qhronos_core.domain.schedule.zones import zone

DAY: Final = 86_400
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
EPOCH_ORDINAL: Final = date(1970, 1, 1).toordinal()
_FIRST_YEAR: Final = 2
_LAST_YEAR: Final = 2300
_ALWAYS: Final = 1 << 62

# No two changes of one zone are closer than this, so looking once in each step misses none
# (a test reads every zone of the pinned data to say so).
_STEP: Final = 6 * DAY


def seconds(instant: datetime) -> int:
    """Whole seconds since 1970, rounded down."""
    passed = instant - EPOCH
    return passed.days * DAY + passed.seconds


def instant_of(at: int) -> datetime:
    return EPOCH + timedelta(seconds=at)


def day_of(when: date) -> int:
    """Days since 1970-01-01."""
    return when.toordinal() - EPOCH_ORDINAL


def date_of(day: int) -> date:
    return date.fromordinal(day + EPOCH_ORDINAL)


# The first second out of reach: nothing is ever planned for the year 2200 or later.
HORIZON: Final = day_of(date(2200, 1, 1)) * DAY


class Stretch(NamedTuple):
    """`start <= at < end` with one offset. `before` is the offset in force before `start`."""

    start: int
    before: int
    offset: int
    end: int

    @property
    def gap(self) -> int:
        """Seconds of wall time skipped at `start`; negative where they were repeated."""
        return self.offset - self.before


class WallClock:
    """The wall clock of one zone. Get it from `wall_clock`: it remembers the years it has looked at."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.zone = zone(name)
        fixed = self.zone.utcoffset(None)
        self._always = None if fixed is None else Stretch(-_ALWAYS, _whole(fixed), _whole(fixed), _ALWAYS)
        self._years: dict[int, tuple[list[int], list[Stretch]]] = {}

    @property
    def changes_ever(self) -> bool:
        return self._always is None

    def stretch(self, at: int) -> Stretch:
        """The stretch `at` lies in. It may be cut short at the end of a UTC year; its start never is."""
        if self._always is not None:
            return self._always
        year = date_of(at // DAY).year if _FLOOR <= at < _CEILING else (_FIRST_YEAR if at < _FLOOR else _LAST_YEAR)
        starts, stretches = self._years.get(year) or self._look(year)
        return stretches[max(bisect_right(starts, at) - 1, 0)]

    def offset(self, at: int) -> int:
        return self.stretch(at).offset

    def local(self, at: int) -> datetime:
        return instant_of(at).astimezone(self.zone)

    def at(self, wall: int) -> tuple[int, int]:
        """The instant of a wall time, and by how many seconds it had to be moved.

        In a gap the time is read with the offset before it, so 02:30 becomes 03:30 (moved by the
        gap's length); in a fold it is the first of the two.
        """
        stretch = self.stretch(wall - self.stretch(wall - DAY).offset)
        # A change moves the wall by a day at most, so the stretch sought is this one or a neighbour.
        while wall - stretch.before < stretch.start:
            stretch = self.stretch(stretch.start - 1)
        while wall - stretch.offset >= stretch.end:
            stretch = self.stretch(stretch.end)
        if wall - stretch.offset < stretch.start:
            return wall - stretch.before, stretch.gap
        return wall - stretch.offset, 0

    def changes(self, after: int, until: int) -> list[Stretch]:
        """The stretches that begin after `after` and not after `until`, earliest first."""
        found = []
        stretch = self.stretch(after)
        while stretch.end <= until:
            following = self.stretch(stretch.end)
            if following.start == stretch.end:
                found.append(following)
            stretch = following
        return found

    def _look(self, year: int) -> tuple[list[int], list[Stretch]]:
        begin, end = _start_of(year), _start_of(year + 1) if year < _LAST_YEAR else _ALWAYS
        opened = self._last_change_of(year - 1)
        marks: list[tuple[int, int, int]] = [opened] if opened else [(-_ALWAYS, self._probe(begin), self._probe(begin))]
        low, before = begin, self._probe(begin - 1)
        while low < min(end, _CEILING):
            high = min(low + _STEP, end)
            after = self._probe(high - 1)
            if after != before:
                marks.append((self._change_between(low - 1, high - 1, before), before, after))
            low, before = high, after
        starts = [begin if index == 0 else mark[0] for index, mark in enumerate(marks)]
        ends = [*starts[1:], end]
        stretches = [Stretch(*mark, stop) for mark, stop in zip(marks, ends, strict=True)]
        self._years[year] = starts, stretches
        return starts, stretches

    def _last_change_of(self, year: int) -> tuple[int, int, int] | None:
        begin, high = _start_of(year), _start_of(year + 1)
        while high > begin:
            low = max(high - _STEP, begin)
            before, after = self._probe(low - 1), self._probe(high - 1)
            if before != after:
                return self._change_between(low - 1, high - 1, before), before, after
            high = low
        return None

    def _change_between(self, low: int, high: int, before: int) -> int:
        """The first second in (low, high] whose offset is no longer `before`."""
        while high - low > 1:
            middle = (low + high) // 2
            if self._probe(middle) == before:
                low = middle
            else:
                high = middle
        return high

    def _probe(self, at: int) -> int:
        return _whole(instant_of(min(max(at, _FLOOR), _CEILING)).astimezone(self.zone).utcoffset())


def _whole(offset: timedelta | None) -> int:
    return 0 if offset is None else offset.days * DAY + offset.seconds


def _start_of(year: int) -> int:
    return day_of(date(min(max(year, _FIRST_YEAR), _LAST_YEAR + 1), 1, 1)) * DAY


_FLOOR: Final = _start_of(_FIRST_YEAR)
_CEILING: Final = _start_of(_LAST_YEAR)


@lru_cache(maxsize=600)
def wall_clock(name: str) -> WallClock:
    return WallClock(name)
