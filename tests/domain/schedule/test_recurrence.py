"""iCalendar rules: RFC 5545's own examples, python-dateutil on the wall, and a plain walk for hours and minutes."""

import random
from datetime import UTC, datetime, timedelta
from itertools import islice
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import dateutil.rrule
import pytest
from dateutil.rrule import rrulestr

from qhronos_core.domain.schedule import ScheduleError, Timetable, preview
from tests.domain.schedule.oracles import stepped_runs

NEW_YORK = ZoneInfo("America/New_York")
DAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
BEGIN = datetime(1997, 9, 2, 9, tzinfo=NEW_YORK)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def on_the_wall(rule: str, count: int = 5, begin: datetime = BEGIN) -> list[str]:
    found = preview(
        f"RRULE:{rule}",
        timezone="America/New_York",
        after=begin - timedelta(seconds=1),
        start_time=begin,
        count=count,
    )
    return [f"{run.astimezone(NEW_YORK):%Y-%m-%d %H:%M}" for run in found]


@pytest.mark.parametrize(
    ("rule", "days"),
    [
        ("FREQ=DAILY;COUNT=3", "1997-09-02 1997-09-03 1997-09-04"),
        ("FREQ=DAILY;INTERVAL=10;COUNT=3", "1997-09-02 1997-09-12 1997-09-22"),
        ("FREQ=YEARLY;UNTIL=20000131T140000Z;BYMONTH=1;BYDAY=SU,MO", "1998-01-04 1998-01-05 1998-01-11"),
        ("FREQ=WEEKLY;INTERVAL=2;WKST=SU;COUNT=8;BYDAY=TU,TH", "1997-09-02 1997-09-04 1997-09-16 1997-09-18"),
        ("FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=MO", "1997-09-02 1997-09-07 1997-09-16 1997-09-21"),
        ("FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=SU", "1997-09-02 1997-09-14 1997-09-16 1997-09-28"),
        ("FREQ=MONTHLY;COUNT=10;BYDAY=1FR", "1997-09-05 1997-10-03 1997-11-07 1997-12-05"),
        ("FREQ=MONTHLY;INTERVAL=2;COUNT=10;BYDAY=1SU,-1SU", "1997-09-07 1997-09-28 1997-11-02 1997-11-30"),
        ("FREQ=MONTHLY;COUNT=6;BYDAY=-2MO", "1997-09-22 1997-10-20 1997-11-17 1997-12-22"),
        ("FREQ=MONTHLY;BYMONTHDAY=-3", "1997-09-28 1997-10-29 1997-11-28 1997-12-29"),
        ("FREQ=MONTHLY;BYMONTHDAY=2,15", "1997-09-02 1997-09-15 1997-10-02 1997-10-15"),
        ("FREQ=MONTHLY;BYMONTHDAY=1,-1", "1997-09-30 1997-10-01 1997-10-31 1997-11-01"),
        ("FREQ=MONTHLY;INTERVAL=18;BYMONTHDAY=10,11,12", "1997-09-10 1997-09-11 1997-09-12 1999-03-10"),
        ("FREQ=YEARLY;COUNT=10;BYMONTH=6,7", "1998-06-02 1998-07-02 1999-06-02 1999-07-02"),
        ("FREQ=YEARLY;INTERVAL=3;COUNT=10;BYYEARDAY=1,100,200", "2000-01-01 2000-04-09 2000-07-18 2003-01-01"),
        ("FREQ=YEARLY;BYDAY=20MO", "1998-05-18 1999-05-17 2000-05-15"),
        ("FREQ=YEARLY;BYWEEKNO=20;BYDAY=MO", "1998-05-11 1999-05-17 2000-05-15"),
        ("FREQ=YEARLY;BYMONTH=3;BYDAY=TH", "1998-03-05 1998-03-12 1998-03-19 1998-03-26"),
        ("FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13", "1998-02-13 1998-03-13 1998-11-13 1999-08-13"),
        ("FREQ=YEARLY;INTERVAL=4;BYMONTH=11;BYDAY=TU;BYMONTHDAY=2,3,4,5,6,7,8", "1997-11-04 2001-11-06 2005-11-08"),
        ("FREQ=MONTHLY;COUNT=3;BYDAY=TU,WE,TH;BYSETPOS=3", "1997-09-04 1997-10-07 1997-11-06"),
        ("FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-2", "1997-09-29 1997-10-30 1997-11-27 1997-12-30"),
        ("FREQ=MONTHLY;BYMONTHDAY=15,30;COUNT=5", "1997-09-15 1997-09-30 1997-10-15 1997-10-30"),
    ],
)
def test_the_examples_of_rfc_5545(rule: str, days: str) -> None:
    expected = [f"{day} 09:00" for day in days.split()]

    assert on_the_wall(rule, len(expected)) == expected


