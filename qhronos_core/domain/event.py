"""What an agent asked for."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from qhronos_core.domain.ids import EventId, OccurrenceId
from qhronos_core.domain.retry import RetryPolicy


class EventStatus(StrEnum):
    ACTIVE = "active"
    PAUSED = "paused"
    INACTIVE = "inactive"  # no instant left
    DELETED = "deleted"


class ActionType(StrEnum):
    WEBHOOK = "webhook"
    APICALL = "apicall"
    WEBSOCKET = "websocket"
    INBOX = "inbox"


class CatchUp(StrEnum):
    ONE = "one"
    ALL = "all"
    NONE = "none"


class Overlap(StrEnum):
    ALLOW = "allow"
    SKIP = "skip"
    QUEUE = "queue"


class Ack(StrEnum):
    NONE = "none"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class Action:
    """Where an occurrence goes. `params` by type: rest.md §6. Secret header values are kept in `Event.secrets`, never here."""

    type: ActionType = ActionType.INBOX
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Policies:
    catch_up: CatchUp = CatchUp.ONE
    overlap: Overlap = Overlap.ALLOW
    expires_after: timedelta | None = None
    ack: Ack = Ack.NONE
    ack_timeout: timedelta = timedelta(minutes=15)
    retry: RetryPolicy = RetryPolicy()


@dataclass(frozen=True, slots=True)
class Event:
    """One live (or deleted) event. Immutable: a change is a new value with `version` + 1.

    `schedule` is the rule as given (text, or the later dialect's object), echoed as it is;
    `anchor_at` the moment of acceptance of that rule, from which intervals, delays and words count.
    `secrets` is the sealed (AES-GCM) bundle of everything secret about it: opened only in adapters.
    """

    id: EventId
    created_by: str
    name: str
    schedule: str | Mapping[str, Any] | None
    anchor_at: datetime
    created_at: datetime
    updated_at: datetime
    created_jti: UUID | None = None
    caused_by: OccurrenceId | None = None
    chain_depth: int = 0
    runs_per_day: int = 0
    key: str | None = None
    description: str = ""
    timezone: str = "UTC"
    start_time: datetime | None = None
    end_time: datetime | None = None
    max_occurrences: int | None = None
    exclusions: tuple[str, ...] = ()
    action: Action = Action()
    secrets: bytes | None = None
    hmac_secret_set: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    labels: frozenset[str] = frozenset()
    policies: Policies = Policies()
    version: int = 1
    status: EventStatus = EventStatus.ACTIVE
    paused_at: datetime | None = None
    paused_until: datetime | None = None
    paused_reason: str | None = None
    deleted_at: datetime | None = None

    @property
    def asks_ack(self) -> bool:
        """Whether acceptance is not enough: always so for an inbox and a websocket."""
        return self.policies.ack is Ack.REQUIRED or self.action.type in (ActionType.INBOX, ActionType.WEBSOCKET)

    @property
    def live(self) -> bool:
        return self.status is not EventStatus.DELETED

    def changed(self, now: datetime, **fields: Any) -> "Event":
        """This event with `fields` replaced, one version on."""
        return replace(self, version=self.version + 1, updated_at=now, **fields)

    def deleted(self, now: datetime) -> "Event":
        return self.changed(now, status=EventStatus.DELETED, deleted_at=now, paused_at=None, paused_until=None)
