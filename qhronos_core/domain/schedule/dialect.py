"""The later public dialect's object, `{"frequency": "weekly", "by_day": ["MO"]}`, rewritten as an iCalendar rule.

Each bad member has a message of its own; every fix is the whole object with all of them mended.
"""

import difflib
from collections.abc import Callable, Mapping
from typing import Final

from qhronos_core.domain.errors import Fault
from qhronos_core.domain.schedule.instants import Moment, read_instant
from qhronos_core.domain.schedule.refusal import of_faults, refusal, shortened
from qhronos_core.domain.schedule.rrule import (
    FREQUENCIES,
    LARGEST_COUNT,
    LARGEST_INTERVAL,
    OTHER_FREQUENCIES,
    WEEKDAYS,
)

_MEMBERS: Final = ("frequency", "interval", "by_day", "by_month_day", "by_month", "count", "until")
_OF_FREQUENCY: Final = {"by_day": "weekly", "by_month_day": "monthly", "by_month": "yearly"}
_LONGEST_LIST: Final = 100
_NAMES: Final = tuple(each.lower() for each in FREQUENCIES)
_DROP: Final = object()

Checked = tuple[str | None, object]
"""Why a value is refused (None: it is not), and the value that mends it, or `_DROP`."""


def rewritten(schedule: Mapping[str, object]) -> str:
    """The `RRULE:` an object stands for. A member that is null counts as absent.

    Raises:
        ScheduleError: with one fault for each bad member.
    """
    if len(schedule) > 4 * len(_MEMBERS) or not all(isinstance(name, str) for name in schedule):
        raise refusal(
            "schedule",
            f"A schedule object has these members: {', '.join(_MEMBERS)}.",
            got=schedule,
            fix=[{"schedule": {"frequency": "daily"}}],
        )
    given = {name: value for name, value in schedule.items() if value is not None or name not in _MEMBERS}
    mended: dict[str, object] = dict(given)
    wrong: list[tuple[str, str, object]] = []
    named = _name_of_frequency(given)
    if named != "frequency":
        wrong.append((named, _unknown(named), given[named]))
        mended["frequency"] = mended.pop(named)
    frequency = _frequency(given.get(named), mended, wrong)
    for name, value in given.items():
        if name in ("frequency", named):
            continue
        why, better = _check(name, value, frequency)
        if why is None and name in _OF_FREQUENCY and frequency != given.get(named) in _NAMES:
            wrong.append((name, f"{name} belongs to the frequency {frequency}.", value))
            mended["frequency"] = frequency
        elif why is not None:
            wrong.append((name, why, value))
            mended.pop(name)
            if better is not _DROP:
                mended[_renamed(name)] = better
    if "count" in mended and "until" in mended:
        wrong.append(("until", "count and until exclude each other.", given.get("until")))
        mended.pop("until")
    if wrong:
        fix: tuple[dict[str, object], ...] = ({"schedule": mended},)
        raise of_faults(
            [Fault(f"schedule.{name[:40]}", "invalid_schedule", why, shortened(got), fix) for name, why, got in wrong]
        )
    return "RRULE:" + ";".join(_part(name, mended[name]) for name in _MEMBERS if name in mended)


def _name_of_frequency(given: Mapping[str, object]) -> str:
    """The member that says the frequency, as it was spelled."""
    if "frequency" in given:
        return "frequency"
    return next((name for name in given if _renamed(name) == "frequency"), "frequency")


def _frequency(value: object, mended: dict[str, object], wrong: list[tuple[str, str, object]]) -> str:
    if isinstance(value, str) and value in _NAMES:
        return _rarest(value, mended)
    if isinstance(value, str) and value.lower() in _NAMES:
        better, why = value.lower(), "Frequencies are written in small letters."
    elif isinstance(value, str) and (other := OTHER_FREQUENCIES.get(value.upper())) is not None:
        better, why = other[0].lower(), "frequency is minutely, hourly, daily, weekly, monthly or yearly."
        if other[1] > 1:
            asked = mended.get("interval")
            mended["interval"] = other[1] * (asked if type(asked) is int and 0 < asked < LARGEST_INTERVAL else 1)
    elif isinstance(value, str):
        better = next(iter(difflib.get_close_matches(value[:20].lower(), _NAMES, n=1, cutoff=0.7)), "daily")
        why = "frequency is minutely, hourly, daily, weekly, monthly or yearly."
        if value.lower() == "secondly":
            better, why = "minutely", "Rules go by the minute; for seconds use an interval such as every 30s."
    else:
        better, why = "daily", "frequency is minutely, hourly, daily, weekly, monthly or yearly."
        better = next((_OF_FREQUENCY[name] for name in _OF_FREQUENCY if name in mended), better)
    wrong.append(("frequency", why, value))
    mended["frequency"] = better
    return better


