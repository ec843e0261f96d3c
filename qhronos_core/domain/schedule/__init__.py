"""The schedule language: whatever an agent means by "when", read exactly or refused with what to send instead.

Timetable.of(...)     a schedule with zone, bounds and exclusions, read once and kept
preview(...)          the same as one pure function: words in, instants out

One request, from its fields to a timetable or every fault      timetable.py, request.py
Whether it can be accepted now                                  acceptance.py, impossible.py
Which form a text has                                           reading.py
The forms                                                       cron.py, rrule.py, dialect.py, phrases.py, instants.py, durations.py
Zones, exclusions                                               zones.py, exclusions.py
What each rule answers: the first instant strictly later        rules.py, recurrence.py
Which minutes match, and what that means where clocks change    pattern.py, wallclock.py
What is said about it                                           meaning.py, advice.py, hints.py, refusal.py
"""

from qhronos_core.domain.schedule.acceptance import GRACE
from qhronos_core.domain.schedule.durations import parse_duration, say_duration
from qhronos_core.domain.schedule.instants import parse_instant, say_instant, spelled_out
from qhronos_core.domain.schedule.preview import preview
from qhronos_core.domain.schedule.reading import names_instant
from qhronos_core.domain.schedule.refusal import (
    InThePastError,
    InvalidBoundsError,
    InvalidDurationError,
    InvalidExclusionError,
    NeverHappensError,
    ScheduleError,
    TooOftenError,
    UnknownTimezoneError,
)
from qhronos_core.domain.schedule.timetable import Run, Timetable
from qhronos_core.domain.schedule.zones import check_timezone, tzdata_version, zone

__all__ = [
    "GRACE",
    "InThePastError",
    "InvalidBoundsError",
    "InvalidDurationError",
    "InvalidExclusionError",
    "NeverHappensError",
    "Run",
    "ScheduleError",
    "Timetable",
    "TooOftenError",
    "UnknownTimezoneError",
    "check_timezone",
    "names_instant",
    "parse_duration",
    "parse_instant",
    "preview",
    "say_duration",
    "say_instant",
    "spelled_out",
    "tzdata_version",
    "zone",
]
