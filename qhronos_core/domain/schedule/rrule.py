"""The text of an iCalendar rule (RFC 5545 §3.3.10) at minute resolution: `RRULE:FREQ=MONTHLY;BYDAY=-1FR`.

Names and values are read in any case. A part counts once, must be known, and must fit its frequency.
"""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from qhronos_core.domain.schedule.instants import Moment, read_instant, say_instant
from qhronos_core.domain.schedule.zones import NAMES

FREQUENCIES: Final = ("MINUTELY", "HOURLY", "DAILY", "WEEKLY", "MONTHLY", "YEARLY")
WEEKDAYS: Final = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
OTHER_FREQUENCIES: Final = {
    "FORTNIGHTLY": ("WEEKLY", 2),
    "BIWEEKLY": ("WEEKLY", 2),
    "BIMONTHLY": ("MONTHLY", 2),
    "QUARTERLY": ("MONTHLY", 3),
    "SEMIANNUALLY": ("MONTHLY", 6),
    "ANNUALLY": ("YEARLY", 1),
}
"""What others call some of these: the frequency, and how many of it."""
LARGEST_INTERVAL: Final = 10_000
LARGEST_COUNT: Final = 100_000
_LONGEST_LIST: Final = 100

_SUB_DAILY: Final = frozenset({"MINUTELY", "HOURLY"})
_ALL: Final = frozenset(FREQUENCIES)
# Which frequencies a part fits: RFC 5545's table, with BYYEARDAY yearly only.
_FITS: Final = {
    "BYMONTH": _ALL,
    "BYWEEKNO": frozenset({"YEARLY"}),
    "BYYEARDAY": frozenset({"YEARLY"}),
    "BYMONTHDAY": _ALL - {"WEEKLY"},
    "BYDAY": _ALL,
    "BYHOUR": _ALL,
    "BYMINUTE": _ALL,
    "BYSETPOS": _ALL,
}
_RANGES: Final = {
    "BYMONTH": (1, 12, False),
    "BYWEEKNO": (1, 53, True),
    "BYYEARDAY": (1, 366, True),
    "BYMONTHDAY": (1, 31, True),
    "BYHOUR": (0, 23, False),
    "BYMINUTE": (0, 59, False),
    "BYSETPOS": (1, 366, True),
}
_KNOWN: Final = ("FREQ", "INTERVAL", "COUNT", "UNTIL", "WKST", *_FITS)
_DIGITS: Final = re.compile(r"[0-9]{1,6}")
_SIGNED: Final = re.compile(r"[+-]?[0-9]{1,3}")
_BYDAY: Final = re.compile(r"([+-]?[0-9]{1,2})?(MO|TU|WE|TH|FR|SA|SU)")
_UNTIL: Final = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})T([0-9]{2})([0-9]{2})([0-9]{2})(Z|[+-][0-9]{2}:?[0-9]{2})?")
_DATE: Final = re.compile(r"([0-9]{4})-?([0-9]{2})-?([0-9]{2})")


@dataclass(frozen=True, slots=True)
class Parts:
    """What a rule says. Empty where a part is absent; weekdays are (ordinal or 0, Monday 0)."""

    frequency: str
    interval: int = 1
    count: int | None = None
    until: datetime | None = None
    week_start: int = 0
    months: tuple[int, ...] = ()
    week_numbers: tuple[int, ...] = ()
    year_days: tuple[int, ...] = ()
    month_days: tuple[int, ...] = ()
    weekdays: tuple[tuple[int, int], ...] = ()
    hours: tuple[int, ...] = ()
    minutes: tuple[int, ...] = ()
    positions: tuple[int, ...] = ()

    @property
    def sub_daily(self) -> bool:
        return self.frequency in _SUB_DAILY


@dataclass(frozen=True, slots=True)
class BadRule:
    """What is wrong with a rule, and the requests that were probably meant, as fields to merge."""

    why: str
    meant: tuple[dict[str, object], ...] = ()


class _Bad(Exception):
    def __init__(self, why: str, *meant: dict[str, object]) -> None:
        self.bad = BadRule(why, meant)


