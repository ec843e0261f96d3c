"""A rule said back in words: what an agent reads to see whether it was understood."""

from collections.abc import Sequence
from datetime import timedelta

from qhronos_core.domain.schedule.cron import ALIASES, Cron
from qhronos_core.domain.schedule.durations import say_duration, words_for
from qhronos_core.domain.schedule.instants import WEEKDAYS, say_instant
from qhronos_core.domain.schedule.pattern import bits_of, lowest
from qhronos_core.domain.schedule.recurrence import Recurrence
from qhronos_core.domain.schedule.rrule import Parts
from qhronos_core.domain.schedule.rules import CronRule, IntervalRule, OnceRule, RecurrenceRule, Rule
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
    if isinstance(rule, RecurrenceRule):
        return f"{_capital(recurrence_in_words(rule.recurrence))} ({clock.name})"
    if isinstance(rule, OnceRule):
        local = rule.at.astimezone(clock.zone)
        day = f"{WEEKDAYS[local.weekday()].capitalize()} {local.day} {MONTHS[local.month - 1]} {local.year}"
        exactly = f"{local:%H:%M:%S}" if local.second or local.microsecond else f"{local:%H:%M}"
        if local.microsecond:
            exactly += f".{local.microsecond:06}".rstrip("0")
        return f"Once, on {day} at {exactly} ({clock.name})"
    return rule.kind


def canonical_of(rule: Rule) -> str:
    """The same rule in its plainest form: the cron a phrase stands for, `every 15m`, an instant in UTC."""
    if isinstance(rule, CronRule):
        return ALIASES.get(rule.cron.text.lower(), rule.cron.text)
    if isinstance(rule, IntervalRule):
        return f"every {say_duration(rule.length)}"
    if isinstance(rule, OnceRule):
        return say_instant(rule.at)
    return rule.text if isinstance(rule, RecurrenceRule) else rule.kind


def cron_in_words(cron: Cron) -> str:
    days = [_months_of(cron), _days_of(cron)]
    if not cron.either_day:  # of two kinds of days the month is said first, or it would seem to go with the second
        days.reverse()
    return " ".join(part for part in (_times_of(cron), *days) if part)


def recurrence_in_words(recurrence: Recurrence) -> str:
    parts, begin = recurrence.parts, recurrence.begin_date
    said = [_frequency_in_words(parts)]
    # Picked within a day or an hour, what is left is said as it is.
    picks = bool(parts.positions) and not parts.sub_daily and parts.frequency != "DAILY"
    several = picks and recurrence.time_bits.bit_count() > 1
    if picks:
        said.append(f"on {_ordinals(parts.positions)} of")
    days = []
    if parts.weekdays:
        within = "year" if parts.frequency == "YEARLY" and not parts.months else "month"
        days.append(_weekdays_in_words(parts.weekdays, within))
    elif parts.frequency == "WEEKLY" or (parts.week_numbers and not (parts.month_days or parts.year_days)):
        days.append(WEEKDAYS[begin.weekday()].capitalize())
    if parts.month_days:
        days.append(f"{_ordinals(parts.month_days, 'day')} of the month")
    elif parts.frequency in ("MONTHLY", "YEARLY") and not (parts.weekdays or parts.year_days or parts.week_numbers):
        days.append(f"the {ordinal(begin.day)}")
    if parts.year_days:
        days.append(f"{_ordinals(parts.year_days, 'day')} of the year")
    if days:
        said.append(("" if picks else "on ") + ", where that is ".join(days))
    if parts.week_numbers:
        said.append(f"in {_ordinals(parts.week_numbers, 'week')} of the year")
    if parts.months:
        said.append("in " + spans(parts.months, ("", *MONTHS)))
    elif parts.frequency == "YEARLY" and not (
        parts.month_days or parts.weekdays or parts.year_days or parts.week_numbers
    ):
        said.append(f"in {MONTHS[begin.month - 1]}")
    times = _recurrence_times(recurrence)
    if several:  # the positions are those of days and times together
        said = [f"{said[0]}, only {_ordinals(parts.positions)} of these:", *(["on"] if days else []), *said[2:]]
    if recurrence.second:  # of the anchor: a rule has no part for it
        times = f"{times}, at second {recurrence.second:02}" if times else f"at second {recurrence.second:02}"
    said.append(times)
    rule = " ".join(part for part in said if part)
    counts_weeks = parts.week_numbers or (parts.frequency == "WEEKLY" and (parts.interval > 1 or picks))
    if counts_weeks and parts.week_start:
        rule += f", weeks beginning on {WEEKDAYS[parts.week_start].capitalize()}"
    if parts.count is not None:
        rule += ", once in all" if parts.count == 1 else f", {parts.count} times in all"
    return rule if parts.until is None else f"{rule}, until {say_instant(parts.until)}"


