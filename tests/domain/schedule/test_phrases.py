"""A fixed table of sentences, each for one cron; and the later dialect's object, each for one rule."""

from datetime import UTC, datetime

import pytest

from qhronos_core.domain.schedule import ScheduleError, Timetable, preview

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("phrase", "cron"),
    [
        ("every minute", "* * * * *"),
        ("every hour", "0 * * * *"),
        ("every hour at :15", "15 * * * *"),
        ("every day at 9am", "0 9 * * *"),
        ("daily at 9am", "0 9 * * *"),
        ("every weekday at 9am", "0 9 * * 1-5"),
        ("weekdays at 9am", "0 9 * * 1-5"),
        ("every weekend at 10am", "0 10 * * 6,0"),
        ("every monday at 9am", "0 9 * * 1"),
        ("weekly on monday at 9am", "0 9 * * 1"),
        ("every mon, wed and fri at 9:30am", "30 9 * * 1,3,5"),
        ("every sunday at 23:59", "59 23 * * 0"),
        ("every month on the 1st at 9am", "0 9 1 * *"),
        ("monthly on the 15th at noon", "0 12 15 * *"),
        ("every month on the 22nd at 12am", "0 0 22 * *"),
        ("last day of the month at 6pm", "0 18 L * *"),
        ("last weekday of the month at 6pm", "0 18 LW * *"),
        ("first monday of the month at 9am", "0 9 * * 1#1"),
        ("fourth sunday of the month at 9am", "0 9 * * 0#4"),
        ("last friday of the month at 5pm", "0 17 * * 5L"),
        ("every year on march 1 at 9am", "0 9 1 3 *"),
        ("every year on dec 31 at midnight", "0 0 31 12 *"),
        ("  Every   DAY at  9:30 PM ", "30 21 * * *"),
        ("every day at 12pm", "0 12 * * *"),
        ("every day at 9 am", "0 9 * * *"),
    ],
)
def test_a_phrase_stands_for_its_cron(phrase: str, cron: str) -> None:
    table = Timetable.of(phrase, anchor=NOW)

    assert (table.kind, table.canonical) == ("phrase", cron)
    assert preview(phrase, after=NOW, count=5) == preview(cron, after=NOW, count=5)


def test_numbers_of_units_are_intervals() -> None:
    for phrase in ("every 30 seconds", "every 15 minutes", "every 2 hours", "every 3 days", "every 2 weeks"):
        assert Timetable.of(phrase, anchor=NOW).kind == "interval"


REFUSED = """
every monday|every day|every weekday|daily|weekly|monthly|last day of the month|every year on march 1|at 9|at 9am|9am|every day at 9
every day at 25:00|every day at 13pm|every day at 0am|every day at 9:60|every day 9am|every month on the 31th at 9am
every month on the 0th at 9am|every month on the 32nd at 9am|fifth monday of the month at 9am|every hour at :60|every hour at 15
every second|every other day|every two hours|every couple of days|mondays at 9am|monday at 9am|next monday at 9am|every mon wed at 9am
every monday at 9am and 5pm|every day at 9am except friday|every weekday at 9am in paris|twice a day|noon|now|soon|hello
every year on february 30 at 9am|every year on smarch 1 at 9am|every day at nine|in the morning|in a while|tomorrow|today|on friday
on the 1st at 9am|tomorrow at 25:00|every day at 9am.|every day at 9a|every  |
"""


