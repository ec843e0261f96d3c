"""A schedule with its zone, bounds and exclusions: when exactly something comes due.

`Timetable.of` is the one way in, both when a request is judged and when a stored event is claimed.
Only the first names `check_from`: whatever depends on the present (an instant gone by, a rule with no
run left) is judged there and nowhere else, so what was accepted once can always be read again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final, Literal, TypeVar

from qhronos_core.domain.errors import Fault
from qhronos_core.domain.schedule.acceptance import GRACE, judge, refuse_past
from qhronos_core.domain.schedule.advice import warnings_about
from qhronos_core.domain.schedule.dialect import rewritten
from qhronos_core.domain.schedule.exclusions import Exclusions, read_exclusions
from qhronos_core.domain.schedule.instants import WEEKDAYS, say_instant
from qhronos_core.domain.schedule.meaning import canonical_of, meaning_of
from qhronos_core.domain.schedule.reading import read_rule
from qhronos_core.domain.schedule.refusal import ScheduleError, of_faults, refusal
from qhronos_core.domain.schedule.request import (
    EARLIEST,
    Request,
    as_sent,
    known_time,
    with_faults_mended,
    with_tried_fixes,
)
from qhronos_core.domain.schedule.rules import IntervalRule, OnceRule, Rule
from qhronos_core.domain.schedule.wallclock import EPOCH, HORIZON, WallClock, instant_of, seconds, wall_clock
from qhronos_core.domain.schedule.zones import check_timezone

_MICRO: Final = timedelta(microseconds=1)
_T = TypeVar("_T")

Note = Literal["shifted", "first_pass", "second_pass", "excluded", "lost_in_gap"]


@dataclass(frozen=True, slots=True)
class Run:
    """One run ahead: in UTC, on the wall of its zone, and what is odd about it."""

    at: datetime
    local: datetime
    weekday: str
    note: Note | None = None


@dataclass(frozen=True, slots=True)
class Timetable:
    """When something comes due. Immutable, small, and the same wherever it is made from the same words."""

    rule: Rule
    clock: WallClock
    anchor: datetime
    start: datetime | None = None
    end: datetime | None = None
    left_out: Exclusions = Exclusions()

    @classmethod
    def of(
        cls,
        schedule: str | Mapping[str, object] | None,
        *,
        timezone: str = "UTC",
        timezone_given: bool = True,
        anchor: datetime,
        start_time: datetime | None = None,
        end_time: datetime | None = None,
        exclusions: Sequence[str] = (),
        check_from: datetime | None = None,
        min_interval: timedelta | None = None,
    ) -> "Timetable":
        """Read a schedule. `anchor` is the moment it was accepted; no `schedule` means once, at `start_time`.

        With `check_from` (now) it is also judged whether it can be accepted at that moment: that something
        is left to run, and that runs are not closer together than `min_interval`. Without, what is made is
        remembered, so asking again for the same words costs next to nothing.

        Raises:
            ScheduleError: every faulty field, each with fixes that would be accepted.
        """
        request = Request(
            schedule,
            timezone,
            timezone_given,
            known_time(anchor, "anchor") or EARLIEST,
            known_time(start_time, "start_time"),
            known_time(end_time, "end_time"),
            _listed(exclusions),
            min_interval,
        )
        now = known_time(check_from, "anchor")
        try:
            if now is None:
                return _remembered(_plain(request))
            return _accepted(request, now)
        except ScheduleError as error:
            raise with_tried_fixes(error, request, lambda changed: _tried(changed, now)) from None

    @property
    def repeats(self) -> bool:
        return self.rule.repeats

    @property
    def kind(self) -> str:
        """`cron`, `interval`, `delay`, `instant`, `recurrence` or `phrase`."""
        return self.rule.kind

    @property
    def meaning(self) -> str:
        """The rule in words, with its weekdays, day rule and zone."""
        return meaning_of(self.rule, self.clock)

    @property
    def canonical(self) -> str:
        """The rule in its plainest form: the cron a phrase stands for, `every 15m`, an instant in UTC."""
        return canonical_of(self.rule)

    def next_after(self, instant: datetime, before: int = HORIZON) -> datetime | None:
        """The first instant strictly later, within the bounds and not excluded; None if there is none.

        Nothing is searched from `before` on (seconds since 1970). `max_occurrences` is not known here:
        whoever plans counts what it has planned.
        """
        at = instant if self.start is None else max(instant, self.start - _MICRO)
        if self.end is not None:
            before = min(before, seconds(self.end) + 1)
        while (found := self.rule.next_after(at, before)) is not None:
            if self.end is not None and found > self.end:
                return None
            if not self.left_out or (covered := self.left_out.cover(found, self.clock)) is None:
                return found
            at = covered
        return None

    def first(self, accepted_at: datetime) -> datetime | None:
        """The first run of a schedule accepted at that moment: strictly later, but for a once-only
        instant at most 60 s past, which is itself the first run, due at once.

        Raises:
            InThePastError: a once-only instant further past.
        """
        if self.repeats:
            return self.next_after(accepted_at)
        found = self.next_after(accepted_at - GRACE - _MICRO)
        if found is None:
            refuse_past(self, accepted_at)
        return found

    def runs_after(self, instant: datetime, count: int, *, include_excluded: bool = False) -> list[Run]:
        """The next `count` runs. With `include_excluded` those left out are among them, marked, and so is
        a day whose runs were all lost in a gap of the wall clock (`at` is then the end of that gap)."""
        runs: list[Run] = []
        table = replace(self, left_out=Exclusions()) if include_excluded else self
        at = instant
        while len(runs) < count and (found := table.next_after(at)) is not None:
            if include_excluded:
                runs.extend(self._lost(at, found))
            out = include_excluded and self.left_out and self.left_out.cover(found, self.clock) is not None
            runs.append(self._run(found, "excluded" if out else self._note(found)))
            at = found
        return runs[:count]

    def count_between(self, after: datetime, until: datetime, limit: int) -> int:
        """How many runs lie in (`after`, `until`], or `limit` if there are more."""
        if isinstance(self.rule, IntervalRule) and not self.left_out:
            low = after if self.start is None else max(after, self.start - _MICRO)
            high = until if self.end is None else min(until, self.end)
            return min(self.rule.count(low, high), limit)
        before = seconds(until) + 1
        count, at = 0, self.next_after(after, before)
        while at is not None and at <= until and count < limit:
            count += 1
            at = self.next_after(at, before)
        return count

    def latest(self, after: datetime, until: datetime, limit: int) -> list[datetime]:
        """The last `limit` runs in (`after`, `until`], earliest first, without walking through all of them."""
        before = seconds(until) + 1
        look, short, long = timedelta(minutes=max(limit, 1)), timedelta(0), until - after
        while limit > 0 and until > after:
            begin = until - min(look, until - after)
            found: list[datetime] = []
            at = self.next_after(begin, before)
            while at is not None and at <= until and len(found) <= 8 * limit:
                found.append(at)
                at = self.next_after(at, before)
            if at is not None and at <= until:  # too many: somewhere between is a look that has enough and not too many
                long = min(look, until - after)
                look = (short + long) / 2
            elif len(found) >= limit or begin == after:
                return found[-limit:]
            else:
                short = look
                look = min(look * 4, (short + long) / 2) if long < until - after else look * 4
        return []

    def warnings(self, now: datetime) -> list[str]:
        """What a careful colleague would say about this rule before it is accepted at `now`."""
        return warnings_about(self.rule, self.clock, self, now)

    def _run(self, at: datetime, note: Note | None) -> Run:
        local = at.astimezone(self.clock.zone)
        return Run(at, local, WEEKDAYS[local.weekday()].capitalize(), note)

    def _note(self, instant: datetime) -> Note | None:
        at = seconds(instant)
        if self.rule.moved(instant):
            return "shifted"
        stretch = self.clock.stretch(at)
        if stretch.gap < 0 and at < stretch.start - stretch.gap:
            return "second_pass"
        following = self.clock.stretch(stretch.end)
        if following.start == stretch.end and following.gap < 0 and at >= stretch.end + following.gap:
            return "first_pass"
        return None

    def _lost(self, after: datetime, until: datetime) -> list[Run]:
        lost = []
        for at, wall in self.rule.lost(self.clock, seconds(after), seconds(until)):
            local = (EPOCH + timedelta(seconds=wall)).replace(tzinfo=self.clock.zone)
            lost.append(Run(instant_of(at), local, WEEKDAYS[local.weekday()].capitalize(), "lost_in_gap"))
        return lost


@lru_cache(maxsize=4096)
def _remembered(request: Request) -> Timetable:
    return _read(request)


def _plain(request: Request) -> Request:
    """The request with nothing in it that cannot be a key: an object is said as the rule it stands for."""
    schedule = rewritten(request.schedule) if isinstance(request.schedule, Mapping) else request.schedule
    if schedule is not None and not isinstance(schedule, str):
        raise _no_schedule(schedule)
    if schedule is request.schedule and type(request.timezone) is str and not request.exclusions:
        return request
    texts = tuple(text if isinstance(text, str) else repr(text) for text in request.exclusions)
    zone = request.timezone if isinstance(request.timezone, str) else check_timezone(request.timezone)
    return replace(request, schedule=schedule, timezone=zone, exclusions=texts)


def _accepted(request: Request, now: datetime) -> Timetable:
    """The timetable of a request, accepted at `now`, or every fault of it."""
    try:
        table = _read(request)
    except ScheduleError as error:
        try:
            mended = with_faults_mended(error, request)
            _judge(_read(mended), mended, now)
        except ScheduleError as further:
            known = {fault.field for fault in error.faults}
            raise of_faults([*error.faults, *(fault for fault in further.faults if fault.field not in known)]) from None
        raise
    _judge(table, request, now)
    return table


def _judge(table: Timetable, request: Request, now: datetime, *, explain: bool = True) -> None:
    texts = [text for text in request.exclusions if isinstance(text, str)]
    try:
        judge(table, now, exclusions=texts, shortest=request.shortest, explain=explain)
    except ScheduleError as error:
        raise of_faults([as_sent(error.fault, request)]) from None


def _tried(request: Request, now: datetime | None) -> None:
    """Accept or refuse a request with a fix in it."""
    table = _read(request)
    if now is not None:
        _judge(table, request, now, explain=False)


def _read(request: Request) -> Timetable:
    """The timetable of a request, or every fault of it."""
    faults: list[Fault] = []
    zone = _or_fault(faults, lambda: check_timezone(request.timezone)) or "UTC"
    clock = wall_clock(zone)
    if request.start is not None and request.end is not None and request.end < request.start:
        faults.append(_turned_round(request.start, request.end))
    left_out = _or_fault(faults, lambda: read_exclusions(request.exclusions, clock, zone_given=request.zone_given))
    rule = _or_fault(faults, lambda: _rule(request, zone))
    if rule is None or left_out is None or faults:
        raise of_faults(faults)
    # A rule goes by whole seconds, so its start is the second it was given in.
    start = request.start.replace(microsecond=0) if request.start and rule.kind == "recurrence" else request.start
    return Timetable(rule, clock, request.anchor, start, request.end, left_out)


def _or_fault(faults: list[Fault], read: Callable[[], _T]) -> _T | None:
    try:
        return read()
    except ScheduleError as error:
        faults.extend(error.faults)
        return None


def _rule(request: Request, zone: str) -> Rule:
    schedule = request.schedule
    if schedule is None and request.start is not None:
        return OnceRule(request.start, "instant")
    if isinstance(schedule, Mapping):
        schedule = rewritten(schedule)
    if not isinstance(schedule, str):
        raise _no_schedule(schedule)
    return read_rule(schedule, zone, request.zone_given, request.anchor, request.start)


def _no_schedule(schedule: object) -> ScheduleError:
    why = "Say when: a schedule, or a start_time." if schedule is None else "A schedule is a text or an object."
    fixes = ("every day at 9am", "in 1h")
    if type(schedule) is int and 0 < schedule < 100_000:
        why, fixes = "A number alone has no unit.", (f"every {schedule}m", f"in {schedule}m")
    return refusal("schedule", why, got=schedule, fix=[{"schedule": each} for each in fixes])


def _turned_round(start: datetime, end: datetime) -> Fault:
    fix: dict[str, object] = {"start_time": say_instant(end), "end_time": say_instant(start)}
    return Fault("end_time", "invalid_bounds", "It ends before it starts.", say_instant(end), (fix,))


def _listed(exclusions: object) -> tuple[object, ...]:
    """The exclusions as a tuple. A text alone is no list: it is refused by name, not letter by letter."""
    if isinstance(exclusions, str) or not isinstance(exclusions, Sequence):
        raise refusal(
            "exclusions",
            "Exclusions are a list of texts.",
            got=exclusions,
            code="invalid_exclusion",
            fix=[{"exclusions": [exclusions]}] if isinstance(exclusions, str) else [{"exclusions": []}],
        )
    return tuple(exclusions)
