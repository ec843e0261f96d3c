"""A fixed table of English sentences, each with the cron it stands for. Nothing outside the table is guessed at.

Case and extra spaces do not matter. A sentence that is not in the table is answered with up to three
that are, the likeliest first.
"""

import difflib
import re
from collections.abc import Callable
from typing import Final

from qhronos_core.domain.schedule.instants import WEEKDAY_NAMES, read_clock

_MONTHS: Final = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
_MONTH_NAMES: Final = {name: index for index, long in enumerate(_MONTHS, 1) for name in (long, long[:3])}
_NTH: Final = {"first": 1, "second": 2, "third": 3, "fourth": 4}
_DAY: Final = "|".join(sorted(WEEKDAY_NAMES, key=len, reverse=True))
_DAYS: Final = rf"(?:{_DAY})(?:(?:, | and |, and )(?:{_DAY}))*"
_AT: Final = r" at (?P<time>\S+(?: [ap]m)?)"

_EXAMPLES: Final = (
    "every minute", "every hour", "every hour at :15", "every 15 minutes", "every 2 hours", "every 30 seconds",
    "every day at 9am", "daily at 9am", "every weekday at 9am", "weekdays at 9am", "every weekend at 10am",
    "every monday at 9am", "weekly on monday at 9am", "every mon, wed and fri at 9:30am",
    "every month on the 1st at 9am", "monthly on the 15th at noon", "last day of the month at 6pm",
    "last weekday of the month at 6pm", "first monday of the month at 9am", "last friday of the month at 5pm",
    "every year on march 1 at 9am", "tomorrow at 9am", "on monday at 9am", "in 2 hours",
)  # fmt: skip


def read_phrase(text: str) -> str | None:
    """The cron a sentence stands for; None if it is not in the table. `text` is in small letters, single spaces."""
    for pattern, cron in _TABLE:
        if (said := pattern.fullmatch(text)) is None:
            continue
        if "time" not in pattern.groupindex:
            return cron(said)
        if (minute := read_clock(said["time"])) is None:
            return None
        days = cron(said)
        return None if days is None else f"{minute % 60} {minute // 60} {days}"
    return None


def _of_hour(said: re.Match[str]) -> str | None:
    return f"{int(said[1])} * * * *" if int(said[1]) < 60 else None


def _of_days(said: re.Match[str]) -> str:
    named = [WEEKDAY_NAMES[each] for each in re.findall(_DAY, said["days"])]
    return "* * " + ",".join(dict.fromkeys(str((day + 1) % 7) for day in named))


def _of_month(said: re.Match[str]) -> str | None:
    day = int(said["day"])
    return f"{day} * *" if 1 <= day <= 31 and said["ending"] == _ending(day) else None


def _of_year(said: re.Match[str]) -> str | None:
    day = int(said["day"])
    return f"{day} {_MONTH_NAMES[said['month']]} *" if 1 <= day <= 31 else None


def _ending(number: int) -> str:
    return "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")


_Builder = Callable[[re.Match[str]], str | None]
_TABLE: Final[tuple[tuple[re.Pattern[str], _Builder], ...]] = tuple(
    (re.compile(pattern), cron)
    for pattern, cron in (
        (r"every minute", lambda _: "* * * * *"),
        (r"every hour", lambda _: "0 * * * *"),
        (r"every hour at :([0-9]{2})", _of_hour),
        (rf"(?:every day|daily){_AT}", lambda _: "* * *"),
        (rf"(?:every weekday|weekdays){_AT}", lambda _: "* * 1-5"),
        (rf"every weekend{_AT}", lambda _: "* * 6,0"),
        (rf"(?:every|weekly on) (?P<days>{_DAYS}){_AT}", _of_days),
        (rf"(?:every month|monthly) on the (?P<day>[0-9]{{1,2}})(?P<ending>st|nd|rd|th){_AT}", _of_month),
        (rf"last day of the month{_AT}", lambda _: "L * *"),
        (rf"last weekday of the month{_AT}", lambda _: "LW * *"),
        (
            rf"(?P<nth>first|second|third|fourth) (?P<days>{_DAY}) of the month{_AT}",
            lambda said: f"* * {(WEEKDAY_NAMES[said['days']] + 1) % 7}#{_NTH[said['nth']]}",
        ),
        (
            rf"last (?P<days>{_DAY}) of the month{_AT}",
            lambda said: f"* * {(WEEKDAY_NAMES[said['days']] + 1) % 7}L",
        ),
        (rf"every year on (?P<month>{'|'.join(_MONTH_NAMES)}) (?P<day>[0-9]{{1,2}}){_AT}", _of_year),
    )
)

