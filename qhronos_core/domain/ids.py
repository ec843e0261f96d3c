"""Identities. Events and tokens are UUIDv7 (RFC 9562 §5.7); occurrences are derived, so the same instant has the same id for ever."""

import hashlib
import os
from datetime import UTC, datetime, timedelta
from typing import Final, NewType
from uuid import UUID

EventId = NewType("EventId", UUID)
OccurrenceId = NewType("OccurrenceId", UUID)
TokenId = NewType("TokenId", UUID)

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def microseconds(instant: datetime) -> int:
    """Whole microseconds since 1970 (UTC). Exact: no float is involved."""
    return (instant - EPOCH) // _MICROSECOND


def new_event_id(now: datetime) -> EventId:
    return EventId(_uuid7(now))


def new_token_id(now: datetime) -> TokenId:
    return TokenId(_uuid7(now))


def new_id(now: datetime) -> UUID:
    return _uuid7(now)


def occurrence_id(event_id: EventId, scheduled_at: datetime) -> OccurrenceId:
    """The id of one instant of one event: UUIDv8 (RFC 9562 §5.8) over SHA-256 of both."""
    digest = hashlib.sha256(event_id.bytes + microseconds(scheduled_at).to_bytes(8, "big", signed=True)).digest()
    bits = int.from_bytes(digest[:16], "big")
    bits = bits & ~(0xF << 76) | 0x8 << 76
    bits = bits & ~(0x3 << 62) | 0x2 << 62
    return OccurrenceId(UUID(int=bits))


def _uuid7(now: datetime) -> UUID:
    milliseconds = microseconds(now) // 1000
    noise = int.from_bytes(os.urandom(10), "big")
    bits = (milliseconds & (1 << 48) - 1) << 80 | noise
    bits = bits & ~(0xF << 76) | 0x7 << 76
    bits = bits & ~(0x3 << 62) | 0x2 << 62
    return UUID(int=bits)
