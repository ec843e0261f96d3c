"""Whether a schedule that can be read can also be accepted, at one moment: the only place that looks at the present."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from qhronos_core.domain.schedule.durations import say_duration, words_for
from qhronos_core.domain.schedule.exclusions import Exclusions, read_exclusions, without
from qhronos_core.domain.schedule.impossible import why_never
from qhronos_core.domain.schedule.instants import say_instant
from qhronos_core.domain.schedule.meaning import ago
from qhronos_core.domain.schedule.pattern import horizon_from
from qhronos_core.domain.schedule.refusal import ScheduleError, refusal
from qhronos_core.domain.schedule.rules import IntervalRule, OnceRule
from qhronos_core.domain.schedule.wallclock import seconds

if TYPE_CHECKING:
    from qhronos_core.domain.schedule.timetable import Timetable

GRACE: Final = timedelta(seconds=60)
"""A once-only instant this little in the past still runs, now, and keeps its own time."""

_RUNS_MEASURED: Final = 100
_MICRO: Final = timedelta(microseconds=1)
_MINUTE: Final = timedelta(minutes=1)
_DAY: Final = timedelta(days=1)


def judge(
    table: "Timetable", now: datetime, *, exclusions: Sequence[str], shortest: timedelta | None, explain: bool = True
) -> None:
    """Accept or refuse. The texts of `exclusions` are those `table` leaves out.

    Why a rule never comes takes longer to find out than that it does: without `explain` it is not asked.

    Raises:
        NeverHappensError: no run within 50 years and before 2200, or none left by bounds and exclusions.
        InThePastError: a once-only instant more than a minute ago.
        TooOftenError: two of the next runs are closer together than `shortest`.
        InvalidExclusionError: an excluded instant at which nothing would run.
    """
    refuse_past(table, now)
    before = horizon_from(seconds(now))
    first = table.next_after(now, before) if table.repeats else table.first(now)
    if first is None:
        if explain:
            raise _never(table, now, before)
        raise refusal("schedule", "It never comes.", got=None, code="never_happens")
    _judge_exclusions(table, exclusions)
    if shortest is not None and table.repeats:
        _judge_spacing(table, first, shortest)


def refuse_past(table: "Timetable", now: datetime) -> None:
    """Raises: InThePastError: a once-only instant more than a minute ago."""
    rule = table.rule
    if isinstance(rule, OnceRule) and rule.at < now - GRACE:
        again = rule.at + ((now - rule.at) // _DAY + 1) * _DAY
        raise refusal(
            "schedule",
            f"That was {ago(now - rule.at)} ago.",
            got=None,
            code="in_the_past",
            fix=[{"schedule": say_instant(again)}, {"schedule": "in 1m"}],
        )


def _never(table: "Timetable", now: datetime, before: int) -> ScheduleError:
    if table.left_out and (kept := _without_exclusions(table).next_after(now - GRACE, before)) is not None:
        return refusal(
            "exclusions",
            f"Every run is left out, the one at {say_instant(kept)} too.",
            got=None,
            code="never_happens",
            fix=[{"exclusions": []}],
        )
    if table.end is not None and (beyond := replace(table, end=None).next_after(now, before)) is not None:
        return refusal(
            "end_time",
            f"Nothing would run: the first run is at {say_instant(beyond)}.",
            got=say_instant(table.end),
            code="never_happens",
            fix=[{"end_time": say_instant(beyond)}],
        )
    if isinstance(table.rule, OnceRule) and table.start is not None and table.rule.at < table.start:
        return refusal(
            "start_time",
            f"Its only instant is {say_instant(table.rule.at)}, before the start.",
            got=say_instant(table.start),
            code="never_happens",
            fix=[{"start_time": say_instant(table.rule.at)}],
        )
    why, fixes = why_never(table.rule, now, before)
    return refusal("schedule", why, got=None, code="never_happens", fix=fixes)


def _judge_exclusions(table: "Timetable", texts: Sequence[str]) -> None:
    whole = _without_exclusions(table)
    for index, text in enumerate(texts):
        for instant in read_exclusions((text,), table.clock, zone_given=True).instants:
            if whole.next_after(instant - _MICRO) == instant:
                continue
            fixes = [without(texts, index)]
            if (following := whole.next_after(instant)) is not None:
                fixes.insert(0, {"exclusions": [*texts[:index], say_instant(following), *texts[index + 1 :]]})
            raise refusal("exclusions", "Nothing runs at that instant.", got=text, code="invalid_exclusion", fix=fixes)


def _judge_spacing(table: "Timetable", first: datetime, shortest: timedelta) -> None:
    if isinstance(table.rule, IntervalRule):
        closest = table.rule.length
    elif shortest <= _MINUTE:
        return  # all other rules run at whole minutes apart: no need to count a hundred runs at each creation
    else:
        runs = [first, *(run.at for run in table.runs_after(first, _RUNS_MEASURED))]
        closest = min((later - sooner for sooner, later in pairwise(runs)), default=shortest)
    if closest < shortest:
        raise refusal(
            "schedule",
            f"Runs would be {words_for(closest)} apart; here they are at least {words_for(shortest)} apart.",
            got=None,
            code="too_often",
            fix=[{"schedule": f"every {say_duration(shortest)}"}],
        )


def _without_exclusions(table: "Timetable") -> "Timetable":
    return replace(table, left_out=Exclusions())
