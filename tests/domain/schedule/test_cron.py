"""What a cron expression means on an even clock, and which expressions are none."""

import random
from datetime import UTC, datetime, timedelta

import pytest
from croniter import croniter

from qhronos_core.domain.schedule import ScheduleError, preview
from tests.domain.schedule.oracles import Expression

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


def days_of(text: str, *, after: datetime = NEW_YEAR, count: int = 4) -> list[str]:
    return [f"{run:%m-%d}" for run in preview(text, after=after, count=count)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 9 1 * MON", ["01-01", "01-05", "01-12", "01-19"]),  # neither starred: either
        ("0 9 */2 * MON", ["01-05", "01-19", "02-09", "02-23"]),  # one starred: both
        ("0 9 1 * */7", ["02-01", "03-01", "11-01", "08-01"]),
        ("0 9 L * *", ["01-31", "02-28", "03-31", "04-30"]),
        ("0 9 LW * *", ["01-30", "02-27", "03-31", "04-30"]),
        ("0 9 15,L * *", ["01-15", "01-31", "02-15", "02-28"]),
        ("0 9 * * 5L", ["01-30", "02-27", "03-27", "04-24"]),
        ("0 9 * * 5#3", ["01-16", "02-20", "03-20", "04-17"]),
        ("0 9 * * fri#5", ["01-30", "05-29", "07-31", "10-30"]),
        ("0 9 L * 1", ["01-05", "01-12", "01-19", "01-26"]),  # neither starred: either
        ("0 9 * * FRI-SUN", ["01-02", "01-03", "01-04", "01-09"]),
        ("0 9 * * sun-tue", ["01-04", "01-05", "01-06", "01-11"]),
        ("0 9 * * SUN-SUN", ["01-04", "01-11", "01-18", "01-25"]),
        ("0 9 * * 7", ["01-04", "01-11", "01-18", "01-25"]),
        ("0 9 * * 5/2", ["01-02", "01-04", "01-09", "01-11"]),  # from Friday to the 7
        ("0 9 * * 5-5", ["01-02", "01-09", "01-16", "01-23"]),
        ("0 9 29 2 *", ["02-29", "02-29", "02-29", "02-29"]),
        ("0 9 31 * *", ["01-31", "03-31", "05-31", "07-31"]),
        ("0 9 28-31/3 feb,Mar *", ["02-28", "03-28", "03-31", "02-28"]),
        ("0 9 05 01 *", ["01-05", "01-05", "01-05", "01-05"]),
    ],
)
def test_days(text: str, expected: list[str]) -> None:
    assert days_of(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("50/4 * * * *", ["00:50", "00:54", "00:58", "01:50"]),
        ("*/60 * * * *", ["01:00", "02:00", "03:00", "04:00"]),
        ("5-5 0 * * *", ["00:05", "00:05", "00:05", "00:05"]),
        ("0 22/1 * * *", ["22:00", "23:00", "22:00", "23:00"]),
        ("*,5 0 * * *", ["00:01", "00:02", "00:03", "00:04"]),
        ("10-20/5,40 3 * * *", ["03:10", "03:15", "03:20", "03:40"]),
    ],
)
def test_times(text: str, expected: list[str]) -> None:
    assert [f"{run:%H:%M}" for run in preview(text, after=NEW_YEAR, count=4)] == expected


@pytest.mark.parametrize(
    ("alias", "text"),
    [
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
        ("@monthly", "0 0 1 * *"),
        ("@weekly", "0 0 * * 0"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@hourly", "0 * * * *"),
    ],
)
def test_an_alias_is_its_expression(alias: str, text: str) -> None:
    assert preview(alias, after=NEW_YEAR, count=5) == preview(text, after=NEW_YEAR, count=5)


REFUSED = """
60 * * * *|* 24 * * *|* * 0 * *|* * 32 * *|* * * 0 *|* * * 13 *|* * * * 8|*/0 * * * *|*/61 * * * *|* */25 * * *
* * */32 * *|* * * */13 *|* * * * */9|0 22-6 * * *|0 0 * * SAT-TUE|0 0 * DEC-FEB *|0 0 15W * *|0 0 L-3 * *
0 0 * * L5|0 0 * * L|0 0 * * FRIL|0 0 ? * 1|H * * * *|R * * * *|H/5 * * * *|@reboot|@every 1h|@noon|0 0 * * 1#0
0 0 * * 1#6|0 0 * * 1-5#2|0 0 1#1 * *|0 0 L/2 * *|0 0 LW-3 * *|* * * *|* * * * * *|0 0 0 1 1 * 2027|**|*
1-3-5 * * * *|1/2/3 * * * *|-1 * * * *|1- * * * *|,1 * * * *|1, * * * *|1,,2 * * * *|005 * * * *|1.5 * * * *
+1 * * * *|0x1 * * * *|* * * JANUARY *|* * * * MONDAY|* * * * MO|* * * MON *|* * * * JAN|JAN * * * *|*/* * * * *
*-5 * * * *|5-* * * * *|/5 * * * *|*/ * * * *|0 0 * * 1, 2|0 0 * * MON - FRI|#1 * * * *|0 0 30 2 *
0 0 31 4,6 *|0 0 31 2,4,6,9,11 *|0 0 30 2 */2|0 0 31 2 *
"""


@pytest.mark.parametrize("text", [text for line in REFUSED.split("\n") for text in line.split("|") if text])
def test_an_expression_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ScheduleError):
        preview(text, after=NEW_YEAR, count=1)


