"""Inputs nobody would send, and what must hold for every one of them.

`scour(count, seed)` is for scripts: it raises on the first input that breaks a promise. The seeds are one of
each form and each known mistake; most inputs are seeds with something done to them.
"""

import random
import string
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from qhronos_core.domain.errors import Fault
from qhronos_core.domain.schedule import ScheduleError, parse_instant, preview
from qhronos_core.domain.schedule.zones import NAMES

LIMIT = 0.050  # seconds of our own time for one input

SEEDS = """
0 9 * * 1-5|*/15 * * * *|0 0 L * *|0 0 LW 1,3 *|0 9 * * 5L|0 9 * * 5#3|0 22-6 * * *|30 0 9 * * *|0 0 30 2 *|@daily|@reboot
@every 1h|0 9 15W * *|0 9 L-3 * *|0 9 ? * MON|H/15 * * * *|0 0 * * SAT-TUE|60 24 32 13 8|*/0 * * * *|0 0 1 1 * 2027
0 0 29 2 1|0 0 * 2 1#5|0-59/7,3 1-23/2 1,L JAN-DEC SUN|59 23 31 12 7
every 15m|every 2 hours|every 1h30m|every 0m|every 1.5h|every P1M|every 99999d|PT15M|P1D|P2W|P1DT2H3M4S|in 2 hours|in PT15M|in 1s
15m|15|1800000000|every 15|every -5m|every 1M
2027-03-01T09:00:00+01:00|2027-03-01T09:00|2027-03-01 09:00:00.123Z|2027-02-30T09:00:00Z|2027-03-01T24:00:00Z|2199-12-31T23:59:59Z
0001-01-01T00:00:00+14:00|2027-W10-1|20270301T090000Z|2026-01-01T00:00:00Z|tomorrow at 9am|today 18:00|on friday at noon|tomorrow
every weekday at 9am|every mon, wed and fri at 9:30am|monthly on the 15th at noon|last day of the month at 6pm|at 9|every monday
first monday of the month at 9am|last friday of the month at 5pm|every year on march 1 at 9am|every year on february 30 at 9am
every hour at :15|daily|hourly|every other day|next monday at 9am|hello world|
RRULE:FREQ=MONTHLY;BYDAY=-1FR|RRULE:FREQ=DAILY;COUNT=10|RRULE:FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,WE;WKST=SU
RRULE:FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30|RRULE:FREQ=YEARLY;BYWEEKNO=53;BYDAY=MO,SU|RRULE:FREQ=YEARLY;BYYEARDAY=-1,366;BYSETPOS=-1
RRULE:FREQ=MINUTELY;INTERVAL=7;BYHOUR=9;BYMINUTE=0|RRULE:FREQ=HOURLY;INTERVAL=10000;BYMONTH=2;BYMONTHDAY=29;BYHOUR=3
RRULE:FREQ=MINUTELY;INTERVAL=9999;BYMONTHDAY=31;BYDAY=MO;BYHOUR=3;BYMINUTE=7;COUNT=100000|RRULE:FREQ=SECONDLY;INTERVAL=5
RRULE:FREQ=DAILY;UNTIL=20301231T235959Z|RRULE:FREQ=DAILY;UNTIL=20301231|RRULE:FREQ=DAILY;COUNT=2;UNTIL=20300101T000000Z
RRULE:FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1;BYHOUR=9;BYMINUTE=0|RRULE:FREQ=DAILY;COUNT=100000;BYHOUR=0,6,12,18
RRULE:FREQ=HOURLY;BYMINUTE=0,20,40;BYSETPOS=1,-1|RRULE:FREQ=YEARLY;INTERVAL=10000|RRULE:FREQ=WEEKLY;BYDAY=1MO|FREQ=DAILY
DTSTART:20270101T090000Z RRULE:FREQ=DAILY|RRULE:FREQ=DAILY;EXDATE=20270101T000000Z|RRULE:FREQ=DAILY;BYHOUR=24;FOO=1
"""
TEXTS = [text for line in SEEDS.split("\n") for text in line.split("|")]
PIECES = [
    "*", "/", "-", ",", " ", "#", "L", "W", "LW", "?", "H", "@", ":", ";", "=", "T", "Z", "+14:00", "-12:00",
    ".5", "0", "99999999999999999999", "1" * 60, "every ", "in ", " at ", "am", "pm", "RRULE:", "FREQ=",
    "COUNT=", "BYDAY=", "BYSETPOS=", "INTERVAL=", "\n", "\t", "\x00", "\xa0", "\u017f", "\u0130", "\u0663",
    "\u202e", "\U000e0041", "\ud800", "\xe9", "{", "}", "%s", "None", "nan", "1e9", "0x10", "MON-FRI", "JAN",
    "P", "PT", "M", "noon",
]  # fmt: skip
OBJECTS: list[dict[str, object]] = [
    {"frequency": "weekly", "by_day": ["MO", "WE"], "interval": 2},
    {"frequency": "monthly", "by_month_day": [15, -1], "count": 10},
    {"frequency": "yearly", "by_month": [3], "until": "2030-01-01T00:00:00Z"},
    {"frequency": "minutely", "interval": 5},
    {"frequency": "daily"},
]
JUNK: list[object] = [
    None, True, 0, -1, 1.5, 10**30, float("nan"), float("inf"), "", "weekly", "MO", [], [None], ["MO", 1], {}, {"a": []}, ["1MO"],
    "2030-01-01", [[[]]], b"x", ["MO"] * 1000, [31] * 101, "9" * 400,
]  # fmt: skip
ZONES = [
    "UTC",
    "Europe/Paris",
    "America/New_York",
    "Pacific/Apia",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    *sorted(NAMES),
]