def test_the_examples_of_rfc_5545_within_a_day() -> None:
    assert on_the_wall("FREQ=HOURLY;INTERVAL=3;UNTIL=19970902T210000Z") == [
        "1997-09-02 09:00",
        "1997-09-02 12:00",
        "1997-09-02 15:00",
    ]
    assert on_the_wall("FREQ=MINUTELY;INTERVAL=90;COUNT=4") == [
        "1997-09-02 09:00",
        "1997-09-02 10:30",
        "1997-09-02 12:00",
        "1997-09-02 13:30",
    ]
    every_20_minutes = on_the_wall("FREQ=MINUTELY;INTERVAL=20;BYHOUR=9,10,11,12,13,14,15,16", 48)
    assert every_20_minutes == on_the_wall("FREQ=DAILY;BYHOUR=9,10,11,12,13,14,15,16;BYMINUTE=0,20,40", 48)
    assert every_20_minutes[24] == "1997-09-03 09:00"


def random_rule(chance: random.Random, frequency: str) -> str:
    """A rule of days or longer that dateutil reads as RFC 5545 does.

    Left out: a first week cut short under BYSETPOS (dateutil counts positions from the anchor in it, in no
    other period), BYWEEKNO without days (dateutil takes the whole week, RFC 5545 the anchor's weekday) and plain
    weekdays beside numbered ones (dateutil asks for both at once).
    """

    def some(low: int, high: int, *, signed: bool = False, most: int = 4) -> str:
        values = [
            chance.randint(low, high) * (chance.choice((1, 1, -1)) if signed else 1)
            for _ in range(chance.randint(1, most))
        ]
        return ",".join(map(str, values))

    def weekdays(*, numbered: int = 0) -> str:
        days = chance.sample(DAYS, chance.randint(1, 5))
        if numbered:
            return ",".join(f"{chance.choice((1, -1)) * chance.randint(1, numbered)}{day}" for day in days)
        return ",".join(days)

    parts = {"FREQ": frequency}
    if chance.random() < 0.5:
        parts["INTERVAL"] = str(chance.choice([1, 2, 3, 4, 5, 7, 13]))
    if chance.random() < 0.35:
        parts["BYMONTH"] = some(1, 12)
    if frequency in ("DAILY", "MONTHLY", "YEARLY") and chance.random() < 0.35:
        parts["BYMONTHDAY"] = some(1, 31, signed=True)
    if frequency == "YEARLY" and chance.random() < 0.25:
        parts["BYYEARDAY"] = some(1, 366, signed=True)
    if chance.random() < 0.5:
        numbered = chance.random() < 0.5
        most = 5 if frequency == "MONTHLY" or "BYMONTH" in parts else 53
        parts["BYDAY"] = weekdays(numbered=most if frequency in ("MONTHLY", "YEARLY") and numbered else 0)
        if frequency == "YEARLY" and not numbered and chance.random() < 0.3:
            parts["BYWEEKNO"] = some(1, 53)
    if chance.random() < 0.3:
        parts["BYHOUR"] = some(0, 23)
    if chance.random() < 0.3:
        parts["BYMINUTE"] = some(0, 59)
    if len(parts) > 2 and any(name.startswith("BY") for name in parts) and chance.random() < 0.3:
        parts["BYSETPOS"] = some(1, 4, signed=True, most=2)
    if chance.random() < 0.4:
        parts["WKST"] = chance.choice(["MO", "SU", "TH"])
    if chance.random() < 0.3:
        parts["COUNT"] = str(chance.randint(1, 40))
    return "RRULE:" + ";".join(f"{name}={value}" for name, value in parts.items())