_ALONE: Final = {
    "minutely": ("every minute",),
    "hourly": ("every hour",),
    "daily": ("every day at 9am", "every 1d"),
    "weekly": ("every monday at 9am", "every 1w"),
    "fortnightly": ("every 2w",),
    "biweekly": ("every 2w",),
    "monthly": ("every month on the 1st at 9am",),
    "yearly": ("every year on january 1 at 9am",),
    "annually": ("every year on january 1 at 9am",),
    "quarterly": ("0 9 1 1,4,7,10 *",),
    "every second": ("every 1s",),
    "every day": ("every day at 9am", "every 1d"),
    "every week": ("every monday at 9am", "every 1w"),
    "every weekend": ("every weekend at 10am",),
    "every month": ("every month on the 1st at 9am", "last day of the month at 6pm"),
    "every year": ("every year on january 1 at 9am",),
    "every quarter": ("0 9 1 1,4,7,10 *",),
    "every other minute": ("every 2m",),
    "every other hour": ("every 2h",),
    "every other day": ("every 2d",),
    "every other week": ("every 2w",),
    "every half hour": ("every 30m",),
    "every half an hour": ("every 30m",),
    "every quarter hour": ("every 15m",),
    "every morning": ("every day at 9am",),
    "every evening": ("every day at 6pm",),
    "every night": ("every day at 10pm",),
    "every noon": ("every day at noon",),
    "every midnight": ("every day at midnight",),
    "twice a day": ("0 9,21 * * *",),
    "weekends": ("every weekend at 10am",),
    "weekdays": ("weekdays at 9am",),
    "now": ("in 1s", "in 1m"),
    "immediately": ("in 1s", "in 1m"),
    "asap": ("in 1s", "in 1m"),
    "once": ("in 1h", "tomorrow at 9am"),
    "tonight": ("today at 8pm", "tomorrow at 8pm"),
    "today": ("today at 6pm", "tomorrow at 9am"),
    "tomorrow": ("tomorrow at 9am",),
    "tomorrow morning": ("tomorrow at 9am",),
    "tomorrow evening": ("tomorrow at 6pm",),
    "next week": ("in 1w",),
    "next month": ("in 30d",),
    "noon": ("tomorrow at noon", "every day at noon"),
    "midnight": ("tomorrow at midnight", "every day at midnight"),
    "in an hour": ("in 1h",),
    "in a minute": ("in 1m",),
    "in a day": ("in 1d",),
    "in a week": ("in 1w",),
    "in half an hour": ("in 30m",),
    "never": ("in 366d",),
}
_BARE_HOUR: Final = re.compile(r"(?:(?P<before>.+?) )??(?:at )?(?P<hour>[0-9]{1,2})(?: ?o'?clock)?")
_ORDINAL: Final = re.compile(r"\bon (?:the )?([0-9]{1,2})(?:st|nd|rd|th)?(?= at|$)")
_FIFTH: Final = re.compile(rf"(?:every |the )?(?:fifth|5th) (?P<day>{_DAY}) of the month{_AT}")
_NUMBERS: Final = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_NUMBER_WORD: Final = re.compile(rf"\b({'|'.join(_NUMBERS)})\b")
_COUNTED: Final = re.compile(r"(?:every|in) [1-9][0-9]{0,3} (?:second|minute|hour|day|week)s?")
_SPELLED: Final = (
    (re.compile(r"\b(mon|tues|wednes|thurs|fri|satur|sun)days\b"), r"\1day"),
    (re.compile(r"\btues?\b"), "tue"),
    (re.compile(r"\bwednes?\b|\bweds\b"), "wed"),
    (re.compile(r"\bthurs?\b"), "thu"),
    (re.compile(r"\bsept\b"), "sep"),
    (re.compile(r"([ap])\.m\.?"), r"\1m"),
    (re.compile(r"^each\b|^on every\b|^once every\b"), "every"),
    (
        re.compile(
            r"^the\b |^every (?=(?:first|second|third|fourth|last) )|^on the (?=(?:first|second|third|fourth|last) )"
        ),
        "",
    ),
    (re.compile(r"\b(of|in) (?:the|every|each) month\b|\bof month\b"), "of the month"),
    (re.compile(r"\bevery weekdays\b|\bon weekdays\b"), "every weekday"),
    (re.compile(r"\bevery weekends\b|\bon weekends\b|^weekends\b"), "every weekend"),
    (re.compile(r"\b(\d{1,2})(?:st|nd|rd|th) of (?:every|each|the) month\b"), r"month on the \1"),
    (re.compile(r"\bmidday\b"), "noon"),
    (re.compile(r"^(?:every )?1st (?=[a-z])"), "first "),
    (re.compile(r"^(?:every )?2nd (?=[a-z])"), "second "),
    (re.compile(r"^(?:every )?3rd (?=[a-z])"), "third "),
    (re.compile(r"^(?:every )?4th (?=[a-z])"), "fourth "),
    (re.compile(r"\ba couple of\b|\bcouple of\b"), "2"),
    (re.compile(r"&"), "and"),
    (re.compile(r"(?<=[a-z]) (?=[0-9]{1,2}(?::[0-9]{2})? ?(?:am|pm)$|[0-9]{1,2}:[0-9]{2}$|noon$|midnight$)"), " at "),
    (re.compile(r"\bat at\b"), "at"),
)


