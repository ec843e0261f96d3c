"""What an agent's host is told over MCP Events: the types, their arguments, and one announcement per line of the journal.

Poll, stream and webhook all tell the same announcement with the same id: it is derived from the journal's line and
from nothing else that names it.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from qhronos_core.domain import access
from qhronos_core.domain.access import READ, Principal
from qhronos_core.domain.errors import InvalidInputError
from qhronos_core.domain.event import Event
from qhronos_core.domain.ids import EventId
from qhronos_core.domain.journal import Cursor, JournalLine
from qhronos_core.domain.occurrence import Entry, EntryKind, Occurrence, Reason
from qhronos_core.domain.schedule import say_instant

DATA_MOST: Final = 4_096  # bytes of `data`; the rest is read with a tool
IN_A_ROW: Final = 3  # failures that make an event a failing one
_TAGS_MOST: Final = 50
_TEXT_MOST: Final = 1_000
_DESCRIPTION_KEPT: Final = 500
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


ERROR_NUMBERS: Final[Mapping[str, Mapping[str, int]]] = {
    "sep": {
        "NotFound": -32023,
        "Forbidden": -32024,
        "ResourceExhausted": -32025,
        "Unsupported": -32026,
        "CallbackEndpointError": -32027,
    },
    "sketch": {
        "NotFound": -32011,
        "Forbidden": -32012,
        "ResourceExhausted": -32013,
        "Unsupported": -32014,
        "CallbackEndpointError": -32015,
    },
}
"""The extension's errors, by `events.error_codes`: the numbers of SEP-3415, and those of the sketch before it."""


class Topic(StrEnum):
    """The event types. `event.ended`: it became inactive, or was deleted."""

    OCCURRENCE_DUE = "occurrence.due"
    OCCURRENCE_COMPLETED = "occurrence.completed"
    OCCURRENCE_FAILED = "occurrence.failed"
    OCCURRENCE_MISSED = "occurrence.missed"
    EVENT_ENDED = "event.ended"
    EVENT_FAILING = "event.failing"


