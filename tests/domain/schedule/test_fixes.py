"""A helpful refusal: what it says, what it offers, and that what it offers is accepted and asks for no more."""

from datetime import UTC, datetime, timedelta
from itertools import takewhile

import pytest

from qhronos_core.domain.schedule import ScheduleError, Timetable, parse_instant, preview

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def refused(schedule: object, **fields: object) -> ScheduleError:
    with pytest.raises(ScheduleError) as caught:
        preview(schedule, after=NOW, count=1, **fields)  # type: ignore[arg-type]
    return caught.value


def offered(schedule: object, **fields: object) -> list[object]:
    return [fix["schedule"] if list(fix) == ["schedule"] else fix for fix in refused(schedule, **fields).fault.fix]


# Each mistake with what is offered for it, likeliest first.
TABLE: list[tuple[object, list[object]]] = [
    ("15m", ["every 15m", "in 15m"]),
    ("2 hours", ["every 2 hours", "in 2 hours"]),
    ("15", ["every 15m", "in 15m"]),
    (15, ["every 15m", "in 15m"]),
    ("0 0 30 2 *", ["0 0 28 2 *", "0 0 L 2 *"]),
    ("0 0 31 4,6 *", ["0 0 28 4,6 *", "0 0 L 4,6 *"]),
    ("0 22-6 * * *", ["0 22-23,0-6 * * *"]),
    ("0 0 * * SAT-TUE", ["0 0 * * 6,0-2"]),
    ("0 22-6/2 * * *", ["0 22,0,2,4,6 * * *"]),
    ("0 0 * NOV-FEB *", ["0 0 * 11-12,1-2 *"]),
    ("30 0 9 * * *", ["0 9 * * *"]),
    ("*/30 * * * * *", ["every 30s", "* * * * *"]),
    ("0 9 15W * *", ["0 9 15 * *"]),
    ("0 9 L-3 * *", ["0 9 28 * *"]),
    ("0 9 * * L5", ["0 9 * * 5L"]),
    ("0 9 * * FRIL", ["0 9 * * 5L"]),
    ("0 9 ? * MON", ["0 9 * * MON"]),
    ("H 9 * * *", ["0 9 * * *"]),
    ("H/15 * * * *", ["*/15 * * * *"]),
    ("@reboot", ["in 1m"]),
    ("@every 2h", ["every 2h"]),
    ("@quarterly", ["0 0 1 1,4,7,10 *"]),
    ("*/90 * * * *", ["every 90m"]),
    ("0 */36 * * *", ["every 36h"]),
    ("every 367 days", ["RRULE:FREQ=DAILY;INTERVAL=367"]),
    ("in 367 days", ["2027-11-26T12:00:00Z"]),
    ("every two weeks", ["every 2 weeks"]),
    ("every 2nd monday of the month at 9am", ["second monday of the month at 9am"]),
    ("60 * * * *", ["0 * * * *", "59 * * * *"]),
    ("0 24 * * *", ["0 0 * * *", "0 23 * * *"]),
    ("0 0 32 * *", ["0 0 31 * *", "0 0 L * *"]),
    ("0 0 * * MONDAY", ["0 0 * * 1"]),
    ("0 9 * *", ["0 9 * * *"]),
    ("at 9", ["tomorrow at 9am", "tomorrow at 9pm"]),
    ("every day at 9", ["every day at 9am", "every day at 9pm"]),
    ("9am", ["tomorrow at 9am", "every day at 9am"]),
    ("every monday", ["every monday at 9am", "every monday at 5pm"]),
    ("every monday at 25:00", ["every monday at 9am", "every monday at 5pm"]),
    ("every monday at 9:75am", ["every monday at 9am", "every monday at 5pm"]),
    ("monday at 25:00", ["on monday at 9am", "every monday at 9am"]),
    ("mondays at 9am", ["on monday at 9am", "every monday at 9am"]),
    ("every month on the 31th at 9am", ["every month on the 31st at 9am"]),
    ("every other day", ["every 2d"]),
    ("in an hour", ["in 1h"]),
    ("every 1.5h", ["every 1h30m"]),
    ("every P1M", ["every P30D"]),
    ("every 0m", ["every 1m"]),
    ("2027-03-01", ["2027-03-01T09:00:00Z", "2027-03-01T00:00:00Z"]),
    ("2027-03-01T24:00:00Z", ["2027-03-02T00:00:00Z"]),
    ("2027-02-30T09:00:00Z", ["2027-02-28T09:00:00Z"]),
    ("20270301T090000Z", ["2027-03-01T09:00:00Z"]),
    ("1800000000", ["2027-01-15T08:00:00Z"]),
    (
        "2027-03-01T09:00",
        ["2027-03-01T09:00:00Z", {"schedule": "2027-03-01T09:00", "timezone": "Europe/Paris"}],
    ),
    ("FREQ=DAILY", ["RRULE:FREQ=DAILY"]),
    ("RRULE:FREQ=SECONDLY;INTERVAL=30", ["every 30s", "RRULE:FREQ=MINUTELY;INTERVAL=30"]),
    ("RRULE:FREQ=DAILY;UNTIL=20301231", ["RRULE:FREQ=DAILY;UNTIL=20301231T235959Z"]),
    ("RRULE:FREQ=WEEKLY;BYDAY=1MO", ["RRULE:FREQ=MONTHLY;BYDAY=1MO"]),
    ("RRULE:FREQ=WEEKLY;BYMONTHDAY=1", ["RRULE:FREQ=DAILY;BYMONTHDAY=1"]),
    ("RRULE:FREQ=DAILY;INTERVAL=10001", ["RRULE:FREQ=WEEKLY;INTERVAL=1429"]),
    (
        "RRULE:FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30",
        ["RRULE:FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=28", "RRULE:FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=-1"],
    ),
    (
        "RRULE:FREQ=DAILY;EXDATE=20261225T120000Z",
        [{"schedule": "RRULE:FREQ=DAILY", "exclusions": ["2026-12-25T12:00:00Z"]}],
    ),
    ({"frequency": "weekly", "by_month_day": [1]}, [{"frequency": "monthly", "by_month_day": [1]}]),
    ({"frequency": "yearly", "by_day": ["MO"]}, [{"frequency": "yearly"}]),
    ({"frequency": "weekly", "by_day": ["Monday"]}, [{"frequency": "weekly", "by_day": ["MO"]}]),
    ({"freq": "weekly", "interval": "2"}, [{"frequency": "weekly", "interval": 2}]),
    ({"frequency": "quarterly", "interval": 2}, [{"frequency": "monthly", "interval": 6}]),
    ({"frequency": "annually"}, [{"frequency": "yearly"}]),
    ("RRULE:FREQ=ANNUALLY", ["RRULE:FREQ=YEARLY;INTERVAL=1"]),
    ("RRULE:FREQ=FORTNIGHTLY;BYDAY=MO;INTERVAL=3", ["RRULE:FREQ=WEEKLY;BYDAY=MO;INTERVAL=6"]),
    ("0 9 L5 * *", ["0 9 L * *"]),
    ("0 9 LL * *", ["0 9 L * *"]),
    ("0 9 * * MON-WED-FRI", ["0 9 * * 1,3,5"]),
    ("fifth monday of the month at 9am", ["0 9 * * 1#5"]),
    ({"FREQUENCY": "Monthly", "byMonthDay": [1]}, [{"frequency": "monthly", "by_month_day": [1]}]),
]  # fmt: skip


