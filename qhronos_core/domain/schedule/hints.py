"""What a wrong cron expression probably meant."""

import difflib
import re
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final

from qhronos_core.domain.schedule.cron import (
    ALIASES,
    DAY_OF_MONTH,
    DAY_OF_WEEK,
    FIELDS,
    HOUR,
    LONGEST_LIST,
    LONGEST_TEXT,
    MINUTE,
    MONTH,
    BadTerm,
    Field,
    read_field,
)

Fix = dict[str, object]

_YEAR: Final = re.compile(r"(20[0-9]{2}|21[0-9]{2})(?:-(20[0-9]{2}|21[0-9]{2}))?")
_HASHED: Final = re.compile(r"[HR](?:\(([0-9]{1,2}-[0-9]{1,2})\))?(/[0-9]{1,2})?")
_STEPPED: Final = re.compile(r"(\*|[0-9]{1,2})/([0-9]{2,3})")
_ALIASES_MEANT: Final = {
    "@reboot": ("There is no start of the machine to wait for.", "in 1m"),
    "@noon": ("Noon has no name here.", "0 12 * * *"),
    "@quarterly": ("Quarters have no name here.", "0 0 1 1,4,7,10 *"),
    "@fortnightly": ("Two weeks are an interval.", "every 2w"),
    "@biweekly": ("Two weeks are an interval.", "every 2w"),
    "@weekdays": ("Weekdays are a phrase.", "every weekday at 9am"),
    "@minutely": ("Minutes have no name here.", "* * * * *"),
}
_RANGE: Final = re.compile(r"([A-Z0-9]+)-([A-Z0-9]+)(?:/([0-9]{1,2}))?")


def mended(text: str) -> tuple[str, list[Fix]]:
    """Why the expression is refused, and the requests it probably stood for, likeliest first."""
    if len(text) > LONGEST_TEXT:
        return f"A cron expression has at most {LONGEST_TEXT} characters.", [{"schedule": "0 9 * * *"}]
    if text[:1] == "@":
        return _of_alias(text)
    single = " ".join(text.split())
    single = re.sub(r" ?, ?", ",", single) if ", " in single or " ," in single else single
    fields = single.upper().split(" ")
    if single != text and len(fields) == 5 and not any(isinstance(_judged(*each), BadTerm) for each in _paired(fields)):
        return "The five fields stand between single spaces.", [{"schedule": single}]
    if len(fields) > 5:
        return _of_too_many(fields)
    if (interval := _interval_in(fields)) is not None:
        return interval
    if len(fields) < 5:
        filled = [*fields, *["*"] * (5 - len(fields))]
        why = f"{len(fields)} fields; a cron expression has five: minute, hour, day of month, month, day of week."
        return why, _combined(filled)
    bad = next((found for found in (_judged(*each) for each in _paired(fields)) if isinstance(found, BadTerm)), None)
    return bad.why if bad else "The five fields stand between single spaces.", _combined(fields)


def _interval_in(fields: Sequence[str]) -> tuple[str, list[Fix]] | None:
    """`*/90 * * * *`: a step wider than its field is an interval."""
    for field, said, unit in zip(FIELDS, fields, "mhd", strict=False):
        step = _STEPPED.fullmatch(said)
        if step is not None and int(step[2]) > field.width and len(fields) == 5:
            others = [each for each in fields if each != said and each not in ("*", "0")]
            fixes: list[Fix] = [] if others else [{"schedule": f"every {int(step[2])}{unit}"}]
            return f"A step of the {field.name} is 1 to {field.width}: steps start anew with each turn.", [
                *fixes,
                *([] if fixes else _combined(fields)),
            ]
    return None


def _paired(fields: Sequence[str]) -> Iterable[tuple[Field, str]]:
    return zip(FIELDS, fields, strict=True)


def _judged(field: Field, said: str) -> object:
    return read_field(field, said)


def _of_alias(text: str) -> tuple[str, list[Fix]]:
    lowered = text.lower().strip()
    if (known := _ALIASES_MEANT.get(lowered)) is not None:
        return known[0], [{"schedule": known[1]}]
    if lowered.startswith("@every"):
        length = lowered.removeprefix("@every").strip()
        return "Intervals are written without the @.", [{"schedule": f"every {length}"}]
    found = difflib.get_close_matches(lowered[:20], ALIASES, n=2, cutoff=0.5) or ["@daily"]
    return f"The names are {', '.join(ALIASES)}.", [{"schedule": each} for each in found]


