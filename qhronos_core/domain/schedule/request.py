"""The fields of a request that together say when, and fixes tried on them before they are offered."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from qhronos_core.domain.errors import Fault
from qhronos_core.domain.schedule.instants import parse_instant, say_instant
from qhronos_core.domain.schedule.refusal import MOST_FIXES, ScheduleError, of_faults, refusal, shortened

EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_END: Final = datetime(2200, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for, as it was sent. `shortest` is the operator's shortest interval."""

    schedule: object
    timezone: object
    zone_given: bool
    anchor: datetime
    start: datetime | None = None
    end: datetime | None = None
    exclusions: tuple[object, ...] = ()
    shortest: timedelta | None = None

    def merged(self, fix: Mapping[str, object]) -> "Request":
        """The request with the fields of a fix put in."""
        request = self
        for field, value in fix.items():
            if field == "schedule":
                request = replace(request, schedule=value)
            elif field == "timezone":
                request = replace(request, timezone=value, zone_given=True)
            elif field == "exclusions":
                request = replace(request, exclusions=tuple(value) if isinstance(value, Sequence) else ())
            elif field in ("start_time", "end_time"):
                zone = fix.get("timezone", self.timezone if self.zone_given else None)
                known = zone if isinstance(zone, str) else None
                read = parse_instant(value, field=field, timezone=known) if isinstance(value, str) else None
                at = known_time(read, field)
                request = replace(request, start=at) if field == "start_time" else replace(request, end=at)
        return request


def known_time(instant: object, field: str) -> datetime | None:
    """The same moment in UTC, if it is one this clock knows.

    Raises:
        InvalidBoundsError: no aware datetime, or a beginning before 1970.
    """
    if instant is None:
        return None
    if not isinstance(instant, datetime) or instant.utcoffset() is None:
        raise refusal(field, "A moment with its offset.", got=str(instant), code="invalid_bounds")
    if field == "end_time":  # whatever is as old as this leaves nothing
        instant = max(instant, EARLIEST)
    if instant < EARLIEST:
        raise refusal(
            field,
            "Nothing is reckoned before 1970.",
            got=instant.isoformat(),
            code="invalid_bounds",
            fix=[{field: say_instant(EARLIEST)}],
        )
    return min(instant, _END).astimezone(UTC)


def with_tried_fixes(error: ScheduleError, request: Request, accept: Callable[[Request], object]) -> ScheduleError:
    """The same refusal with those of its fixes that `accept` accepts. A fault left without gets one that surely helps."""
    fields = {fault.field.partition(".")[0] for fault in error.faults}
    found = []
    for fault in error.faults:
        field = fault.field.partition(".")[0]
        alone = request
        for other in fields - {field}:  # as if nothing else were wrong
            alone = alone.merged(_HARMLESS.get(other, {}))
        found.append(replace(fault, fix=_accepted((*fault.fix[:_MOST_TRIED], *_LAST_RESORT[field]), alone, accept)))
    return of_faults(found)


def with_faults_mended(error: ScheduleError, request: Request) -> Request:
    """The request as if the faulty fields were in order, to see whether anything else is wrong."""
    for fault in error.faults:
        request = request.merged(_HARMLESS.get(fault.field.partition(".")[0], {}))
    return request


def as_sent(fault: Fault, request: Request) -> Fault:
    """A fault of the rule, told in the words of the request it came in."""
    schedule, fixes = request.schedule, fault.fix
    if fault.field != "schedule":
        return fault
    if schedule is None and request.start is not None:
        fixes = tuple({"start_time": fix["schedule"]} for fix in fault.fix if str(fix["schedule"])[:1].isdecimal())
        return replace(fault, field="start_time", got=say_instant(request.start), fix=fixes)
    if isinstance(schedule, str) and schedule.lower().lstrip().startswith("today"):
        fixes = ({"schedule": schedule.lower().replace("today", "tomorrow", 1)}, *fixes)
    return replace(fault, got=shortened(schedule), fix=fixes)


def _accepted(
    fixes: Sequence[Mapping[str, object]], request: Request, accept: Callable[[Request], object]
) -> tuple[dict[str, object], ...]:
    """The first three that are accepted. What only serves as a last resort is tried only while there is none."""
    kept: list[dict[str, object]] = []
    for fix in fixes:
        if fix in kept or len(kept) == MOST_FIXES or (kept and any(fix is each for each in _ALL_LAST)):
            continue
        try:
            accept(request.merged(fix))
        except ScheduleError:
            continue
        kept.append(dict(fix))
    return tuple(kept)


_MOST_TRIED: Final = 5
_HARMLESS: Final[Mapping[str, Mapping[str, object]]] = {
    "schedule": {"schedule": "every day at 9am"},
    "timezone": {"timezone": "UTC"},
    "exclusions": {"exclusions": []},
    "start_time": {"start_time": None},
    "end_time": {"end_time": None},
}
_ANEW: Final[Mapping[str, object]] = {"start_time": None, "end_time": None, "exclusions": []}
_LAST_RESORT: Final[Mapping[str, Sequence[Mapping[str, object]]]] = {
    "schedule": (
        {"schedule": "in 1h"},
        {"schedule": "every year on january 1 at 9am"},
        {"schedule": "in 1h", "end_time": None, "exclusions": []},
        {"schedule": "in 1h", **_ANEW},
    ),
    "timezone": ({"timezone": "UTC"}, {"timezone": "UTC", "schedule": "in 1h"}),
    "exclusions": ({"exclusions": []}, {"schedule": "in 1h", **_ANEW}),
    "end_time": ({"end_time": None}, {"schedule": "in 1h", **_ANEW}),
    "start_time": ({"start_time": None}, {"schedule": "in 1h", **_ANEW}),
    "anchor": (),
}
_ALL_LAST: Final = tuple(fix for fixes in _LAST_RESORT.values() for fix in fixes)