@pytest.mark.parametrize(("given", "expected"), TABLE, ids=[str(given) for given, _ in TABLE])
def test_what_is_offered_for_a_mistake(given: object, expected: list[object]) -> None:
    assert offered(given) == expected


@pytest.mark.parametrize("given", [given for given, _ in TABLE], ids=[str(given) for given, _ in TABLE])
def test_what_is_offered_is_accepted(given: object) -> None:
    for fix in refused(given).faults[0].fix:
        fields = {"schedule": given, "timezone": "UTC", "after": NOW, "count": 3} | fix
        if isinstance(start := fields.get("start_time"), str):
            fields["start_time"] = parse_instant(start, field="start_time", timezone=None)
        assert preview(**fields)  # type: ignore[arg-type]


# Mistakes whose meaning is clear, with a rule that is what was asked: no fix may run more often than that.
CLEAR = [
    ("30 0 9 * * *", "0 9 * * *"),
    ("0 22-6 * * *", "0 22,23,0,1,2,3,4,5,6 * * *"),
    ("0 9 15W * *", "0 9 15 * *"),
    ("0 9 L-3 * *", "0 9 28 * *"),
    ("*/30 * * * * *", "every 30s"),
    ("@every 1h", "every 1h"),
    ("every P1M", "every 30d"),
    ("every 1.5h", "every 90m"),
    ("every other week", "every 2w"),
    ("RRULE:FREQ=DAILY;BYSECOND=0", "RRULE:FREQ=DAILY"),
    ("RRULE:FREQ=SECONDLY;INTERVAL=30", "every 30s"),
    ("0 9 1 1 * 2027", "0 9 1 1 *"),
    ("0 0 9 ? * MON-FRI", "0 9 * * MON-FRI"),
    ("every 367 days", "RRULE:FREQ=DAILY;INTERVAL=367"),
    ("@every 2h", "every 2h"),
    ("@biweekly", "every 2w"),
    ("*/90 * * * *", "every 90m"),
    ("every two weeks", "every 2w"),
    ("RRULE:FREQ=DAILY;BYYEARDAY=1", "RRULE:FREQ=YEARLY;BYYEARDAY=1"),
    ("RRULE:FREQ=DAILY;BYDAY=1MO", "RRULE:FREQ=MONTHLY;BYDAY=1MO"),
    ("RRULE:FREQ=WEEKLY;BYMONTHDAY=1", "RRULE:FREQ=DAILY;BYMONTHDAY=1"),
    ("RRULE:FREQ=DAILY;INTERVAL=10001", "RRULE:FREQ=DAILY;INTERVAL=10000"),
]


