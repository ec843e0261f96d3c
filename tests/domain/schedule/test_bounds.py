"""Bounds, exclusions, counts: what they let through, and that a preview is what a planner would fire."""

import random
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qhronos_core.domain.schedule import (
    InvalidBoundsError,
    InvalidExclusionError,
    NeverHappensError,
    ScheduleError,
    Timetable,
    preview,
)

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def hours_of(runs: list[datetime]) -> list[str]:
    return [f"{run:%d %H:%M}" for run in runs]


def test_start_and_end_are_included() -> None:
    start, end = datetime(2026, 11, 26, 9, tzinfo=UTC), datetime(2026, 11, 28, 9, tzinfo=UTC)

    assert hours_of(preview("0 9 * * *", after=NOW, start_time=start, end_time=end, count=9)) == [
        "26 09:00",
        "27 09:00",
        "28 09:00",
    ]
    assert preview("every 2d", after=NOW, start_time=start, end_time=end, count=9) == [start, end]
    assert preview("RRULE:FREQ=DAILY", after=NOW, start_time=start, end_time=start, count=9) == [start]
    assert preview("2026-11-26T09:00:00Z", after=NOW, start_time=start, end_time=start, count=9) == [start]


def test_a_start_within_a_second_starts_a_rule_with_that_second() -> None:
    start = datetime(2026, 11, 26, 9, 0, 0, 500_000, tzinfo=UTC)

    assert preview("RRULE:FREQ=DAILY", after=NOW, start_time=start, count=1) == [start.replace(microsecond=0)]
    assert preview("every 1d", after=NOW, start_time=start, count=1) == [start]


def test_a_start_in_the_past_changes_nothing_but_the_grid() -> None:
    start = NOW - timedelta(days=10, hours=1)

    assert preview("0 9 * * *", after=NOW, start_time=start, count=1) == [datetime(2026, 11, 25, 9, tzinfo=UTC)]
    assert preview("every 6h", after=NOW, start_time=start, count=1) == [NOW + timedelta(hours=5)]
    warned = Timetable.of("every 6h", anchor=NOW, start_time=start).warnings(NOW)
    assert warned == ["start_time was 10 days ago: what would have run since is not made up."]


def test_max_occurrences_counts_what_is_planned_and_not_what_is_left_out() -> None:
    runs = preview("0 9 * * *", after=NOW, count=9, max_occurrences=3, exclusions=["2026-11-26"])

    assert hours_of(runs) == ["25 09:00", "27 09:00", "28 09:00"]


def test_count_counts_what_is_left_out_too() -> None:
    runs = preview("RRULE:FREQ=DAILY;COUNT=4", after=NOW, count=9, exclusions=["2026-11-26"])

    assert hours_of(runs) == ["25 12:00", "27 12:00"]  # of four, one was the moment of acceptance itself


@pytest.mark.parametrize(
    ("exclusions", "expected"),
    [
        (["2026-11-25"], ["26 00:30", "27 00:30"]),
        (["2026-11-25/2026-11-26"], ["27 00:30", "28 00:30"]),
        (["2026-11-25/2026-11-25", "2026-11-26"], ["27 00:30", "28 00:30"]),
        (["2026-11-24T15:30:00Z"], ["26 00:30", "27 00:30"]),  # 00:30 on the 25th in Tokyo
        (["2026-11-25T00:30"], ["26 00:30", "27 00:30"]),
        (["2026-11-25", "2026-11-24T15:30:00Z"], ["26 00:30", "27 00:30"]),
        ([], ["25 00:30", "26 00:30"]),
    ],
)
def test_days_are_local_days_and_instants_are_instants(exclusions: list[str], expected: list[str]) -> None:
    runs = preview("30 0 * * *", timezone="Asia/Tokyo", after=NOW, count=2, exclusions=exclusions)

    assert hours_of([run.astimezone(ZoneInfo("Asia/Tokyo")) for run in runs]) == expected


def test_previews_show_what_is_left_out_marked() -> None:
    table = Timetable.of("0 9 * * *", anchor=NOW, exclusions=["2026-11-26"])

    assert [(run.at.day, run.note) for run in table.runs_after(NOW, 3, include_excluded=True)] == [
        (25, None),
        (26, "excluded"),
        (27, None),
    ]
    assert [run.at.day for run in table.runs_after(NOW, 3)] == [25, 27, 28]


NO_EXCLUSIONS = """
2026-13-01|2026-02-30|2026-12-25/2026-12-24|2026-12-25/|/2026-12-25|2026-12-25/2026-12-26/2026-12-27|25.12.2026|christmas
2026-W52|20261225|2026-12-25T09:00|2026-12-25T10:00:00Z|2026-12-25T09:00:01Z|2026-12-25 |
"""


