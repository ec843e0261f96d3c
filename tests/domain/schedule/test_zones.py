"""Zone names are an exact list, and the clock on each wall is read where it changes."""

import random
import zoneinfo
from datetime import UTC, datetime, timedelta
from importlib import resources
from zoneinfo import ZoneInfo

import pytest

from qhronos_core.domain.schedule import UnknownTimezoneError, check_timezone, preview, tzdata_version, zone
from qhronos_core.domain.schedule.wallclock import seconds, wall_clock
from qhronos_core.domain.schedule.zones import NAMES


def meant_by(name: object) -> list[object]:
    with pytest.raises(UnknownTimezoneError) as refused:
        check_timezone(name)
    return [fix["timezone"] for fix in refused.value.fault.fix]


def test_the_allow_list_is_the_pinned_wheels_less_two() -> None:
    shipped = resources.files("tzdata").joinpath("zones").read_text(encoding="ascii").split()

    assert set(shipped) - NAMES == {"Factory"}
    assert not {"Factory", "localtime"} & NAMES
    assert all(zone(name).key == name for name in NAMES)
    assert zoneinfo.TZPATH == ()
    assert tzdata_version()[:4].isdecimal()


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("europe/paris", ["Europe/Paris"]),
        ("EUROPE/PARIS", ["Europe/Paris"]),
        ("Paris", ["Europe/Paris"]),
        ("America/New York", ["America/New_York"]),
        ("EDT", ["America/New_York"]),
        ("PST", ["America/Los_Angeles", "Asia/Manila"]),
        ("UTC+2", ["Etc/GMT-2"]),
        ("+02:00", ["Etc/GMT-2"]),
        ("GMT-5", ["Etc/GMT+5"]),
        ("UTC+5:30", ["Asia/Kolkata"]),
        ("utc", ["UTC"]),
        ("Z", ["UTC"]),
        ("San Francisco", ["America/Los_Angeles"]),
        ("Asia/Mumbai", ["Asia/Kolkata"]),
        ("Europe/Pari", ["Europe/Paris"]),
    ],
)
def test_a_name_that_is_none_is_answered_with_the_one_that_was_meant(name: str, meant: list[str]) -> None:
    assert meant_by(name)[: len(meant)] == meant


@pytest.mark.parametrize(
    "name",
    [
        "",
        " UTC",
        "Factory",
        "localtime",
        "../etc/passwd",
        "/etc/localtime",
        "posix/UTC",
        "UTC\0",
        "x" * 9999,
        None,
        7,
        "Europe",
    ],
)
def test_nothing_else_reaches_a_zone_file_and_something_is_always_offered(name: object) -> None:
    assert all(offered in NAMES for offered in meant_by(name))
    assert 1 <= len(meant_by(name)) <= 3


def test_an_unknown_zone_is_a_fault_of_its_field() -> None:
    with pytest.raises(UnknownTimezoneError) as refused:
        preview("0 9 * * *", timezone="Europe/paris", after=datetime(2026, 1, 1, tzinfo=UTC), count=1)

    assert (refused.value.fault.field, refused.value.code) == ("timezone", "unknown_timezone")


def test_no_two_changes_of_a_zone_are_so_close_that_the_search_for_them_steps_over_both() -> None:
    # The search looks once in six days. Looking every twelve hours must find the same, where they are closest:
    # in Brazil in the spring of 2000, and in Gaza in years when Ramadan and the change of clocks meet.
    looks = [(name, 2000, 7) for name in sorted(NAMES)] + [("Asia/Gaza", year, 1) for year in (2040, 2054, 2072)]
    for name, year, month in looks:
        clock = wall_clock(name)
        begin, end = datetime(year, month, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)
        found = {stretch.start for stretch in clock.changes(seconds(begin), seconds(end))}
        at, offset = begin, begin.astimezone(clock.zone).utcoffset()
        while at < end:
            at += timedelta(hours=12)
            if (then := at.astimezone(clock.zone).utcoffset()) != offset:
                assert any(seconds(at) - 43_200 <= start <= seconds(at) for start in found), (name, at)
                offset = then


@pytest.mark.parametrize(
    "name", ["America/New_York", "Pacific/Apia", "Australia/Lord_Howe", "Asia/Gaza", "Africa/Monrovia"]
)
def test_the_wall_clock_is_zoneinfos(name: str) -> None:
    chance = random.Random(name)
    clock, plain = wall_clock(name), ZoneInfo(name)
    for _ in range(2000):
        instant = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=chance.randrange(130 * 366 * 86_400))
        local = instant.astimezone(plain)
        assert clock.offset(seconds(instant)) == (local.utcoffset() or timedelta(0)).total_seconds()
        wall = local.replace(tzinfo=UTC) + timedelta(minutes=chance.randrange(-2000, 2000))
        at, moved = clock.at(seconds(wall))
        read = wall.replace(tzinfo=plain, fold=0).astimezone(UTC)
        assert at == seconds(read), (name, wall)
        exists = read.astimezone(plain).replace(tzinfo=UTC) == wall
        assert (moved == 0) == exists
