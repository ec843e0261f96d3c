"""Rows of SQLite and the values they hold: ids as 16 bytes, instants as whole microseconds since 1970."""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias
from uuid import UUID

from qhronos_core.adapters.rows import action_json, action_of, as_json, likeness, policies_json, policies_of, texts_of
from qhronos_core.domain.access import Access
from qhronos_core.domain.event import Event, EventStatus
from qhronos_core.domain.ids import EPOCH, EventId, OccurrenceId, TokenId, microseconds
from qhronos_core.domain.lifecycle import State
from qhronos_core.domain.occurrence import Attempt, AttemptOutcome, Cause, Entry, EntryKind, Held, Occurrence, Reason
from qhronos_core.ports import RememberedAnswer, Revocation, TokenRecord

Row: TypeAlias = Sequence[Any]


def stamp(instant: datetime | None) -> int | None:
    return None if instant is None else microseconds(instant)


def instant(stamp_: int | None) -> datetime | None:
    return None if stamp_ is None else EPOCH + timedelta(microseconds=stamp_)


def at(stamp_: int) -> datetime:
    return EPOCH + timedelta(microseconds=stamp_)


def raw(id_: UUID | None) -> bytes | None:
    return None if id_ is None else id_.bytes


def uuid(raw_: bytes | None) -> UUID | None:
    return None if raw_ is None else UUID(bytes=raw_)


# --- events -----------------------------------------------------------------------------------------

EVENT_COLUMNS: Final = (
    "id", "created_by", "created_jti", "caused_by", "chain_depth", "runs_per_day", "key", "name", "description",
    "schedule", "timezone", "anchor_at", "start_time", "end_time", "max_occurrences", "exclusions", "action",
    "secrets", "hmac_secret_set", "metadata", "tags", "labels", "policies", "version", "status", "paused_at",
    "paused_until", "paused_reason", "created_at", "updated_at", "deleted_at",
)  # fmt: skip
EVENT_BLOBS: Final = ("id", "created_jti", "caused_by", "secrets")
EVENT_COLUMNS_FOR_FINDING: Final = ("action_type", "likeness")


def event_row(event: Event) -> Row:
    """In the order of EVENT_COLUMNS, then EVENT_COLUMNS_FOR_FINDING."""
    return (
        event.id.bytes,
        event.created_by,
        raw(event.created_jti),
        raw(event.caused_by),
        event.chain_depth,
        event.runs_per_day,
        event.key,
        event.name,
        event.description,
        as_json(event.schedule),
        event.timezone,
        microseconds(event.anchor_at),
        stamp(event.start_time),
        stamp(event.end_time),
        event.max_occurrences,
        as_json(event.exclusions),
        action_json(event.action),
        event.secrets,
        event.hmac_secret_set,
        as_json(event.metadata),
        as_json(event.tags),
        as_json(sorted(event.labels)),
        policies_json(event.policies),
        event.version,
        event.status.value,
        stamp(event.paused_at),
        stamp(event.paused_until),
        event.paused_reason,
        microseconds(event.created_at),
        microseconds(event.updated_at),
        stamp(event.deleted_at),
        event.action.type.value,
        likeness(event),
    )


def event_of(row: Row) -> Event:
    caused_by = uuid(row[3])
    return Event(
        id=EventId(UUID(bytes=row[0])),
        created_by=row[1],
        created_jti=uuid(row[2]),
        caused_by=None if caused_by is None else OccurrenceId(caused_by),
        chain_depth=row[4],
        runs_per_day=row[5],
        key=row[6],
        name=row[7],
        description=row[8],
        schedule=json.loads(row[9]),
        timezone=row[10],
        anchor_at=at(row[11]),
        start_time=instant(row[12]),
        end_time=instant(row[13]),
        max_occurrences=row[14],
        exclusions=texts_of(row[15]),
        action=action_of(row[16]),
        secrets=row[17],
        hmac_secret_set=bool(row[18]),
        metadata=json.loads(row[19]),
        tags=texts_of(row[20]),
        labels=frozenset(texts_of(row[21])),
        policies=policies_of(row[22]),
        version=row[23],
        status=EventStatus(row[24]),
        paused_at=instant(row[25]),
        paused_until=instant(row[26]),
        paused_reason=row[27],
        created_at=at(row[28]),
        updated_at=at(row[29]),
        deleted_at=instant(row[30]),
    )


# --- occurrences ------------------------------------------------------------------------------------

# The fields of Occurrence, in their order: rows are read by position.
OCCURRENCE_COLUMNS: Final = (
    "id", "event_id", "scheduled_at", "created_at", "updated_at", "round_began_at", "due_at", "cause", "state",
    "advances", "ordinal", "fence", "attempts_made", "attempts_before", "round", "event_version", "held", "inbox_at",
    "lease_until", "node", "holder", "claimed_at", "missed", "missed_since", "reason", "note", "acknowledged_at",
    "finished_at", "lane", "deliveries",
)  # fmt: skip
OCCURRENCE_BLOBS: Final = ("id", "event_id")
# What a step of an occurrence may change; the rest is said once, when the row is planned.
MOVING_COLUMNS: Final = tuple(
    name for name in OCCURRENCE_COLUMNS if name not in {"id", "event_id", "scheduled_at", "created_at", "cause", "lane"}
)

_STATES: Final = {state.value: state for state in State}
_CAUSES: Final = {cause.value: cause for cause in Cause}
_REASONS: Final = {reason.value: reason for reason in Reason}
_HELD: Final = {held.value: held for held in Held}


