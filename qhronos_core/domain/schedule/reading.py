"""Reading `schedule`: seven forms, told apart by their first characters, so nothing is guessed.

The refusals carry guesses as fixes; `request.py` tries them.
"""

import re
from datetime import datetime, timedelta
from typing import Final

from qhronos_core.domain.schedule.cron import BadCron, Cron, read_cron
from qhronos_core.domain.schedule.durations import NoDuration, read_duration, say_duration
from qhronos_core.domain.schedule.hints import mended
from qhronos_core.domain.schedule.instants import Moment, NoInstant, read_in_words, read_instant, say_instant
from qhronos_core.domain.schedule.phrases import near, read_phrase
from qhronos_core.domain.schedule.recurrence import Recurrence
from qhronos_core.domain.schedule.refusal import ScheduleError, refusal
from qhronos_core.domain.schedule.rrule import LARGEST_INTERVAL, BadRule, read_rrule, start_in_calendar
from qhronos_core.domain.schedule.rules import (
    LONGEST_INTERVAL,
    SHORTEST_INTERVAL,
    CronRule,
    IntervalRule,
    OnceRule,
    RecurrenceRule,
    Rule,
)
from qhronos_core.domain.schedule.wallclock import WallClock, seconds, wall_clock

LONGEST_TEXT: Final = 512

_YEAR: Final = re.compile(r"[0-9]{4}-")  # so an instant begins
_ODD: Final = re.compile(r"[^ -~]")  # no printable ASCII
_CRON_FIELD: Final = re.compile(r"[0-9A-Za-z*,/#?()-]+")
_BARE_DURATION: Final = re.compile(r"[0-9]+(?:[.,][0-9]+)? *[A-Za-z]+(?: *[0-9]+ *[A-Za-z]+)*")
_LENGTH: Final = re.compile(
    r"(?![0-9]{1,2}(?:st|nd|rd|th) (?!second|minute|hour|day|week))(?:[+-]?[0-9]|p[0-9t])"  # not `2nd monday ...`
)
_CALENDAR: Final = re.compile(r"(?:RRULE[:=;] *)?(FREQ *=[^\s\\]+)", re.IGNORECASE)
_CALENDAR_START: Final = re.compile(r"DTSTART(?:;TZID=([A-Za-z0-9_+/-]+))?[:=]([0-9TZ]+)", re.IGNORECASE)


def read_rule(text: str, zone: str, zone_given: bool, anchor: datetime, start: datetime | None) -> Rule:
    """The rule a text stands for, accepted at `anchor`.

    Raises:
        ScheduleError: it has no reading, more than one, or one that is not offered.
    """
    clock = wall_clock(zone)
    if len(text) > LONGEST_TEXT:
        raise _refused(text, f"A schedule has at most {LONGEST_TEXT} characters.", "every day at 9am")
    odd = _ODD.search(text)
    plain = " ".join(text.lower().split())
    if odd is None and text[:6].upper() == "RRULE:":
        return _recurrence(text, clock, anchor if start is None else start)
    if "=" in text and (foreign := _CALENDAR.search(text)) is not None:
        raise _of_calendar(text, foreign[1])
    if odd is not None:
        raise _odd_character(text, odd[0])
    if _is_cron(text):
        return _cron(text, clock)
    if plain.startswith("every ") and _LENGTH.match(plain[6:]):
        return _interval(text, " ".join(text.split())[6:], anchor, start)
    if text[:1] == "P" and isinstance(read_duration(text), timedelta):
        return _interval(text, text, anchor, start)
    if plain.startswith("in ") and _LENGTH.match(plain[3:]):
        return _delay(text, " ".join(text.split())[3:], anchor)
    if _YEAR.match(text):
        return _instant(text, clock if zone_given else None)
    if (moment := read_in_words(plain, clock, anchor)) is not None:
        return OnceRule(moment.at, "instant", wall=True, shift=moment.moved)
    if (expression := read_phrase(plain)) is not None and isinstance(cron := read_cron(expression), Cron):
        return CronRule(cron, clock, "phrase")
    raise _no_reading(text, plain)


def names_instant(schedule: object) -> bool:
    """Whether a schedule that was accepted is one instant: then nothing comes after it, and nothing need be read."""
    return isinstance(schedule, str) and _YEAR.match(schedule) is not None


def _is_cron(text: str) -> bool:
    """Whether this is an expression, right or wrong, and nothing else."""
    fields = text.split()
    if text[:1] == "@" or "*" in text:
        return True
    return (
        len(fields) > 3
        and all(map(_CRON_FIELD.fullmatch, fields))
        and all(field[0] in "0123456789?HRhr" for field in fields[:2])
        and not _BARE_DURATION.fullmatch(text.strip())
        and not _YEAR.match(text)
    )