@pytest.fixture
def nearer_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """dateutil seeks the next run of a rule without one until the year 9999. It need not seek so far."""
    import datetime as module

    nearer = SimpleNamespace(**{name: getattr(module, name) for name in dir(module)} | {"MAXYEAR": 2051})
    monkeypatch.setattr(dateutil.rrule, "datetime", nearer)


@pytest.mark.usefixtures("nearer_end")
@pytest.mark.parametrize("frequency", ["DAILY", "WEEKLY", "MONTHLY", "YEARLY"])
@pytest.mark.parametrize("name", ["UTC", "Europe/Paris", "Australia/Lord_Howe"])
def test_dateutil_on_the_wall_agrees(frequency: str, name: str) -> None:
    chance = random.Random(f"{frequency} in {name}")
    zone = ZoneInfo(name)
    for _ in range(60):
        wall = datetime(2015, 1, 1) + timedelta(minutes=chance.randrange(15 * 366 * 1440))  # noqa: DTZ001 - a wall has no zone
        begin = wall.replace(tzinfo=zone).astimezone(UTC)
        if begin.astimezone(zone).replace(tzinfo=None) != wall:
            continue  # a start in a gap is another wall time
        text = random_rule(chance, frequency)
        if frequency == "WEEKLY" and "BYSETPOS" in text:
            text, wall = f"{text.partition(';WKST')[0]};WKST=MO", wall - timedelta(days=wall.weekday())
            begin = wall.replace(tzinfo=zone).astimezone(UTC)
        seek = begin + timedelta(days=chance.choice([0, 0, 40, 800, 3000]), seconds=-1)
        within = begin + timedelta(days=20 * 365)
        expected = list(
            islice(
                (
                    run
                    for nominal in rrulestr(text, dtstart=wall).between(
                        wall, (within + timedelta(days=2)).replace(tzinfo=None), inc=True
                    )
                    if (run := nominal.replace(tzinfo=zone).astimezone(UTC)) > seek
                ),
                30,
            )
        )
        expected = sorted(set(expected))[:25]

        table = Timetable.of(text, timezone=name, anchor=begin, start_time=begin)
        found: list[datetime] = []
        at = table.next_after(seek)
        while at is not None and at <= within and len(found) < 25:
            found.append(at)
            at = table.next_after(at)

        assert found == [run for run in expected if run <= within], f"{text} from {wall} in {name}, after {seek}"


@pytest.mark.parametrize("name", ["UTC", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "America/Nuuk"])
def test_hours_and_minutes_step_in_utc_and_are_filtered_by_the_wall(name: str) -> None:
    chance = random.Random(f"steps in {name}")
    zone = ZoneInfo(name)
    for _ in range(24):
        begin = datetime(2026, chance.choice([3, 10]), 28, tzinfo=UTC) + timedelta(minutes=chance.randrange(3 * 1440))
        minutely = chance.random() < 0.6
        interval = chance.choice([1, 2, 7, 45, 90, 1440, 1441]) if minutely else chance.choice([1, 2, 5, 24, 25])
        wanted: dict[str, set[int]] = {}
        if chance.random() < 0.5:
            wanted["hour"] = {chance.randrange(24) for _ in range(chance.randint(1, 8))} | {2}
        if minutely and chance.random() < 0.5:
            wanted["minute"] = {chance.randrange(60) for _ in range(chance.randint(1, 30))}
        if chance.random() < 0.3:
            wanted["weekday"] = {chance.randrange(7) for _ in range(3)}
        if chance.random() < 0.2:
            wanted["day"] = {chance.randint(1, 28) for _ in range(10)}
        names = {"hour": "BYHOUR", "minute": "BYMINUTE", "day": "BYMONTHDAY"}
        text = f"RRULE:FREQ={'MINUTELY' if minutely else 'HOURLY'};INTERVAL={interval}"
        text += "".join(
            f";{names[part]}={','.join(map(str, values))}" for part, values in wanted.items() if part in names
        )
        if "weekday" in wanted:
            text += ";BYDAY=" + ",".join(DAYS[day] for day in wanted["weekday"])
        step = timedelta(minutes=interval if minutely else 60 * interval)
        end = begin + timedelta(days=5 if interval < 10 else 30)
        expected = stepped_runs(begin, step, zone, end, wanted)

        table = Timetable.of(text, timezone=name, anchor=begin, start_time=begin)
        found: list[datetime] = []
        at = table.next_after(begin - timedelta(seconds=1))
        while at is not None and at < end:
            found.append(at)
            at = table.next_after(at)

        assert found == expected, f"{text} from {begin} in {name}"
        if len(expected) > 3:
            counted = Timetable.of(f"{text};COUNT={len(expected) - 2}", timezone=name, anchor=begin, start_time=begin)
            assert counted.next_after(expected[-4]) == expected[-3]
            assert counted.next_after(expected[-3]) is None