_KINDS: Final[Mapping[Topic, frozenset[EntryKind]]] = {
    Topic.OCCURRENCE_DUE: frozenset({EntryKind.OCCURRENCE_DUE}),
    Topic.OCCURRENCE_COMPLETED: frozenset({EntryKind.OCCURRENCE_COMPLETED}),
    Topic.OCCURRENCE_FAILED: frozenset({EntryKind.OCCURRENCE_FAILED}),
    Topic.OCCURRENCE_MISSED: frozenset({EntryKind.OCCURRENCE_MISSED}),
    Topic.EVENT_ENDED: frozenset({EntryKind.EVENT_ENDED, EntryKind.EVENT_DELETED}),
    Topic.EVENT_FAILING: frozenset({EntryKind.OCCURRENCE_FAILED}),
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one subscription is about. Each argument narrows; none widens what its principal may read."""

    topic: Topic
    event_id: EventId | None = None
    tags: tuple[str, ...] = ()
    name: str | None = None

    @property
    def arguments(self) -> str:
        """The arguments as canonical JSON: part of a subscription's key."""
        told: dict[str, Any] = {}
        if self.event_id is not None:
            told["event_id"] = str(self.event_id)
        if self.name is not None:
            told["name"] = self.name
        if self.tags:
            told["tags"] = list(self.tags)
        return json.dumps(told, ensure_ascii=False, separators=(",", ":"), sort_keys=True)

    def takes(self, line: JournalLine) -> bool:
        """By kind and arguments alone; whether the reader may hear of it is `hears`."""
        if line.entry.kind not in _KINDS[self.topic]:
            return False
        if self.event_id is not None and line.entry.event_id != self.event_id:
            return False
        if not self.tags and self.name is None:
            return True
        if line.event is None:
            return False
        return (self.name is None or line.event.name == self.name) and (
            not self.tags or not set(self.tags).isdisjoint(line.event.tags)
        )

    def ends_with(self, line: JournalLine, caller: Principal) -> bool:
        """Whether this line tells that the one event asked for is no longer the caller's to read."""
        return self.event_id is not None and line.entry.event_id == self.event_id and not hears(caller, line.event)


def wanted(topic: Topic, arguments: Mapping[str, Any]) -> Wanted:
    """The arguments as a caller gave them; null is as if absent.

    Raises:
        InvalidInputError: unknown, or of the wrong form.
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    if given.keys() - {"event_id", "tags", "name"}:  # not named again: what a stranger wrote is no word of ours
        raise InvalidInputError.of("arguments", "Arguments are event_id, tags and name.")
    event_id, tags, name = given.get("event_id"), given.get("tags", []), given.get("name")
    if event_id is not None and (not isinstance(event_id, str) or not _UUID.fullmatch(event_id)):
        raise _refused("event_id", "An event's id is a UUID.")
    if not isinstance(tags, list) or len(tags) > _TAGS_MOST or not all(_is_text(tag) for tag in tags):
        raise _refused("tags", f"A list of at most {_TAGS_MOST} texts.")
    if name is not None and not _is_text(name):
        raise _refused("name", f"A text of 1 to {_TEXT_MOST:,} characters.")
    return Wanted(topic, None if event_id is None else EventId(UUID(event_id)), tuple(tags), name)


def hears(caller: Principal, event: Event | None) -> bool:
    """By the event's labels now; of a deleted or forgotten event only admin and master hear."""
    if event is None or not event.live:
        return caller.sees_all
    return access.may(caller, READ, event.labels)


@dataclass(frozen=True, slots=True)
class Announcement:
    """One event occurrence of the extension. `cursor` stands right after it, `before` right before."""

    event_id: str
    name: str
    at: datetime
    data: Mapping[str, Any]
    before: Cursor
    cursor: Cursor

    def body(self, *, cursor: bool) -> dict[str, Any]:
        """As the wire shows it; a poll has its cursor elsewhere."""
        told: dict[str, Any] = {
            "eventId": self.event_id,
            "name": self.name,
            "timestamp": say_instant(self.at),
            "data": dict(self.data),
        }
        return {**told, "cursor": str(self.cursor)} if cursor else told


@dataclass(frozen=True, slots=True)
class Batch:
    """What was found from one position to another.

    more: there is, or may be, more to read at once. skipped: something was older than was asked for.
    lost: the one event asked for went out of the caller's reach, after these.
    """

    announcements: tuple[Announcement, ...]
    cursor: Cursor
    more: bool = False
    truncated: bool = False
    skipped: bool = False
    lost: bool = False


def announcement(
    topic: Topic, line: JournalLine, epoch: UUID, occurrence: Occurrence | None, *, in_a_row: int = 0
) -> Announcement:
    """What a line that `takes` admitted is told as. `occurrence`: None where its row was retired."""
    entry = line.entry
    subject = entry.occurrence_id if topic.startswith("occurrence.") else entry.event_id
    kind = topic.value.partition(".")[2]
    if topic is Topic.OCCURRENCE_DUE:
        again = entry.detail.get("again", 0)
        event_id = f"{subject}-r{again}" if again else f"{subject}"
    elif topic.startswith("occurrence."):
        event_id = f"{subject}-{kind}"
    else:
        event_id = f"{subject}-{kind}-{line.position}"
    return Announcement(
        event_id,
        topic.value,
        entry.at,
        _within_limit({**_facts(topic, entry, line.event, occurrence, in_a_row), **_words(line.event)}),
        Cursor(epoch, line.position - 1),
        Cursor(epoch, line.position),
    )


def _facts(
    topic: Topic, entry: Entry, event: Event | None, occurrence: Occurrence | None, in_a_row: int
) -> dict[str, Any]:
    """All that is ours to say: ids, instants, reasons of a closed list."""
    told: dict[str, Any] = {"event_id": str(entry.event_id)}
    if entry.occurrence_id is not None:
        told["occurrence_id"] = str(entry.occurrence_id)
        told["scheduled_at"] = None if occurrence is None else say_instant(occurrence.scheduled_at)
    if topic is Topic.OCCURRENCE_DUE:
        late = None if occurrence is None else max(timedelta(0), entry.at - occurrence.scheduled_at)
        told["late_ms"] = None if late is None else late // timedelta(milliseconds=1)
        asked = event is not None and event.asks_ack
        told["acknowledge"] = (
            {
                "tool": "acknowledge_occurrence",
                "arguments": {"occurrence_id": str(entry.occurrence_id)},
                "outcomes": ["done", "failed", "later"],
            }
            if asked
            else None
        )
    elif topic is Topic.EVENT_ENDED:
        told["status"] = "deleted" if entry.kind is EntryKind.EVENT_DELETED else "inactive"
    elif topic is Topic.EVENT_FAILING:
        told["reason"] = "gone" if entry.detail.get("reason") == Reason.GONE else "failed_in_a_row"
        told["in_a_row"] = in_a_row
    else:
        told |= {key: entry.detail[key] for key in ("reason", "count", "first", "last") if key in entry.detail}
    if event is not None:
        told["action"] = event.action.type.value
        told["by"] = event.created_by
        if event.caused_by is not None:  # an agent that was woken made this event: a host can see a loop coming
            told["caused_by"] = str(event.caused_by)
            told["chain_depth"] = event.chain_depth
    return told


def _words(event: Event | None) -> dict[str, Any]:
    """What somebody wrote: data, wherever it is read."""
    if event is None:
        return {}
    return {
        "untrusted": {
            "name": event.name,
            "tags": list(event.tags),
            "description": event.description,
            "metadata": dict(event.metadata),
        }
    }


def _within_limit(data: dict[str, Any]) -> dict[str, Any]:
    """Leave out of what somebody wrote, the bulkiest first, until the rest is small; and say what was left out."""
    cut: list[str] = []
    words: dict[str, Any] = data.get("untrusted", {})
    for field, short in (("metadata", {}), ("description", words.get("description", "")[:_DESCRIPTION_KEPT])):
        if _size(data) > DATA_MOST:
            cut.append(field)
            words = {**words, field: short}
            data = {**data, "untrusted": words, "left_out": list(cut)}
    for field, nothing in (("tags", []), ("description", ""), ("name", "")):
        if _size(data) > DATA_MOST:
            cut += [] if field in cut else [field]
            words = {**words, field: nothing}
            data = {**data, "untrusted": words, "left_out": list(cut)}
    return data


def _size(data: Mapping[str, Any]) -> int:
    return len(json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode())


def _is_text(value: object) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= _TEXT_MOST


def _refused(field: str, why: str) -> InvalidInputError:
    return InvalidInputError.of(f"arguments.{field}", why)