@pytest.mark.parametrize("exclusion", [text for line in NO_EXCLUSIONS.split("\n")[1:-1] for text in line.split("|")])
def test_an_exclusion_that_is_none_or_meets_no_run_is_refused(exclusion: str) -> None:
    with pytest.raises(InvalidExclusionError) as refused:
        preview("0 9 * * *", after=NOW, count=1, exclusions=["2026-12-01", exclusion])

    assert refused.value.fault.field == "exclusions"
    for fix in refused.value.fault.fix:
        assert preview("0 9 * * *", after=NOW, count=1, exclusions=fix["exclusions"])  # type: ignore[arg-type]


def test_exclusions_have_their_limit_and_are_a_list() -> None:
    days = [f"{NOW + index * DAY:%Y-%m-%d}" for index in range(101)]

    assert preview("0 9 * * *", after=NOW, count=1, exclusions=days[:100])
    with pytest.raises(InvalidExclusionError, match="At most 100"):
        preview("0 9 * * *", after=NOW, count=1, exclusions=days)
    with pytest.raises(InvalidExclusionError, match="list"):
        preview("0 9 * * *", after=NOW, count=1, exclusions="2026-12-25")
    with pytest.raises(InvalidExclusionError):
        preview("0 9 * * *", after=NOW, count=1, exclusions=[20261225])  # type: ignore[list-item]


def test_years_left_out_of_a_rule_of_minutes_are_passed_in_one_step() -> None:
    runs = preview("* * * * *", timezone="Europe/Paris", after=NOW, count=1, exclusions=["2026-01-01/2060-12-31"])

    assert runs == [datetime(2060, 12, 31, 23, tzinfo=UTC)]


def test_a_range_that_ends_on_a_day_that_never_was_ends_where_the_next_begins() -> None:
    after = datetime(2011, 12, 28, tzinfo=UTC)
    runs = preview("0 0 * * *", timezone="Pacific/Apia", after=after, count=1, exclusions=["2011-12-20/2011-12-29"])

    assert runs == [datetime(2011, 12, 30, 10, tzinfo=UTC)]  # the 31st there: the 30th was skipped


@pytest.mark.parametrize(
    ("schedule", "fields"),
    [
        ("0 0 1 1 *", {"end_time": NOW + DAY}),
        ("in 2h", {"end_time": NOW + timedelta(hours=1)}),
        ("in 2h", {"start_time": NOW + timedelta(hours=3)}),
        ("tomorrow at 9am", {"exclusions": ["2026-11-25"]}),
        ("0 9 * * *", {"exclusions": ["2026-01-01/2199-12-31"]}),
        ("0 9 * * *", {"start_time": datetime(2080, 1, 1, tzinfo=UTC)}),
        ("RRULE:FREQ=DAILY;COUNT=2", {"start_time": NOW - 9 * DAY}),
        ("RRULE:FREQ=DAILY;UNTIL=20261124T120000Z", {}),
        ("RRULE:FREQ=YEARLY;INTERVAL=200", {}),
        ("0 9 * * *", {"after": datetime(2199, 12, 31, 10, tzinfo=UTC)}),
    ],
)
def test_what_leaves_no_run_is_refused(schedule: str, fields: dict[str, object]) -> None:
    with pytest.raises(NeverHappensError):
        preview(schedule, **{"after": NOW, "count": 1, **fields})  # type: ignore[arg-type]


def test_an_end_before_the_start_is_refused_and_turned_round() -> None:
    with pytest.raises(InvalidBoundsError) as refused:
        preview("0 9 * * *", after=NOW, start_time=NOW + 9 * DAY, end_time=NOW + 3 * DAY, count=1)

    assert refused.value.fault.fix == ({"start_time": "2026-11-27T12:00:00Z", "end_time": "2026-12-03T12:00:00Z"},)


class Nowhere(tzinfo):
    """A zone that knows no offset: what carries it is as naive as what carries none."""

    def utcoffset(self, dt: datetime | None) -> None:
        return None

    def dst(self, dt: datetime | None) -> None:
        return None

    def tzname(self, dt: datetime | None) -> None:
        return None

    def __repr__(self) -> str:
        return "Nowhere"


