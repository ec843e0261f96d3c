"""One instant, read strictly; a day in words; lengths of time."""

from datetime import UTC, datetime, timedelta

import pytest

from qhronos_core.domain.schedule import (
    InvalidDurationError,
    ScheduleError,
    Timetable,
    parse_duration,
    parse_instant,
    preview,
    say_duration,
    say_instant,
)

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)  # a Tuesday


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2027-03-01T09:00:00Z", "2027-03-01T09:00:00Z"),
        ("2027-03-01T09:00Z", "2027-03-01T09:00:00Z"),
        ("2027-03-01 09:00:00+01:00", "2027-03-01T08:00:00Z"),
        ("2027-03-01T09:00:00-12:00", "2027-03-01T21:00:00Z"),
        ("2027-03-01T09:00:00+14:00", "2027-02-28T19:00:00Z"),
        ("2027-03-01T09:00:00-00:00", "2027-03-01T09:00:00Z"),
        ("2027-03-01T09:00:00.5Z", "2027-03-01T09:00:00.5Z"),
        ("2027-03-01T09:00:00.123456789Z", "2027-03-01T09:00:00.123456Z"),
        ("2199-12-31T23:59:59Z", "2199-12-31T23:59:59Z"),
        ("2028-02-29T00:00:00Z", "2028-02-29T00:00:00Z"),
    ],
)
def test_rfc_3339_is_read(text: str, expected: str) -> None:
    assert [say_instant(run) for run in preview(text, after=NOW, count=5)] == [expected]
    assert say_instant(parse_instant(text, field="until", timezone=None)) == expected


REFUSED = """
2027-03-01T24:00:00Z|2027-03-01T09:60:00Z|2027-03-01T09:00:60Z|2027-02-29T09:00:00Z|2027-13-01T09:00:00Z|2027-00-01T09:00:00Z
2027-03-00T09:00:00Z|2027-W10-1T09:00:00Z|2027-060T09:00:00Z|20270301T090000Z|2027-03-01T090000Z|2027-3-1T09:00:00Z
2027-03-01T9:00:00Z|2027-03-01|2027-03-01Z|2027-03|2027-03-01T09Z|2027-03-01T09:00:00+01|2027-03-01T09:00:00+0100
2027-03-01T09:00:00+01:00:00|2027-03-01T09:00:00+14:01|2027-03-01T09:00:00-12:01|2027-03-01T09:00:00+01:60
2027-03-01T09:00:00 UTC|2027-03-01T09:00:00.Z|2027-03-01T09:00:00,5Z|2027-03-01T09:00:00|2027-03-01T09:00
2200-01-01T00:00:00Z|2199-12-31T23:59:59-01:00|+2027-03-01T09:00:00Z|02027-03-01T09:00:00Z|1800000000|1800000000000
2027-03-01T09:00:00Z Z|2027-03-01  09:00:00Z|2027-03-01T09:00:00ZZ|2027/03/01 09:00|01-03-2027 09:00|2027-03-01t09:00:00z
0000-01-01T00:00:00Z|2027-03-01T09:00:00Europe/Paris
"""


@pytest.mark.parametrize("text", [text for line in REFUSED.split("\n") for text in line.split("|") if text])
def test_what_is_nearly_an_instant_is_refused(text: str) -> None:
    with pytest.raises(ScheduleError):
        preview(text, after=NOW, count=1)


def test_an_instant_not_later_than_the_moment_of_acceptance_gives_no_run() -> None:
    assert preview("2026-11-24T12:00:00Z", after=NOW, count=1) == []
    assert preview("1999-12-31T23:59:59Z", after=NOW, count=1) == []
    assert preview("0001-01-01T00:00:00+14:00", after=NOW, count=1) == []
    assert preview(None, after=NOW, start_time=NOW, count=1) == []
    assert preview(None, after=NOW, start_time=NOW + timedelta(hours=1), count=1) == [NOW + timedelta(hours=1)]


def test_wall_time_needs_its_zone_said_even_if_it_is_utc() -> None:
    assert preview("2027-03-01T09:00", timezone="UTC", after=NOW, count=1)
    with pytest.raises(ScheduleError, match="whose time"):
        preview("2027-03-01T09:00", after=NOW, count=1)


def test_wall_time_in_a_gap_is_shifted_and_said_so_and_in_a_fold_is_the_first() -> None:
    gap = Timetable.of("2027-03-28T02:30", timezone="Europe/Paris", anchor=NOW)
    fold = Timetable.of("2027-10-31T02:30", timezone="Europe/Paris", anchor=NOW)

    assert [(f"{run.local:%H:%M}", run.note) for run in gap.runs_after(NOW, 2)] == [("03:30", "shifted")]
    assert "does not exist" in gap.warnings(NOW)[0]
    assert [(say_instant(run.at), run.note) for run in fold.runs_after(NOW, 2)] == [
        ("2027-10-31T00:30:00Z", "first_pass")
    ]
    assert "comes twice" in fold.warnings(NOW)[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("today at 9pm", "2026-11-24T21:00"),
        ("today 18:00", "2026-11-24T18:00"),
        ("tomorrow at 9am", "2026-11-25T09:00"),
        ("tomorrow 09:00", "2026-11-25T09:00"),
        ("Tomorrow  at  NOON", "2026-11-25T12:00"),
        ("tomorrow midnight", "2026-11-25T00:00"),
        ("on friday at 5pm", "2026-11-27T17:00"),
        ("on fri 17:30", "2026-11-27T17:30"),
        ("on tuesday at 1pm", "2026-12-01T13:00"),
        ("on tuesday at 2:30 pm", "2026-11-24T14:30"),
        ("on monday at midnight", "2026-11-30T00:00"),
    ],
)
def test_days_in_words_are_counted_on_the_wall_of_their_zone(text: str, expected: str) -> None:
    table = Timetable.of(text, timezone="Europe/Paris", anchor=NOW)  # 13:00 there

    assert f"{table.runs_after(NOW, 1)[0].local:%Y-%m-%dT%H:%M}" == expected