@pytest.mark.parametrize(("given", "asked"), CLEAR)
def test_no_fix_runs_more_often_than_what_was_asked(given: str, asked: str) -> None:
    def in_a_while(schedule: object, fix: dict[str, object]) -> int:
        bounds = {
            name: parse_instant(str(fix[name]), field=name, timezone=None)
            for name in ("start_time", "end_time")
            if name in fix
        }
        table = Timetable.of(schedule, anchor=NOW, **bounds)  # type: ignore[arg-type]
        return table.count_between(NOW, NOW + timedelta(days=800), 5000)

    for fix in refused(given).fault.fix:
        assert in_a_while(fix.get("schedule", given), fix) <= in_a_while(asked, {})


def test_a_past_instant_says_how_long_ago_and_offers_the_same_time_and_soon() -> None:
    with pytest.raises(ScheduleError) as caught:
        Timetable.of("2026-11-24T09:00:00Z", anchor=NOW, check_from=NOW)

    fault = caught.value.fault
    assert (caught.value.code, fault.why) == ("in_the_past", "That was 3 hours ago.")
    assert fault.fix == ({"schedule": "2026-11-25T09:00:00Z"}, {"schedule": "in 1m"})


def test_today_gone_by_offers_tomorrow() -> None:
    with pytest.raises(ScheduleError) as caught:
        Timetable.of("today at 9am", anchor=NOW, check_from=NOW)

    assert caught.value.fault.fix[0] == {"schedule": "tomorrow at 9am"}


def test_a_start_gone_by_without_a_schedule_is_a_fault_of_the_start() -> None:
    with pytest.raises(ScheduleError) as caught:
        Timetable.of(None, anchor=NOW, start_time=NOW - timedelta(hours=3), check_from=NOW)

    assert caught.value.fault.field == "start_time"
    assert caught.value.fault.fix[0] == {"start_time": "2026-11-25T09:00:00Z"}