class Spelled:
    """The parts as they were spelled, from which better texts are made."""

    def __init__(self, parts: Sequence[tuple[str, str]]) -> None:
        self.parts = list(parts)

    def has(self, name: str) -> bool:
        return any(part[0] == name for part in self.parts)

    def without(self, *names: str) -> dict[str, object]:
        return self._text([part for part in self.parts if part[0] not in names])

    def having(self, name: str, value: str) -> dict[str, object]:
        if not value:
            return self.without(name)
        if all(part[0] != name for part in self.parts):
            return self._text([*self.parts, (name, value)])
        return self._text([(part[0], value if part[0] == name else part[1]) for part in self.parts])

    def renamed(self, name: str, better: str) -> dict[str, object]:
        return self._text([(better if part[0] == name else part[0], part[1]) for part in self.parts])

    def once(self, name: str, *, last: bool) -> dict[str, object]:
        at = [index for index, part in enumerate(self.parts) if part[0] == name]
        keep = at[-1] if last else at[0]
        return self._text([part for index, part in enumerate(self.parts) if part[0] != name or index == keep])

    @staticmethod
    def _text(parts: Sequence[tuple[str, str]]) -> dict[str, object]:
        return {"schedule": "RRULE:" + ";".join(f"{name}={value}" for name, value in parts)}


def spelled_parts(text: str) -> Spelled:
    """The parts of a rule that `read_rrule` has accepted, to make others from."""
    return Spelled([(name, value) for name, _, value in (part.partition("=") for part in _body(text).split(";"))])


def _body(text: str) -> str:
    return text.upper().removeprefix("RRULE:")


def read_rrule(text: str) -> Parts | BadRule:
    """The parts of `RRULE:...`, or what is wrong with them."""
    try:
        return _read(_body(text))
    except _Bad as found:
        return found.bad


def _read(body: str) -> Parts:
    spelled = _spelled(body)
    values = dict(spelled.parts)
    frequency = values["FREQ"]
    if frequency == "SECONDLY":
        step = values.get("INTERVAL", "1")
        meant: list[dict[str, object]] = [{"schedule": f"every {step}s"}] if _DIGITS.fullmatch(step) else []
        raise _Bad("Rules go by the minute; for seconds use an interval.", *meant, spelled.having("FREQ", "MINUTELY"))
    if (other := OTHER_FREQUENCIES.get(frequency)) is not None:
        step = values.get("INTERVAL", "1")
        times = other[1] * (int(step) if _DIGITS.fullmatch(step) else 1)
        fits = Spelled([("FREQ", other[0]), *(part for part in spelled.parts if part[0] not in ("FREQ", "INTERVAL"))])
        raise _Bad("FREQ is MINUTELY to YEARLY.", fits.having("INTERVAL", str(times)))
    if frequency not in FREQUENCIES:
        near = difflib.get_close_matches(frequency, FREQUENCIES, n=2, cutoff=0.7) or ["DAILY"]
        raise _Bad("FREQ is MINUTELY to YEARLY.", *(spelled.having("FREQ", each) for each in near))
    if "COUNT" in values and "UNTIL" in values:
        raise _Bad("COUNT and UNTIL exclude each other.", spelled.without("UNTIL"), spelled.without("COUNT"))
    for name in values:
        if frequency not in _FITS.get(name, _ALL):
            fitting = {"BYMONTHDAY": "DAILY"}.get(name, "YEARLY")
            raise _Bad(f"{name} does not fit FREQ={frequency}.", spelled.having("FREQ", fitting))
    if "BYSETPOS" in values and not any(name in values for name in _FITS if name != "BYSETPOS"):
        raise _Bad("BYSETPOS picks from what another BY part gives.", spelled.without("BYSETPOS"))
    if values.get("WKST", "MO") not in WEEKDAYS:
        raise _Bad("WKST is MO to SU.", spelled.without("WKST"))
    return Parts(
        frequency,
        interval=_interval(values.get("INTERVAL", "1"), frequency, spelled),
        count=_number(values["COUNT"], "COUNT", LARGEST_COUNT, spelled) if "COUNT" in values else None,
        until=_until(values["UNTIL"], spelled) if "UNTIL" in values else None,
        week_start=WEEKDAYS.index(values.get("WKST", "MO")),
        months=_numbers(values, "BYMONTH", spelled),
        week_numbers=_numbers(values, "BYWEEKNO", spelled),
        year_days=_numbers(values, "BYYEARDAY", spelled),
        month_days=_numbers(values, "BYMONTHDAY", spelled),
        weekdays=_weekdays(values, spelled),
        hours=_numbers(values, "BYHOUR", spelled),
        minutes=_numbers(values, "BYMINUTE", spelled),
        positions=_numbers(values, "BYSETPOS", spelled),
    )


