"""A rule said back in words: what an agent reads to see whether it was understood."""

from collections.abc import Sequence
from datetime import timedelta

from qhronos_core.domain.schedule.cron import ALIASES, Cron
from qhronos_core.domain.schedule.durations import say_duration, words_for
from qhronos_core.domain.schedule.instants import WEEKDAYS, say_instant
from qhronos_core.domain.schedule.pattern import bits_of
from qhronos_core.domain.schedule.rules import CronRule, IntervalRule, OnceRule, Rule
from qhronos_core.domain.schedule.wallclock import WallClock

MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
_NTH = {1: "first", 2: "second", 3: "third", 4: "fourth", 5: "fifth", -1: "last"}
_MOST_TIMES = 6


def meaning_of(rule: Rule, clock: WallClock) -> str:
    """One sentence without a full stop: `At 09:00 on Monday to Friday (Europe/Paris)`."""
    if isinstance(rule, CronRule):
        return f"{_capital(cron_in_words(rule.cron))} ({clock.name})"
    if isinstance(rule, IntervalRule):
        return f"Every {words_for(rule.length)} of elapsed time, counted from {say_instant(rule.first)}"
    if isinstance(rule, OnceRule):
        local = rule.at.astimezone(clock.zone)
        day = f"{WEEKDAYS[local.weekday()].capitalize()} {local.day} {MONTHS[local.month - 1]} {local.year}"
        return (
            f"Once, on {day} at {local:%H:%M:%S} ({clock.name})"
            if local.second
            else (f"Once, on {day} at {local:%H:%M} ({clock.name})")
        )
    return rule.kind


def canonical_of(rule: Rule) -> str:
    """The same rule in its plainest form: the cron a phrase stands for, `every 15m`, an instant in UTC."""
    if isinstance(rule, CronRule):
        return ALIASES.get(rule.cron.text.lower(), rule.cron.text)
    if isinstance(rule, IntervalRule):
        return f"every {say_duration(rule.length)}"
    if isinstance(rule, OnceRule):
        return say_instant(rule.at)
    return rule.kind


def cron_in_words(cron: Cron) -> str:
    return " ".join(part for part in (_times_of(cron), _days_of(cron), _months_of(cron)) if part)


def joined(parts: Sequence[str], last: str = "and") -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {last} {parts[-1]}"


def ordinal(number: int) -> str:
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def spans(values: Sequence[int], names: Sequence[str]) -> str:
    """Values said one by one, runs of three and more as `Monday to Friday`."""
    parts: list[str] = []
    index = 0
    while index < len(values):
        end = index
        while end + 1 < len(values) and values[end + 1] == values[end] + 1:
            end += 1
        if end - index >= 2:
            parts.append(f"{names[values[index]]} to {names[values[end]]}")
        else:
            parts.extend(names[value] for value in values[index : end + 1])
        index = end + 1
    return joined(parts)


def weekdays_in_words(bits: int) -> str:
    """Weekdays of a bit set whose Sunday is 0, said from Monday on."""
    names = [day.capitalize() for day in WEEKDAYS]
    return spans([index for index in range(7) if bits >> (index + 1) % 7 & 1], names)


def clock_in_words(minutes: int, hours: int) -> str:
    """Times of day of a set of minutes and a set of hours."""
    of_hour, of_day = bits_of(minutes), bits_of(hours)
    if len(of_hour) * len(of_day) <= _MOST_TIMES:
        return "at " + joined([f"{hour:02}:{minute:02}" for hour in of_day for minute in of_hour])
    two = [f"{value:02}" for value in range(60)]
    if len(of_hour) == 60:
        said = "every minute"
    elif (step := _step(of_hour, 60)) is not None:
        said = f"every {step} minutes"
    elif len(of_hour) == 1:
        said = f"every hour at :{of_hour[0]:02}" if len(of_day) == 24 else f"at :{of_hour[0]:02}"
        return said if len(of_day) == 24 else f"{said} of every hour from {_hours(of_day, two)}"
    else:
        said = "at minutes " + spans(of_hour, two)
    if len(of_day) == 24:
        return said if said.startswith("every") else f"{said} of every hour"
    return f"{said} of the hours {spans(of_day, two)}"


def _hours(hours: Sequence[int], names: Sequence[str]) -> str:
    return spans(hours, names)


def _times_of(cron: Cron) -> str:
    return clock_in_words(cron.minute_bits, cron.hour_bits)


def _days_of(cron: Cron) -> str:
    of_month, of_week = _month_days(cron), _week_days(cron)
    if of_month is None and of_week is None:
        return "every day" if not _repeats_in_day(cron) else ""
    if of_month is None:
        return f"on {of_week}"
    if of_week is None:
        return f"on {of_month} of the month"
    if cron.either_day:
        return f"on {of_month} of the month, and also on every {of_week}"
    return f"on {of_week}, only where that is {of_month} of the month"


def _repeats_in_day(cron: Cron) -> bool:
    return clock_in_words(cron.minute_bits, cron.hour_bits).startswith("every")


def _month_days(cron: Cron) -> str | None:
    if cron.day_bits == (1 << 32) - 2:
        return None
    parts = []
    if cron.day_bits:
        days = bits_of(cron.day_bits)
        names = [ordinal(day) for day in range(32)]
        parts.append("the " + spans(days, names))
    if cron.last_day:
        parts.append("the last day")
    if cron.last_weekday:
        parts.append("the last weekday (Monday to Friday)")
    return joined(parts)


def _week_days(cron: Cron) -> str | None:
    if cron.weekday_bits == 0x7F:
        return None
    parts = []
    if cron.weekday_bits:
        parts.append(weekdays_in_words(cron.weekday_bits))
    names = [WEEKDAYS[(day - 1) % 7].capitalize() for day in range(7)]
    parts.extend(f"the {_NTH[nth]} {names[day]} of the month" for day, nth in sorted(cron.nth))
    parts.extend(f"the last {names[day]} of the month" for day in bits_of(cron.last))
    return joined(parts)


def _months_of(cron: Cron) -> str:
    if cron.month_bits == (1 << 13) - 2:
        return ""
    return "in " + spans(bits_of(cron.month_bits), ("", *MONTHS))


def _step(values: Sequence[int], width: int) -> int | None:
    """The n of `*/n`, where it is even all the way round."""
    if len(values) < 2:
        return None
    step = values[1] - values[0]
    return step if values == list(range(values[0], width, step)) and width % step == 0 and values[0] == 0 else None


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def ago(length: timedelta) -> str:
    """`3 hours`, `2 days`: a length rounded down to its largest unit."""
    for name, unit in (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1)):
        if (amount := length // timedelta(seconds=unit)) >= 1:
            return f"{amount} {name}{'' if amount == 1 else 's'}"
    return "a moment"
