"""Why a rule never comes, and the nearest rules that do."""

from datetime import datetime, timedelta

from qhronos_core.domain.schedule.instants import say_instant
from qhronos_core.domain.schedule.meaning import MONTHS, joined
from qhronos_core.domain.schedule.pattern import bits_of
from qhronos_core.domain.schedule.recurrence import Recurrence
from qhronos_core.domain.schedule.rrule import spelled_parts
from qhronos_core.domain.schedule.rules import CronRule, RecurrenceRule, Rule

_LONGEST = (0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)

Fix = dict[str, object]


def why_never(rule: Rule, now: datetime, before: int) -> tuple[str, list[Fix]]:
    """One sentence, and requests that were probably meant, likeliest first. For a rule with nothing in [now, `before`)."""
    if isinstance(rule, CronRule):
        return _of_cron(rule, now)
    if isinstance(rule, RecurrenceRule):
        return _of_recurrence(rule, now, before)
    return "It never comes within 50 years.", [{"start_time": say_instant(now + timedelta(days=1))}]


def _of_cron(rule: CronRule, now: datetime) -> tuple[str, list[Fix]]:
    cron = rule.cron
    months = bits_of(cron.month_bits)
    if cron.day_bits and not cron.either_day:
        first = min(bits_of(cron.day_bits))
        if all(first > _LONGEST[month] for month in months):
            fields = list(cron.fields)
            fixes: list[Fix] = []
            for day in ("28", "L"):
                fields[2] = day
                fixes.append({"schedule": " ".join(fields)})
            return _no_such_day(months, first), fixes
    return "It never comes within 50 years.", [{"start_time": say_instant(now + timedelta(days=1))}]


def _of_recurrence(rule: RecurrenceRule, now: datetime, before: int) -> tuple[str, list[Fix]]:
    recurrence: Recurrence = rule.recurrence
    parts = recurrence.parts
    spelled = spelled_parts(rule.text)
    months = parts.months or tuple(range(1, 13))
    if parts.month_days and all(abs(day) > _LONGEST[month] for day in parts.month_days for month in months):
        day = min(parts.month_days, key=abs)
        return _no_such_day(list(months), abs(day)), [
            spelled.having("BYMONTHDAY", "28"),
            spelled.having("BYMONTHDAY", "-1"),
        ]
    if parts.until is not None and parts.until <= now:
        return "UNTIL has gone by.", [spelled.without("UNTIL")]
    if parts.count is not None and RecurrenceRule(recurrence.endless(), rule.text).next_after(now, before) is not None:
        used = "COUNT is used up: it counts from the start, past runs too."
        more = [spelled.having("COUNT", str(parts.count + 1))] if parts.count < 100_000 else []
        return used, [*more, spelled.without("COUNT")]
    names = ("BYSETPOS", "BYDAY", "BYHOUR", "BYMINUTE", "BYWEEKNO", "BYYEARDAY", "BYMONTHDAY", "BYMONTH", "INTERVAL")
    loosened = [spelled.without(name) for name in names if spelled.has(name)]
    return "No time within 50 years fits all of its parts.", loosened


def _no_such_day(months: list[int], day: int) -> str:
    if len(months) == 1:
        return f"{MONTHS[months[0] - 1]} has no day {day}."
    return f"{joined([MONTHS[month - 1] for month in months])} have no day {day}."
