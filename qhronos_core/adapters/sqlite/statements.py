"""Pieces from which statements are put together: columns, filters, reach. Values are always parameters."""

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from qhronos_core.adapters.rows import as_json
from qhronos_core.domain.access import READ, Reach

T = TypeVar("T")

MANY: Final = 500  # ids in one statement
FEW: Final = 200  # events from which a list is sooner begun than from the order it is in

# The events with a label of a scope, whose parameter is `scope_of`: all that a reach can hold, and often more.
REACHED: Final = "SELECT event_id FROM event_labels WHERE label IN (SELECT value FROM json_each(?))"

# Written exactly as in the predicate of occurrences_unfinished_idx, so that the index serves it.
UNFINISHED: Final = "state IN ('pending', 'dispatching', 'dispatched')"
# Occurrence.begun
BEGUN: Final = "(state <> 'pending' OR attempts_made > 0 OR round > 1 OR inbox_at IS NOT NULL)"


def scope_of(reach: Reach) -> str:
    return as_json(sorted(reach.scope))


def reaches_few(connection: sqlite3.Connection, reach: Reach) -> bool:
    """Whether a list of what is reached is better begun from the events: a narrow token in a large store."""
    if reach.everything:
        return False
    counted = f"SELECT count(*) FROM ({REACHED} LIMIT {FEW + 1})"
    return int(connection.execute(counted, (scope_of(reach),)).fetchone()[0]) <= FEW


def columns(names: Sequence[str], table: str = "") -> str:
    prefix = f"{table}." if table else ""
    return ", ".join(prefix + name for name in names)


def marks(count: int) -> str:
    return ", ".join("?" * count)


def chunks(items: Sequence[T], size: int = MANY) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


@dataclass(slots=True)
class Filter:
    """Conditions, all of which hold, and their parameters in order."""

    conditions: list[str] = field(default_factory=list)
    parameters: list[Any] = field(default_factory=list)

    def add(self, condition: str, *parameters: Any) -> None:
        self.conditions.append(condition)
        self.parameters.extend(parameters)

    @property
    def sql(self) -> str:
        return " AND ".join(f"({condition})" for condition in self.conditions) or "TRUE"

    def within(self, reach: Reach, event_id: str) -> None:
        """access.md R3 and R4, as `Reach.holds` says them. Labels are compared byte for byte (BINARY)."""
        if reach.everything:
            return
        scope = scope_of(reach)
        labels = f"SELECT 1 FROM event_labels AS l WHERE l.event_id = {event_id}"
        if reach.level is READ:
            self.add(f"EXISTS ({labels} AND l.label IN (SELECT value FROM json_each(?)))", scope)
        else:
            self.add(f"EXISTS ({labels})")
            self.add(f"NOT EXISTS ({labels} AND l.label NOT IN (SELECT value FROM json_each(?)))", scope)

    def tagged(self, tags: Sequence[str], event_id: str, *, every: bool = False) -> None:
        """Any of the tags, or every one."""
        wanted = sorted(set(tags))
        if not wanted:
            return
        matching = f"event_tags AS t WHERE t.event_id = {event_id} AND t.tag IN (SELECT value FROM json_each(?))"
        if every:
            self.add(f"(SELECT count(*) FROM {matching}) = ?", as_json(wanted), len(wanted))
        else:
            self.add(f"EXISTS (SELECT 1 FROM {matching})", as_json(wanted))
