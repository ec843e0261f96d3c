"""Cron expressions, as Debian's cron reads them: five fields, `L`, `LW`, `5L`, `5#3`, and the @names.

Two rules of Debian's that others have not:
- a day must match both day fields if either begins with `*`, and else either of them;
- a rule whose minute and hour fields both do not begin with `*` is a fixed time: where clocks change
  it runs once, at the first instant after a gap, on the first pass of a fold. Any other is plain
  matching of the wall clock, so it runs in both passes and has nothing to make up for.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from qhronos_core.domain.schedule.pattern import Pattern, every_pass, first_weekday, length_of, one_pass
from qhronos_core.domain.schedule.wallclock import WallClock

LONGEST_TEXT: Final = 256
LONGEST_LIST: Final = 100

ALIASES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
DAY_NAMES: Final = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
MONTH_NAMES: Final = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")


@dataclass(frozen=True, slots=True)
class Field:
    """One of the five: its name in sentences, its range, and the names its values may have."""

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        return self.high - self.low + 1


MINUTE: Final = Field("minute", 0, 59)
HOUR: Final = Field("hour", 0, 23)
DAY_OF_MONTH: Final = Field("day of month", 1, 31)
MONTH: Final = Field("month", 1, 12, MONTH_NAMES)
DAY_OF_WEEK: Final = Field("day of week", 0, 7, DAY_NAMES)
FIELDS: Final = (MINUTE, HOUR, DAY_OF_MONTH, MONTH, DAY_OF_WEEK)

_TERM: Final = re.compile(r"(?:(\*)|([A-Z]{3}|[0-9]{1,2})(?:-([A-Z]{3}|[0-9]{1,2}))?)(?:/([0-9]{1,2}))?")
_NTH: Final = re.compile(r"([A-Z]{3}|[0-7])#([0-9])")
_LAST: Final = re.compile(r"([0-7])L")


@dataclass(frozen=True, slots=True)
class BadCron:
    """What is wrong with an expression. What it probably meant: `hints.py`."""

    why: str


@dataclass(frozen=True, slots=True)
class BadTerm:
    """What is wrong with one term of a field."""

    why: str


class Cron(Pattern):
    """One expression, read. Immutable and independent of any zone, so it is shared by all events that say the same."""

    def __init__(
        self,
        text: str,
        *,
        fields: Sequence[str],
        minutes: int,
        hours: int,
        days: int,
        months: int,
        weekdays: int,
        last_day: bool,
        last_weekday: bool,
        nth: frozenset[tuple[int, int]],
        last: int,
    ) -> None:
        self.text = text
        self.fields = tuple(fields)
        self.minute_bits, self.hour_bits, self.month_bits = minutes, hours, months
        self.day_bits, self.weekday_bits = days, weekdays
        self.last_day, self.last_weekday, self.nth, self.last = last_day, last_weekday, nth, last
        self.day_starred, self.weekday_starred = fields[2].startswith("*"), fields[4].startswith("*")
        self.fixed = not fields[0].startswith("*") and not fields[1].startswith("*")
        self._of_day = sum(minutes << hour * 60 for hour in range(24) if hours >> hour & 1)
        self._months: dict[tuple[int, int], int] = {}

    @property
    def either_day(self) -> bool:
        """Whether a day need only match one of the two day fields."""
        return not (self.day_starred or self.weekday_starred)

    def days(self, year: int, month: int) -> int:
        if not self.month_bits >> month & 1:
            return 0
        shape = first_weekday(year, month), length_of(year, month)
        if (known := self._months.get(shape)) is None:
            known = self._months[shape] = self._days_of(*shape)
        return known

    def minutes(self, day: int) -> int:  # noqa: ARG002 - every day that matches is alike
        return self._of_day

    def next_at(self, clock: WallClock, begin: int, end: int) -> int | None:
        """The first instant in [begin, end), in UTC seconds."""
        if self.fixed:
            return one_pass(self, clock, begin, end, shift=False)
        return every_pass(self, clock, begin, end)

    def _days_of(self, first: int, length: int) -> int:
        by_month = self.day_bits
        if self.last_day:
            by_month |= 1 << length
        if self.last_weekday:
            by_month |= 1 << length - max((first + length - 1) % 7 - 4, 0)
        by_week = 0
        for day in range(1, length + 1):
            weekday = (first + day) % 7  # Sunday is 0
            if (
                self.weekday_bits >> weekday & 1
                or (weekday, (day + 6) // 7) in self.nth
                or (self.last >> weekday & 1 and day + 7 > length)
            ):
                by_week |= 1 << day
        both = by_month | by_week if self.either_day else by_month & by_week
        return both & (1 << length + 1) - 2


@lru_cache(maxsize=4096)
def read_cron(text: str) -> Cron | BadCron:
    """The expression, or what is wrong with it. Five fields between single spaces, printable ASCII, at most 256."""
    if len(text) > LONGEST_TEXT:
        return BadCron(f"A cron expression has at most {LONGEST_TEXT} characters.")
    expression = ALIASES.get(text.lower(), text)
    fields = expression.upper().split(" ")
    if len(fields) != 5 or not all(fields):
        return BadCron("A cron expression has five fields between single spaces.")
    read: list[_Read] = []
    for field, said in zip(FIELDS, fields, strict=True):
        found = read_field(field, said)
        if isinstance(found, BadTerm):
            return BadCron(found.why)
        read.append(found)
    minute, hour, day, month, weekday = read
    sundays = weekday.bits | weekday.bits >> 7
    return Cron(
        text,
        fields=fields,
        minutes=minute.bits,
        hours=hour.bits,
        days=day.bits,
        months=month.bits,
        weekdays=sundays & 0x7F,
        last_day=day.last_day,
        last_weekday=day.last_weekday,
        nth=frozenset(weekday.nth),
        last=(weekday.last | weekday.last >> 7) & 0x7F,
    )


@dataclass(slots=True)
class _Read:
    bits: int = 0
    last_day: bool = False
    last_weekday: bool = False
    last: int = 0
    nth: tuple[tuple[int, int], ...] = ()


def read_field(field: Field, said: str) -> _Read | BadTerm:
    """One field in capitals."""
    terms = said.split(",")
    if len(terms) > LONGEST_LIST:
        return BadTerm(f"A list has at most {LONGEST_LIST} values.")
    read = _Read()
    for term in terms:
        if field is DAY_OF_MONTH and term in ("L", "LW"):
            read.last_day |= term == "L"
            read.last_weekday |= term == "LW"
        elif field is DAY_OF_WEEK and (last := _LAST.fullmatch(term)):
            read.last |= 1 << int(last[1])
        elif field is DAY_OF_WEEK and (nth := _NTH.fullmatch(term)):
            weekday = _value(field, nth[1])
            if weekday is None or not 1 <= int(nth[2]) <= 5:
                return BadTerm("A month has a first to fifth of each weekday: 5#1 to 5#5.")
            read.nth += ((weekday % 7, int(nth[2])),)
        else:
            bits = _bits(field, term)
            if isinstance(bits, BadTerm):
                return bits
            read.bits |= bits
    return read


def _bits(field: Field, term: str) -> int | BadTerm:
    if (parts := _TERM.fullmatch(term)) is None:
        return BadTerm(f"{term!r} is no {field.name}.")
    star, first, last, stride = parts.groups()
    step = int(stride) if stride is not None else 1
    if not 1 <= step <= field.width:
        return BadTerm(f"A step of the {field.name} is 1 to {field.width}.")
    if star:
        low, high = field.low, field.high
    else:
        begin = _value(field, first)
        end = begin if last is None else _value(field, last)
        if begin is None or end is None:
            return BadTerm(f"{(first if begin is None else last)!r} is no {field.name}: {field.low} to {field.high}.")
        # As the end of a range SUN is the 7 that Saturday is followed by; SUN-SUN is one day, like 5-5.
        if last == "SUN" and begin > 0:
            end = 7
        if end < begin:
            return BadTerm("A range must ascend.")
        low, high = begin, end
        if last is None and stride is not None:
            high = field.high
    return sum(1 << value for value in range(low, high + 1, step))


def _value(field: Field, said: str) -> int | None:
    if said.isdecimal():
        value = int(said)
        return value if field.low <= value <= field.high else None
    return field.names.index(said) + field.low if said in field.names else None
