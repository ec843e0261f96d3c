"""How the schedule language says no: what was wrong with which field, why, and what to send instead.

ScheduleError                 invalid_schedule      no reading, or one that is not offered
├── NeverHappensError         never_happens         a reading, but no instant within reach
├── InThePastError            in_the_past           its only instant has gone by
├── TooOftenError             too_often             closer together than this service allows
├── UnknownTimezoneError      unknown_timezone
├── InvalidBoundsError        invalid_bounds        start_time, end_time
├── InvalidExclusionError     invalid_exclusion
└── InvalidDurationError      invalid_duration      expires_after, snooze, delay, ...

A parser offers its fixes as guesses. `Timetable.of` tries each guess on the whole request and keeps
those that are accepted, so what reaches a caller can be sent as it stands.
"""

from collections.abc import Sequence
from reprlib import Repr
from typing import Final

from qhronos_core.domain.errors import Fault, InvalidInputError

_GOT_LIMIT: Final = 200
MOST_FIXES: Final = 3


# Looks no deeper and no further than it shows: what was sent may be large, or nested without end.
_BRIEFLY: Final = Repr()
_BRIEFLY.maxdict = _BRIEFLY.maxlist = _BRIEFLY.maxtuple = 8
_BRIEFLY.maxlevel = 3
_BRIEFLY.maxstring = _BRIEFLY.maxother = 60


class ScheduleError(InvalidInputError):
    """A schedule, or a field beside it, that cannot be done as sent."""

    code = "invalid_schedule"

    @property
    def fault(self) -> Fault:
        """The first fault: most refusals have only one."""
        return self.faults[0]


class NeverHappensError(ScheduleError):
    code = "never_happens"


class InThePastError(ScheduleError):
    code = "in_the_past"


class TooOftenError(ScheduleError):
    code = "too_often"


class UnknownTimezoneError(ScheduleError):
    code = "unknown_timezone"


class InvalidBoundsError(ScheduleError):
    code = "invalid_bounds"


class InvalidExclusionError(ScheduleError):
    code = "invalid_exclusion"


class InvalidDurationError(ScheduleError):
    code = "invalid_duration"


_BY_CODE: Final[dict[str, type[ScheduleError]]] = {
    kind.code: kind
    for kind in (
        ScheduleError,
        NeverHappensError,
        InThePastError,
        TooOftenError,
        UnknownTimezoneError,
        InvalidBoundsError,
        InvalidExclusionError,
        InvalidDurationError,
    )
}


def refusal(
    field: str, why: str, *, got: object, code: str = ScheduleError.code, fix: Sequence[dict[str, object]] = ()
) -> ScheduleError:
    """The error for one fault. `got` is the caller's own input, cut at 200 characters."""
    return of_faults([Fault(field, code, why, shortened(got), tuple(fix))])


def of_faults(faults: Sequence[Fault]) -> ScheduleError:
    """One error for all of them, of the first one's kind."""
    return _BY_CODE.get(faults[0].code, ScheduleError)(faults=faults)


def shortened(got: object) -> object:
    """The input as it is if it is short, else its text cut: a refusal must not be longer than a request."""
    if got is None or isinstance(got, bool | float) or (isinstance(got, int) and abs(got) < 10**18):
        return got
    return got[:_GOT_LIMIT] if isinstance(got, str) else _BRIEFLY.repr(got)[:_GOT_LIMIT]