def _cron(text: str, clock: WallClock) -> Rule:
    cron = read_cron(text)
    if isinstance(cron, BadCron):
        why, meant = mended(text)
        raise refusal("schedule", why, got=text, fix=meant)
    return CronRule(cron, clock)


def _recurrence(text: str, clock: WallClock, anchor: datetime) -> Rule:
    parts = read_rrule(text)
    if isinstance(parts, BadRule):
        raise refusal("schedule", parts.why, got=text, fix=parts.meant)
    return RecurrenceRule(Recurrence(parts, seconds(anchor), clock), f"RRULE:{text[6:].upper()}")


def _interval(text: str, length_text: str, anchor: datetime, start: datetime | None) -> Rule:
    length = read_duration(length_text)
    if isinstance(length, NoDuration):
        raise _refused(text, length.why, *(f"every {each}" for each in length.meant))
    if not SHORTEST_INTERVAL <= length <= LONGEST_INTERVAL:
        days = -(-length // timedelta(days=1))
        rarer = (
            f"RRULE:FREQ=DAILY;INTERVAL={days}"
            if days <= LARGEST_INTERVAL
            else f"RRULE:FREQ=YEARLY;INTERVAL={days // 365 + 1}"
        )
        raise _refused(text, "An interval is 1 second to 366 days; a rule may be longer.", rarer)
    return IntervalRule(length, anchor + length if start is None else start)


def _delay(text: str, length_text: str, anchor: datetime) -> Rule:
    length = read_duration(length_text)
    if isinstance(length, NoDuration):
        raise _refused(text, length.why, *(f"in {each}" for each in length.meant))
    if not SHORTEST_INTERVAL <= length <= LONGEST_INTERVAL:
        then = anchor + length
        instant = (
            say_instant(then.replace(microsecond=0)) if then.year < 2200 else f"in {say_duration(LONGEST_INTERVAL)}"
        )
        raise _refused(text, "A delay is 1 second to 366 days; an instant may be further off.", instant)
    return OnceRule(anchor + length, "delay")


def _instant(text: str, clock: WallClock | None) -> Rule:
    moment = read_instant(text, clock)
    if isinstance(moment, NoInstant):
        fixes: list[dict[str, object]] = [{"schedule": each} for each in moment.meant]
        if moment.needs_zone:
            fixes.append({"schedule": text, "timezone": "Europe/Paris"})
        raise refusal("schedule", moment.why, got=text, fix=fixes)
    return OnceRule(moment.at, "instant", wall=moment.wall, shift=moment.moved)


def _no_reading(text: str, plain: str) -> ScheduleError:
    if re.fullmatch(r"[0-9]{1,5}", plain) and int(plain):
        return _refused(text, "A number alone has no unit.", f"every {int(plain)}m", f"in {int(plain)}m")
    if _BARE_DURATION.fullmatch(plain) and isinstance(read_duration(plain), timedelta):
        return _refused(text, "Once, or again and again?", f"every {plain}", f"in {plain}")
    if plain[:1] == "p" and not isinstance(length := read_duration(text.strip()), timedelta):
        return _refused(text, length.why, *length.meant)
    if plain[:1].isdecimal() and not isinstance(moment := read_instant(text, None), Moment) and moment.meant:
        return _refused(text, moment.why, *moment.meant)
    why, meant = near(plain)
    return _refused(text, why, *meant)


def _of_calendar(text: str, rule: str) -> ScheduleError:
    fix: dict[str, object] = {"schedule": f"RRULE:{rule.replace(' ', '')}"}
    if (begun := _CALENDAR_START.search(text)) is not None:
        fix |= start_in_calendar(begun[2].upper(), begun[1])
    why = "A rule is one line beginning with RRULE: and its FREQ; give the start as start_time."
    return refusal("schedule", why, got=text, fix=[fix, {"schedule": fix["schedule"]}])


def _odd_character(text: str, odd: str) -> ScheduleError:
    kept = " ".join("".join(each if " " <= each <= "~" else " " for each in text).split())
    name = f"U+{ord(odd):04X}"
    return _refused(text, f"Only printable ASCII; this holds {name}.", kept, "every day at 9am")


def _refused(text: str, why: str, *meant: str) -> ScheduleError:
    return refusal("schedule", why, got=text, fix=[{"schedule": each} for each in meant])
