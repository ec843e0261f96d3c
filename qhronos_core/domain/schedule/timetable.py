"""A schedule with its zone, bounds and exclusions: when exactly something comes due.

`Timetable.of` is the one way in, both when a request is judged and when a stored event is claimed.
Only the first names `check_from`: whatever depends on the present (an instant gone by, a rule with no
run left) is judged there and nowhere else, so what was accepted once can always be read again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final, Literal

from qhronos_core.domain.errors import Fault
from qhronos_core.domain.schedule.advice import warnings_about
from qhronos_core.domain.schedule.durations import say_duration, words_for
from qhronos_core.domain.schedule.exclusions import Exclusions, read_exclusions
from qhronos_core.domain.schedule.instants import WEEKDAYS, parse_instant, say_instant
from qhronos_core.domain.schedule.meaning import ago, canonical_of, meaning_of
from qhronos_core.domain.schedule.pattern import horizon_from
from qhronos_core.domain.schedule.reading import read_rule
from qhronos_core.domain.schedule.refusal import MOST_FIXES, ScheduleError, of_faults, refusal
from qhronos_core.domain.schedule.rules import IntervalRule, OnceRule, Rule
from qhronos_core.domain.schedule.wallclock import EPOCH, WallClock, instant_of, seconds, wall_clock
from qhronos_core.domain.schedule.zones import check_timezone

GRACE: Final = timedelta(seconds=60)
"""A once-only instant this little in the past still runs, now, and keeps its own time."""

_RUNS_MEASURED: Final = 100
_MICRO: Final = timedelta(microseconds=1)

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

    def next_after(self, instant: datetime) -> datetime | None:
        """The first instant strictly later, within the bounds and not excluded; None if there is none.

        `max_occurrences` is not known here: whoever plans counts what it has planned.
        """
        at = instant if self.start is None else max(instant, self.start - _MICRO)
        while (found := self.rule.next_after(at)) is not None:
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
        first = self.first(now)
        if first is None or (self.repeats and seconds(first) >= horizon_from(seconds(now))):
            raise self._never(now)
        if shortest is not None and self.repeats:
            self._check_spacing(first, shortest)

    def _never(self, now: datetime) -> ScheduleError:
        unbound = replace(self, start=None, end=None, left_out=Exclusions())
        soonest = unbound.first(now)
        if soonest is None or seconds(soonest) >= horizon_from(seconds(now)):
            return refusal("schedule", "It never comes.", got=None, code="never_happens")
        fixes: list[dict[str, object]] = []
        open_ended = replace(self, end=None)
        if (beyond := open_ended.next_after(now)) is not None and self.end is not None:
            fixes.append({"end_time": say_instant(beyond)})
            return refusal(
                "end_time",
                f"Nothing would run: the first run after now would be {say_instant(beyond)}.",
                got=say_instant(self.end),
                code="never_happens",
                fix=fixes,
            )
        return refusal("exclusions", "Every run is left out.", got=None, code="never_happens", fix=[{"exclusions": []}])

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
            raise refusal(
                "schedule",
                f"That was {ago(now - self.rule.at)} ago.",
                got=say_instant(self.rule.at),
                code="in_the_past",
                fix=[{"schedule": "in 1m"}],
            )


def _made(request: _Request, check_from: datetime | None) -> Timetable:
    zone = check_timezone(request.timezone)
    clock = wall_clock(zone)
    if request.schedule is None:
        if request.start is None:
            raise refusal("schedule", "Say when: a schedule, or a start_time.", got=None)
        rule: Rule = OnceRule(request.start, "instant")
    elif isinstance(request.schedule, str):
        rule = read_rule(request.schedule, zone, request.zone_given, request.anchor, request.start)
    else:
        raise refusal("schedule", "A schedule is a text.", got=request.schedule)
    left_out = (
        read_exclusions(request.exclusions, clock, zone_given=request.zone_given)
        if request.exclusions
        else Exclusions()
    )
    table = Timetable(rule, clock, request.anchor, request.start, request.end, left_out)
    if check_from is not None:
        table.check(check_from, request.shortest)
    return table


def _with_tried_fixes(error: ScheduleError, request: _Request, check_from: datetime | None) -> list[Fault]:
    return [replace(fault, fix=_accepted(fault.fix, request, check_from)) for fault in error.faults]


def _accepted(
    fixes: Sequence[dict[str, object]], request: _Request, check_from: datetime | None
) -> tuple[dict[str, object], ...]:
    kept: list[dict[str, object]] = []
    for fix in fixes:
        if fix in kept or len(kept) == MOST_FIXES:
            continue
        try:
            _made(request.merged(fix), check_from)
        except ScheduleError:
            continue
        kept.append(fix)
    return tuple(kept)
