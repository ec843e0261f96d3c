"""A timetable answers one question, in every form of schedule: the first instant strictly later."""

from datetime import UTC, datetime, timedelta

import pytest

from qhronos_core.domain.schedule import InThePastError, NeverHappensError, ScheduleError, Timetable, preview

NOON = datetime(2026, 3, 7, 12, tzinfo=UTC)


def test_a_fixed_time_in_a_gap_runs_at_its_end_and_says_so() -> None:
    table = Timetable.of("30 2 * * *", timezone="America/New_York", anchor=NOON)

    runs = table.runs_after(NOON, 2)

    assert [run.at for run in runs] == [datetime(2026, 3, 8, 7, tzinfo=UTC), datetime(2026, 3, 9, 6, 30, tzinfo=UTC)]
    assert [run.note for run in runs] == ["shifted", None]
    assert runs[0].weekday == "Sunday"


def test_a_wildcard_has_both_passes_of_a_fold_and_they_are_named() -> None:
    table = Timetable.of("*/30 1 * * *", timezone="America/New_York", anchor=NOON)

    runs = table.runs_after(datetime(2026, 11, 1, tzinfo=UTC), 5)

    assert [run.note for run in runs] == ["first_pass", "first_pass", "second_pass", "second_pass", None]


def test_an_interval_keeps_its_grid_from_its_anchor() -> None:
    table = Timetable.of("every 7m", anchor=NOON)

    assert table.next_after(NOON + timedelta(days=30, minutes=3)) == NOON + timedelta(minutes=7 * 6172)
    assert table.count_between(NOON, NOON + timedelta(hours=7), 10_000) == 60


def test_a_stored_once_only_event_is_read_again_long_after_its_instant() -> None:
    table = Timetable.of("in 2 hours", anchor=NOON)

    assert table.next_after(NOON) == NOON + timedelta(hours=2)
    assert table.next_after(NOON + timedelta(days=1)) is None


def test_an_instant_up_to_a_minute_past_is_accepted_and_an_earlier_one_refused() -> None:
    table = Timetable.of("2026-03-07T12:00:00Z", anchor=NOON)

    assert table.first(NOON + timedelta(seconds=60)) == NOON
    with pytest.raises(InThePastError):
        table.first(NOON + timedelta(seconds=61))


def test_the_latest_of_a_long_outage_are_found_without_walking_through_it() -> None:
    table = Timetable.of("* * * * *", anchor=NOON)
    until = NOON + timedelta(days=3650, seconds=30)

    latest = table.latest(NOON, until, 100)

    assert len(latest) == 100
    assert latest[-1] == until - timedelta(seconds=30)
    assert latest[0] == latest[-1] - timedelta(minutes=99)


def test_a_rule_that_never_comes_is_refused() -> None:
    with pytest.raises(NeverHappensError):
        preview("0 0 30 2 *", after=NOON, count=1)


def test_a_bare_length_is_refused_with_both_readings() -> None:
    with pytest.raises(ScheduleError) as refused:
        preview("15m", after=NOON, count=1)

    assert refused.value.fault.fix == ({"schedule": "every 15m"}, {"schedule": "in 15m"})