def near(text: str) -> tuple[str, tuple[str, ...]]:
    """Why a sentence is not accepted, and accepted ones near it. `text` is in small letters, single spaces."""
    text = text.strip(" .!?,;")[:96]
    if not text:
        return "Say when.", ("every day at 9am", "every 1h", "in 1h")
    if (meant := _ALONE.get(text)) is not None:
        return (
            "At what time?" if len(meant) and " at " in meant[0] else "That is not one of the sentences known here."
        ), meant
    respelled = text
    for pattern, better in _SPELLED:
        respelled = pattern.sub(better, respelled)
    respelled = _NUMBER_WORD.sub(lambda said: str(_NUMBERS.index(said[1]) + 1), respelled)
    respelled = _ORDINAL.sub(lambda said: f"on the {int(said[1])}{_ending(int(said[1]))}", respelled)
    if respelled != text and (read_phrase(respelled) or _in_words(respelled) or _COUNTED.fullmatch(respelled)):
        return "Sentences follow a fixed table.", (respelled,)
    if (fifth := _FIFTH.fullmatch(respelled)) is not None and (minute := read_clock(fifth["time"])) is not None:
        weekday = (WEEKDAY_NAMES[fifth["day"]] + 1) % 7
        return "The sentences know a first to a fourth; cron knows a fifth.", (
            f"{minute % 60} {minute // 60} * * {weekday}#5",
        )
    if _without_time(respelled):
        return "At what time?", (f"{respelled} at 9am", f"{respelled} at 5pm")
    if (hour := _BARE_HOUR.fullmatch(respelled)) is not None and int(hour["hour"]) <= 24:
        why, meant = _of_bare_hour(hour["before"] or "tomorrow", int(hour["hour"]))
        if all(read_phrase(each) or _in_words(each) for each in meant):
            return why, meant
    clock = text.removeprefix("at ")
    if read_clock(clock) is not None:
        return "Once, or again and again?", (f"tomorrow at {clock}", f"every day at {clock}")
    day = re.fullmatch(rf"(?:next |this |every )?(?P<day>{_DAY})(?: (?:at )?(?P<time>.*))?", respelled)
    if day is not None:
        timed = day["time"] and read_clock(day["time"]) is not None
        if day["time"] and not timed and respelled.startswith("every "):
            return "That is no time of day.", (f"every {day['day']} at 9am", f"every {day['day']} at 5pm")
        time = day["time"] if timed else "9am"
        return "Once, or every week?", (f"on {day['day']} at {time}", f"every {day['day']} at {time}")
    return "That is not one of the sentences known here.", _examples_near(text)


def _of_bare_hour(before: str, hour: int) -> tuple[str, tuple[str, ...]]:
    if hour > 12:
        return "Hours over 12 are written with their minutes.", (f"{before} at {hour % 24:02}:00",)
    if hour == 0:
        return "Midnight is written in words or with minutes.", (f"{before} at midnight",)
    return f"{hour} in the morning or in the evening?", (f"{before} at {hour}am", f"{before} at {hour}pm")


def _without_time(text: str) -> bool:
    return read_phrase(f"{text} at 9am") is not None or _in_words(f"{text} at 9am")


def _in_words(text: str) -> bool:
    said = re.fullmatch(rf"(?:today|tomorrow|on (?:{_DAY})) at (.+)", text)
    return said is not None and read_clock(said[1]) is not None


def _examples_near(text: str) -> tuple[str, ...]:
    ranked = sorted(_EXAMPLES, key=lambda each: -difflib.SequenceMatcher(None, text, each).ratio())
    return tuple(ranked[:3])
