"""iCalendar (RFC 5545) of runs ahead, for a person's calendar program."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from qhronos_core.usecases.occurrences import Upcoming

_FOLD: Final = 75  # octets of a content line, RFC 5545 §3.1
_ESCAPED: Final = str.maketrans({"\\": "\\\\", ";": "\\;", ",": "\\,", "\n": "\\n", "\r": None})


def calendar_of(runs: Sequence[Upcoming], *, now: datetime) -> str:
    """One VEVENT a run, with the occurrence's id as its UID: read again, it is the same entry."""
    lines = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//Qhronos//Qhronos//EN", "CALSCALE:GREGORIAN"]
    for run in runs:
        lines += [
            "BEGIN:VEVENT",
            f"UID:{run.occurrence_id}",
            f"DTSTAMP:{_utc(now)}",
            f"DTSTART:{_utc(run.due_at)}",
            f"SUMMARY:{run.event.name.translate(_ESCAPED)}",
        ]
        if run.event.description:
            lines.append(f"DESCRIPTION:{run.event.description.translate(_ESCAPED)}")
        if run.event.tags:
            lines.append("CATEGORIES:" + ",".join(tag.translate(_ESCAPED) for tag in run.event.tags))
        lines += ["TRANSP:TRANSPARENT", "END:VEVENT"]
    lines.append("END:VCALENDAR")
    return "".join(f"{part}\r\n" for line in lines for part in _folded(line))


def _utc(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y%m%dT%H%M%SZ}"


def _folded(line: str) -> Iterator[str]:
    """Split between characters, never within one; what follows begins with a space."""
    part, size = "", 0
    for character in line:
        octets = len(character.encode())
        if size + octets > _FOLD:
            yield part
            part, size = " ", 1
        part += character
        size += octets
    yield part