def _spelled(body: str) -> Spelled:
    """The parts by name: each known, once, with a value."""
    parts: list[tuple[str, str]] = []
    foreign: str | None = None
    for each in body.split(";"):
        name, equals, value = each.partition("=")
        if not equals or not name or not value:
            good = [part.partition("=") for part in body.split(";")]
            rest = Spelled([(part[0].strip(), part[2].strip()) for part in good if part[0].strip() and part[2].strip()])
            raise _Bad("A rule is NAME=VALUE parts between semicolons.", rest.without())
        foreign = name if name not in _KNOWN and foreign is None else foreign
        parts.append((name, value))
    spelled = Spelled(parts)
    if foreign is not None:
        raise _foreign(foreign, spelled)
    names = [name for name, _ in parts]
    for name in names:
        if names.count(name) > 1:
            raise _Bad(f"{name} is given twice.", spelled.once(name, last=False), spelled.once(name, last=True))
    if "FREQ" not in names:
        fits = [
            each for each in ("DAILY", "WEEKLY", "MONTHLY", "YEARLY") if all(each in _FITS.get(n, _ALL) for n in names)
        ]
        raise _Bad("A rule needs FREQ.", *(Spelled([("FREQ", each), *parts]).without() for each in fits))
    return spelled


def _foreign(name: str, spelled: Spelled) -> _Bad:
    value = dict(spelled.parts)[name]
    if name == "BYSECOND":
        return _Bad("Rules go by the minute: seconds are not offered.", spelled.without(name))
    if name in ("RSCALE", "SKIP"):
        return _Bad("Only the Gregorian calendar is offered.", spelled.without("RSCALE", "SKIP"))
    if name == "DTSTART":
        start = instant_in_calendar(value)
        meant = [spelled.without(name) | {"start_time": start}] if start else []
        return _Bad("Give the start as start_time.", *meant, spelled.without(name))
    if name in ("EXDATE", "RDATE"):
        when = instant_in_calendar(value)
        meant = [spelled.without(name) | {"exclusions": [when]}] if when and name == "EXDATE" else []
        why = "Leave instants out with exclusions." if name == "EXDATE" else "Extra instants are events of their own."
        return _Bad(why, *(meant or [spelled.without(name)]))
    near = difflib.get_close_matches(name, _KNOWN, n=1, cutoff=0.6)
    stripped = Spelled([(part[0].strip(), part[1].strip()) for part in spelled.parts])
    meant = [spelled.renamed(name, each) for each in near]
    return _Bad(f"{_clean(name)} is no part of a rule.", *meant, stripped.without(), spelled.without(name))


def _clean(name: str) -> str:
    return re.sub(r"[^A-Z0-9-]", "", name)[:20] or "That"


_RARER: Final = {
    "MINUTELY": ("HOURLY", 60),
    "HOURLY": ("DAILY", 24),
    "DAILY": ("WEEKLY", 7),
    "WEEKLY": ("YEARLY", 52),
    "MONTHLY": ("YEARLY", 12),
}


