"""The schedule language as one pure function: words in, instants out."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from qhronos_core.domain.schedule.refusal import InThePastError, refusal
from qhronos_core.domain.schedule.timetable import Timetable

_MOST_OCCURRENCES: Final = 100_000


class _NotSaid(str):
    """`UTC`, where the caller named no zone: wall time without an offset is then refused."""

    __slots__ = ()


_UTC: Final = _NotSaid("UTC")


def preview(
    schedule: str | Mapping[str, object] | None,
    *,
    timezone: str = _UTC,
    after: datetime,
    count: int,
    start_time: datetime | None = None,
    end_time: datetime | None = None,
    max_occurrences: int | None = None,
    exclusions: Sequence[str] = (),
) -> list[datetime]:
    """The first `count` runs of a schedule accepted at `after`: UTC, ascending, strictly later than `after`.

    The planner uses the same timetable, so what is previewed is what fires. An instant not later than
    `after` gives an empty list.

    Raises:
        ScheduleError: a ValueError; see `refusal.py`. Nothing else is raised, whatever `schedule` holds.
    """
    if not isinstance(after, datetime):
        raise refusal("after", "An aware datetime.", got=str(after))
    if type(count) is not int or not 0 <= count <= _MOST_OCCURRENCES:
        raise refusal("count", f"A whole number from 0 to {_MOST_OCCURRENCES}.", got=count)
    if max_occurrences is not None and (
        type(max_occurrences) is not int or not 1 <= max_occurrences <= _MOST_OCCURRENCES
    ):
        raise refusal(
            "max_occurrences",
            f"A whole number from 1 to {_MOST_OCCURRENCES}.",
            got=max_occurrences,
            code="invalid_bounds",
            fix=[{"max_occurrences": 1}],
        )
    try:
        table = Timetable.of(
            schedule,
            timezone=timezone,
            timezone_given=timezone is not _UTC,
            anchor=after,
            start_time=start_time,
            end_time=end_time,
            exclusions=exclusions,
            check_from=after,
        )
    except InThePastError:
        return []
    most = count if max_occurrences is None else min(count, max_occurrences)
    found: list[datetime] = []
    at: datetime | None = table.anchor
    while len(found) < most and at is not None and (at := table.next_after(at)) is not None:
        found.append(at)
    return found