def _frequency_in_words(parts: Parts) -> str:
    unit = {"MINUTELY": "minute", "HOURLY": "hour", "DAILY": "day", "WEEKLY": "week", "MONTHLY": "month"}
    name = unit.get(parts.frequency, "year")
    return f"every {name}" if parts.interval == 1 else f"every {parts.interval} {name}s"


def _recurrence_times(recurrence: Recurrence) -> str:
    parts, of_day = recurrence.parts, recurrence.time_bits
    if parts.frequency == "DAILY" and parts.positions:
        return "at " + joined([f"{at // 60:02}:{at % 60:02}" for at in bits_of(of_day)])
    if not parts.sub_daily:
        hours = sum(1 << hour for hour in range(24) if of_day >> hour * 60 & (1 << 60) - 1)
        minutes = of_day >> lowest(of_day) // 60 * 60 & (1 << 60) - 1 if of_day else 0
        return clock_in_words(minutes, hours) if of_day else ""
    two = [f"{value:02}" for value in range(60)]
    said = []
    if parts.minutes:
        picked = bits_of(of_day >> lowest(of_day) // 60 * 60 & (1 << 60) - 1) if of_day else list(parts.minutes)
        only = " only" if parts.frequency == "MINUTELY" else ""
        said.append(f"at minute{'s' if len(picked) > 1 else ''} {spans(picked, two)}{only}")
    if parts.hours:
        said.append(f"in the hour{'s' if len(parts.hours) > 1 else ''} {spans(parts.hours, two)}")
    return " ".join(said)


def _weekdays_in_words(named: Sequence[tuple[int, int]], within: str) -> str:
    plain = sum(1 << (day + 1) % 7 for nth, day in named if nth == 0)
    said = [weekdays_in_words(plain)] if plain else []
    said += [f"{_ordinals((nth,))} {WEEKDAYS[day].capitalize()} of the {within}" for nth, day in named if nth]
    return joined(said)


def _ordinals(numbers: Sequence[int], noun: str = "") -> str:
    said = [
        ordinal(each) if each > 0 else "last" if each == -1 else f"{ordinal(-each)} last"
        for each in sorted(numbers, key=lambda each: (each < 0, each))
    ]
    return f"the {joined(said)} {noun}".rstrip()


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
    elif (step := _step(of_hour)) is not None:
        said = f"every {step} minutes" + ("" if 60 % step == 0 else " from the full hour on")
    elif len(of_hour) == 1:
        said = f"every hour at :{of_hour[0]:02}" if len(of_day) == 24 else f"at :{of_hour[0]:02}"
        return said if len(of_day) == 24 else f"{said} of the hours {spans(of_day, two)}"
    else:
        said = "at minutes " + spans(of_hour, two)
    if len(of_day) == 24:
        return said if said.startswith("every") else f"{said} of every hour"
    return f"{said} of the hour{'s' if len(of_day) > 1 else ''} {spans(of_day, two)}"


def _times_of(cron: Cron) -> str:
    return clock_in_words(cron.minute_bits, cron.hour_bits)


def _days_of(cron: Cron) -> str:
    of_month, of_week = _month_days(cron), _week_days(cron)
    unbound = of_month is None, of_week is None
    if any(unbound) if cron.either_day else all(unbound):
        return "every day" if cron.hour_bits != (1 << 24) - 1 else ""
    if of_month is None:
        return f"on {of_week}"
    if of_week is None:
        return f"on {of_month} of the month"
    if cron.either_day:
        return f"on {of_month} of the month, and also on {of_week} whatever the date"
    an_odd_day = of_month.replace("every", "an")
    return f"on {of_week}, but only if that is {an_odd_day} of the month"


def _month_days(cron: Cron) -> str | None:
    if cron.day_bits == (1 << 32) - 2:
        return None
    parts = []
    if cron.fields[2] == "*/2":
        return "every odd day"
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


def _step(values: Sequence[int]) -> int | None:
    """The n of `*/n`."""
    if len(values) < 2:
        return None
    step = values[1] - values[0]
    return step if list(values) == list(range(0, 60, step)) else None


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def ago(length: timedelta) -> str:
    """`3 hours`, `2 days`: a length rounded down to its largest unit."""
    for name, unit in (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1)):
        if (amount := length // timedelta(seconds=unit)) >= 1:
            return f"{amount} {name}{'' if amount == 1 else 's'}"
    return "a moment"
