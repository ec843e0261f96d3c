"""Who asks, and what they may do: the rules R1-R12 (access.md §5), in one place.

    R1  Principal             R5  labels_at_creation, labels_after_update
    R2  labels_at_creation    R6  require_master
    R3  may(READ), reach      R7  Principal.sees_all, Principal.confined
    R4  may(WRITE), reach     R8  require, require_writer

R9 and R10 are how the use cases ask, R11 is `may` at each send, R12 is `usecases/tokens.py`. Lists are narrowed by `Reach`,
made from the same rules; a store's statement keeps the same predicate.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from uuid import UUID

from qhronos_core.domain.errors import EventNotFoundError, ForbiddenError
from qhronos_core.domain.event import Event, EventStatus

SCOPES_MOST: Final = 100
MASTER_SUB: Final = "master"
_LOCAL: Final = "local:"
"""What the holders of a local owner begin with: one for each of his processes, and none that a token could have."""

_SCOPE: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}:[A-Za-z0-9._@-]{1,128}")


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
    """R1: the master, or `(sub, access, scope)`. `holder` is what a claim from the inbox is bound to.

    confined: a master that may mint and revoke, and nothing else (`auth.master_may_use_api: false`).
    """

    sub: str
    access: Access
    scope: frozenset[str]
    jti: UUID | None = None
    master: bool = False
    holder: str = ""
    expires_at: int | None = None  # epoch seconds
    confined: bool = False

    @classmethod
    def of_master(cls, *, confined: bool = False) -> "Principal":
        return cls(MASTER_SUB, Access.ADMIN, frozenset(), master=True, holder=MASTER_SUB, confined=confined)

    @classmethod
    def of_local_owner(cls, sub: str, *, node: str) -> "Principal":
        """Whoever may start a process that reads the data directory (access.md §4). Each process holds its own claims."""
        return cls(sub, Access.ADMIN, labels_among((f"user:{sub}",)), holder=f"{_LOCAL}{node}")

    def is_behind(self, holder: str) -> bool:
        """Whether what is this holder's is this one's. The local owner is one, whichever of his processes asks."""
        return holder == self.holder or (holder.startswith(_LOCAL) and self.holder.startswith(_LOCAL))

    @property
    def sees_all(self) -> bool:
        return (self.master or self.access is Access.ADMIN) and not self.confined

    @property
    def writes(self) -> bool:
        return (self.master or self.access in (Access.ADMIN, Access.WRITE)) and not self.confined


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
    return _SCOPE.fullmatch(text) is not None


def labels_among(tags: tuple[str, ...]) -> frozenset[str]:
    return frozenset(tag for tag in tags if is_scope(tag))


def reach(caller: Principal, level: Level) -> Reach:
    """The list predicate of R3 (READ) or R4 (WRITE) for this caller. WRITE reaches nothing with read access.

    Raises:
        ForbiddenError: R7, a confined master lists nothing.
    """
    require_unconfined(caller)
    return _reach(caller, level)


def may(caller: Principal, level: Level, labels: frozenset[str]) -> bool:
    """R3 and R4."""
    return _reach(caller, level).holds(labels)


def _reach(caller: Principal, level: Level) -> Reach:
    if caller.sees_all:
        return Reach(everything=True, level=level)
    if caller.confined or (level is WRITE and not caller.writes):
        return Reach(everything=False, scope=frozenset(), level=level)
    return Reach(everything=False, scope=caller.scope, level=level)


def require(caller: Principal, level: Level, event: Event) -> None:
    """R8: not readable (or deleted) reads as absent; readable but not writable is forbidden.

    Raises:
        EventNotFoundError: absent for this caller.
        ForbiddenError: READ holds, `level` does not; or a confined master asks.
    """
    require_unconfined(caller)
    if event.status is EventStatus.DELETED or not may(caller, READ, event.labels):
        raise EventNotFoundError
    if level is WRITE and not may(caller, WRITE, event.labels):
        raise ForbiddenError("Your token can read this event but not change it.")


def require_writer(caller: Principal) -> None:
    """R8, the level alone: what creates or changes needs `write`, `admin` or the master."""
    require_unconfined(caller)
    if not caller.writes:
        raise ForbiddenError("This needs a token with write access.")


def require_admin(caller: Principal) -> None:
    """What only admins and the master may see: the audit, the figures."""
    require_unconfined(caller)
    if not caller.sees_all:
        raise ForbiddenError("This needs a token with admin access.")


def require_master(caller: Principal) -> None:
    """R6."""
    if not caller.master:
        raise ForbiddenError("Only the master token mints, lists and revokes tokens.")


def require_unconfined(caller: Principal) -> None:
    """R7: whether anything may be asked at all, before what it is asked of is looked for."""
    if caller.confined:
        raise ForbiddenError("Here the master token mints and revokes, and nothing else. Use a token it minted.")


def labels_at_creation(caller: Principal, tags: tuple[str, ...]) -> frozenset[str]:
    """R2 and R5: the labels of an event made with these tags by this caller.

    Raises:
        ForbiddenError: a label beyond the caller's scope, or read access.
    """
    labels = labels_among(tags)
    if not labels:
        if caller.master:
            labels = frozenset()
        elif caller.access is Access.ADMIN:
            labels = labels_among((f"user:{caller.sub}",))
        else:
            labels = caller.scope
    return _within(caller, labels)


def labels_after_update(caller: Principal, tags: tuple[str, ...], before: frozenset[str]) -> frozenset[str]:
    """R5: an update whose tags hold no label keeps the old ones.

    Raises:
        ForbiddenError: a label beyond the caller's scope, or read access.
    """
    return _within(caller, labels_among(tags) or before)


def _within(caller: Principal, labels: frozenset[str]) -> frozenset[str]:
    require_writer(caller)
    if caller.sees_all or (labels and labels <= caller.scope):
        return labels
    raise ForbiddenError("The labels among the tags must all be within your token's scope.")
