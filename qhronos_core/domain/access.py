"""Who asks, and what they may do: the rules R1-R12 (access.md §5), in one place.

Every face asks `may`; the lists of the stores are narrowed by `Reach`, made from the same rules.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from uuid import UUID

from qhronos_core.domain.errors import EventNotFoundError, ForbiddenError
from qhronos_core.domain.event import Event, EventStatus

_SCOPE: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}:[A-Za-z0-9._@-]{1,128}\Z")


class Access(StrEnum):
    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


class Level(StrEnum):
    """What is wanted of an event."""

    READ = "read"
    WRITE = "write"


READ, WRITE = Level


@dataclass(frozen=True, slots=True)
class Principal:
    """R1: the master, or `(sub, access, scope)`. `holder` is what a claim from the inbox is bound to."""

    sub: str
    access: Access
    scope: frozenset[str]
    jti: UUID | None = None
    master: bool = False
    holder: str = ""
    expires_at: int | None = None  # epoch seconds

    @property
    def sees_all(self) -> bool:
        return self.master or self.access is Access.ADMIN

    @property
    def writes(self) -> bool:
        return self.master or self.access in (Access.ADMIN, Access.WRITE)


@dataclass(frozen=True, slots=True)
class Reach:
    """What a list may hold: everything, or events by their labels. READ: any of `scope`; WRITE: all labels within it."""

    everything: bool
    scope: frozenset[str] = frozenset()
    level: Level = READ

    def holds(self, labels: frozenset[str]) -> bool:
        if self.everything:
            return True
        if self.level is READ:
            return not labels.isdisjoint(self.scope)
        return bool(labels) and labels <= self.scope


def is_scope(text: str) -> bool:
    """Whether this is a scope, and as a tag a label. Compared byte for byte: nothing is folded or trimmed."""
    return _SCOPE.match(text) is not None


def labels_among(tags: tuple[str, ...]) -> frozenset[str]:
    return frozenset(tag for tag in tags if is_scope(tag))


def reach(caller: Principal, level: Level) -> Reach:
    """The list predicate of R3 (READ) or R4 (WRITE) for this caller. WRITE reaches nothing with read access."""
    if caller.sees_all:
        return Reach(everything=True, level=level)
    if level is WRITE and not caller.writes:
        return Reach(everything=False, scope=frozenset(), level=WRITE)
    return Reach(everything=False, scope=caller.scope, level=level)


def may(caller: Principal, level: Level, labels: frozenset[str]) -> bool:
    """R3 and R4."""
    return reach(caller, level).holds(labels)


def require(caller: Principal, level: Level, event: Event, *, asked: object = None) -> None:
    """R8: not readable (or deleted) reads as absent; readable but not writable is forbidden.

    Raises:
        EventNotFoundError: absent for this caller. `asked` is the id or key as the caller gave it.
        ForbiddenError: READ holds, `level` does not.
    """
    if event.status is EventStatus.DELETED or not may(caller, READ, event.labels):
        raise EventNotFoundError(str(asked or event.id))
    if level is WRITE and not may(caller, WRITE, event.labels):
        raise ForbiddenError("Your token can read this event but not change it.")


def require_writer(caller: Principal) -> None:
    """R8, the level alone: what creates or changes needs `write`, `admin` or the master."""
    if not caller.writes:
        raise ForbiddenError("This needs a token with write access.")


def labels_at_creation(caller: Principal, tags: tuple[str, ...]) -> frozenset[str]:
    """R2 and R5: the labels of an event made with these tags by this caller. Raises ForbiddenError beyond the caller's scope."""
    labels = labels_among(tags)
    if not labels:
        if caller.master:
            return frozenset()
        if caller.access is Access.ADMIN:
            return labels_among((f"user:{caller.sub}",))
        labels = caller.scope
    return _within(caller, labels)


def labels_after_update(caller: Principal, tags: tuple[str, ...], before: frozenset[str]) -> frozenset[str]:
    """R5: an update whose tags hold no label keeps the old ones."""
    return _within(caller, labels_among(tags) or before)


def _within(caller: Principal, labels: frozenset[str]) -> frozenset[str]:
    if caller.sees_all or (labels and labels <= caller.scope):
        return labels
    raise ForbiddenError("The labels among the tags must all be within your token's scope.")