def _of_too_many(fields: list[str]) -> tuple[str, list[Fix]]:
    number = {6: "Six", 7: "Seven"}.get(len(fields), str(len(fields)))
    why = f"{number} fields; seconds and years are not offered."
    if len(fields) > 7:
        return f"{number} fields; a cron expression has five.", _combined(fields[:5])
    year = _YEAR.fullmatch(fields[-1])
    if len(fields) == 7:
        first, last = fields[0], fields[-1]
        return why, _every_second(first, fields[1:6]) + _in_year(fields[1:6], _YEAR.fullmatch(last))
    if year is not None:
        return f"{number} fields; for a year give start_time and end_time.", _in_year(fields[:5], year)
    why = f"{number} fields; seconds are not offered."
    found = _every_second(fields[0], fields[1:]) + _combined(fields[1:])
    return why, found if found else _combined(fields[:5])


def _every_second(seconds: str, rest: Sequence[str]) -> list[Fix]:
    """`*/30 * * * * *` is every 30 seconds."""
    step = re.fullmatch(r"(?:\*|0)(?:/([0-9]{1,2}))?", seconds)
    if step is None or seconds == "0" or any(each not in ("*", "?") for each in rest):
        return []
    return [{"schedule": f"every {int(step[1] or 1)}s"}]


def _in_year(fields: Sequence[str], year: re.Match[str] | None) -> list[Fix]:
    if year is None:
        return _combined(fields)
    bounds = {"start_time": f"{year[1]}-01-01T00:00:00Z", "end_time": f"{year[2] or year[1]}-12-31T23:59:59Z"}
    return [fix | bounds for fix in _combined(fields)]


def _combined(fields: Sequence[str]) -> list[Fix]:
    """Expressions in which every wrong field is mended: by its best guess, and the first of them also by the others."""
    choices = [
        [said] if not isinstance(read_field(field, said), BadTerm) else _choices(field, said)
        for field, said in _paired(fields)
    ]
    if not all(choices):
        return []
    found = [" ".join(each[0] for each in choices)]
    for index, options in enumerate(choices):
        found += [
            " ".join(other if index == at else each[0] for at, each in enumerate(choices)) for other in options[1:]
        ]
    return [{"schedule": each} for each in dict.fromkeys(islice(found, 6))]


def _choices(field: Field, said: str) -> list[str]:
    terms = [term for term in said.split(",") if term][:LONGEST_LIST]
    options = [
        [term] if not isinstance(read_field(field, term), BadTerm) else list(dict.fromkeys(_better(field, term)))
        for term in terms
    ] or [[_plain(field)]]
    first = ",".join(dict.fromkeys(each[0] for each in options))
    others = [
        ",".join(other if index == at else each[0] for at, each in enumerate(options))
        for index, each_option in enumerate(options)
        for other in each_option[1:]
    ]
    good = [each for each in (first, *others[:3]) if not isinstance(read_field(field, each), BadTerm)]
    return good or [_plain(field)]


def _plain(field: Field) -> str:
    return "0" if field in (MINUTE, HOUR) else "*"


def _better(field: Field, term: str) -> list[str]:
    """What one wrong term probably meant."""
    if term == "?":
        return ["*"]
    if (hashed := _HASHED.fullmatch(term)) is not None:
        spread = (hashed[1] or "*") + (hashed[2] or "")
        return [spread if hashed[1] or hashed[2] else _plain(field)]
    if field is DAY_OF_MONTH and (found := _of_month_day(term)):
        return found
    if field is DAY_OF_WEEK and (found := _of_weekday(term)):
        return found
    if (bounds := _RANGE.fullmatch(term)) is not None:
        return _of_range(field, bounds)
    if "/" in term:
        return _of_step(field, term)
    if (value := _nearest(field, term)) is not None:
        return value
    if re.fullmatch(r"[A-Z0-9]+(?:-[A-Z0-9]+){2,}", term):  # not a range but several values
        values = [(_nearest(field, each) or [""])[0] for each in term.split("-")]
        return [",".join(dict.fromkeys(values)) if all(values) else _plain(field)]
    cleaned = re.sub(r"\.\.", "-", term)
    cleaned = re.sub(r"\*+", "*", re.sub(r"-+", "-", cleaned)).strip("-")
    if cleaned != term and cleaned:
        if not isinstance(read_field(field, cleaned), BadTerm):
            return [cleaned]
        return _better(field, cleaned)
    if re.fullmatch(r"\*[0-9]{1,2}", term):
        return [f"*/{term[1:]}"]
    return [_plain(field)]


