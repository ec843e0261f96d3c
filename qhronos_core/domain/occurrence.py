"""One planned instant of one event, its attempts, and the entries of the journal about them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from enum import StrEnum
from operator import attrgetter
from typing import Any, Final

from qhronos_core.domain.ids import EventId, OccurrenceId
from qhronos_core.domain.lifecycle import PENDING, TERMINAL, State


class Cause(StrEnum):
    SCHEDULE = "schedule"
    TRIGGER = "trigger"


class Reason(StrEnum):
    """Why a terminal record is what it is (rest.md §2)."""

    EXHAUSTED = "exhausted"
    GONE = "gone"
    EXPIRED = "expired"
    ACK_FAILED = "ack_failed"
    OVERLAP = "overlap"
    COALESCED = "coalesced"
    TOO_MANY = "too_many"
    CATCH_UP_NONE = "catch_up_none"
    SKIPPED = "skipped"
    PAUSED = "paused"
    REPLANNED = "replanned"
    DELETED = "deleted"
    NO_CLIENT = "no_client"


class Held(StrEnum):
    """Why a pending row has no due instant: nothing looks at it until its holder lets go."""

    PAUSE = "pause"  # its event is paused
    OVERLAP = "overlap"  # an earlier occurrence of the event is unfinished


@dataclass(frozen=True, slots=True)
class Occurrence:
    """A row. Immutable: a change is a new value, written only if (`fence`, `state`) are still what they were.

    due_at: the next instant at which a node must look: its first attempt, a retry, a lease's or an
        acknowledgement's end, expiry. None: finished, held, or an inbox item free to take.
        A claim leaves it where it is.
    advances: whether claiming it plans the event's next occurrence: true for the one planned row.
    attempts_made: counted at the claim, over all rounds; `attempts_before` of them in earlier rounds.
    round_began_at: when it was planned, triggered or last retried: a row whose round began after
        its event was paused runs all the same.
    inbox_at: set while an inbox item awaits its acknowledgement: when it was (last) handed over.
    ordinal: the nth planned instant of the event (from 1): what `max_occurrences` counts; 0 for a trigger.
    deliveries: how often an inbox item was claimed, over all rounds.
    lane: where it waits while more is due than can be taken (`lanes.py`).
    """

    id: OccurrenceId
    event_id: EventId
    scheduled_at: datetime
    created_at: datetime
    updated_at: datetime
    round_began_at: datetime
    due_at: datetime | None
    cause: Cause = Cause.SCHEDULE
    state: State = PENDING
    advances: bool = True
    ordinal: int = 0
    fence: int = 0
    attempts_made: int = 0
    attempts_before: int = 0
    round: int = 1
    event_version: int = 1
    held: Held | None = None
    inbox_at: datetime | None = None
    lease_until: datetime | None = None
    node: str | None = None
    holder: str | None = None
    claimed_at: datetime | None = None
    missed: int | None = None  # caught_up: how many this run stands for
    missed_since: datetime | None = None
    reason: Reason | None = None
    note: str | None = None
    acknowledged_at: datetime | None = None
    finished_at: datetime | None = None
    lane: int = 0
    deliveries: int = 0

    @property
    def finished(self) -> bool:
        return self.state in TERMINAL

    @property
    def begun(self) -> bool:
        """Whether anything was ever done about it: an attempt, a hand-over, a new round."""
        return self.attempts_made > 0 or self.round > 1 or self.state is not PENDING or self.inbox_at is not None

    @property
    def attempts_this_round(self) -> int:
        return self.attempts_made - self.attempts_before

    def changed(self, now: datetime, **changes: Any) -> "Occurrence":
        values = list(_VALUES(self))  # twice as fast as `dataclasses.replace`, which every move would pay
        values[_PLACE["updated_at"]] = now
        for name, value in changes.items():
            values[_PLACE[name]] = value
        return Occurrence(*values)


_NAMES: Final = tuple(each.name for each in fields(Occurrence))
_VALUES: Final = attrgetter(*_NAMES)
_PLACE: Final = {name: place for place, name in enumerate(_NAMES)}


class AttemptOutcome(StrEnum):
    ACCEPTED = "accepted"
    REFUSED = "refused"
    NO_ANSWER = "no_answer"
    LEASE_LOST = "lease_lost"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to notify. `number` counts from 1 over all rounds; `destination` has its query values removed."""

    occurrence_id: OccurrenceId
    number: int
    started_at: datetime
    finished_at: datetime
    outcome: AttemptOutcome
    status_code: int | None = None
    error: str | None = None
    duration_ms: int | None = None
    retry_at: datetime | None = None
    destination: str | None = None
    response: bytes | None = None
    node: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came back.

    `error` is a class (timeout, connection_failed, tls_failed, bad_answer, destination_not_allowed, http_<n>, no_client).
    """

    outcome: AttemptOutcome
    status_code: int | None = None
    error: str | None = None
    retry_after: timedelta | None = None
    gone: bool = False
    awaits_ack: bool = False  # handed over, not accepted by itself: a websocket frame
    response: bytes | None = None
    duration: timedelta = timedelta(0)
    destination: str | None = None


class EntryKind(StrEnum):
    """What the journal tells of. A reader must ignore kinds it does not know."""

    EVENT_CREATED = "event.created"
    EVENT_UPDATED = "event.updated"
    EVENT_PAUSED = "event.paused"
    EVENT_RESUMED = "event.resumed"
    EVENT_ENDED = "event.ended"  # no instant left
    EVENT_DELETED = "event.deleted"
    OCCURRENCE_DUE = "occurrence.due"  # claimed for its first attempt of a round, or offered in the inbox
    OCCURRENCE_DISPATCHED = "occurrence.dispatched"  # accepted; its acknowledgement is awaited
    OCCURRENCE_REFUSED = "occurrence.refused"  # an attempt failed; another will come
    OCCURRENCE_CLAIMED = "occurrence.claimed"  # taken from the inbox
    OCCURRENCE_COMPLETED = "occurrence.completed"
    OCCURRENCE_FAILED = "occurrence.failed"
    OCCURRENCE_MISSED = "occurrence.missed"  # `detail`: {count, first, last} when it stands for more than one row
    OCCURRENCE_CANCELLED = "occurrence.cancelled"
    OCCURRENCE_WITHDRAWN = "occurrence.withdrawn"  # a planned row removed by an edit
    OCCURRENCE_TRIGGERED = "occurrence.triggered"
    OCCURRENCE_RETRIED = "occurrence.retried"
    OCCURRENCE_LATER = "occurrence.later"  # acknowledged `later`
    TOKEN_MINTED = "token.minted"
    TOKEN_REVOKED = "token.revoked"
    ACCESS_REFUSED = "access.refused"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the journal. `actor` is who did it: a `sub`, `master`, or None for the scheduler."""

    at: datetime
    kind: EntryKind
    event_id: EventId | None = None
    occurrence_id: OccurrenceId | None = None
    actor: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Move:
    """One decided step of one occurrence, and all that is written with it or not at all.

    `was` is what it was decided on: if its (fence, state) have moved, nothing of this is written.
    Rows of `planned` whose instant has a row already are left out; the store then asks the
    judge for the next (`advance`). `ends_event`: no instant is left.
    `frees_queue`: this ends an occurrence of an `overlap: queue` event; the oldest held row becomes due.
    """

    was: Occurrence
    now: Occurrence
    attempt: Attempt | None = None
    planned: tuple[Occurrence, ...] = ()
    entries: tuple[Entry, ...] = ()
    ends_event: bool = False
    frees_queue: bool = False
    pauses_event: str | None = None  # the reason: a receiver that is gone
