"""Days and instants on which nothing runs: `2026-12-25`, `2026-12-24/2027-01-02`, or one RFC 3339 instant."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from qhronos_core.domain.schedule.instants import NoInstant, read_date, read_instant
from qhronos_core.domain.schedule.refusal import refusal
from qhronos_core.domain.schedule.wallclock import DAY, WallClock, instant_of, seconds

MOST: Final = 100
_LONGEST_TEXT: Final = 64


@dataclass(frozen=True, slots=True)
class Exclusions:
    """What is left out. Days are local, both ends of a range included, and counted from 1970-01-01."""

    ranges: tuple[tuple[int, int], ...] = ()
    instants: frozenset[datetime] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.ranges or self.instants)

    def cover(self, instant: datetime, clock: WallClock) -> datetime | None:
        """None if `instant` is not left out; else an instant, not earlier, before which everything is left out.

        A range of years is one step for the caller, however often the rule would have run in it.
        """
        if self.ranges:
            at = seconds(instant)
            day = (at + clock.offset(at)) // DAY
            for first, last in self.ranges:
                if first <= day <= last:
                    after, _ = clock.at((last + 1) * DAY)
                    return max(instant, instant_of(after) - timedelta(microseconds=1))
        return instant if instant in self.instants else None


def read_exclusions(texts: Sequence[object], clock: WallClock, *, zone_given: bool) -> Exclusions:
    """What the texts leave out.

    Raises:
        InvalidExclusionError: more than 100, or one that is no day, no range of days and no instant.
    """
    if len(texts) > MOST:
        raise refusal(
            "exclusions",
            f"At most {MOST} exclusions; a range of days counts as one.",
            got=len(texts),
            code="invalid_exclusion",
            fix=[{"exclusions": list(texts[:MOST])}],
        )
    ranges: list[tuple[int, int]] = []
    instants: list[datetime] = []
    for index, text in enumerate(texts):
        if not isinstance(text, str) or len(text) > _LONGEST_TEXT:
            raise _refused(texts, index, "An exclusion is a short text: a date, a range of dates, or an instant.")
        first, slash, last = text.partition("/")
        days = read_date(first), read_date(last) if slash else read_date(first)
        if days[0] is not None and days[1] is not None:
            if days[1] < days[0]:
                raise _refused(texts, index, "A range ends on or after the day it begins.", f"{last}/{first}")
            ranges.append((days[0], days[1]))
            continue
        moment = read_instant(text, clock if zone_given else None)
        if isinstance(moment, NoInstant):
            if slash or len(text) == len("2026-12-25"):
                raise _refused(texts, index, "No such day: dates are YYYY-MM-DD, ranges YYYY-MM-DD/YYYY-MM-DD.")
            raise _refused(texts, index, moment.why, *moment.meant)
        instants.append(moment.at)
    return Exclusions(tuple(sorted(ranges)), frozenset(instants))


def without(texts: Sequence[object], index: int) -> dict[str, object]:
    """The fix that leaves one exclusion out."""
    return {"exclusions": [*texts[:index], *texts[index + 1 :]]}


def _refused(texts: Sequence[object], index: int, why: str, *better: str) -> Exception:
    fixes: list[dict[str, object]] = [{"exclusions": [*texts[:index], each, *texts[index + 1 :]]} for each in better]
    text = texts[index]
    if isinstance(text, str) and read_date(text[:10]) is not None:
        fixes.append({"exclusions": [*texts[:index], text[:10], *texts[index + 1 :]]})
    return refusal("exclusions", why, got=text, code="invalid_exclusion", fix=[*fixes, without(texts, index)][:3])