def _interval(value: str, frequency: str, spelled: Spelled) -> int:
    if _DIGITS.fullmatch(value) and int(value) > LARGEST_INTERVAL and frequency in _RARER:
        longer, times = _RARER[frequency]
        rarer = Spelled([("FREQ", longer), *(part for part in spelled.parts if part[0] not in ("FREQ", "INTERVAL"))])
        raise _Bad(f"INTERVAL is 1 to {LARGEST_INTERVAL:,}.", rarer.having("INTERVAL", str(-(-int(value) // times))))
    return _number(value, "INTERVAL", LARGEST_INTERVAL, spelled)


def _number(value: str, name: str, most: int, spelled: Spelled) -> int:
    if not _DIGITS.fullmatch(value) or not 1 <= int(value) <= most:
        number = int(value) if re.fullmatch(r"[0-9]{1,20}", value) else 1
        better = min(max(number, 1), most)
        raise _Bad(f"{name} is 1 to {most:,}.", spelled.having(name, str(better)))
    return int(value)


def _numbers(values: dict[str, str], name: str, spelled: Spelled) -> tuple[int, ...]:
    if name not in values:
        return ()
    low, high, signed = _RANGES[name]
    said = values[name].split(",")
    if len(said) > _LONGEST_LIST:
        raise _Bad(f"A list has at most {_LONGEST_LIST} values.", spelled.having(name, ",".join(said[:_LONGEST_LIST])))
    good: list[int] = []
    mended: list[str] = []
    for each in said:
        number = int(each) if _SIGNED.fullmatch(each) and (signed or each.isdecimal()) else None
        if number is not None and low <= abs(number) <= high and len(each.lstrip("+-")) <= len(str(high)):
            good.append(number)
            mended.append(each)
        elif number is not None:
            mended.append(str(max(min(abs(number), high), low) * (-1 if number < 0 and signed else 1)))
    if len(good) < len(said):
        span = f"±{low} to ±{high}" if signed else f"{low} to {high}"
        raise _Bad(f"{name} takes {span}.", spelled.having(name, ",".join(dict.fromkeys(mended))))
    return tuple(sorted(set(good)))


def _weekdays(values: dict[str, str], spelled: Spelled) -> tuple[tuple[int, int], ...]:
    if "BYDAY" not in values:
        return ()
    frequency = values["FREQ"]
    # Inside a year the ordinal counts its weekdays, inside a month the month's.
    most = 53 if frequency == "YEARLY" and "BYMONTH" not in values else 5
    said = values["BYDAY"].split(",")
    if len(said) > _LONGEST_LIST:
        raise _Bad(
            f"A list has at most {_LONGEST_LIST} values.", spelled.having("BYDAY", ",".join(said[:_LONGEST_LIST]))
        )
    found: list[tuple[int, int]] = []
    for each in said:
        if (parts := _BYDAY.fullmatch(each)) is None:
            names = [day for other in said for day in WEEKDAYS if day == other.strip().lstrip("+-0123456789")[:2]]
            raise _Bad(
                "BYDAY takes MO to SU, by the month or year also 1MO or -1FR.", spelled.having("BYDAY", ",".join(names))
            )
        ordinal = int(parts[1]) if parts[1] else 0
        plain = ",".join(dict.fromkeys(other.lstrip("+-0123456789") for other in said))
        if parts[1] and (frequency not in ("MONTHLY", "YEARLY") or "BYWEEKNO" in values):
            if "BYWEEKNO" in values:
                raise _Bad(f"{each}: a numbered week has one of each day.", spelled.having("BYDAY", plain))
            raise _Bad(f"{each} needs FREQ=MONTHLY or YEARLY.", spelled.having("FREQ", "MONTHLY"))
        if parts[1] and not 1 <= abs(ordinal) <= most:
            raise _Bad(
                f"{each}: the ordinal is ±1 to ±{most} here.",
                spelled.having("BYDAY", values["BYDAY"].replace(each, f"-1{parts[2]}")),
            )
        found.append((ordinal, WEEKDAYS.index(parts[2])))
    return tuple(sorted(set(found)))


def _until(value: str, spelled: Spelled) -> datetime | None:
    """The last instant. None from the year 2200 on: nothing is planned so far ahead anyway."""
    basic = _UNTIL.fullmatch(value)
    text = value
    if basic is not None:
        zone = basic[7] or ""
        zone = f"{zone[:3]}:{zone[-2:]}" if len(zone) > 1 else zone
        text = f"{basic[1]}-{basic[2]}-{basic[3]}T{basic[4]}:{basic[5]}:{basic[6]}{zone}"
    far = text[:4].isdecimal() and int(text[:4]) >= 2200
    moment = read_instant(f"2196{text[4:]}" if far else text, None)
    if isinstance(moment, Moment):
        return None if far else moment.at
    if moment.needs_zone:
        raise _Bad("UNTIL carries an offset or Z.", spelled.having("UNTIL", f"{value}Z"))
    if (day := _DATE.fullmatch(value)) is not None:
        raise _Bad("UNTIL is an instant, not a day.", spelled.having("UNTIL", f"{day[1]}{day[2]}{day[3]}T235959Z"))
    meant = [spelled.having("UNTIL", each) for each in moment.meant]
    raise _Bad("UNTIL is an instant such as 20271231T235959Z.", *meant, spelled.without("UNTIL"))


def start_in_calendar(value: str, zone: str | None) -> dict[str, object]:
    """The fields for a calendar's DTSTART: an instant, or wall time with its zone; none if it is neither."""
    if (start := instant_in_calendar(value)) is not None:
        return {"start_time": start}
    if zone is not None and (wall := _UNTIL.fullmatch(value)) is not None and zone in NAMES:
        return {"start_time": f"{wall[1]}-{wall[2]}-{wall[3]}T{wall[4]}:{wall[5]}:{wall[6]}", "timezone": zone}
    return {}


def instant_in_calendar(value: str) -> str | None:
    """An instant written as calendars write it, in RFC 3339; None if it is none or lacks its zone."""
    basic = _UNTIL.fullmatch(value)
    text = value
    if basic is not None and basic[7]:
        text = f"{basic[1]}-{basic[2]}-{basic[3]}T{basic[4]}:{basic[5]}:{basic[6]}{basic[7]}"
    moment = read_instant(text, None)
    return say_instant(moment.at) if isinstance(moment, Moment) else None