@pytest.mark.parametrize("text", [text for line in REFUSED.split("\n") for text in line.split("|")])
def test_any_other_sentence_is_refused_with_sentences_that_are_accepted(text: str) -> None:
    with pytest.raises(ScheduleError) as refused:
        preview(text, after=NOW, count=1)

    assert 1 <= len(refused.value.fault.fix) <= 3
    for fix in refused.value.fault.fix:
        assert preview(str(fix["schedule"]), after=NOW, count=1)


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ({"frequency": "minutely", "interval": 5}, "RRULE:FREQ=MINUTELY;INTERVAL=5"),
        ({"frequency": "hourly"}, "RRULE:FREQ=HOURLY"),
        ({"frequency": "daily", "interval": None, "count": 9}, "RRULE:FREQ=DAILY;COUNT=9"),
        ({"frequency": "weekly", "by_day": ["MO", "WE"], "interval": 2}, "RRULE:FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,WE"),
        ({"frequency": "monthly", "by_month_day": [15, -1]}, "RRULE:FREQ=MONTHLY;BYMONTHDAY=15,-1"),
        ({"frequency": "yearly", "by_month": [3, 9]}, "RRULE:FREQ=YEARLY;BYMONTH=3,9"),
        (
            {"frequency": "daily", "until": "2026-12-01T10:00:00+01:00"},
            "RRULE:FREQ=DAILY;UNTIL=20261201T090000Z",
        ),
    ],
)
def test_an_object_is_rewritten_as_a_rule(given: dict[str, object], rule: str) -> None:
    start = datetime(2026, 11, 20, 9, tzinfo=UTC)
    table = Timetable.of(given, anchor=NOW, start_time=start)

    assert (table.kind, table.canonical) == ("recurrence", rule)
    assert preview(given, after=NOW, start_time=start, count=9) == preview(rule, after=NOW, start_time=start, count=9)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"frequency": "secondly"},
        {"frequency": "WEEKLY"},
        {"frequency": 7},
        {"frequency": "weekly", "by_month_day": [1]},
        {"frequency": "monthly", "by_day": ["MO"]},
        {"frequency": "daily", "by_month": [1]},
        {"frequency": "weekly", "by_day": []},
        {"frequency": "weekly", "by_day": ["1MO"]},
        {"frequency": "weekly", "by_day": "MO"},
        {"frequency": "monthly", "by_month_day": [0]},
        {"frequency": "monthly", "by_month_day": [32]},
        {"frequency": "monthly", "by_month_day": [True]},
        {"frequency": "yearly", "by_month": [13]},
        {"frequency": "daily", "interval": 0},
        {"frequency": "daily", "interval": "2"},
        {"frequency": "daily", "interval": 1.0},
        {"frequency": "daily", "interval": True},
        {"frequency": "daily", "interval": 10_001},
        {"frequency": "daily", "count": 0},
        {"frequency": "daily", "count": 100_001},
        {"frequency": "daily", "until": "2030-01-01"},
        {"frequency": "daily", "until": "2030-01-01T00:00:00"},
        {"frequency": "daily", "count": 2, "until": "2030-01-01T00:00:00Z"},
        {"frequency": "daily", "byday": ["MO"]},
        {"frequency": "daily", "wkst": "MO"},
        {"frequency": "daily", "wkst": None},
        {"FREQUENCY": "daily"},
        {"frequency": "daily", "Frequency": "weekly"},
        {"frequency": None, "FREQUENCY": 5},
        {1: 2},
    ],
    ids=str,
)
def test_a_bad_member_is_refused_by_name_with_an_object_that_is_accepted(given: dict[str, object]) -> None:
    with pytest.raises(ScheduleError) as refused:
        preview(given, after=NOW, count=1)

    assert refused.value.fault.field.startswith("schedule")
    for fix in refused.value.fault.fix:
        assert preview(fix["schedule"], after=NOW, count=1)  # type: ignore[arg-type]


def test_an_object_and_a_text_say_the_same_thing_in_words() -> None:
    given = Timetable.of({"frequency": "weekly", "by_day": ["MO"]}, timezone="Europe/Paris", anchor=NOW)

    assert given.meaning == "Every week on Monday at 13:00 (Europe/Paris)"


@pytest.mark.parametrize(
    "given",
    [
        None,
        7,
        1.5,
        True,
        [],
        ["every 15m"],
        b"every 15m",
        pytest.param(object(), id="object"),
    ],
    ids=repr,
)
def test_what_is_neither_text_nor_object_is_refused(given: object) -> None:
    with pytest.raises(ScheduleError) as refused:
        preview(given, after=NOW, count=1)  # type: ignore[arg-type]

    assert refused.value.fault.fix
