"""Lengths of time as text: `90s`, `15m`, `1h30m`, `2 hours`, `PT15M`, `P1D`, `P2W`. A day is 24 hours, a week 168."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Final

from qhronos_core.domain.schedule.refusal import refusal

LONGEST_TEXT: Final = 64
_LONGEST: Final = timedelta(days=36_600)

_SECONDS: Final = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_UNITS: Final = {
    **dict.fromkeys(("w", "week", "weeks"), "w"),
    **dict.fromkeys(("d", "day", "days"), "d"),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), "h"),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), "m"),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), "s"),
}
_ORDER: Final = "wdhms"
_PART: Final = re.compile(r"([0-9]{1,9}) *([A-Za-z]+)")
_WORDS: Final = re.compile(r"(?:[0-9]{1,9} *[A-Za-z]+)(?: *[0-9]{1,9} *[A-Za-z]+)*")
_ISO: Final = re.compile(
    r"P(?:([0-9]{1,9})W|(?:([0-9]{1,9})D)?(?:T(?=[0-9])(?:([0-9]{1,9})H)?(?:([0-9]{1,9})M)?(?:([0-9]{1,9})S)?)?)"
)
_CALENDAR_UNITS: Final = {
    "mo": 30,
    "mon": 30,
    "month": 30,
    "months": 30,
    "y": 365,
    "yr": 365,
    "year": 365,
    "years": 365,
}
_FRACTION: Final = re.compile(r"([0-9]{1,6})[.,]([0-9]{1,6}) *([A-Za-z]+)")


@dataclass(frozen=True, slots=True)
class NoDuration:
    """Why a text is no length of time, and the texts that were probably meant."""

    why: str
    meant: tuple[str, ...] = ()


def parse_duration(
    text: str, *, field: str, minimum: timedelta | None = None, maximum: timedelta | None = None
) -> timedelta:
    """The length `text` names; `minimum` and `maximum` are included.

    Raises:
        InvalidDurationError: names `field`, and offers lengths that are accepted.
    """
    found = read_duration(text)
    if isinstance(found, NoDuration):
        why = found.why
        meant = [read for each in found.meant if isinstance(read := read_duration(each), timedelta)]
        meant = meant or [timedelta(minutes=15)]
    elif minimum is not None and found < minimum:
        why, meant = f"At least {say_duration(minimum)}.", [minimum]
    elif maximum is not None and found > maximum:
        why, meant = f"At most {say_duration(maximum)}.", [maximum]
    else:
        return found
    within = [min(max(length, minimum or length), maximum or timedelta.max) for length in meant]
    said = list(dict.fromkeys(say_duration(length) for length in within))
    raise refusal(field, why, got=text, code="invalid_duration", fix=[{field: each} for each in said[:3]])


def read_duration(text: object) -> timedelta | NoDuration:
    """The length a text names, or why it names none."""
    if not isinstance(text, str):
        return NoDuration("A length of time is a text such as 15m, 2 hours or PT15M.", ("15m",))
    if len(text) > LONGEST_TEXT:
        return NoDuration(f"A length of time has at most {LONGEST_TEXT} characters.", ("15m",))
    return _read(text)


@lru_cache(maxsize=1024)
def _read(text: str) -> timedelta | NoDuration:
    if (iso := _ISO.fullmatch(text)) is not None and any(iso.groups()):
        amounts = dict(zip("wdhms", iso.groups(), strict=True))
    elif _WORDS.fullmatch(text):
        parts = _PART.findall(text)
        if any(unit == "M" for _, unit in parts):
            days = sum(30 * int(amount) for amount, unit in parts if unit == "M")
            return NoDuration(
                "Minutes are a small m; months have no fixed length.", (text.replace("M", "m"), f"{days}d")
            )
        units = [_UNITS.get(unit.lower()) for _, unit in parts]
        if None in units:
            return _of_unknown_unit(parts)
        order = [_ORDER.index(unit) for unit in units if unit]
        if order != sorted(set(order)):
            return NoDuration("Each unit once, the longest first: 1h30m.", _in_order(parts))
        amounts = {unit: amount for (amount, _), unit in zip(parts, units, strict=True) if unit}
    else:
        return _explained(text)
    total = sum(int(amount) * _SECONDS[unit] for unit, amount in amounts.items() if amount)
    if total == 0:
        return NoDuration("A length of time is longer than nothing.", ("1m",))
    if total > _LONGEST.total_seconds():
        return NoDuration("That is longer than a hundred years.", ("366d",))
    return timedelta(seconds=total)


def say_duration(length: timedelta) -> str:
    """The shortest text `parse_duration` reads as the same length: `15m`, `1h30m`, `2w`. Fractions of a second are cut."""
    total = length // timedelta(seconds=1)
    if total % _SECONDS["w"] == 0 and total:
        return f"{total // _SECONDS['w']}w"
    said = ""
    for unit in "dhms":
        amount, total = divmod(total, _SECONDS[unit])
        said += f"{amount}{unit}" if amount else ""
    return said or "0s"


def words_for(length: timedelta) -> str:
    """A length as a person would say it: `15 minutes`, `1 hour 30 minutes`, and `hour` for just one hour."""
    names = {"w": "week", "d": "day", "h": "hour", "m": "minute", "s": "second"}
    parts = [(int(amount), names[unit]) for amount, unit in _PART.findall(say_duration(length))]
    if len(parts) == 1 and parts[0][0] == 1:
        return parts[0][1]
    return " ".join(f"{amount} {name}{'' if amount == 1 else 's'}" for amount, name in parts)


def _of_unknown_unit(parts: Sequence[tuple[str, str]]) -> NoDuration:
    amount, unit = next((amount, unit) for amount, unit in parts if unit.lower() not in _UNITS)
    if (days := _CALENDAR_UNITS.get(unit.lower())) is not None and len(parts) == 1:
        return NoDuration(f"A {'month' if days == 30 else 'year'} has no fixed length.", (f"{int(amount) * days}d",))
    if unit.lower() in {"ms", "millisecond", "milliseconds"}:
        return NoDuration("Lengths are whole seconds.", ("1s",))
    return NoDuration("Units are s, m, h, d and w, or their words.", ("15m", "1h", "1d"))


def _in_order(parts: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    total = sum(int(amount) * _SECONDS[_UNITS[unit.lower()]] for amount, unit in parts)
    return (say_duration(timedelta(seconds=min(total, 3_162_240_000))),) if total else ()


def _explained(text: str) -> NoDuration:
    stripped = text.strip()
    if re.fullmatch(r"[0-9]{1,9}", stripped):
        return NoDuration("A number alone has no unit.", (f"{stripped}m", f"{stripped}s"))
    if stripped != text and isinstance(read_duration(stripped), timedelta):
        return NoDuration("No spaces around it.", (stripped,))
    if (fraction := _FRACTION.fullmatch(stripped)) is not None and (unit := _UNITS.get(fraction[3].lower())):
        whole = int(float(f"{fraction[1]}.{fraction[2]}") * _SECONDS[unit])
        meant = (say_duration(timedelta(seconds=whole)),) if 0 < whole <= 3_162_240_000 else ()
        return NoDuration("No fractions: use the smaller unit.", meant)
    if stripped.startswith("-") and isinstance(read_duration(stripped[1:]), timedelta):
        return NoDuration("A length of time is not negative.", (stripped[1:],))
    if stripped != stripped.upper() and _ISO.fullmatch(stripped.upper()):
        return NoDuration("ISO 8601 lengths are written in capitals.", (stripped.upper(),))
    if (calendar := re.fullmatch(r"[Pp]([0-9]{1,4})([MmYy])", stripped)) is not None and int(calendar[1]):
        name, days = ("month", 30) if calendar[2] in "Mm" else ("year", 365)
        return NoDuration(f"A {name} has no fixed length.", (f"P{int(calendar[1]) * days}D",))
    if (nth := re.fullmatch(r"([0-9]{1,4})(?:st|nd|rd|th) ([A-Za-z]+)", stripped)) and nth[2].lower() in _UNITS:
        return NoDuration("A length is counted, not numbered.", (f"{int(nth[1])} {nth[2].lower()}",))
    return NoDuration("A length of time is a text such as 90s, 15m, 1h30m, 2 hours or PT15M.", ("15m", "1h", "1d"))
