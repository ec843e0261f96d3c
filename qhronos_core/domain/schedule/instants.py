"""One instant as text: strict RFC 3339, or a day in words with a time.

`YYYY-MM-DDThh:mm[:ss[.f]]` with `Z` or an offset; a space may stand for the `T`. An expression of our
own decides before anything is parsed, because `datetime.fromisoformat` also reads week dates, basic
format, and 24:00.
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

from qhronos_core.domain.schedule.pattern import length_of
from qhronos_core.domain.schedule.refusal import refusal
from qhronos_core.domain.schedule.wallclock import (
    DAY,
    HORIZON,
    WallClock,
    date_of,
    day_of,
    instant_of,
    seconds,
    wall_clock,
)

LONGEST_TEXT: Final = 64

_RFC3339: Final = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[T ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,9}))?)?"
    r"(Z|[+-][0-9]{2}:[0-9]{2})?"
)
_OFFSET: Final = re.compile(r"([+-])([0-9]{2}):([0-9]{2})")
_DATE: Final = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})")
_LOOSE: Final = re.compile(
    r"([0-9]{4})[-/.]?([0-9]{1,2})[-/.]?([0-9]{1,2})(?:[Tt ,]+([0-9]{1,2}):?([0-9]{2})(?::?([0-9]{2}))?(?:[.,][0-9]+)?)?"
    r" *([Zz]|UTC|GMT|[+-][0-9]{2}:?[0-9]{2})?"
)
_EPOCH: Final = re.compile(r"[0-9]{10}(?:[0-9]{3})?")
_WEST: Final = -12 * 60
_EAST: Final = 14 * 60
_FIRST: Final = day_of(date(1, 1, 2)) * DAY  # what is older is as past as this, and this every zone can show

WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
WEEKDAY_NAMES: Final = {name: index for index, long in enumerate(WEEKDAYS) for name in (long, long[:3])}

_CLOCK: Final = re.compile(r"(?:([0-9]{1,2}):([0-9]{2})|([0-9]{1,2})(?::([0-9]{2}))? ?(am|pm))", re.IGNORECASE)
_IN_WORDS: Final = re.compile(r"(today|tomorrow|on [a-z]+)(?: at)? (noon|midnight|[0-9].*)")


@dataclass(frozen=True, slots=True)
class NoInstant:
    """Why a text is no instant, and the texts that were probably meant.

    `needs_zone`: it is a good wall time and lacks only a zone.
    """

    why: str
    meant: tuple[str, ...] = ()
    needs_zone: bool = False


@dataclass(frozen=True, slots=True)
class Moment:
    """An instant as it was said. `moved` is by how much a wall time in a gap was moved; `wall` whether it was wall time."""

    at: datetime
    wall: bool = False
    moved: timedelta = timedelta(0)


def parse_instant(text: str, *, field: str, timezone: str | None) -> datetime:
    """The instant `text` names, in UTC. Without an offset it is wall time in `timezone`, and refused if that is None.

    Raises:
        ScheduleError: names `field`, and offers instants that are accepted.
        UnknownTimezoneError: `timezone` is no zone.
    """
    moment = read_instant(text, None if timezone is None else wall_clock(timezone))
    if isinstance(moment, Moment):
        return moment.at
    fixes: list[dict[str, object]] = [{field: each} for each in moment.meant]
    if moment.needs_zone:
        fixes.append({field: text, "timezone": "Europe/Paris"})
    raise refusal(field, moment.why, got=text, code="invalid_instant", fix=fixes or [{field: "2030-01-01T09:00:00Z"}])


def read_instant(text: object, clock: WallClock | None) -> Moment | NoInstant:
    """The instant an RFC 3339 text names, or why it names none."""
    if not isinstance(text, str):
        return NoInstant("An instant is a text such as 2027-03-01T09:00:00Z.")
    if len(text) > LONGEST_TEXT:
        return NoInstant(f"An instant has at most {LONGEST_TEXT} characters.")
    if (parts := _RFC3339.fullmatch(text)) is None:
        return _explained(text, clock)
    year, month, day, hour, minute = (int(part) for part in parts.groups()[:5])
    second, fraction = int(parts[6] or 0), (parts[7] or "").ljust(6, "0")[:6]
    if (fault := _calendar_fault(year, month, day)) is not None:
        return fault_with(fault, text)
    if hour > 23 or minute > 59 or second > 59:
        return _clock_fault(parts)
    wall = day_of(date(year, month, day)) * DAY + hour * 3600 + minute * 60 + second
    micros = timedelta(microseconds=int(fraction))
    if parts[8] is None:
        if clock is None:
            full = f"{text if parts[6] else text + ':00'}Z"
            return NoInstant("No offset and no `timezone`: whose time is that?", (full,), needs_zone=True)
        at, moved = clock.at(wall)
        if at >= HORIZON:
            return NoInstant("Only the years up to 2199 can be planned.", ("2199-12-31T00:00:00Z",))
        return Moment(instant_of(max(at, _FIRST)) + micros, True, timedelta(seconds=moved))
    minutes = 0
    if (offset := _OFFSET.fullmatch(parts[8])) is not None:
        minutes = int(f"{offset[1]}1") * (int(offset[2]) * 60 + int(offset[3]))
        if int(offset[3]) > 59 or not _WEST <= minutes <= _EAST:
            return NoInstant("An offset lies between -12:00 and +14:00.", (text[: parts.start(8)] + "Z",))
    at = wall - minutes * 60
    if at >= HORIZON:
        return NoInstant("Only the years up to 2199 can be planned.", ("2199-12-31T00:00:00Z",))
    return Moment(instant_of(max(at, _FIRST)) + micros)


def read_in_words(text: str, clock: WallClock, now: datetime) -> Moment | None:
    """`today at 9am`, `tomorrow 09:00`, `on friday at noon`: a day counted from `now` on this wall. None if it is not one.

    `on <weekday>` is the first such day whose time is still ahead.
    """
    said = _IN_WORDS.fullmatch(" ".join(text.lower().split()))
    if said is None or (minute := read_clock(said[2])) is None:
        return None
    at = seconds(now)
    today = (at + clock.offset(at)) // DAY
    if said[1] in ("today", "tomorrow"):
        found, moved = clock.at((today + (said[1] == "tomorrow")) * DAY + minute * 60)
        return Moment(instant_of(found), True, timedelta(seconds=moved))
    if (weekday := WEEKDAY_NAMES.get(said[1].removeprefix("on "))) is None:
        return None
    day = today + (weekday - date_of(today).weekday()) % 7
    found, moved = clock.at(day * DAY + minute * 60)
    if found <= at:
        found, moved = clock.at((day + 7) * DAY + minute * 60)
    return Moment(instant_of(found), True, timedelta(seconds=moved))


def spelled_out(text: str, *, timezone: str, now: datetime) -> str:
    """`tomorrow 09:00` and its kind in RFC 3339, counted from `now` on the wall of `timezone`; any other text as it is.

    Raises:
        UnknownTimezoneError: `timezone` is no zone.
    """
    moment = read_in_words(text, wall_clock(timezone), now)
    return text if moment is None else say_instant(moment.at)


def read_clock(text: str) -> int | None:
    """Minutes after midnight of `9am`, `9:30 pm`, `09:30`, `noon` or `midnight`; None for anything else."""
    if text in ("noon", "midnight"):
        return 720 if text == "noon" else 0
    if (parts := _CLOCK.fullmatch(text)) is None:
        return None
    if parts[5] is None:
        hour, minute = int(parts[1]), int(parts[2])
        return hour * 60 + minute if hour < 24 and minute < 60 else None
    hour, minute = int(parts[3]), int(parts[4] or 0)
    if not 1 <= hour <= 12 or minute > 59:
        return None
    return (hour % 12 + (12 if parts[5].lower() == "pm" else 0)) * 60 + minute


def read_date(text: str) -> int | None:
    """The day `YYYY-MM-DD` names, counted from 1970; None if there is no such day."""
    parts = _DATE.fullmatch(text)
    if parts is None or _calendar_fault(int(parts[1]), int(parts[2]), int(parts[3])) is not None:
        return None
    return day_of(date(int(parts[1]), int(parts[2]), int(parts[3])))


def say_instant(instant: datetime) -> str:
    """RFC 3339 in UTC with `Z`, and no fraction when it is zero."""
    text = instant.astimezone(UTC).replace(tzinfo=None).isoformat()
    return (text.rstrip("0") if "." in text else text) + "Z"


def fault_with(fault: NoInstant, text: str) -> NoInstant:
    """The fault of a date, its better dates put back into the text it stood in."""
    return NoInstant(fault.why, tuple(better + text[10:] for better in fault.meant))


def _calendar_fault(year: int, month: int, day: int) -> NoInstant | None:
    if not 1 <= year < 2200:
        return NoInstant("Only the years up to 2199 can be planned.", ("2199-12-31",))
    if not 1 <= month <= 12:
        return NoInstant("Months are 01 to 12.", (f"{year:04}-12-{min(max(day, 1), 31):02}",))
    if not 1 <= day <= length_of(year, month):
        last = length_of(year, month)
        return NoInstant(
            f"{date(year, month, 1):%B} {year} has {last} days.",
            (f"{year:04}-{month:02}-{min(max(day, 1), last):02}",),
        )
    return None


def _clock_fault(parts: re.Match[str]) -> NoInstant:
    day, zone = date(int(parts[1]), int(parts[2]), int(parts[3])), parts[8] or ""
    hour, minute, second = int(parts[4]), int(parts[5]), int(parts[6] or 0)
    if (hour, minute, second) == (24, 0, 0) and day < date(2199, 12, 31):
        following = day + timedelta(days=1)
        return NoInstant("Hours are 00 to 23; midnight begins a day.", (f"{following}T00:00:00{zone}",))
    fault = "Hours are 00 to 23." if hour > 23 else "Minutes are 00 to 59." if minute > 59 else "Seconds are 00 to 59."
    return NoInstant(fault, (f"{day}T{min(hour, 23):02}:{min(minute, 59):02}:{min(second, 59):02}{zone}",))


def _explained(text: str, clock: WallClock | None) -> NoInstant:
    stripped = text.strip()
    if _EPOCH.fullmatch(stripped):
        since = int(stripped[:10])
        meant = (say_instant(instant_of(since)),) if since < HORIZON else ()
        return NoInstant("A number of seconds is not an instant here.", meant)
    if (loose := _LOOSE.fullmatch(stripped)) is None:
        return NoInstant("An instant is written 2027-03-01T09:00:00Z.")
    year, month, day = int(loose[1]), int(loose[2]), int(loose[3])
    if (fault := _calendar_fault(year, month, day)) is not None:
        return NoInstant(fault.why, tuple(f"{better}T09:00:00Z" for better in fault.meant))
    when = f"{year:04}-{month:02}-{day:02}"
    zone = loose[7] or ""
    zone = "Z" if zone in ("z", "UTC", "GMT") or (not zone and clock is None) else zone
    zone = f"{zone[:3]}:{zone[-2:]}" if zone[:1] in ("+", "-") else zone
    if loose[4] is None:
        return NoInstant("A date alone has no time.", (f"{when}T09:00:00{zone}", f"{when}T00:00:00{zone}"))
    if int(loose[4]) > 23 or int(loose[5]) > 59 or int(loose[6] or 0) > 59:
        return NoInstant("Times are 00:00 to 23:59:59.", (f"{when}T09:00:00{zone}",))
    better = f"{when}T{int(loose[4]):02}:{loose[5]}:{loose[6] or '00'}{zone}"
    return NoInstant("An instant is written 2027-03-01T09:00:00Z.", (better,))
