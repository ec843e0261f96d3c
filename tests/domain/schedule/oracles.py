"""Other ways to the same answer, each slow, plain and sharing no code with what it judges.

`debian_runs` is the main loop of Debian's cron (cron.c), minute by minute with its two clocks.
`stepped_runs` is RFC 5545's hourly and minutely rule taken at its word: step in UTC, look at the wall.
"""

import calendar
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

_MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
_DAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]
_THREE_HOURS = 180


def minute_of(instant: datetime) -> int:
    return int(instant.timestamp()) // 60


@dataclass(frozen=True)
class Expression:
    """One cron line as sets of plain values."""

    minutes: set[int]
    hours: set[int]
    days: set[int]
    months: set[int]
    weekdays: set[int]
    marks: tuple[str, ...]
    weekday_marks: tuple[str, ...]
    day_starred: bool
    weekday_starred: bool
    fixed: bool

    @classmethod
    def read(cls, text: str) -> "Expression":
        minute, hour, day, month, weekday = text.upper().split(" ")
        return cls(
            _values(minute, 0, 59),
            _values(hour, 0, 23),
            _values(day, 1, 31),
            _values(month, 1, 12, _MONTHS, 1),
            {value % 7 for value in _values(weekday, 0, 7, _DAYS, 0)},
            tuple(term for term in day.split(",") if "L" in term),
            tuple(term for term in weekday.split(",") if "#" in term or term.endswith("L")),
            day.startswith("*"),
            weekday.startswith("*"),
            not minute.startswith("*") and not hour.startswith("*"),
        )

    def shows(self, wall: datetime) -> bool:
        if wall.minute not in self.minutes or wall.hour not in self.hours or wall.month not in self.months:
            return False
        by_day, by_weekday = self._of_month(wall.date()), self._of_week(wall.date())
        if self.day_starred or self.weekday_starred:
            return by_day and by_weekday
        return by_day or by_weekday

    def _of_month(self, day: date) -> bool:
        last = calendar.monthrange(day.year, day.month)[1]
        if "L" in self.marks and day.day == last:
            return True
        if "LW" in self.marks:
            end = date(day.year, day.month, last)
            while end.weekday() > 4:
                end -= timedelta(days=1)
            if end == day:
                return True
        return day.day in self.days

    def _of_week(self, day: date) -> bool:
        weekday = day.isoweekday() % 7
        for mark in self.weekday_marks:
            named, _, nth = mark.partition("#")
            wanted = named.removesuffix("L")
            number = _DAYS.index(wanted) if wanted in _DAYS else int(wanted) % 7
            if number != weekday:
                continue
            if nth and (day.day - 1) // 7 + 1 == int(nth):
                return True
            if not nth and (day + timedelta(days=7)).month != day.month:
                return True
        return weekday in self.weekdays


def _values(said: str, low: int, high: int, names: list[str] | None = None, first: int = 0) -> set[int]:
    found: set[int] = set()
    for term in said.split(","):
        if "L" in term.replace("JUL", "") or "#" in term:
            continue
        span, _, step = term.partition("/")
        begin, _, end = span.partition("-")
        if span == "*":
            bounds = (low, high)
        else:
            number = names.index(begin) + first if names and begin in names else int(begin)
            bounds = (number, number)
            if end:
                to = names.index(end) + first if names and end in names else int(end)
                bounds = (number, 7 if end == "SUN" and number else to)
            elif step:
                bounds = (number, high)
        found |= set(range(bounds[0], bounds[1] + 1, int(step or 1)))
    return found


def wakeups(zone: ZoneInfo, begin: datetime, end: datetime) -> Iterator[tuple[datetime, datetime, bool, bool]]:
    """Every call cron's loop makes to find jobs between two instants: (when, wall minute looked at, wildcards?, fixed?).

    The machine wakes each minute. `virtual` is the minute whose jobs have run, `running` what the wall
    shows, both in minutes of wall time. (cron.c takes a jump of exactly three hours for a large one;
    the language here still makes up for it.)
    """

    def wall_minute(instant: datetime) -> int:
        local = instant.astimezone(zone)
        return minute_of(local.replace(tzinfo=UTC))

    virtual = running = wall_minute(begin)
    now = begin
    while (now := now + timedelta(minutes=1)) <= end:
        running = wall_minute(now)
        difference = running - virtual

        def look(minute: int, wild: bool, fixed: bool, now: datetime = now) -> tuple[datetime, datetime, bool, bool]:
            return now, datetime(1970, 1, 1, tzinfo=UTC) + timedelta(minutes=minute), wild, fixed

        if difference == 1:
            virtual = running
            yield look(virtual, True, True)
        elif -_THREE_HOURS < difference <= 0:  # clocks went back: fixed jobs have had their turn
            yield look(running, True, False)
        elif 0 < difference <= 5:
            while virtual < running:
                virtual += 1
                yield look(virtual, True, True)
        elif 5 < difference <= _THREE_HOURS + 1:  # clocks went forward: fixed jobs are made up for
            yield look(running, True, False)
            while virtual < running:
                virtual += 1
                yield look(virtual, False, True)
        else:
            virtual = running
            yield look(running, True, True)


def debian_runs(
    expression: Expression, calls: list[tuple[datetime, datetime, bool, bool]], after: datetime
) -> list[datetime]:
    """When cron would have run the job, later than `after`; two runs in one minute are one."""
    found = [
        when
        for when, wall, wild, fixed in calls
        if when > after and (fixed if expression.fixed else wild) and expression.shows(wall)
    ]
    return list(dict.fromkeys(found))


def stepped_runs(
    anchor: datetime, step: timedelta, zone: ZoneInfo, end: datetime, wanted: dict[str, set[int]]
) -> list[datetime]:
    """Every step from the anchor whose wall time has the wanted month, day, weekday, hour and minute."""
    found = []
    at = anchor
    while at < end:
        wall = at.astimezone(zone)
        shown = {
            "month": wall.month,
            "day": wall.day,
            "weekday": wall.weekday(),
            "hour": wall.hour,
            "minute": wall.minute,
        }
        if all(shown[name] in values for name, values in wanted.items()):
            found.append(at)
        at += step
    return found


def changes_of(zone: ZoneInfo, first: int, last: int) -> list[datetime]:
    """The instants at which a zone's offset changes, to the minute, found by looking at every hour."""
    found = []
    at = datetime(first, 1, 1, tzinfo=UTC)
    offset = at.astimezone(zone).utcoffset()
    while at.year <= last:
        following = at + timedelta(hours=6)
        if (then := following.astimezone(zone).utcoffset()) != offset:
            change = at
            while change.astimezone(zone).utcoffset() == offset:
                change += timedelta(minutes=1)
            found.append(change)
            offset = then
        at = following
    return found
