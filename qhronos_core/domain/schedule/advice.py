"""What a careful colleague would say about a rule before it is accepted."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from qhronos_core.domain.schedule.cron import Cron
from qhronos_core.domain.schedule.instants import WEEKDAYS, say_instant
from qhronos_core.domain.schedule.meaning import MONTHS, ago
from qhronos_core.domain.schedule.pattern import LONGEST_GAP, MINUTES, Pattern, bits_of, length_of
from qhronos_core.domain.schedule.recurrence import Recurrence
from qhronos_core.domain.schedule.rules import CronRule, IntervalRule, OnceRule, RecurrenceRule, Rule
from qhronos_core.domain.schedule.wallclock import DAY, Stretch, WallClock, date_of, instant_of, seconds

if TYPE_CHECKING:
    from qhronos_core.domain.schedule.timetable import Timetable

_AHEAD: Final = 400 * DAY
"""A change of clocks this far ahead is worth a word: every yearly one is."""


_PAST_COUNTED: Final = 100
_SHORTEST: Final = (0, *(length_of(2027, month) for month in range(1, 13)))


def warnings_about(rule: Rule, clock: WallClock, table: "Timetable", now: datetime) -> list[str]:
    """Sentences, the weightiest first."""
    found: list[str] = []
    if isinstance(rule, CronRule):
        found += _about_cron(rule.cron)
        found += _about_changes(rule.cron, clock, now, table, fixed=rule.cron.fixed, gap_shift=False)
    elif isinstance(rule, RecurrenceRule):
        found += _about_recurrence(rule.recurrence, now)
        fixed = not rule.recurrence.parts.sub_daily
        found += _about_changes(rule.recurrence, clock, now, table, fixed=fixed, gap_shift=True)
    elif isinstance(rule, IntervalRule):
        found += _about_interval(rule, clock, now)
    elif isinstance(rule, OnceRule):
        found += _about_once(rule, clock, now)
    if rule.repeats and table.start is not None and table.start < now:
        found.append(f"start_time was {ago(now - table.start)} ago: what would have run since is not made up.")
    return found


def _about_cron(cron: Cron) -> list[str]:
    found = []
    if cron.either_day:
        found.append(
            "Day of month and day of week are both restricted: a day that matches either one runs. "
            "For days that match both, begin one of the fields with *."
        )
    for index, name, width, unit in ((0, "minute", 60, "hour"), (1, "hour", 24, "day")):
        _, slash, step = cron.fields[index].partition("/")
        if slash and cron.fields[index].startswith("*/") and step.isdecimal() and width % int(step):
            last = (width - 1) // int(step) * int(step)
            found.append(
                f"{cron.fields[index]} starts anew each {unit}: the last step is {width - last} {name}s, not {int(step)}. "
                f"For an even spacing use an interval such as every {int(step)}{name[0]}."
            )
    if cron.fields[2].startswith("*/") and cron.fields[2] != "*/1":
        found.append(f"{cron.fields[2]} in day of month starts anew on the 1st of each month.")
    if cron.fields[3] in {f"*/{step}" for step in range(2, 13) if 12 % step}:
        found.append(f"{cron.fields[3]} in month starts anew each January.")
    found += _about_missing_days(cron)
    return found


def _about_missing_days(cron: Cron) -> list[str]:
    if not cron.day_bits or cron.either_day or cron.last_day or cron.last_weekday or cron.day_starred:
        return []
    return _about_days_missing_from(bits_of(cron.month_bits), min(bits_of(cron.day_bits)), "L")


def _about_days_missing_from(months: Sequence[int], day: int, last: str) -> list[str]:
    """What becomes of months too short for a day, if one of these is."""
    if day == 29 and list(months) == [2]:
        return ["29 February comes in leap years only."]
    if any(day > _SHORTEST[month] for month in months):
        return [f"Months without a day {day} are skipped. For the last day of every month use {last}."]
    return []


def _about_recurrence(recurrence: Recurrence, now: datetime) -> list[str]:
    parts, found = recurrence.parts, []
    days = parts.month_days or (
        (recurrence.begin_date.day,)
        if parts.frequency in ("MONTHLY", "YEARLY") and not (parts.weekdays or parts.year_days or parts.week_numbers)
        else ()
    )
    if days and min(days) > 28:
        months = parts.months or tuple(range(1, 13))
        if parts.frequency == "YEARLY" and not (parts.months or parts.month_days):
            months = (recurrence.begin_date.month,)
        found += _about_days_missing_from(months, min(days), "BYMONTHDAY=-1")
    if parts.count is not None and seconds(now) >= recurrence.anchor:
        left = parts.count
        begun = instant_of(recurrence.anchor)
        rule = RecurrenceRule(recurrence, "")
        at: datetime | None = begun - timedelta(seconds=1)
        past = 0
        while past <= _PAST_COUNTED and at is not None and (at := rule.next_after(at)) is not None and at <= now:
            past += 1
        if past:
            many = f"{past}" if past <= _PAST_COUNTED else f"more than {_PAST_COUNTED}"
            found.append(
                f"COUNT={left} counts from {say_instant(begun)}, and {many} of these {'is' if past == 1 else 'are'} past."
            )
    return found


def _about_interval(rule: IntervalRule, clock: WallClock, now: datetime) -> list[str]:
    if rule.length % timedelta(days=1) or not clock.changes_ever:
        return []
    changes = [each for each in clock.changes(seconds(now), seconds(now) + _AHEAD) if each.gap]
    if not changes:
        return []
    return [
        (
            f"A day here is 24 elapsed hours: when clocks change in {clock.name} ({_say_day(changes[0], clock)}) "
            f"its time on the wall moves by {abs(changes[0].gap) // 60} minutes. For a fixed wall time use cron, "
            "such as every day at 9am."
        )
    ]


def _about_once(rule: OnceRule, clock: WallClock, now: datetime) -> list[str]:
    if rule.shift:
        wanted = rule.at.astimezone(clock.zone).replace(tzinfo=None) - rule.shift
        return [
            (
                f"{wanted:%H:%M} on {_day_words(wanted)} does not exist in {clock.name} (clocks go forward): "
                f"it runs at {rule.at.astimezone(clock.zone):%H:%M}."
            )
        ]
    found = []
    if rule.at <= now:
        found.append(f"That was {ago(now - rule.at)} ago: it runs now, and keeps its time {say_instant(rule.at)}.")
    at = seconds(rule.at)
    stretch = clock.stretch(at)
    if rule.wall and stretch.end < at + DAY:
        following = clock.stretch(stretch.end)
        if following.gap < 0 and at >= stretch.end + following.gap:
            local = rule.at.astimezone(clock.zone)
            found.append(
                f"{local:%H:%M} on {_day_words(local)} comes twice in {clock.name} (clocks go back): this is the first."
            )
    return found


def _about_changes(
    pattern: Pattern, clock: WallClock, now: datetime, table: "Timetable", *, fixed: bool, gap_shift: bool
) -> list[str]:
    """What happens at the next gap and the next fold that a run falls into."""
    if not clock.changes_ever or (not fixed and _matches_all_hours(pattern, now)):
        return []
    begin = seconds(now if table.start is None else max(now, table.start))
    gap = fold = ""
    for stretch in clock.changes(begin, begin + _AHEAD):
        if table.end is not None and instant_of(stretch.start) > table.end:
            break
        low, high = sorted((stretch.start + stretch.before, stretch.start + stretch.offset))
        minute = pattern.first(-((pattern.second - low) // 60), -((pattern.second - high) // 60))
        if minute is None:
            continue
        wall = minute * 60 + pattern.second
        said = f"{_say_wall(wall)} in {clock.name}"
        if stretch.gap > 0 and not gap:
            gap = _gap_words(said, stretch, wall, clock, fixed=fixed, gap_shift=gap_shift)
        elif stretch.gap < 0 and not fold:
            fold = (
                f"{said} comes twice (clocks go back): it runs on {'the first pass only' if fixed else 'both passes'}."
            )
    return [each for each in (gap, fold) if each]


def _gap_words(said: str, stretch: Stretch, wall: int, clock: WallClock, *, fixed: bool, gap_shift: bool) -> str:
    if not fixed or (stretch.gap > LONGEST_GAP and not gap_shift):
        return f"{said} does not exist (clocks go forward): nothing runs in its place."
    at = wall - stretch.before if gap_shift else stretch.start
    local = clock.local(at)
    return (
        f"{said} does not exist (clocks go forward): it runs at {local:%H:%M}, {local.day} {MONTHS[local.month - 1]}."
    )


def _matches_all_hours(pattern: Pattern, now: datetime) -> bool:
    """Whether a day has matches in every hour, so that nobody would miss or count a single one."""
    day = seconds(now) // DAY
    hour = 60
    bits = pattern.minutes(day)
    return all(bits >> begin & (1 << hour) - 1 for begin in range(0, MINUTES, hour))


def _say_wall(wall: int) -> str:
    day, second = divmod(wall, DAY)
    when = date_of(day)
    clock = f"{second // 3600:02}:{second // 60 % 60:02}"
    return f"{clock} on {WEEKDAYS[when.weekday()].capitalize()} {when.day} {MONTHS[when.month - 1]} {when.year}"


def _say_day(stretch: Stretch, clock: WallClock) -> str:
    return _day_words(clock.local(stretch.start))


def _day_words(when: datetime) -> str:
    return f"{WEEKDAYS[when.weekday()].capitalize()} {when.day} {MONTHS[when.month - 1]} {when.year}"
