"""The rule said back in words, and the warnings of a careful colleague."""

import random
from datetime import UTC, datetime, timedelta

import pytest

from qhronos_core.domain.schedule import ScheduleError, Timetable

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("schedule", "meaning"),
    [
        ("0 9 * * 1-5", "At 09:00 on Monday to Friday"),
        ("0 9 * * *", "At 09:00 every day"),
        ("0 9,13 * * 1,3,5", "At 09:00 and 13:00 on Monday, Wednesday and Friday"),
        ("0 9 1 * MON", "At 09:00 on the 1st of the month, and also on Monday whatever the date"),
        ("0 9 */2 * MON", "At 09:00 on Monday, but only if that is an odd day of the month"),
        ("0 9 */2 * *", "At 09:00 on every odd day of the month"),
        # Where one of two fields that may match is every day, every day runs.
        ("0 9 1-31 * MON", "At 09:00 every day"),
        ("0 9 5,* * MON", "At 09:00 every day"),
        ("0 9 1 * 0-6", "At 09:00 every day"),
        ("0 9 *,5 * MON", "At 09:00 on Monday"),
        ("0 9 1 3 MON", "At 09:00 in March on the 1st of the month, and also on Monday whatever the date"),
        ("*/15 * * * *", "Every 15 minutes"),
        ("*/7 * * * *", "Every 7 minutes from the full hour on"),
        ("*/10 9-17 * * 1-5", "Every 10 minutes of the hours 09 to 17 on Monday to Friday"),
        ("* * * * *", "Every minute"),
        ("5,35 * * * *", "At minutes 05 and 35 of every hour"),
        ("0 18 L * *", "At 18:00 on the last day of the month"),
        ("0 18 LW 1,3 *", "At 18:00 on the last weekday (Monday to Friday) of the month in January and March"),
        ("0 9 * * 5L", "At 09:00 on the last Friday of the month"),
        ("0 9 * * 1#1", "At 09:00 on the first Monday of the month"),
        ("0 9 1-7,15 6-8 *", "At 09:00 on the 1st to 7th and 15th of the month in June to August"),
        ("@hourly", "Every hour at :00"),
        ("every mon, wed and fri at 9:30am", "At 09:30 on Monday, Wednesday and Friday"),
        ("RRULE:FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=17;BYMINUTE=0", "Every month on the last Friday of the month at 17:00"),
        ("RRULE:FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,WE", "Every 2 weeks on Monday and Wednesday at 13:00"),
        (
            "RRULE:FREQ=WEEKLY;INTERVAL=2;BYDAY=SU;WKST=SU;COUNT=3",
            "Every 2 weeks on Sunday at 13:00, weeks beginning on Sunday, 3 times in all",
        ),
        ("RRULE:FREQ=HOURLY;COUNT=10", "Every hour, 10 times in all"),
        ("RRULE:FREQ=DAILY;COUNT=10", "Every day at 13:00, 10 times in all"),
        ("RRULE:FREQ=YEARLY", "Every year on the 24th in November at 13:00"),
        ("RRULE:FREQ=YEARLY;BYYEARDAY=100,-1", "Every year on the 100th and last day of the year at 13:00"),
        (
            "RRULE:FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1;UNTIL=20301231T000000Z",
            "Every month on the last of Monday to Friday at 13:00, until 2030-12-31T00:00:00Z",
        ),
        ("RRULE:FREQ=DAILY;BYHOUR=8,9,10;BYMINUTE=0,45;BYSETPOS=1,-1", "Every day at 08:00 and 10:45"),
        ("RRULE:FREQ=HOURLY;BYMINUTE=0,20,40;BYSETPOS=-1", "Every hour at minute 40"),
        ("RRULE:FREQ=HOURLY;BYMINUTE=0,30;BYHOUR=9", "Every hour at minutes 00 and 30 in the hour 09"),
        ("RRULE:FREQ=MINUTELY;BYMINUTE=0,30;BYDAY=MO", "Every minute on Monday at minutes 00 and 30 only"),
        ("RRULE:FREQ=MINUTELY;BYHOUR=3;BYSETPOS=1", "Every minute in the hour 03"),
        (
            "RRULE:FREQ=MONTHLY;BYDAY=SA,SU;BYHOUR=9,10;BYMINUTE=0;BYSETPOS=-1",
            "Every month, only the last of these: on Saturday and Sunday at 09:00 and 10:00",
        ),
        ("RRULE:FREQ=HOURLY;INTERVAL=2;BYHOUR=9,10,11", "Every 2 hours in the hours 09 to 11"),
        ("tomorrow 09:00", "Once, on Wednesday 25 November 2026 at 09:00"),
        ("2027-03-01T09:00:30+01:00", "Once, on Monday 1 March 2027 at 09:00:30"),
        ("2027-03-01T09:00:00.5+01:00", "Once, on Monday 1 March 2027 at 09:00:00.5"),
        (
            {"frequency": "monthly", "by_month_day": [1, -1]},
            "Every month on the 1st and last day of the month at 13:00",
        ),
    ],
    ids=str,
)
def test_a_rule_is_said_in_words_with_its_zone(schedule: object, meaning: str) -> None:
    table = Timetable.of(schedule, timezone="Europe/Paris", anchor=NOW)  # type: ignore[arg-type]

    assert table.meaning == f"{meaning} (Europe/Paris)"