@pytest.mark.usefixtures("nearer_end")
@pytest.mark.parametrize("frequency", ["HOURLY", "MINUTELY"])
def test_in_utc_dateutil_agrees_about_hours_and_minutes(frequency: str) -> None:
    chance = random.Random(frequency)
    for _ in range(40):
        begin = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=chance.randrange(300 * 1440))
        text = f"RRULE:FREQ={frequency};INTERVAL={chance.choice([1, 2, 3, 7, 36])}"
        if chance.random() < 0.6:
            text += f";BYHOUR={chance.randrange(24)},{chance.randrange(24)}"
        if chance.random() < 0.6:
            text += f";BYMINUTE={chance.randrange(60)},{chance.randrange(60)},{chance.randrange(60)}"
            if chance.random() < 0.5 and frequency == "HOURLY":
                text += f";BYSETPOS={chance.choice(['1', '-1', '1,-1', '2'])}"
        if chance.random() < 0.3:
            text += f";BYDAY={chance.choice(['MO,TU,WE', 'SA', 'FR,SU'])}"
        if chance.random() < 0.5:
            text += f";COUNT={chance.randint(2, 30)}"
        table = Timetable.of(text, anchor=begin, start_time=begin)
        naive = begin.replace(tzinfo=None)
        try:
            walk = list(islice(rrulestr(text, dtstart=naive).xafter(naive), 12))
        except ValueError:  # its hours or minutes are never reached
            assert table.next_after(begin) is None
            continue
        expected = [nominal.replace(tzinfo=UTC) for nominal in walk]
        found = [run.at for run in table.runs_after(begin, len(expected))]

        assert found == expected, f"{text} from {begin}"


def test_a_gap_is_passed_with_the_offset_before_it_where_cron_waits_for_its_end() -> None:
    after = datetime(2026, 3, 7, 12, tzinfo=UTC)
    rule = "RRULE:FREQ=DAILY;BYHOUR=2;BYMINUTE=30"

    assert preview(rule, timezone="America/New_York", after=after, count=1) == [datetime(2026, 3, 8, 7, 30, tzinfo=UTC)]
    assert preview("30 2 * * *", timezone="America/New_York", after=after, count=1) == [
        datetime(2026, 3, 8, 7, tzinfo=UTC)
    ]


def test_of_a_fold_the_first_pass_is_taken() -> None:
    rule = "RRULE:FREQ=DAILY;BYHOUR=1;BYMINUTE=30"
    found = preview(rule, timezone="America/New_York", after=datetime(2026, 11, 1, tzinfo=UTC), count=2)

    assert found == [datetime(2026, 11, 1, 5, 30, tzinfo=UTC), datetime(2026, 11, 2, 6, 30, tzinfo=UTC)]


def test_count_counts_from_the_anchor_past_runs_included() -> None:
    begin = datetime(2026, 1, 1, 9, tzinfo=UTC)

    found = preview("RRULE:FREQ=DAILY;COUNT=10", after=begin + timedelta(days=7), start_time=begin, count=10)

    assert found == [datetime(2026, 1, 9, 9, tzinfo=UTC), datetime(2026, 1, 10, 9, tzinfo=UTC)]


