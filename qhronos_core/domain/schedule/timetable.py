"""A schedule with its zone, bounds and exclusions: when exactly something comes due.

`Timetable.of` is the one way in, both when a request is judged and when a stored event is claimed.
Only the first names `check_from`: whatever depends on the present (an instant gone by, a rule with no
run left) is judged there and nowhere else, so what was accepted once can always be read again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final, Literal, TypeVar

from qhronos_core.domain.errors import Fault
from qhronos_core.domain.schedule.advice import warnings_about
from qhronos_core.domain.schedule.dialect import rewritten
from qhronos_core.domain.schedule.durations import say_duration, words_for
from qhronos_core.domain.schedule.exclusions import Exclusions, read_exclusions, without
from qhronos_core.domain.schedule.impossible import why_never
from qhronos_core.domain.schedule.instants import WEEKDAYS, parse_instant, say_instant
from qhronos_core.domain.schedule.meaning import ago, canonical_of, meaning_of
from qhronos_core.domain.schedule.pattern import horizon_from
from qhronos_core.domain.schedule.reading import read_rule
from qhronos_core.domain.schedule.refusal import MOST_FIXES, ScheduleError, of_faults, refusal, shortened
from qhronos_core.domain.schedule.rules import IntervalRule, OnceRule, Rule
from qhronos_core.domain.schedule.wallclock import EPOCH, HORIZON, WallClock, instant_of, seconds, wall_clock
from qhronos_core.domain.schedule.zones import check_timezone

GRACE: Final = timedelta(seconds=60)
"""A once-only instant this little in the past still runs, now, and keeps its own time."""

_RUNS_MEASURED: Final = 100
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
class _Request:
    """The fields that together say when. A fix is merged into it and tried."""

    schedule: object
    timezone: object
    zone_given: bool
    anchor: datetime
    start: datetime | None
    end: datetime | None
    exclusions: tuple[str, ...]
    shortest: timedelta | None = None

    def merged(self, fix: Mapping[str, object]) -> "_Request":
        changed: dict[str, object] = {}
        for field, value in fix.items():
            if field in ("start_time", "end_time"):
                changed[field.removesuffix("_time")] = (
                    None if value is None else parse_instant(str(value), field=field, timezone="UTC")
                )
            elif field == "timezone":
                changed |= {"timezone": value, "zone_given": True}
            elif field == "exclusions":
                changed["exclusions"] = tuple(value) if isinstance(value, Sequence) else ()
            else:
                changed[field] = value
        return replace(self, **changed)  # type: ignore[arg-type]


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
        is left to run, and that runs are not closer together than `min_interval`.

        Raises:
            ScheduleError: every faulty field, each with fixes that would be accepted.
        """
        request = _Request(
            schedule, timezone, timezone_given, anchor, start_time, end_time, tuple(exclusions), min_interval
        )
        try:
            return _made(request, check_from)
        except ScheduleError as error:
            raise of_faults(_with_tried_fixes(error, request, check_from)) from None

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
            self._refuse_past(accepted_at)
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
        count, at = 0, self.next_after(after)
        while at is not None and at <= until and count < limit:
            count += 1
            at = self.next_after(at)
        return count

    def latest(self, after: datetime, until: datetime, limit: int) -> list[datetime]:
        """The last `limit` runs in (`after`, `until`], earliest first, without walking through all of them."""
        window = timedelta(minutes=max(limit, 1))
        while True:
            begin = max(until - window, after) if until - after > window else after
            found: list[datetime] = []
            at = self.next_after(begin)
            while at is not None and at <= until and len(found) <= 8 * limit:
                found.append(at)
                at = self.next_after(at)
            if at is not None and at <= until:  # denser than thought: a shorter look will do
                window /= 8
            elif len(found) >= limit or begin <= after:
                return found[-limit:] if limit else []
            else:
                window *= 4

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

    def check(self, now: datetime, shortest: timedelta | None = None) -> None:
        """Whether this can be accepted at `now`.

        Raises:
            NeverHappensError: no run within 50 years and before 2200, or none left by bounds and exclusions.
            InThePastError: a once-only instant more than a minute ago.
            TooOftenError: two of the next runs are closer together than `shortest`.
        """
        first = self.next_after(now, horizon_from(seconds(now))) if self.repeats else self.first(now)
        if first is None:
            raise self._never(now)
        if shortest is not None and self.repeats:
            self._check_spacing(first, shortest)

    def _never(self, now: datetime) -> ScheduleError:
        before = horizon_from(seconds(now))
        if self.left_out and (kept := replace(self, left_out=Exclusions()).next_after(now, before)) is not None:
            return refusal(
                "exclusions",
                f"Every run is left out, the one at {say_instant(kept)} too.",
                got=None,
                code="never_happens",
                fix=[{"exclusions": []}],
            )
        if self.end is not None and (beyond := replace(self, end=None).next_after(now, before)) is not None:
            return refusal(
                "end_time",
                f"Nothing would run: the first run is at {say_instant(beyond)}.",
                got=say_instant(self.end),
                code="never_happens",
                fix=[{"end_time": say_instant(beyond)}],
            )
        if isinstance(self.rule, OnceRule) and self.start is not None and self.rule.at < self.start:
            return refusal(
                "start_time",
                f"Its only instant is {say_instant(self.rule.at)}, before the start.",
                got=say_instant(self.start),
                code="never_happens",
                fix=[{"start_time": say_instant(self.rule.at)}],
            )
        why, fixes = why_never(self.rule, now)
        return refusal("schedule", why, got=None, code="never_happens", fix=fixes)

    def check_exclusions(self, texts: Sequence[str]) -> None:
        """Whether each excluded instant is one at which this would run.

        Raises:
            InvalidExclusionError: one that is not.
        """
        whole = replace(self, left_out=Exclusions())
        for index, text in enumerate(texts):
            for instant in read_exclusions((text,), self.clock, zone_given=True).instants:
                if whole.next_after(instant - _MICRO) != instant:
                    following = whole.next_after(instant)
                    fixes = [without(texts, index)]
                    if following is not None:
                        fixes.insert(0, {"exclusions": [*texts[:index], say_instant(following), *texts[index + 1 :]]})
                    raise refusal(
                        "exclusions", "Nothing runs at that instant.", got=text, code="invalid_exclusion", fix=fixes
                    )

    def _check_spacing(self, first: datetime, shortest: timedelta) -> None:
        if isinstance(self.rule, IntervalRule):
            closest = self.rule.length
        else:
            runs = [first, *(run.at for run in self.runs_after(first, _RUNS_MEASURED))]
            closest = min((later - sooner for sooner, later in pairwise(runs)), default=shortest)
        if closest < shortest:
            raise refusal(
                "schedule",
                f"Runs would be {words_for(closest)} apart; here they are at least {words_for(shortest)} apart.",
                got=None,
                code="too_often",
                fix=[{"schedule": f"every {say_duration(shortest)}"}],
            )

    def _refuse_past(self, now: datetime) -> None:
        """A once-only instant has gone by, unless it lies outside the bounds."""
        if isinstance(self.rule, OnceRule) and self.rule.at < now - GRACE:
            ago_at = self.rule.at
            again = ago_at + ((now - ago_at) // timedelta(days=1) + 1) * timedelta(days=1)
            raise refusal(
                "schedule",
                f"That was {ago(now - ago_at)} ago.",
                got=None,
                code="in_the_past",
                fix=[{"schedule": say_instant(again)}, {"schedule": "in 1m"}],
            )


def _made(request: _Request, check_from: datetime | None) -> Timetable:
    """The timetable of a request, or every fault of it."""
    faults: list[Fault] = []
    zone = _or_fault(faults, lambda: check_timezone(request.timezone)) or "UTC"
    clock = wall_clock(zone)
    if request.start is not None and request.end is not None and request.end < request.start:
        faults.append(_turned_round(request.start, request.end))
    left_out = Exclusions()
    if request.exclusions:
        left_out = (
            _or_fault(faults, lambda: read_exclusions(request.exclusions, clock, zone_given=request.zone_given))
            or left_out
        )
    rule = _or_fault(faults, lambda: _rule(request, zone))
    if rule is None or faults:
        raise of_faults(faults)
    table = Timetable(rule, clock, request.anchor, request.start, request.end, left_out)
    if check_from is not None:
        try:
            table.check(check_from, request.shortest)
            table.check_exclusions(request.exclusions)
        except ScheduleError as error:
            raise of_faults([_as_sent(error.fault, request)]) from None
    return table


def _as_sent(fault: Fault, request: _Request) -> Fault:
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


def _or_fault(faults: list[Fault], read: Callable[[], _T]) -> _T | None:
    try:
        return read()
    except ScheduleError as error:
        faults.extend(error.faults)
        return None


def _rule(request: _Request, zone: str) -> Rule:
    schedule = request.schedule
    if schedule is None and request.start is not None:
        return OnceRule(request.start, "instant")
    if isinstance(schedule, Mapping):
        schedule = rewritten(schedule)
    if not isinstance(schedule, str):
        why = "Say when: a schedule, or a start_time." if schedule is None else "A schedule is a text or an object."
        fixes = ("every day at 9am", "in 1h")
        if type(schedule) is int and 0 < schedule < 100_000:
            why, fixes = "A number alone has no unit.", (f"every {schedule}m", f"in {schedule}m")
        raise refusal("schedule", why, got=schedule, fix=[{"schedule": each} for each in fixes])
    return read_rule(schedule, zone, request.zone_given, request.anchor, request.start)


def _turned_round(start: datetime, end: datetime) -> Fault:
    fix: dict[str, object] = {"start_time": say_instant(end), "end_time": say_instant(start)}
    return Fault("end_time", "invalid_bounds", "It ends before it starts.", say_instant(end), (fix,))


def _with_tried_fixes(error: ScheduleError, request: _Request, check_from: datetime | None) -> list[Fault]:
    """The faults, each with those of its fixes that are accepted when nothing else is wrong."""
    others = {fault.field.partition(".")[0]: fault for fault in error.faults}
    found = []
    for fault in error.faults:
        mended = request
        for field in others.keys() - {fault.field.partition(".")[0]}:
            mended = mended.merged(_NEUTRAL[field])
        kept = _accepted(fault.fix, mended, check_from)
        found.append(replace(fault, fix=kept or _accepted(_LAST_RESORT.get(fault.field, _ANY), mended, check_from)))
    return found


def _accepted(
    fixes: Sequence[Mapping[str, object]], request: _Request, check_from: datetime | None
) -> tuple[dict[str, object], ...]:
    kept: list[dict[str, object]] = []
    for fix in fixes:
        if fix in kept or len(kept) == MOST_FIXES:
            continue
        try:
            _made(request.merged(fix), check_from)
        except ScheduleError:
            continue
        kept.append(dict(fix))
    return tuple(kept)


_NEUTRAL: Final[Mapping[str, Mapping[str, object]]] = {
    "schedule": {"schedule": "every day at 9am"},
    "timezone": {"timezone": "UTC"},
    "exclusions": {"exclusions": []},
    "start_time": {"start_time": None},
    "end_time": {"end_time": None},
}
_ANY: Final[Sequence[Mapping[str, object]]] = (
    {"schedule": "every day at 9am"},
    {"schedule": "every 1h"},
    {"schedule": "in 1h"},
    {"schedule": "every 1h", "end_time": None, "exclusions": []},
    {"schedule": "every 1h", "start_time": None, "end_time": None, "exclusions": []},
)
_LAST_RESORT: Final[Mapping[str, Sequence[Mapping[str, object]]]] = {
    "timezone": ({"timezone": "UTC"},),
    "exclusions": ({"exclusions": []},),
    "end_time": ({"end_time": None}, {"start_time": None, "end_time": None}),
    "start_time": ({"start_time": None}, {"start_time": None, "end_time": None}),
}