@pytest.mark.parametrize("text", ["0  9 * * *", " 0 9 * * *", "0 9 * * * ", "0 9 * * 1, 2", "0 9 * * 1 ,2"])
def test_fields_stand_between_single_spaces_and_the_fix_puts_them_so(text: str) -> None:
    with pytest.raises(ScheduleError) as refused:
        preview(text, after=NEW_YEAR, count=1)

    assert refused.value.fault.fix[0]["schedule"] in ("0 9 * * *", "0 9 * * 1,2")


@pytest.mark.parametrize(
    "odd", ["0 9 * * 1\n", "0\t9 * * *", "0 9 * * ſun", "0\u00a09 * * *", "0 9 * * *\0", "٠ 9 * * *"]
)
def test_only_printable_ascii_is_read(odd: str) -> None:
    with pytest.raises(ScheduleError, match="printable ASCII"):
        preview(odd, after=NEW_YEAR, count=1)


def test_limits_are_limits() -> None:
    hundred = ",".join(["0"] * 100)
    assert preview(f"{hundred} 9 * * *", after=NEW_YEAR, count=1)
    with pytest.raises(ScheduleError, match="at most 100"):
        preview(f"{hundred},0 9 * * *", after=NEW_YEAR, count=1)
    with pytest.raises(ScheduleError, match="at most 256"):
        preview(",".join(["59"] * 85) + " 10 * * *", after=NEW_YEAR, count=1)


def test_the_rarest_days_are_found_and_the_centuries_have_no_leap_day() -> None:
    assert days_of("0 0 29 2 */7", count=3) == ["02-29"] * 3
    assert [run.year for run in preview("0 0 * 2 1#5", after=NEW_YEAR, count=4)] == [2044, 2072, 2112, 2140]
    assert [run.year for run in preview("0 0 29 2 *", after=datetime(2095, 1, 1, tzinfo=UTC), count=2)] == [2096, 2104]


def test_nothing_is_planned_for_the_year_2200() -> None:
    last = preview("0 0 * * *", after=datetime(2199, 12, 30, 12, tzinfo=UTC), count=10)

    assert last == [datetime(2199, 12, 31, tzinfo=UTC)]


def shared_rule(chance: random.Random) -> str:
    """An expression that croniter reads as we do: no star with a step in a day field beside another."""

    def field(low: int, high: int) -> str:
        kind = chance.randrange(6)
        begin = chance.randint(low, high)
        end = chance.randint(begin, high)
        if kind == 0:
            return str(begin)
        if kind == 1 and end > begin:
            return f"{begin}-{end}"
        if kind == 2:
            return f"*/{chance.randint(1, (high - low) // 2)}"
        if kind == 3:
            return ",".join(str(chance.randint(low, high)) for _ in range(chance.randint(2, 4)))
        if kind == 4 and end - begin > 2:
            return f"{begin}-{end}/{chance.randint(1, end - begin)}"
        return "*"

    day, weekday = field(1, 31), chance.choice([field(0, 6), "mon-fri", "*"])
    if day.startswith("*/") or weekday.startswith("*/"):
        day, weekday = (day, "*") if chance.random() < 0.5 else ("*", weekday)
    return f"{field(0, 59)} {field(0, 23)} {day} {field(1, 12)} {weekday}"


def test_in_utc_croniter_agrees() -> None:
    chance = random.Random("croniter")
    agreed = 0
    while agreed < 400:
        text = shared_rule(chance)
        after = datetime(2000, 1, 1, tzinfo=UTC) + timedelta(seconds=chance.randrange(40 * 365 * 86_400))
        try:
            found = preview(text, after=after, count=5)
        except ScheduleError as refused:
            if refused.code != "never_happens":
                raise
            continue
        other = croniter(text, after)
        assert found == [other.get_next(datetime) for _ in found], f"{text!r} after {after}"
        agreed += 1


def test_every_minute_of_a_month_is_judged_alike_by_a_plain_reading() -> None:
    chance = random.Random("plain reading")
    for _ in range(60):
        begin = datetime(2024, chance.randint(1, 12), chance.randint(1, 28), tzinfo=UTC)
        day = chance.choice(["*", "L", "LW", "1,L", "10-20/3", "*/5", "31", "LW,13"])
        weekday = chance.choice(["*", "5L", "1#1", "MON#2,3L", "0", "*/3", "6-7", "0#5"])
        text = f"{chance.randrange(60)} {chance.randrange(24)} {day} * {weekday}"
        expression = Expression.read(text)
        minutes = (begin + timedelta(minutes=minute) for minute in range(1, 40 * 1440))
        expected = [at for at in minutes if expression.shows(at)]

        found = preview(text, after=begin, count=100)

        assert found[: len(expected)] == expected, text