def test_rules_that_run_at_other_times_are_said_in_other_words() -> None:
    chance = random.Random("said")
    said: dict[str, tuple[list[datetime], str]] = {}
    for _ in range(1_500):
        rule = " ".join(chance.choice(choices) for choices in CRON_FIELDS)
        if chance.random() < 0.5:
            parts = [f"FREQ={chance.choice(['HOURLY', 'DAILY', 'WEEKLY', 'MONTHLY', 'YEARLY'])}"]
            parts += [chance.choice(choices) for choices in RULE_PARTS if chance.random() < 0.4]
            rule = "RRULE:" + ";".join(parts)
        try:
            table = Timetable.of(rule, anchor=NOW, check_from=NOW)
        except ScheduleError:
            continue
        runs = [run.at for run in table.runs_after(NOW, 60)]
        before = said.setdefault(table.meaning, (runs, rule))
        assert before[0] == runs, f"{before[1]} and {rule} are both said as: {table.meaning}"
    assert len(said) > 700


CRON_FIELDS = [
    ["0", "*", "*/7", "0,30", "5/20", "*/40", "1-3"],
    ["9", "*", "9,10", "*/6", "9-11", "*/5"],
    ["*", "*", "*/2", "1-31/2", "1", "L", "LW", "1,L", "31", "1-31", "*,1", "15-20"],
    ["*", "*", "1", "1,2", "*/3", "*/5"],
    ["*", "*", "1", "1-5", "*/2", "5L", "5#1", "1,5L", "0-7", "7"],
]
RULE_PARTS = [
    ["INTERVAL=2", "INTERVAL=3"],
    ["BYMONTH=1", "BYMONTH=3,11"],
    ["BYMONTHDAY=1", "BYMONTHDAY=1,-1", "BYMONTHDAY=28"],
    ["BYDAY=MO", "BYDAY=MO,FR", "BYDAY=1MO,-1FR", "BYDAY=2TU,WE"],
    ["BYWEEKNO=20", "BYYEARDAY=100,-1"],
    ["BYHOUR=9", "BYHOUR=9,17"],
    ["BYMINUTE=0", "BYMINUTE=0,30"],
    ["BYSETPOS=1", "BYSETPOS=-1", "BYSETPOS=1,-1"],
    ["WKST=SU", "WKST=MO"],
]


def test_a_rule_says_the_second_it_has_from_its_anchor() -> None:
    anchor = NOW + timedelta(seconds=56, milliseconds=789)

    assert Timetable.of("RRULE:FREQ=DAILY;BYHOUR=9;BYMINUTE=0", anchor=anchor).meaning == (
        "Every day at 09:00, at second 56 (UTC)"
    )
    assert Timetable.of("RRULE:FREQ=HOURLY", anchor=anchor).meaning == "Every hour at second 56 (UTC)"


def test_an_interval_is_said_with_the_instant_it_counts_from() -> None:
    assert (
        Timetable.of("every 90m", anchor=NOW).meaning
        == "Every 1 hour 30 minutes of elapsed time, counted from 2026-11-24T13:30:00Z"
    )


