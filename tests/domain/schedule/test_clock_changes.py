"""Every change of clocks from 2000 to 2040 in eight zones, against Debian's cron loop taken minute by minute.

By default each change is tried with some of the rules, another sample for each change; with
QHRONOS_ALL_CHANGES=1 with all of them, and some zones through whole years.
"""

import os
import random
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from zoneinfo import ZoneInfo

import pytest

from qhronos_core.domain.schedule import Timetable, preview
from tests.domain.schedule.oracles import Expression, changes_of, debian_runs, minute_of, wakeups

EVERYTHING = os.environ.get("QHRONOS_ALL_CHANGES") == "1"
RULES_A_CHANGE = 400 if EVERYTHING else 14
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
ZONES = (
    "America/New_York",
    "Europe/London",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "Pacific/Apia",
    "Asia/Gaza",
    "Asia/Tehran",
    "America/Sao_Paulo",
)


def rule_near(change: datetime, zone: ZoneInfo, chance: random.Random) -> str:
    """An expression that has something to do with the hours around a change."""
    local = change.astimezone(zone)
    before = (change - timedelta(minutes=1)).astimezone(zone)
    hours = [(before.hour + shift) % 24 for shift in (-1, 0, 1, 2)] + [local.hour, (local.hour + 1) % 24]
    minute = chance.choice(
        ["0", "30", "59", "15,45", "0,1,2", "*/10", "*", "*/7", "0-59", "5/20", "29-31", str(chance.randrange(60))]
    )
    hour = chance.choice(
        [
            *map(str, hours),
            f"{hours[0]},{hours[2]}",
            "*",
            "*/2",
            "*/3",
            "0-23",
            "1-23/2",
            f"{min(hours[1:3])}-{max(hours[1:3])}",
        ]
    )
    day = chance.choice(["*", "*", "*", str(before.day), str(local.day), "L", "LW", "*/2", "1-31", f"{before.day},L"])
    month = chance.choice(["*", "*", str(before.month), f"{local.month},{before.month}", "*/2"])
    weekday = chance.choice(
        ["*", "*", "*", str(before.isoweekday() % 7), "SUN", "FRI-SUN", "*/2", "0,6", f"{local.isoweekday()}L", "7#5"]
    )
    return f"{minute} {hour} {day} {month} {weekday}"


@pytest.mark.parametrize("name", ZONES)
def test_around_every_change_of_clocks_cron_runs_when_debian_would(name: str) -> None:
    zone = ZoneInfo(name)
    chance = random.Random(f"changes in {name}")
    changes = changes_of(zone, 2000, 2040)
    assert len(changes) >= 10

    for change in changes:
        reach = 30 * HOUR if name == "Pacific/Apia" else 5 * HOUR
        begin, end = change - reach, change + reach
        calls = list(wakeups(zone, begin, end))
        jump = minute_of(change.astimezone(zone).replace(tzinfo=UTC)) - minute_of(
            begin.astimezone(zone).replace(tzinfo=UTC)
        )
        across_the_date_line = abs(jump * MINUTE - (change - begin)) > 3 * HOUR
        for _ in range(RULES_A_CHANGE * (20 if across_the_date_line else 1)):
            text = rule_near(change, zone, chance)
            after = begin + timedelta(seconds=chance.randrange(int(2 * reach.total_seconds())))
            expected = [run for run in debian_runs(Expression.read(text), calls, after) if run <= end]

            table = Timetable.of(text, timezone=name, anchor=after)
            found: list[datetime] = []
            at = table.next_after(after)
            while at is not None and at <= end:
                found.append(at)
                at = table.next_after(at)

            assert found == expected, f"{text!r} in {name} after {after}, change at {change}"


@pytest.mark.parametrize("name", ZONES if EVERYTHING else ["Australia/Lord_Howe", "Africa/Casablanca"])
def test_a_whole_year_of_a_random_rule_is_debians(name: str) -> None:
    zone = ZoneInfo(name)
    chance = random.Random(f"a year in {name}")
    begin = datetime(2011 if name == "Pacific/Apia" else 2025, 1, 1, tzinfo=UTC)
    end = begin + timedelta(days=366)
    calls = list(wakeups(zone, begin, end)) if EVERYTHING else list(wakeups(zone, begin, begin + timedelta(days=120)))
    end = calls[-1][0]

    tried = 0
    while tried < (20 if EVERYTHING else 3):
        text = rule_near(begin + timedelta(days=chance.randrange(100)), zone, chance)
        if expected := debian_runs(Expression.read(text), calls, begin):
            tried += 1
            found = list(takewhile(lambda run: run <= end, preview(text, timezone=name, after=begin, count=10_000)))
            assert found == expected[:10_000], text


def test_a_day_lost_to_the_date_line_does_not_run_and_is_marked() -> None:
    table = Timetable.of("0 12 * * *", timezone="Pacific/Apia", anchor=datetime(2011, 12, 28, tzinfo=UTC))

    runs = table.runs_after(datetime(2011, 12, 29, 12, tzinfo=UTC), 3, include_excluded=True)

    assert [(run.local.day, run.note) for run in runs] == [(29, None), (30, "lost_in_gap"), (31, None)]


def test_a_wildcard_that_has_its_hour_taken_away_is_marked_lost_that_day() -> None:
    after = datetime(2026, 3, 8, 5, tzinfo=UTC)
    table = Timetable.of("*/30 2 * * *", timezone="America/New_York", anchor=after)

    runs = table.runs_after(after, 2, include_excluded=True)

    assert runs[0].note == "lost_in_gap"
    assert runs[0].local.strftime("%d %H:%M") == "08 02:00"
    assert runs[0].at == datetime(2026, 3, 8, 7, tzinfo=UTC)
    assert runs[1].at == datetime(2026, 3, 9, 6, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "zone", "expected"),
    [
        ("30 2 * * *", "America/New_York", ["2026-03-08T07:00", "2026-03-09T06:30"]),
        ("0,30 2 * * *", "America/New_York", ["2026-03-08T07:00", "2026-03-09T06:00"]),
        ("30 2,3 * * *", "America/New_York", ["2026-03-08T07:00", "2026-03-08T07:30"]),
        ("15 2 * * *", "Australia/Lord_Howe", ["2026-03-07T15:15", "2026-03-08T15:15"]),
    ],
)
def test_named_cases_of_a_gap(text: str, zone: str, expected: list[str]) -> None:
    found = preview(text, timezone=zone, after=datetime(2026, 3, 7, 14, tzinfo=UTC), count=20)

    assert [f"{run:%Y-%m-%dT%H:%M}" for run in found if run.day >= 8 or zone.startswith("Au")][
        : len(expected)
    ] == expected
