"""Patterns: which minutes of which days of a wall calendar match. Cron and recurrence rules both come down to one.

A month is an integer whose bit d says whether day d matches, a day an integer whose bit m says whether
minute m of it does. So the next match is the lowest bit set, found in a few steps however rare the rule:
a month without a match costs one look.

What a match means where the wall clock jumps is not the pattern's business but the pass's:
`EVERY_PASS` is plain wall-clock matching; `first_pass` gives each matching wall time one instant.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import date, timedelta
from functools import lru_cache
from typing import Final

from qhronos_core.domain.schedule.wallclock import DAY, HORIZON, WallClock, date_of, day_of

MINUTES: Final = 1440
ALL_DAY: Final = (1 << MINUTES) - 1
LONGEST_GAP: Final = timedelta(hours=3) // timedelta(seconds=1)


def length_of(year: int, month: int) -> int:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month in (4, 6, 9, 11) else 31


def first_weekday(year: int, month: int) -> int:
    """The weekday of the 1st, Monday 0."""
    return _first_weekdays(year)[month]


@lru_cache(maxsize=512)
def _first_weekdays(year: int) -> tuple[int, ...]:
    weekday = date(year, 1, 1).weekday()
    found = [0]
    for month in range(1, 13):
        found.append(weekday)
        weekday = (weekday + length_of(year, month)) % 7
    return tuple(found)


def lowest(bits: int) -> int:
    return (bits & -bits).bit_length() - 1


def bits_of(bits: int) -> list[int]:
    """The positions set, ascending."""
    found = []
    while bits:
        found.append(lowest(bits))
        bits &= bits - 1
    return found


class Pattern(ABC):
    """A match of wall time to the minute; `second` is where in the minute it falls."""

    second: int = 0

    @abstractmethod
    def days(self, year: int, month: int) -> int:
        """Bit d: day d of this month has a match (or, rarely, only may have)."""

    @abstractmethod
    def minutes(self, day: int) -> int:
        """Bit m: minute m matches, on a day that `days` names. `day` counts from 1970-01-01."""

    def first(self, low: int, high: int, only: Callable[[int], int] | None = None) -> int | None:
        """The first matching wall minute in [low, high), counted from 1970, or None. `only` narrows `minutes`."""
        if low >= high:
            return None
        day, minute = divmod(low, MINUTES)
        today = date_of(day)
        year, month, of_month = today.year, today.month, today.day
        begin = day - of_month  # the day before the 1st, so that bit d of a month is day begin + d
        days = self.days(year, month) >> of_month << of_month
        while True:
            while days:
                found = begin + lowest(days)
                bits = self.minutes(found)
                if only is not None:
                    bits &= only(found)
                if found == day:
                    bits = bits >> minute << minute
                if bits:
                    match = found * MINUTES + lowest(bits)
                    return match if match < high else None
                days &= days - 1
            begin += length_of(year, month)
            if (begin + 1) * MINUTES >= high:
                return None
            year, month = (year, month + 1) if month < 12 else (year + 1, 1)
            days = self.days(year, month)


def _minute_from(wall: int, second: int) -> int:
    """The first wall minute that, at its `second`, is not before `wall`."""
    return -((second - wall) // 60)


def every_pass(pattern: Pattern, clock: WallClock, begin: int, end: int) -> int | None:
    """The first instant in [begin, end) whose wall time matches: twice in a fold, never in a gap."""
    at, second = begin, pattern.second
    while at < end:
        stretch = clock.stretch(at)
        stop = min(stretch.end, end)
        low = _minute_from(at + stretch.offset, second)
        if (minute := pattern.first(low, _minute_from(stop + stretch.offset, second))) is not None:
            return minute * 60 + second - stretch.offset
        at = stop
    return None


def one_pass(pattern: Pattern, clock: WallClock, begin: int, end: int, *, shift: bool) -> int | None:
    """The first instant in [begin, end) of a matching wall time, where each wall time has at most one instant.

    In a fold that is the first pass. In a gap, with `shift` it is the wall time read with the offset
    before the gap (02:30 becomes 03:30); without, the first instant after the gap, and none if the
    clock jumped by more than three hours.
    """
    at, second = begin, pattern.second
    while at < end:
        stretch = clock.stretch(at)
        stop = min(stretch.end, end)
        found = None
        if stretch.gap > 0:
            found = _from_gap(pattern, stretch.start, stretch.before, stretch.gap, at, shift=shift)
        # What the wall has shown before the clock was put back has had its turn.
        low = max(at + stretch.offset, stretch.start + stretch.before)
        if stretch.gap >= 0:
            low = at + stretch.offset
        minute = pattern.first(_minute_from(low, second), _minute_from(stop + stretch.offset, second))
        if minute is not None:
            plain = minute * 60 + second - stretch.offset
            found = plain if found is None else min(found, plain)
        if found is not None and found < stop:
            return found
        at = stop
    return None


def _from_gap(pattern: Pattern, start: int, before: int, gap: int, at: int, *, shift: bool) -> int | None:
    second = pattern.second
    high = _minute_from(start + before + gap, second)
    if shift:
        minute = pattern.first(_minute_from(max(start, at) + before, second), high)
        return None if minute is None else minute * 60 + second - before
    if at > start or gap > LONGEST_GAP:
        return None
    return start if pattern.first(_minute_from(start + before, second), high) is not None else None


def shows(pattern: Pattern, clock: WallClock, at: int) -> bool:
    """Whether the wall at this instant shows a matching time."""
    low = _minute_from(at + clock.offset(at), pattern.second)
    return pattern.first(low, low + 1) is not None


def lost_days(pattern: Pattern, clock: WallClock, after: int, until: int, *, made_up: int) -> list[tuple[int, int]]:
    """The days in (after, until] whose every match lies in one gap longer than `made_up` seconds.

    Each as (end of the gap, wall time of its first match).
    """
    lost = []
    for stretch in clock.changes(after, until):
        if stretch.gap <= made_up:
            continue
        low = _minute_from(stretch.start + stretch.before, pattern.second)
        high = _minute_from(stretch.start + stretch.offset, pattern.second)
        for day in range(low // MINUTES, (high - 1) // MINUTES + 1):
            begin, end = day * MINUTES, (day + 1) * MINUTES
            inside = pattern.first(max(begin, low), min(end, high))
            outside = pattern.first(begin, max(begin, low)) or pattern.first(min(end, high), end)
            if inside is not None and outside is None:
                lost.append((stretch.start, inside * 60 + pattern.second))
    return lost


def horizon_from(at: int) -> int:
    """Where the search for a first run that begins at `at` ends: 50 years on, or with the year 2199."""
    today = date_of(at // DAY)
    if today.year >= 2150:
        return HORIZON
    limit = date(today.year + 50, today.month, min(today.day, length_of(today.year + 50, today.month)))
    return min(day_of(limit) * DAY + at % DAY + 1, HORIZON)