def occurrence_row(occurrence: Occurrence) -> Row:
    return (
        occurrence.id.bytes,
        occurrence.event_id.bytes,
        microseconds(occurrence.scheduled_at),
        microseconds(occurrence.created_at),
        microseconds(occurrence.updated_at),
        microseconds(occurrence.round_began_at),
        stamp(occurrence.due_at),
        occurrence.cause,
        occurrence.state,
        occurrence.advances,
        occurrence.ordinal,
        occurrence.fence,
        occurrence.attempts_made,
        occurrence.attempts_before,
        occurrence.round,
        occurrence.event_version,
        occurrence.held,
        stamp(occurrence.inbox_at),
        stamp(occurrence.lease_until),
        occurrence.node,
        occurrence.holder,
        stamp(occurrence.claimed_at),
        occurrence.missed,
        stamp(occurrence.missed_since),
        occurrence.reason,
        occurrence.note,
        stamp(occurrence.acknowledged_at),
        stamp(occurrence.finished_at),
        occurrence.lane,
        occurrence.deliveries,
    )


def occurrence_of(row: Row) -> Occurrence:
    return Occurrence(
        OccurrenceId(UUID(bytes=row[0])),
        EventId(UUID(bytes=row[1])),
        at(row[2]),
        at(row[3]),
        at(row[4]),
        at(row[5]),
        instant(row[6]),
        _CAUSES[row[7]],
        _STATES[row[8]],
        bool(row[9]),
        row[10],
        row[11],
        row[12],
        row[13],
        row[14],
        row[15],
        _HELD[row[16]] if row[16] else None,
        instant(row[17]),
        instant(row[18]),
        row[19],
        row[20],
        instant(row[21]),
        row[22],
        instant(row[23]),
        _REASONS[row[24]] if row[24] else None,
        row[25],
        instant(row[26]),
        instant(row[27]),
        row[28],
        row[29],
    )


ATTEMPT_COLUMNS: Final = (
    "occurrence_id", "number", "started_at", "finished_at", "outcome", "status_code", "error", "duration_ms",
    "retry_at", "destination", "response", "node",
)  # fmt: skip


def attempt_row(attempt: Attempt) -> Row:
    return (
        attempt.occurrence_id.bytes,
        attempt.number,
        microseconds(attempt.started_at),
        microseconds(attempt.finished_at),
        attempt.outcome,
        attempt.status_code,
        attempt.error,
        attempt.duration_ms,
        stamp(attempt.retry_at),
        attempt.destination,
        attempt.response,
        attempt.node,
    )


def attempt_of(row: Row) -> Attempt:
    return Attempt(
        OccurrenceId(UUID(bytes=row[0])),
        row[1],
        at(row[2]),
        at(row[3]),
        AttemptOutcome(row[4]),
        row[5],
        row[6],
        row[7],
        instant(row[8]),
        row[9],
        row[10],
        row[11],
    )


# --- the journal, tokens, answers ---------------------------------------------------------------------

ENTRY_COLUMNS: Final = ("at", "kind", "event_id", "occurrence_id", "actor", "detail")
_KINDS: Final = {kind.value: kind for kind in EntryKind}


def entry_row(entry: Entry) -> Row:
    return (
        microseconds(entry.at),
        entry.kind.value,
        raw(entry.event_id),
        raw(entry.occurrence_id),
        entry.actor,
        as_json(entry.detail) if entry.detail else "{}",
    )


def entry_of(row: Row) -> Entry | None:
    """None for a kind this release does not know: a newer node wrote it."""
    kind = _KINDS.get(row[1])
    if kind is None:
        return None
    event_id, occurrence_id = uuid(row[2]), uuid(row[3])
    return Entry(
        at(row[0]),
        kind,
        None if event_id is None else EventId(event_id),
        None if occurrence_id is None else OccurrenceId(occurrence_id),
        row[4],
        {} if row[5] == "{}" else json.loads(row[5]),
    )


TOKEN_COLUMNS: Final = ("jti", "sub", "access", "scope", "issued_at", "expires_at", "revoked_at")


def token_row(token: TokenRecord) -> Row:
    return (
        token.jti.bytes,
        token.sub,
        token.access.value,
        as_json(token.scope),
        microseconds(token.issued_at),
        microseconds(token.expires_at),
        stamp(token.revoked_at),
    )


def token_of(row: Row) -> TokenRecord:
    return TokenRecord(
        TokenId(UUID(bytes=row[0])),
        row[1],
        Access(row[2]),
        texts_of(row[3]),
        at(row[4]),
        at(row[5]),
        instant(row[6]),
    )


REVOCATION_COLUMNS: Final = ("id", "created_at", "jti", "sub", "issued_before")


def revocation_row(revocation: Revocation) -> Row:
    return (
        revocation.id.bytes,
        microseconds(revocation.created_at),
        raw(revocation.jti),
        revocation.sub,
        stamp(revocation.issued_before),
    )


def revocation_of(row: Row) -> Revocation:
    jti = uuid(row[2])
    return Revocation(UUID(bytes=row[0]), at(row[1]), None if jti is None else TokenId(jti), row[3], instant(row[4]))


ANSWER_COLUMNS: Final = ("principal", "path", "key", "body_hash", "status", "answer", "expires_at")


def answer_row(answer: RememberedAnswer) -> Row:
    return (
        answer.principal,
        answer.path,
        answer.key,
        answer.body_hash,
        answer.status,
        as_json(answer.answer),
        microseconds(answer.expires_at),
    )


def answer_of(row: Row) -> RememberedAnswer:
    return RememberedAnswer(row[0], row[1], row[2], row[3], row[4], json.loads(row[5]), at(row[6]))