def _rarest(frequency: str, given: Mapping[str, object]) -> str:
    """The frequency, or that of a good member that does not fit it and means something rarer."""
    asked = [only for name, only in _OF_FREQUENCY.items() if name in given and _CHECKS[name](given[name])[0] is None]
    return max([frequency, *asked], key=_NAMES.index)


def _check(name: str, value: object, frequency: str) -> Checked:
    if name not in _MEMBERS:
        near = _renamed(name)
        good = near in _CHECKS and _check(near, value, frequency)[0] is None
        return _unknown(name), value if good else _DROP
    if (only := _OF_FREQUENCY.get(name)) is not None and only != frequency:
        return f"{name} belongs to the frequency {only}.", _DROP
    return _CHECKS[name](value)


def _unknown(name: str) -> str:
    near = _renamed(name)
    said = f" Did you mean {near}?" if near != name else ""
    return f"Members are {', '.join(_MEMBERS)}.{said}"


def _renamed(name: str) -> str:
    if name in _MEMBERS:
        return name
    if name.lower() == "freq":
        return "frequency"
    plain = name.lower().replace("by", "by_", 1) if name.lower().startswith("by") and "_" not in name else name.lower()
    return next(iter(difflib.get_close_matches(plain[:40], _MEMBERS, n=1, cutoff=0.75)), name)


def _whole(most: int) -> Callable[[object], Checked]:
    def check(value: object) -> Checked:
        if type(value) is int and 1 <= value <= most:
            return None, value
        number = int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 10 else value
        better = min(max(number, 1), most) if type(number) is int and abs(number) < 10**12 else _DROP
        return f"A whole number from 1 to {most:,}.", better

    return check


def _whole_numbers(low: int, high: int, *, signed: bool) -> Callable[[object], Checked]:
    span = f"±{low} to ±{high}" if signed else f"{low} to {high}"

    def good(value: object) -> bool:
        return type(value) is int and low <= (abs(value) if signed else value) <= high

    def check(value: object) -> Checked:
        values = value if isinstance(value, list | tuple) else [value]
        kept = [each for each in values[:_LONGEST_LIST] if good(each)]
        if isinstance(value, list | tuple) and 0 < len(value) <= _LONGEST_LIST and len(kept) == len(value):
            return None, value
        return f"A list of whole numbers, {span}.", kept or _DROP

    return check


def _days(value: object) -> Checked:
    values = value if isinstance(value, list | tuple) else [value]
    kept = [each for each in values[:_LONGEST_LIST] if isinstance(each, str) and each in WEEKDAYS]
    if isinstance(value, list | tuple) and 0 < len(value) <= _LONGEST_LIST and len(kept) == len(value):
        return None, value
    near = [
        each.strip().upper()[-2:] if each.strip()[:1].isdigit() else each.strip().upper()[:2]
        for each in values[:_LONGEST_LIST]
        if isinstance(each, str)
    ]
    mended = list(dict.fromkeys(each for each in near if each in WEEKDAYS))
    return "A list of MO, TU, WE, TH, FR, SA, SU.", mended or _DROP


def _until(value: object) -> Checked:
    moment = read_instant(value, None)
    if isinstance(moment, Moment):
        return None, value
    if moment.needs_zone:
        return "until carries an offset or Z.", f"{value}Z"
    better = next((each for each in moment.meant if isinstance(read_instant(each, None), Moment)), None)
    return f"until: {moment.why}", _DROP if better is None else better


_CHECKS: Final[dict[str, Callable[[object], Checked]]] = {
    "interval": _whole(LARGEST_INTERVAL),
    "count": _whole(LARGEST_COUNT),
    "by_day": _days,
    "by_month_day": _whole_numbers(1, 31, signed=True),
    "by_month": _whole_numbers(1, 12, signed=False),
    "until": _until,
}


def _part(name: str, value: object) -> str:
    if name == "frequency":
        return f"FREQ={str(value).upper()}"
    if name == "until":
        moment = read_instant(value, None)
        return f"UNTIL={moment.at:%Y%m%dT%H%M%SZ}" if isinstance(moment, Moment) else ""
    listed = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return f"{name.upper().replace('_', '')}={listed}"