def test_the_anchor_runs_only_if_it_matches() -> None:
    begin = datetime(2026, 1, 1, 9, tzinfo=UTC)  # a Thursday
    before = begin - timedelta(days=1)

    assert preview("RRULE:FREQ=WEEKLY;BYDAY=TH", after=before, start_time=begin, count=1) == [begin]
    assert preview("RRULE:FREQ=WEEKLY;BYDAY=FR", after=before, start_time=begin, count=1) == [begin + timedelta(days=1)]


def test_months_without_the_day_are_skipped_and_leap_days_waited_for() -> None:
    january = datetime(2026, 1, 31, 9, tzinfo=UTC)
    leap = datetime(2024, 2, 29, 9, tzinfo=UTC)

    monthly = preview("RRULE:FREQ=MONTHLY", after=january, start_time=january, count=3)
    yearly = preview("RRULE:FREQ=YEARLY", after=leap, start_time=leap, count=2)

    assert [f"{run:%m-%d}" for run in monthly] == ["03-31", "05-31", "07-31"]
    assert [run.year for run in yearly] == [2028, 2032]


def test_until_is_included_and_may_carry_an_offset() -> None:
    begin = datetime(2026, 1, 1, 9, tzinfo=UTC)
    for until in ("20260103T090000Z", "20260103T100000+0100", "2026-01-03T10:00:00+01:00"):
        found = preview(f"RRULE:FREQ=DAILY;UNTIL={until}", after=begin, start_time=begin, count=9)
        assert found == [begin + timedelta(days=1), begin + timedelta(days=2)]


def test_without_days_a_numbered_week_means_the_anchors_weekday() -> None:
    begin = datetime(2026, 1, 1, 9, tzinfo=UTC)  # a Thursday

    found = preview("RRULE:FREQ=YEARLY;BYWEEKNO=20", after=begin, start_time=begin, count=3)

    assert [f"{run:%G-W%V-%a}" for run in found] == ["2026-W20-Thu", "2027-W20-Thu", "2028-W20-Thu"]


def test_plain_and_numbered_weekdays_add_up() -> None:
    begin = datetime(2026, 1, 1, 9, tzinfo=UTC)

    found = preview("RRULE:FREQ=MONTHLY;BYDAY=MO,1FR", after=begin, start_time=begin, count=4)

    assert [f"{run:%a %d}" for run in found] == ["Fri 02", "Mon 05", "Mon 12", "Mon 19"]


REFUSED = """
FREQ=SECONDLY|FREQ=FORTNIGHTLY|FREQ=|INTERVAL=2|FREQ=DAILY;|;FREQ=DAILY|FREQ=DAILY;;COUNT=2|FREQ=DAILY;COUNT
FREQ=DAILY;INTERVAL=0|FREQ=DAILY;INTERVAL=-1|FREQ=DAILY;INTERVAL=10001|FREQ=DAILY;INTERVAL=1.5|FREQ=DAILY;COUNT=0
FREQ=DAILY;COUNT=100001|FREQ=DAILY;COUNT=2;UNTIL=20300101T000000Z|FREQ=DAILY;UNTIL=20300101
FREQ=DAILY;UNTIL=20300101T000000|FREQ=DAILY;UNTIL=20300230T000000Z|FREQ=DAILY;UNTIL=soon|FREQ=DAILY;UNTIL=19990101T000000Z
FREQ=DAILY;FREQ=DAILY|FREQ=DAILY;BYHOUR=1;BYHOUR=2|FREQ=DAILY;BYSECOND=0|FREQ=DAILY;RSCALE=GREGORIAN|FREQ=DAILY;X-FOO=1
FREQ=DAILY;BYWEEKNO=1|FREQ=MONTHLY;BYWEEKNO=1|FREQ=DAILY;BYYEARDAY=1|FREQ=WEEKLY;BYMONTHDAY=1|FREQ=WEEKLY;BYDAY=1MO
FREQ=DAILY;BYDAY=-1FR|FREQ=YEARLY;BYWEEKNO=20;BYDAY=1MO|FREQ=MONTHLY;BYDAY=6MO|FREQ=YEARLY;BYDAY=54MO|FREQ=MONTHLY;BYDAY=0MO
FREQ=MONTHLY;BYDAY=MONDAY|FREQ=MONTHLY;BYDAY=|FREQ=MONTHLY;BYMONTHDAY=0|FREQ=MONTHLY;BYMONTHDAY=32|FREQ=MONTHLY;BYMONTHDAY=1,,2
FREQ=YEARLY;BYMONTH=13|FREQ=YEARLY;BYMONTH=-1|FREQ=YEARLY;BYMONTH=0|FREQ=DAILY;BYHOUR=24|FREQ=DAILY;BYMINUTE=60
FREQ=YEARLY;BYYEARDAY=367|FREQ=YEARLY;BYWEEKNO=54|FREQ=YEARLY;BYWEEKNO=0|FREQ=MONTHLY;BYSETPOS=1|FREQ=MONTHLY;BYDAY=MO;BYSETPOS=0
FREQ=MONTHLY;BYDAY=MO;BYSETPOS=367|FREQ=DAILY;WKST=XX|FREQ=DAILY;DTSTART=20270101T000000Z|FREQ=DAILY;EXDATE=20270101T000000Z
FREQ=DAILY;RDATE=20270101T000000Z|FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30|FREQ=MONTHLY;BYMONTH=4,6;BYMONTHDAY=31
FREQ=MINUTELY;BYMINUTE=0;BYSETPOS=2|FREQ=YEARLY;BYWEEKNO=53;BYMONTH=6;BYDAY=MO|FREQ=YEARLY;BYYEARDAY=1;BYMONTH=2
FREQ=DAILY;COUNT=1|FREQ = DAILY|FREQ=DAILY COUNT=2|FREQ=HOURLY;INTERVAL=24;BYHOUR=5;BYMINUTE=0
"""