def _of_month_day(term: str) -> list[str]:
    if (near := re.fullmatch(r"([0-9]{1,2})W|W([0-9]{1,2})", term)) is not None:
        return [str(min(max(int(near[1] or near[2]), 1), 31))]
    if (back := re.fullmatch(r"L-([0-9]{1,2})W?", term)) is not None:
        return [str(max(31 - int(back[1]), 1))]
    if term in ("WL", "LAST", "-1") or re.fullmatch(r"L[0-9L]|[0-9]{1,2}L", term):
        return ["LW" if term == "WL" else "L"]
    return []


def _of_weekday(term: str) -> list[str]:
    if (last := re.fullmatch(r"L([0-7])|([A-Z]{3})L|([0-7]|[A-Z]{3})#(?:L|-1|[6-9])", term)) is not None:
        said = last[1] or last[2] or last[3]
        number = said if said.isdecimal() else _named(DAY_OF_WEEK, said)
        return [f"{number}L"] if number is not None else []
    if term == "L":
        return ["6"]
    if (zeroth := re.fullmatch(r"([0-7]|[A-Z]{3})#0", term)) is not None:
        return [f"{zeroth[1]}#1"]
    return []


def _of_range(field: Field, bounds: re.Match[str]) -> list[str]:
    first, last = (_nearest(field, bounds[1]) or [""])[0], (_nearest(field, bounds[2]) or [""])[0]
    if not first.isdecimal() or not last.isdecimal():
        return [_plain(field)]
    low, high = int(first), int(last)
    step = bounds[3]
    if step is not None and not 1 <= int(step) <= field.width:
        return [first]
    if low <= high:
        return [f"{low}-{high}" + (f"/{step}" if step else "")]
    end = 6 if field is DAY_OF_WEEK else field.high
    low = low % 7 if field is DAY_OF_WEEK else low
    if step is not None:
        cycle = end - field.low + 1
        values = [field.low + (low - field.low + at) % cycle for at in range(0, (high - low) % cycle + 1, int(step))]
        return [",".join(map(str, values))]
    if low <= high:
        return [f"{low}-{high}"]
    parts = [f"{low}-{end}" if low < end else str(end), f"{field.low}-{high}" if high > field.low else str(field.low)]
    return [",".join(parts)]


def _of_step(field: Field, term: str) -> list[str]:
    start, _, step = term.partition("/")
    start = start or "*"
    if isinstance(read_field(field, start), BadTerm):
        starts = _better(field, start)
        return [
            f"{each}/{step}" for each in starts if not isinstance(read_field(field, f"{each}/{step}"), BadTerm)
        ] or starts
    number = re.match(r"[0-9]{1,2}(?![0-9])", step)
    if number is not None and 1 <= int(number[0]) <= field.width:
        return [f"{start}/{int(number[0])}"]
    first = re.match(r"[A-Z0-9]+", start)
    return [first[0] if first else _low(field)]


def _low(field: Field) -> str:
    return str(field.low)


def _nearest(field: Field, term: str) -> list[str] | None:
    """A value in range for one that may not be; None if it is no value at all."""
    if term.isdecimal() and len(term) <= 9:
        value = int(term)
        if field.low <= value <= field.high:
            return [str(value)]
        if value < field.low:
            return [str(field.low)]
        if field in (MINUTE, HOUR) and value == field.high + 1:
            return [str(field.low), str(field.high)]
        if field is DAY_OF_MONTH:
            return ["31", "L"]
        if field is DAY_OF_WEEK:
            return ["7", "1"] if value == 8 else ["7"]
        return [str(field.high), str(field.low)] if field is MONTH else [str(field.high)]
    named = _named(field, term)
    return None if named is None else [str(named)]


def _named(field: Field, term: str) -> int | None:
    """The value of a name spelled in full, or by two letters."""
    if not field.names or not term.isalpha() or len(term) < 2:
        return None
    found = [index for index, name in enumerate(field.names) if name.startswith(term[:3])]
    return found[0] + field.low if len(found) == 1 else None