@pytest.mark.parametrize(
    "fields",
    [
        {"after": datetime(2026, 1, 1)},  # noqa: DTZ001
        {"after": "2026-01-01T00:00:00Z"},
        {"after": datetime(1969, 12, 31, tzinfo=UTC)},
        {"start_time": datetime(2027, 1, 1)},  # noqa: DTZ001
        {"start_time": datetime.min.replace(tzinfo=UTC)},
        {"end_time": 7},
        {"count": -1},
        {"count": 1.5},
        {"count": 10**30},
        {"after": datetime.max.replace(tzinfo=UTC)},
        {"after": datetime.max.replace(tzinfo=timezone(timedelta(hours=-12)))},
        {"after": datetime(2027, 1, 1, tzinfo=Nowhere())},
        {"start_time": datetime(2027, 1, 1, tzinfo=Nowhere())},
        {"max_occurrences": 0},
        {"max_occurrences": 100_001},
        {"max_occurrences": True},
    ],
    ids=str,
)
def test_an_argument_that_makes_no_sense_is_a_declared_error(fields: dict[str, object]) -> None:
    with pytest.raises(ScheduleError):
        preview("0 9 * * *", **{"after": NOW, "count": 1, **fields})  # type: ignore[arg-type]


def test_an_end_of_never_is_no_end() -> None:
    assert preview("0 9 * * *", after=NOW, end_time=datetime.max.replace(tzinfo=UTC), count=1)


RULES = [
    "*/20 8-10 * * 1-5",
    "30 1 * * *",
    "30 2 * * *",
    "*/30 1,2 * * *",
    "0 0 L * *",
    "0 9 * * 1#2",
    "every 90m",
    "every 1d",
    "RRULE:FREQ=DAILY;BYHOUR=2;BYMINUTE=30",
    "RRULE:FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,SA;BYHOUR=9,21;BYMINUTE=15",
    "RRULE:FREQ=HOURLY;INTERVAL=5;COUNT=400",
    "RRULE:FREQ=MINUTELY;INTERVAL=45;BYDAY=SU;BYHOUR=0,1,2,3",
    "RRULE:FREQ=MONTHLY;BYMONTHDAY=-1,15;BYSETPOS=-1",
    "every weekday at 9am",
]
ZONES = ["UTC", "Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "America/Nuuk"]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(RULES), st.sampled_from(ZONES), st.integers(0, 5 * 365), st.integers(0, 86_399), st.randoms())
def test_a_preview_is_what_a_planner_fires_one_run_at_a_time(
    rule: str, zone: str, day: int, second: int, chance: random.Random
) -> None:
    accepted = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=day, seconds=second)
    exclusions = [f"{accepted + chance.randrange(90) * DAY:%Y-%m-%d}" for _ in range(chance.randrange(4))]
    try:
        promised = preview(rule, timezone=zone, after=accepted, count=60, exclusions=exclusions)
    except NeverHappensError:
        return

    fired: list[datetime] = []
    planned = Timetable.of(rule, timezone=zone, anchor=accepted, exclusions=exclusions).first(accepted)
    while planned is not None and len(fired) < 60:
        fired.append(planned)
        again = Timetable.of(rule, timezone=zone, anchor=accepted, exclusions=list(exclusions))  # as after a restart
        planned = again.next_after(planned)

    assert fired == promised


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(RULES), st.sampled_from(ZONES), st.integers(0, 200_000), st.integers(1, 400_000))
def test_counting_and_the_latest_agree_with_walking(rule: str, zone: str, begin: int, length: int) -> None:
    anchor = datetime(2026, 3, 1, 7, 30, tzinfo=UTC)
    table = Timetable.of(rule, timezone=zone, anchor=anchor)
    after = anchor + timedelta(minutes=begin)
    until = after + timedelta(minutes=length)
    walked: list[datetime] = []
    at = table.next_after(after)
    while at is not None and at <= until and len(walked) < 3000:
        walked.append(at)
        at = table.next_after(at)

    assert table.count_between(after, until, 3000) == len(walked)
    if len(walked) < 3000:
        assert table.latest(after, until, 25) == walked[-25:]
    for jump in walked[:: max(len(walked) // 7, 1)]:
        assert table.next_after(jump - timedelta(microseconds=1)) == jump


def test_the_latest_are_found_behind_a_long_silence_after_a_burst() -> None:
    table = Timetable.of("* 0-11 1 1 *", anchor=NOW)
    until = datetime(2028, 11, 1, tzinfo=UTC)

    for limit in (1, 7, 100, 719, 720, 721, 1440):
        latest = table.latest(NOW, until, limit)
        assert len(latest) == min(limit, 1440)
        assert latest[-1] == datetime(2028, 1, 1, 11, 59, tzinfo=UTC)
        assert latest == sorted(set(latest))
    assert table.latest(NOW, NOW, 5) == table.latest(NOW, until, 0) == []