@pytest.mark.parametrize("rule", [rule for line in REFUSED.split("\n") for rule in line.split("|") if rule])
def test_a_rule_that_is_none_or_never_comes_is_refused(rule: str) -> None:
    with pytest.raises(ScheduleError) as refused:
        preview(f"RRULE:{rule}", after=NOW, count=1)

    assert refused.value.fault.fix


@pytest.mark.parametrize(
    "text", ["FREQ=DAILY", "RRULE FREQ=DAILY", "DTSTART:20270101T090000Z\nRRULE:FREQ=DAILY", "RRULE:"]
)
def test_a_rule_is_one_line_that_begins_with_its_name(text: str) -> None:
    with pytest.raises(ScheduleError):
        preview(text, after=NOW, count=1)


def test_a_start_no_clock_here_knows_is_not_offered() -> None:
    with pytest.raises(ScheduleError) as refused:
        preview("DTSTART:10270101T090000Z RRULE:FREQ=DAILY", after=NOW, count=1)

    assert refused.value.fault.fix == ({"schedule": "RRULE:FREQ=DAILY"},)


def test_the_zone_of_a_calendars_start_is_kept_in_the_fix() -> None:
    with pytest.raises(ScheduleError) as refused:
        preview("DTSTART;TZID=Europe/Paris:20270101T090000\nRRULE:FREQ=DAILY", after=NOW, count=1)

    assert refused.value.fault.fix[0] == {
        "schedule": "RRULE:FREQ=DAILY",
        "start_time": "2027-01-01T09:00:00",
        "timezone": "Europe/Paris",
    }


def test_the_start_of_a_calendars_rule_is_kept_in_the_fix() -> None:
    with pytest.raises(ScheduleError) as refused:
        preview("DTSTART:20270101T090000Z\r\nRRULE:FREQ=WEEKLY;BYDAY=MO\r\n", after=NOW, count=1)

    assert refused.value.fault.fix[0] == {
        "schedule": "RRULE:FREQ=WEEKLY;BYDAY=MO",
        "start_time": "2027-01-01T09:00:00Z",
    }


@pytest.mark.parametrize(
    "text", ["rrule:freq=weekly;byday=mo", "RRULE:BYDAY=MO;FREQ=WEEKLY", "RRULE:FREQ=WEEKLY;BYDAY=MO,MO;INTERVAL=1"]
)
def test_names_are_read_in_any_case_and_order(text: str) -> None:
    assert preview(text, after=NOW, count=3) == preview("RRULE:FREQ=WEEKLY;BYDAY=MO", after=NOW, count=3)