def test_every_faulty_field_is_named_at_once_and_its_fixes_are_right_once_the_others_are() -> None:
    with pytest.raises(ScheduleError) as caught:
        Timetable.of(
            "0 22-6 * * *",
            timezone="europe/paris",
            anchor=NOW,
            exclusions=["2026-13-01", "2026-12-25"],
            start_time=NOW + timedelta(days=2),
            end_time=NOW + timedelta(days=1),
            check_from=NOW,
        )

    assert {fault.field: fault.fix[0] for fault in caught.value.faults} == {
        "timezone": {"timezone": "Europe/Paris"},
        "end_time": {"start_time": "2026-11-25T12:00:00Z", "end_time": "2026-11-26T12:00:00Z"},
        "exclusions": {"exclusions": ["2026-12-25"]},
        "schedule": {"schedule": "0 22-23,0-6 * * *"},
    }


def test_each_bad_member_of_an_object_has_its_own_message_and_the_fix_mends_them_all() -> None:
    error = refused({"frequency": "weekly", "interval": 0, "by_day": ["MO", "XX"], "by_month": [0], "count": True})

    assert [fault.field for fault in error.faults] == [
        "schedule.interval",
        "schedule.by_day",
        "schedule.by_month",
        "schedule.count",
    ]
    assert {str(fault.fix) for fault in error.faults} == {
        str(({"schedule": {"frequency": "weekly", "interval": 1, "by_day": ["MO"]}},))
    }


def test_bounds_that_leave_nothing_are_refused_with_bounds_that_leave_something() -> None:
    error = refused("0 0 1 1 *", end_time=NOW + timedelta(days=3))

    assert (error.code, error.fault.field) == ("never_happens", "end_time")
    assert error.fault.fix == ({"end_time": "2027-01-01T00:00:00Z"},)


def test_exclusions_that_leave_nothing_are_refused() -> None:
    error = refused("every day at 9am", exclusions=["2026-01-01/2199-12-31"])

    assert (error.code, error.fault.field, error.fault.fix) == ("never_happens", "exclusions", ({"exclusions": []},))


def test_runs_closer_together_than_the_operator_allows_are_refused() -> None:
    for schedule in ("every 1m", "* * * * *", "0,1 0 1 1 *", "RRULE:FREQ=MINUTELY"):
        with pytest.raises(ScheduleError) as caught:
            Timetable.of(schedule, anchor=NOW, check_from=NOW, min_interval=timedelta(minutes=5))
        assert caught.value.code == "too_often"
        assert caught.value.fault.fix == ({"schedule": "every 5m"},)
    assert Timetable.of("*/5 * * * *", anchor=NOW, check_from=NOW, min_interval=timedelta(minutes=5))


def test_a_message_repeats_no_more_than_200_characters_of_what_was_sent() -> None:
    error = refused("x" * 600)

    assert len(str(error.fault.got)) == 200
    assert "xxx" not in str(error)


def test_what_is_large_or_nested_without_end_is_refused_briefly() -> None:
    endless: list[object] = []
    endless.append(endless)
    for given in (
        [["x" * 1000] * 1000] * 1000,
        endless,
        {"a": endless},
        {str(index): index for index in range(1000)},
        10**400,
    ):
        error = refused(given)
        assert len(str(error.fault.got)) <= 200
        assert len(str(error)) < 300


def test_what_was_found_is_stable_however_it_is_walked() -> None:
    runs = preview("*/20 9-10 * * 1-5", timezone="Europe/Paris", after=NOW, count=50)
    table = Timetable.of("*/20 9-10 * * 1-5", timezone="Europe/Paris", anchor=NOW)

    assert table.latest(NOW, runs[-1], 7) == runs[-7:]
    assert list(takewhile(lambda run: run <= runs[9], (run.at for run in table.runs_after(NOW, 50)))) == runs[:10]
    assert table.count_between(NOW, runs[-1], 1000) == 50
