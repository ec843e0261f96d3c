"""Reading `schedule`: seven forms, told apart by their first characters, so nothing is guessed.

`read_rule` is pure and remembers what it has read: a dispatcher asks for the same rules again and again.
Its refusals carry guesses as fixes; `timetable.py` tries them.
"""

import re
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

from qhronos_core.domain.schedule.cron import BadCron, read_cron
from qhronos_core.domain.schedule.durations import NoDuration, read_duration, say_duration
from qhronos_core.domain.schedule.instants import NoInstant, read_in_words, read_instant
from qhronos_core.domain.schedule.refusal import ScheduleError, refusal
from qhronos_core.domain.schedule.rules import (
    LONGEST_INTERVAL,
    SHORTEST_INTERVAL,
    CronRule,
    IntervalRule,
    OnceRule,
    Rule,
)
from qhronos_core.domain.schedule.wallclock import WallClock, wall_clock

LONGEST_TEXT: Final = 512

_LOOKS_LIKE_CRON: Final = re.compile(r"[0-9*]\S*(?: +\S+){3,6} *|[@].*")
_BARE_DURATION: Final = re.compile(r"[0-9]+(?:[.,][0-9]+)? *[A-Za-z]+(?: *[0-9]+ *[A-Za-z]+)*")


@lru_cache(maxsize=8192)
def read_rule(text: str, zone: str, zone_given: bool, anchor: datetime, start: datetime | None) -> Rule:
    """The rule a text stands for, accepted at `anchor`.

    Raises:
        ScheduleError: it has no reading, more than one, or one that is not offered.
    """
    clock = wall_clock(zone)
    if len(text) > LONGEST_TEXT:
        raise _refused(text, f"A schedule has at most {LONGEST_TEXT} characters.", "every day at 9am")
    if (odd := next((each for each in text if not " " <= each <= "~"), None)) is not None:
        raise _odd_character(text, odd)
    lowered = " ".join(text.lower().split())
    if text[:1] == "@" or _LOOKS_LIKE_CRON.fullmatch(text):
        return _cron(text, clock)
    if lowered.startswith("every ") and _starts_with_digit_or_iso(lowered[6:]):
        return _interval(text, " ".join(text.split())[6:], anchor, start)
    if text[:1] == "P" and isinstance(read_duration(text), timedelta):
        return _interval(text, text, anchor, start)
    if lowered.startswith("in "):
        return _delay(text, " ".join(text.split())[3:], anchor)
    if (moment := read_in_words(text, clock, anchor)) is not None:
        return OnceRule(moment.at, "instant", wall=True, shift=moment.moved)
    if re.match(r"[0-9]{4}-", text):
        return _instant(text, clock if zone_given else None)
    raise _no_reading(text)


def _starts_with_digit_or_iso(text: str) -> bool:
    return text[:1].isdecimal() or text[:1] in ("-", "+") or re.match(r"p[0-9t]", text) is not None


def _cron(text: str, clock: WallClock) -> Rule:
    cron = read_cron(text)
    if isinstance(cron, BadCron):
        raise _refused(text, cron.why, *cron.meant)
    return CronRule(cron, clock)


def _interval(text: str, length_text: str, anchor: datetime, start: datetime | None) -> Rule:
    length = read_duration(length_text)
    if isinstance(length, NoDuration):
        raise _refused(text, length.why, *(f"every {each}" for each in length.meant))
    if not SHORTEST_INTERVAL <= length <= LONGEST_INTERVAL:
        raise _refused(text, "An interval is 1 second to 366 days.", f"every {say_duration(LONGEST_INTERVAL)}")
    return IntervalRule(length, anchor + length if start is None else start)


def _delay(text: str, length_text: str, anchor: datetime) -> Rule:
    length = read_duration(length_text)
    if isinstance(length, NoDuration):
        raise _refused(text, length.why, *(f"in {each}" for each in length.meant))
    if not SHORTEST_INTERVAL <= length <= LONGEST_INTERVAL:
        raise _refused(text, "A delay is 1 second to 366 days.", f"in {say_duration(LONGEST_INTERVAL)}")
    return OnceRule(anchor + length, "delay")


def _instant(text: str, clock: WallClock | None) -> Rule:
    moment = read_instant(text, clock)
    if isinstance(moment, NoInstant):
        if moment.needs_zone:
            raise refusal(
                "schedule",
                moment.why,
                got=text,
                fix=[{"schedule": f"{text}Z"}, {"schedule": text, "timezone": "Europe/Paris"}],
            )
        raise _refused(text, moment.why, *moment.meant)
    return OnceRule(moment.at, "instant", wall=moment.wall, shift=moment.moved)


def _no_reading(text: str) -> ScheduleError:
    stripped = text.strip()
    if re.fullmatch(r"[0-9]{1,5}", stripped) and int(stripped):
        return _refused(text, "A number alone has no unit.", f"every {stripped}m", f"in {stripped}m")
    if _BARE_DURATION.fullmatch(stripped) and isinstance(read_duration(stripped), timedelta):
        return _refused(text, "Once, or again and again?", f"every {stripped}", f"in {stripped}")
    return _refused(text, "No reading.", "every day at 9am", "0 9 * * *", "every 1h")


def _odd_character(text: str, odd: str) -> ScheduleError:
    kept = " ".join("".join(each if " " <= each <= "~" else " " for each in text).split())
    name = f"U+{ord(odd):04X}"
    return _refused(text, f"Only printable ASCII; this holds {name}.", kept)


def _refused(text: str, why: str, *meant: str) -> ScheduleError:
    return refusal("schedule", why, got=text, fix=[{"schedule": each} for each in meant])
