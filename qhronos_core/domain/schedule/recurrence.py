"""Recurrence rules: RFC 5545 by arithmetic from the anchor, with a seek instead of a walk.

A rule of days or longer keeps wall time: its days are bit sets of months, gated by the interval, its
times a bit set of the day. A rule of hours or minutes steps in UTC and is then filtered by what the
wall shows. Either way the next instant is found by looking at months, not by passing through periods.

Where RFC 5545 leaves a choice: a week belongs to the calendar year its day lies in; BYWEEKNO without
days means the anchor's weekday; BYSETPOS in an hour counts the minutes of BYMINUTE.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from math import gcd
from typing import Final

from qhronos_core.domain.schedule.pattern import (
    ALL_DAY,
    MINUTES,
    Pattern,
    bits_of,
    first_weekday,
    length_of,
    lost_days,
    lowest,
    one_pass,
    shows,
)
from qhronos_core.domain.schedule.rrule import Parts
from qhronos_core.domain.schedule.wallclock import DAY, HORIZON, WallClock, date_of, day_of, seconds

_MONTHS_KEPT: Final = 64


class Recurrence(Pattern):
    """One rule, anchored at one instant on the wall of one zone."""

    def __init__(self, parts: Parts, anchor: int, clock: WallClock) -> None:
        self.parts, self.anchor, self.clock = parts, anchor, clock
        wall = anchor + clock.offset(anchor)
        self.second = wall % 60
        self._begin = wall // 60
        self.begin_date = date_of(wall // DAY)
        self._until = HORIZON if parts.until is None else seconds(parts.until) + 1
        self._months: dict[int, int] = {}
        self._chosen: dict[int, dict[int, int]] = {}
        self._of_day, self._step, self._block = self._times()
        self._comb = _comb(self._block, self._step) if self._step else ALL_DAY
        # An hour period that picks minutes begins with the anchor's hour on the wall, any other with the anchor.
        self._origin = anchor - wall % 3600 if self._block > 1 else anchor
        self._tally = (anchor - 1, 0)
        self._last = self._last_minute() if parts.count is not None and not parts.sub_daily else None
        if self._last is not None:  # the wall is never more than two days from UTC, jumps included
            self._until = min(self._until, self._last * 60 + 2 * DAY)

    @property
    def time_bits(self) -> int:
        """Bit m: minute m of a day may have a run."""
        return self._of_day

    def next_at(self, begin: int, end: int) -> int | None:
        """The first instant in [begin, end), in UTC seconds."""
        begin, end = max(begin, self.anchor), min(end, self._until)
        if not self.parts.sub_daily:
            return one_pass(self, self.clock, begin, end, shift=True)
        at = begin
        while at < end:
            stretch = self.clock.stretch(at)
            stop = min(stretch.end, end)
            if (only := self._grid(stretch.offset)) is not None:
                low, high = self._minutes_between(at, stop, stretch.offset)
                if (minute := self.first(low, high, only)) is not None:
                    found = minute * 60 + self.second - stretch.offset
                    return None if self.parts.count is not None and self._ordinal(found) > self.parts.count else found
            at = stop
        return None

    def endless(self) -> "Recurrence":
        """The same rule without its COUNT."""
        return Recurrence(replace(self.parts, count=None), self.anchor, self.clock)

    def moved(self, at: int) -> bool:
        return not self.parts.sub_daily and not shows(self, self.clock, at)

    def lost(self, after: int, until: int) -> list[tuple[int, int]]:
        return lost_days(self, self.clock, after, until, made_up=0) if self.parts.sub_daily else []

    def first(self, low: int, high: int, only: Callable[[int], int] | None = None) -> int | None:
        if not self.parts.sub_daily:
            low = max(low, self._begin)
            high = high if self._last is None else min(high, self._last + 1)
        return super().first(low, high, only)

    def days(self, year: int, month: int) -> int:
        key = year * 12 + month - 1
        if (known := self._months.get(key)) is None:
            if len(self._months) >= _MONTHS_KEPT:
                self._months.clear()
            known = self._months[key] = self._picked_days(year, month) if self._picks else self._days(year, month)
        return known

    def minutes(self, day: int) -> int:
        return self._picked(self._period_of(day)).get(day, 0) if self._picks else self._of_day

    # -- days ---------------------------------------------------------------------------------------

    def _days(self, year: int, month: int) -> int:
        """The days of a month that the parts name, before BYSETPOS picks from them."""
        parts = self.parts
        length = length_of(year, month)
        days = (1 << length + 1) - 2
        if parts.months and month not in parts.months:
            return 0
        if parts.frequency == "YEARLY":
            if (year - self.begin_date.year) % parts.interval:
                return 0
            return self._days_of_year(year, month, length) & days
        if parts.month_days:
            days &= _month_days(parts.month_days, length)
        if parts.weekdays:
            days &= _weekdays(parts.weekdays, first_weekday(year, month), length)
        if parts.frequency == "MONTHLY":
            begin = self.begin_date.year * 12 + self.begin_date.month
            if (year * 12 + month - begin) % parts.interval:
                return 0
            return days if parts.month_days or parts.weekdays else days & 1 << self.begin_date.day
        if parts.frequency == "WEEKLY":
            if not parts.weekdays:
                days &= _weekdays(((0, self.begin_date.weekday()),), first_weekday(year, month), length)
            return days & self._every(year, month, length, 7) if parts.interval > 1 else days
        if parts.frequency == "DAILY" and parts.interval > 1:
            return days & self._every(year, month, length, 1)
        return days

    def _every(self, year: int, month: int, length: int, period: int) -> int:
        """The days of a month that lie in every `interval`th period of 1 or 7 days."""
        first = day_of(self.begin_date.replace(year=year, month=month, day=1))
        begin = self._begin // MINUTES
        if period == 7:
            begin -= (self.begin_date.weekday() - self.parts.week_start) % 7
        cycle = period * self.parts.interval
        block = (1 << period) - 1
        since = (first - begin) % cycle
        # Bit d is day d: a period that began `since` days before the 1st, and those that follow it.
        days = (block >> since) << 1 if since < period else 0
        for start in range(cycle - since if since else cycle, length, cycle):
            days |= block << start + 1
        return days & (1 << length + 1) - 2

    def _days_of_year(self, year: int, month: int, length: int) -> int:
        parts = self.parts
        days = (1 << length + 1) - 2
        before = _days_before(year)[month]
        plain = not (parts.week_numbers or parts.year_days or parts.month_days or parts.weekdays)
        if plain:
            if not parts.months and month != self.begin_date.month:
                return 0
            return days & 1 << self.begin_date.day
        if parts.month_days:
            days &= _month_days(parts.month_days, length)
        if parts.year_days:
            days &= (_year_days(parts.year_days, year) >> before) << 1
        if parts.week_numbers:
            days &= (_weeks(parts.week_numbers, year, parts.week_start) >> before) << 1
        if parts.weekdays and parts.months:
            days &= _weekdays(parts.weekdays, first_weekday(year, month), length)
        elif parts.weekdays:
            days &= (_weekdays_of_year(parts.weekdays, year) >> before) << 1
        elif parts.week_numbers and not parts.month_days and not parts.year_days:
            days &= _weekdays(((0, self.begin_date.weekday()),), first_weekday(year, month), length)
        return days

    # -- times --------------------------------------------------------------------------------------

    def _times(self) -> tuple[int, int, int]:
        """The minutes of a day; for a rule of hours or minutes also its step in minutes and what of a step may run."""
        parts = self.parts
        hour, minute = divmod(self._begin % MINUTES, 60)
        if not parts.sub_daily:
            times = _times_of(parts.hours or (hour,), parts.minutes or (minute,))
            if parts.frequency == "DAILY" and parts.positions:
                times = _pick(times, parts.positions)
            return times, 0, 0
        hours = parts.hours or tuple(range(24))
        if parts.frequency == "MINUTELY":
            times = _times_of(hours, parts.minutes or tuple(range(60)))
            alone = not parts.positions or 1 in parts.positions or -1 in parts.positions
            return times if alone else 0, parts.interval, 1
        if not parts.minutes:
            alone = not parts.positions or 1 in parts.positions or -1 in parts.positions
            return _times_of(hours, tuple(range(60))) if alone else 0, parts.interval * 60, 1
        minutes = sum(1 << each for each in parts.minutes)
        picked = _pick(minutes, parts.positions) if parts.positions else minutes
        return _times_of(hours, tuple(bits_of(picked))), parts.interval * 60, (1 << 60) - 1

    def _grid(self, offset: int) -> Callable[[int], int] | None:
        """Which minutes of a day the steps reach while this offset is in force; None if none that the rule names."""
        origin = (self._origin + offset) // 60
        step, block = self._step, self._block
        cycle = gcd(step, MINUTES)
        reach = _comb(block, cycle)
        if not self._of_day & (reach << origin % cycle | reach >> cycle - origin % cycle):
            return None

        def reached(day: int) -> int:
            wait = (origin - day * MINUTES) % step
            bits = self._comb << wait if wait < MINUTES else 0
            if step - wait < 60:  # a period that picks minutes may have begun on the day before
                bits |= block >> step - wait
            return bits & ALL_DAY

        return reached

    def _minutes_between(self, begin: int, end: int, offset: int) -> tuple[int, int]:
        return -((self.second - begin - offset) // 60), -((self.second - end - offset) // 60)

    # -- BYSETPOS -----------------------------------------------------------------------------------

    @property
    def _picks(self) -> bool:
        return bool(self.parts.positions) and self.parts.frequency in ("WEEKLY", "MONTHLY", "YEARLY")

    def _period_of(self, day: int) -> int:
        """The first day of the week, month or year a day lies in."""
        date = date_of(day)
        if self.parts.frequency == "WEEKLY":
            return day - (date.weekday() - self.parts.week_start) % 7
        return day_of(date.replace(day=1) if self.parts.frequency == "MONTHLY" else date.replace(month=1, day=1))

    def _picked(self, period: int) -> dict[int, int]:
        """What BYSETPOS picks from the period that begins on this day: the minutes of its days."""
        if (known := self._chosen.get(period)) is not None:
            return known
        begin = date_of(period)
        days: list[int] = []
        months = [(begin.year, month) for month in range(1, 13)]
        if self.parts.frequency != "YEARLY":
            months = [(begin.year, begin.month)]
        if self.parts.frequency == "WEEKLY" and date_of(period + 6).month != begin.month:
            months.append((date_of(period + 6).year, date_of(period + 6).month))
        for year, month in months:
            first = day_of(begin.replace(year=year, month=month, day=1))
            days += [first + day - 1 for day in bits_of(self._days(year, month))]
        if self.parts.frequency == "WEEKLY":
            days = [day for day in days if period <= day < period + 7]
        times = bits_of(self._of_day)
        picked: dict[int, int] = {}
        size = len(days) * len(times)
        for position in self.parts.positions:
            index = position - 1 if position > 0 else size + position
            if 0 <= index < size:
                day, time = divmod(index, len(times))
                picked[days[day]] = picked.get(days[day], 0) | 1 << times[time]
        if len(self._chosen) >= _MONTHS_KEPT:
            self._chosen.clear()
        self._chosen[period] = picked
        return picked

    def _picked_days(self, year: int, month: int) -> int:
        first = day_of(self.begin_date.replace(year=year, month=month, day=1))
        length = length_of(year, month)
        step = 7 if self.parts.frequency == "WEEKLY" else length
        days = 0
        for period in {self._period_of(min(first + at, first + length - 1)) for at in range(0, length + step, step)}:
            for day in self._picked(period):
                if first <= day < first + length:
                    days |= 1 << day - first + 1
        return days

    # -- COUNT --------------------------------------------------------------------------------------

    def _last_minute(self) -> int | None:
        """The wall minute of the last run COUNT allows; None if the horizon comes first."""
        left = self.parts.count or 0
        year, month = self.begin_date.year, self.begin_date.month
        begin, after = divmod(self._begin, MINUTES)
        while day_of(self.begin_date.replace(year=year, month=month, day=1)) * DAY < HORIZON:
            first = day_of(self.begin_date.replace(year=year, month=month, day=1))
            days = self.days(year, month)
            if first + 31 > begin and (self._picks or first <= begin):
                counted = 0
                while days and counted < left:
                    day = first + lowest(days) - 1
                    times = (
                        self.minutes(day) if day > begin else self.minutes(day) >> after << after if day == begin else 0
                    )
                    if (here := bits_of(times)) and counted + len(here) >= left:
                        return day * MINUTES + here[left - counted - 1]
                    counted += len(here)
                    days &= days - 1
                left -= counted
            else:
                each = self._of_day.bit_count()
                if each and days.bit_count() * each >= left:
                    full, rest = divmod(left - 1, each)
                    return (first + bits_of(days)[full] - 1) * MINUTES + bits_of(self._of_day)[rest]
                left -= days.bit_count() * each
            year, month = (year, month + 1) if month < 12 else (year + 1, 1)
        return None

    def _ordinal(self, at: int) -> int:
        """Which run since the anchor `at` is, the first being 1. Counted on from the last time it was asked."""
        known, counted = self._tally
        if at < known:
            known, counted = self.anchor - 1, 0
        total = counted + self._count(known + 1, at + 1)
        self._tally = at, total
        return total

    def _count(self, begin: int, end: int) -> int:
        """How many runs lie in [begin, end), or some number over COUNT if there are more."""
        most = (self.parts.count or 0) + 1
        total, at = 0, begin
        while at < end and total < most:
            stretch = self.clock.stretch(at)
            stop = min(stretch.end, end)
            if (only := self._grid(stretch.offset)) is not None:
                total += self._count_on_wall(*self._minutes_between(at, stop, stretch.offset), only, most)
            at = stop
        return total

    def _count_on_wall(self, low: int, high: int, only: Callable[[int], int], most: int) -> int:
        if low >= high:
            return 0
        first_day, last_day = low // MINUTES, (high - 1) // MINUTES
        date = date_of(first_day)
        year, month, begin = date.year, date.month, first_day - date.day
        total = 0
        # Steps that divide a day reach the same minutes of each of them.
        alike = (self._of_day & only(first_day)).bit_count() if MINUTES % self._step == 0 else None
        while begin < last_day and total < most:
            days = self.days(year, month)
            if alike is not None and begin >= first_day and begin + 31 < last_day:
                total += days.bit_count() * alike
                days = 0
            while days:
                day = begin + lowest(days)
                days &= days - 1
                if first_day <= day <= last_day:
                    bits = self._of_day & only(day)
                    if day == first_day:
                        bits = bits >> low % MINUTES << low % MINUTES
                    if day == last_day:
                        bits &= (1 << (high - 1) % MINUTES + 1) - 1
                    total += bits.bit_count()
            begin += length_of(year, month)
            year, month = (year, month + 1) if month < 12 else (year + 1, 1)
        return total


@lru_cache(maxsize=256)
def _comb(block: int, step: int) -> int:
    """The minutes of a day that begins with a step, a block of them from each step on."""
    if block >= (1 << step) - 1:
        return ALL_DAY
    return sum(block << at for at in range(0, MINUTES, step))


def _times_of(hours: tuple[int, ...], minutes: tuple[int, ...]) -> int:
    of_hour = sum(1 << minute for minute in minutes)
    return sum(of_hour << hour * 60 for hour in hours)


def _pick(bits: int, positions: tuple[int, ...]) -> int:
    values = bits_of(bits)
    picked = 0
    for position in positions:
        index = position - 1 if position > 0 else len(values) + position
        if 0 <= index < len(values):
            picked |= 1 << values[index]
    return picked


@lru_cache(maxsize=1024)
def _month_days(named: tuple[int, ...], length: int) -> int:
    days = 0
    for each in named:
        day = each if each > 0 else length + 1 + each
        if 1 <= day <= length:
            days |= 1 << day
    return days


@lru_cache(maxsize=4096)
def _weekdays(named: tuple[tuple[int, int], ...], first: int, length: int) -> int:
    """The named weekdays of a month whose 1st is weekday `first`."""
    return _nth(named, first, length) << 1


def _nth(named: tuple[tuple[int, int], ...], first: int, length: int) -> int:
    """Bit d: the d-th day, from 0, of a span that begins with weekday `first` is one of those named."""
    days = 0
    for ordinal, weekday in named:
        begin = (weekday - first) % 7
        all_of_them = range(begin, length, 7)
        if ordinal == 0:
            days |= sum(1 << day for day in all_of_them)
        elif abs(ordinal) <= len(all_of_them):
            days |= 1 << all_of_them[ordinal - 1 if ordinal > 0 else ordinal]
    return days


@lru_cache(maxsize=512)
def _days_before(year: int) -> tuple[int, ...]:
    before = [0, 0]
    for month in range(1, 12):
        before.append(before[-1] + length_of(year, month))
    return tuple(before)


def _length(year: int) -> int:
    return 337 + length_of(year, 2)


@lru_cache(maxsize=4096)
def _year_days(named: tuple[int, ...], year: int) -> int:
    """Bit d: day d of the year, from 0."""
    return _month_days(named, _length(year)) >> 1


@lru_cache(maxsize=4096)
def _weekdays_of_year(named: tuple[tuple[int, int], ...], year: int) -> int:
    return _nth(named, first_weekday(year, 1), _length(year))


@lru_cache(maxsize=4096)
def _weeks(named: tuple[int, ...], year: int, week_start: int) -> int:
    """Bit d: day d of the year, from 0, lies in one of the named weeks, whichever year that week is counted in."""
    begin, weeks = _first_week(year, week_start), _weeks_in(year, week_start)
    before = _weeks_in(year - 1, week_start)
    wanted = set(named)
    days = 0
    for day in range(_length(year)):
        number, of = (day - begin) // 7 + 1, weeks
        if day < begin:
            number, of = before, before
        elif number > weeks:
            number, of = 1, _weeks_in(year + 1, week_start)
        if number in wanted or number - of - 1 in wanted:
            days |= 1 << day
    return days


def _first_week(year: int, week_start: int) -> int:
    """The day of the year, from 0 and perhaps negative, on which week 1 begins: the first with four days in the year."""
    into = (first_weekday(year, 1) - week_start) % 7
    return -into if into <= 3 else 7 - into


def _weeks_in(year: int, week_start: int) -> int:
    return (_length(year) + _first_week(year + 1, week_start) - _first_week(year, week_start)) // 7