@pytest.mark.parametrize(
    ("schedule", "canonical"),
    [
        ("@daily", "0 0 * * *"),
        ("every 15 minutes", "every 15m"),
        ("P1D", "every 1d"),
        ("rrule:freq=daily;byhour=9", "RRULE:FREQ=DAILY;BYHOUR=9"),
        ("tomorrow at 9am", "2026-11-25T09:00:00Z"),
        ("0 9 * * mon", "0 9 * * mon"),
    ],
)
def test_the_plainest_form_means_the_same(schedule: str, canonical: str) -> None:
    table = Timetable.of(schedule, anchor=NOW)

    assert table.canonical == canonical
    assert Timetable.of(canonical, anchor=NOW).next_after(NOW) == table.next_after(NOW)


def warned(
    schedule: str, *, zone: str = "Europe/Paris", start_time: datetime | None = None, end_time: datetime | None = None
) -> str:
    table = Timetable.of(schedule, timezone=zone, anchor=NOW, start_time=start_time, end_time=end_time)
    return " ".join(table.warnings(NOW))


def test_nothing_is_said_of_a_rule_nobody_would_wonder_about() -> None:
    for schedule in ("0 9 * * 1-5", "*/15 * * * *", "@hourly", "every 15m", "in 2h", "0 18 L * *", "0 9 * * 1#1"):
        assert warned(schedule) == ""


def test_both_day_fields_and_uneven_steps_are_pointed_out() -> None:
    assert "either one runs" in warned("0 9 1 * MON")
    assert "the last step is 4 minutes, not 7" in warned("*/7 * * * *")
    assert "the last step is 4 hours, not 5" in warned("0 */5 * * *")
    assert "starts anew on the 1st" in warned("0 9 */2 * *")
    assert "Months without a day 31 are skipped" in warned("0 9 31 * *")
    assert "*/5 in month starts anew each January." in warned("0 9 1 */5 *")
    assert "leap years only" in warned("0 9 29 2 *")
    assert warned("59 23 31 12 *") == warned("0 9 31 1,3 *") == warned("0 9 30 4 *") == ""
    assert "Months without a day 31 are skipped" in warned("0 9 31 1,4 *")
    assert "leap years only" in warned("RRULE:FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29")
    assert warned("RRULE:FREQ=MONTHLY;BYMONTH=1;BYMONTHDAY=31") == ""
    yearly_on_the_31st = warned("RRULE:FREQ=YEARLY;BYMONTH=3,4", start_time=datetime(2027, 1, 31, 9, tzinfo=UTC))
    assert "Months without a day 31 are skipped" in yearly_on_the_31st
    assert "Months without a day 30 are skipped" in warned("RRULE:FREQ=MONTHLY;BYMONTHDAY=30")


def test_a_run_that_a_change_of_clocks_touches_is_named_with_what_happens_to_it() -> None:
    fixed = warned("30 2 * * *")
    assert "02:30 on Sunday 28 March 2027 in Europe/Paris does not exist (clocks go forward): it runs at 03:00" in fixed
    assert (
        "02:30 on Sunday 31 October 2027 in Europe/Paris comes twice (clocks go back): it runs on the first pass"
        in fixed
    )

    wild = warned("*/20 2 * * *")
    assert "nothing runs in its place" in wild
    assert "it runs on both passes" in wild

    assert "it runs at 03:30" in warned("RRULE:FREQ=DAILY;BYHOUR=2;BYMINUTE=30")
    assert warned("30 2 * * *", zone="UTC") == ""
    assert warned("30 2 * * 1-5") == ""  # clocks change on Sundays there
    assert warned("30 2 * * *", end_time=NOW + timedelta(days=60)) == ""


def test_what_the_count_has_already_spent_is_said() -> None:
    spent = warned("RRULE:FREQ=DAILY;COUNT=10", start_time=NOW - timedelta(days=3))

    assert "COUNT=10 counts from 2026-11-21T12:00:00Z, and 4 of these are past." in spent


def test_a_once_only_instant_just_past_is_said_to_run_now() -> None:
    table = Timetable.of("2026-11-24T11:59:30Z", anchor=NOW)

    assert table.warnings(NOW) == ["That was 30 seconds ago: it runs now, and keeps its time 2026-11-24T11:59:30Z."]