def inputs(chance: random.Random) -> Iterator[object]:
    while True:
        kind = chance.random()
        if kind < 0.08:
            yield _mangled_object(chance)
        elif kind < 0.10:
            yield chance.choice(JUNK)
        elif kind < 0.14:
            yield "".join(chance.choice(string.printable) for _ in range(chance.randrange(60)))
        elif kind < 0.16:
            yield chance.choice(TEXTS) * chance.randrange(1, 40)
        else:
            text = chance.choice(TEXTS)
            for _ in range(chance.choice([0, 1, 1, 1, 2, 3, 6])):
                text = _mangled(text, chance)
            yield text


def _mangled(text: str, chance: random.Random) -> str:
    at = chance.randrange(len(text) + 1)
    to = min(len(text), at + chance.randrange(1, 5))
    how = chance.randrange(8)
    if how == 0:
        return text[:at] + text[to:]
    if how == 1:
        return text[:at] + chance.choice(PIECES) + text[at:]
    if how == 2:
        return text[:at] + chance.choice(PIECES) + text[to:]
    if how == 3:
        return text[:at] + text[at:to] * 3 + text[to:]
    if how == 4:
        other = chance.choice(TEXTS)
        return text[:at] + other[chance.randrange(len(other) + 1) :]
    if how == 5:
        digits = [index for index, each in enumerate(text) if each in string.digits]
        if digits:
            place = chance.choice(digits)
            return text[:place] + str(chance.choice([0, 1, 7, 9, 10, 24, 31, 60, 100, 366, 9999])) + text[place + 1 :]
    if how == 6:
        return text.swapcase() if chance.random() < 0.5 else text[:at] + text[at:].upper()
    return (
        text[:at]
        + chr(chance.choice([chance.randrange(32, 127), chance.randrange(0x250), chance.randrange(0x3000)]))
        + text[to:]
    )


def _mangled_object(chance: random.Random) -> object:
    made = dict(chance.choice(OBJECTS))
    for _ in range(chance.randrange(3)):
        name = chance.choice(
            [
                *made,
                "frequency",
                "interval",
                "by_day",
                "byday",
                "by_month_day",
                "by_month",
                "count",
                "until",
                "x" * 50,
                "FREQUENCY",
                "freq",
                "byMonthDay",
                "Count",
            ]
        )
        made[name] = chance.choice([*JUNK, *made.values()])
    return made


def one(given: object, chance: random.Random) -> str | None:
    """Hold one input to the promises; the code it was refused with, or None if it was accepted."""
    zone = chance.choice(ZONES[:7]) if chance.random() < 0.8 else chance.choice(ZONES)
    after = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=chance.randrange(20 * 365 * 86_400))
    bounds: dict[str, object] = {}
    if chance.random() < 0.15:
        bounds["start_time"] = after + timedelta(days=chance.randint(-20_000, 2_000))
    if chance.random() < 0.1:
        bounds["end_time"] = after + timedelta(days=chance.randint(-10, 4_000))
    if chance.random() < 0.05:
        bounds["exclusions"] = [
            chance.choice(["2027-12-25", "2027-01-01/2029-12-31", "2027-13-01", "2027-12-24T09:00:00Z", "x"])
        ]
    begun = time.process_time()
    try:
        runs = preview(given, timezone=zone, after=after, count=3, **bounds)  # type: ignore[arg-type]
    except ScheduleError as refused:
        taken, faults = time.process_time() - begun, refused.faults
        _check_refusal(given, faults, zone, after, bounds)
        code: str | None = refused.code
    else:
        taken, code = time.process_time() - begun, None
        assert runs == sorted(set(runs)), given
        assert all(run > after and run.tzinfo is UTC for run in runs), given
    if taken > LIMIT:
        # Once more in quiet: what is slow is slow again.
        fastest = min(_timed(given, zone, after + timedelta(seconds=again), bounds) for again in (1, 2, 3))
        assert fastest <= LIMIT, f"{fastest * 1000:.0f} ms for {given!r} in {zone} after {after} {bounds}"
    return code


def _timed(given: object, zone: str, after: datetime, bounds: dict[str, object]) -> float:
    begun = time.process_time()
    with suppress(ScheduleError):
        preview(given, timezone=zone, after=after, count=3, **bounds)  # type: ignore[arg-type]
    return time.process_time() - begun


def _check_refusal(
    given: object, faults: tuple[Fault, ...], zone: str, after: datetime, bounds: dict[str, object]
) -> None:
    for fault in faults:
        assert fault.why, given
        assert len(str(fault.got)) <= 200, given
        assert 1 <= len(fault.fix) <= 3, f"{len(fault.fix)} fixes for {given!r} {bounds}: {fault.why}"
    if len(faults) == 1:
        for fix in faults[0].fix:
            request: dict[str, Any] = {"schedule": given, "timezone": zone, "after": after, "count": 1} | bounds | fix
            for bound in ("start_time", "end_time"):
                if isinstance(request.get(bound), str):
                    request[bound] = parse_instant(request[bound], field=bound, timezone=str(request["timezone"]))
            try:
                preview(**request)
            except ScheduleError as again:
                raise AssertionError(
                    f"{fix} does not mend {given!r} {bounds} in {zone} after {after}: {again}"
                ) from None


def scour(count: int, seed: object) -> dict[str | None, int]:
    """Try `count` inputs; how many were accepted (None) and refused, by code."""
    chance = random.Random(str(seed))
    outcomes: dict[str | None, int] = {}
    for _, given in zip(range(count), inputs(chance), strict=False):
        code = one(given, chance)
        outcomes[code] = outcomes.get(code, 0) + 1
    return outcomes


if __name__ == "__main__":
    import sys

    print(scour(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else 0))