def test_the_day_is_that_of_the_zone_and_not_of_utc() -> None:
    late = datetime(2026, 11, 24, 23, 30, tzinfo=UTC)  # already the 25th in Tokyo

    assert preview("tomorrow at 9am", timezone="Asia/Tokyo", after=late, count=1) == [
        datetime(2026, 11, 26, tzinfo=UTC)
    ]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("15m", 900),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("2 hours", 7200),
        ("1 hour 30 minutes", 5400),
        ("PT15M", 900),
        ("P1D", 86_400),
        ("P2W", 1_209_600),
        ("P1DT2H3M4S", 93_784),
        ("2d", 172_800),
        ("1w", 604_800),
        ("10 Seconds", 10),
    ],
)
def test_a_length_of_time_is_read_and_said(text: str, seconds: int) -> None:
    length = parse_duration(text, field="snooze")

    assert length == timedelta(seconds=seconds)
    assert parse_duration(say_duration(length), field="snooze") == length


@pytest.mark.parametrize("seconds", [1, 59, 60, 61, 3599, 3600, 5400, 86_399, 86_400, 90_061, 604_800, 31_622_400])
def test_what_is_said_of_a_length_is_read_as_the_same(seconds: int) -> None:
    assert parse_duration(say_duration(timedelta(seconds=seconds)), field="x") == timedelta(seconds=seconds)


NO_LENGTHS = "P1M|P1Y|1 month|1y|0m|0s|PT0S|-5m|1.5h|PT1.5H|15|m|15 fortnights|1h1h|30m1h|15M|P|PT|P1W2D|P-1D|pt15m| 15m|15m |1e3s|"


@pytest.mark.parametrize("text", NO_LENGTHS.split("|"))
def test_what_is_no_length_is_refused_with_lengths_that_are(text: str) -> None:
    with pytest.raises(InvalidDurationError) as refused:
        parse_duration(text, field="expires_after")

    assert refused.value.fault.field == "expires_after"
    for fix in refused.value.fault.fix:
        assert parse_duration(str(fix["expires_after"]), field="expires_after")


def test_a_length_out_of_bounds_is_offered_the_bound() -> None:
    limits = {"minimum": timedelta(seconds=10), "maximum": timedelta(days=7)}

    assert parse_duration("7d", field="ack_timeout", **limits) == timedelta(days=7)
    for text, better in (("9s", "10s"), ("8d", "1w"), ("1.5s", "10s")):
        with pytest.raises(InvalidDurationError) as refused:
            parse_duration(text, field="ack_timeout", **limits)
        assert refused.value.fault.fix == ({"ack_timeout": better},)


def test_intervals_count_from_start_time_else_from_acceptance_and_are_arithmetic() -> None:
    start = NOW - timedelta(days=1, minutes=7)

    assert preview("every 2 hours", after=NOW, count=2) == [NOW + timedelta(hours=2), NOW + timedelta(hours=4)]
    assert preview("every 2h", after=NOW, start_time=start, count=1) == [start + timedelta(hours=26)]
    assert preview("every 2h", after=NOW, start_time=NOW + timedelta(hours=5), count=1) == [NOW + timedelta(hours=5)]
    assert preview("P1D", after=NOW, count=1) == preview("every 24h", after=NOW, count=1)
    assert preview("in PT15M", after=NOW, count=9) == [NOW + timedelta(minutes=15)]


@pytest.mark.parametrize(
    "text", ["every 0s", "every 367d", "in 367d", "every PT0S", "in 0m", "every", "in", "every 15", "in 15"]
)
def test_intervals_and_delays_have_their_limits(text: str) -> None:
    with pytest.raises(ScheduleError):
        preview(text, after=NOW, count=1)


def test_an_interval_crosses_a_change_of_clocks_without_noticing_and_says_so_before() -> None:
    table = Timetable.of("every 24h", timezone="Europe/Paris", anchor=NOW)

    runs = [run.local for run in table.runs_after(datetime(2027, 3, 26, 12, tzinfo=UTC), 3)]

    assert [f"{run:%H:%M}" for run in runs] == ["13:00", "14:00", "14:00"]
    assert "24 elapsed hours" in table.warnings(NOW)[0]
    assert Timetable.of("every 24h", timezone="UTC", anchor=NOW).warnings(NOW) == []
