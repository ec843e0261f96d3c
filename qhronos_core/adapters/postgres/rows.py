"""Rows to values and back: the columns of each table, and the documents in which many rows travel at once.

Many rows are sent as one JSON parameter, read by `json_to_recordset`: the driver's arrays cost several times more.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any, Final, LiteralString
from uuid import UUID

import orjson

from qhronos_core.adapters.rows import action_json, action_of, as_json, likeness, policies_json, policies_of
from qhronos_core.domain.access import Access
from qhronos_core.domain.event import Event, EventStatus
from qhronos_core.domain.lifecycle import State
from qhronos_core.domain.occurrence import Attempt, AttemptOutcome, Cause, Entry, EntryKind, Held, Occurrence, Reason
from qhronos_core.ports import RememberedAnswer, Revocation, TokenRecord

Row = tuple[Any, ...]

_NUL: Final = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")

# --- documents ------------------------------------------------------------------------------------


def document(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows for `json_to_recordset`. What a row leaves out is NULL. PostgreSQL takes no NUL character: it becomes U+FFFD."""
    raw = orjson.dumps(rows, default=dict)
    if b"\\u0000" in raw:
        raw = _NUL.sub(rb"\1\\ufffd", raw)
    return raw.decode()


def uuids(ids: Iterable[UUID]) -> str:
    """For `%(ids)s::uuid[]`."""
    return "{" + ",".join(map(str, ids)) + "}"


# --- occurrences ----------------------------------------------------------------------------------

_STATES: Final = {state.value: state for state in State}
_CAUSES: Final = {cause.value: cause for cause in Cause}
_HELD: Final[Mapping[str | None, Held | None]] = {None: None, **{held.value: held for held in Held}}
_REASONS: Final[Mapping[str | None, Reason | None]] = {None: None, **{reason.value: reason for reason in Reason}}

OCCURRENCE_NAMES: Final = tuple(part.name for part in fields(Occurrence))
OCCURRENCE: Final[LiteralString] = """
    o.id, o.event_id, o.scheduled_at, o.created_at, o.updated_at, o.round_began_at, o.due_at, o.cause, o.state, o.advances,
    o.ordinal, o.fence, o.attempts_made, o.attempts_before, o.round, o.event_version, o.held, o.inbox_at, o.lease_until,
    o.node, o.holder, o.claimed_at, o.missed, o.missed_since, o.reason, o.note, o.acknowledged_at, o.finished_at,
    o.lane, o.deliveries"""
OCCURRENCE_TYPES: Final[LiteralString] = """
    id uuid, event_id uuid, scheduled_at timestamptz, created_at timestamptz, updated_at timestamptz,
    round_began_at timestamptz, due_at timestamptz, cause text, state text, advances boolean, ordinal int, fence int,
    attempts_made int, attempts_before int, round int, event_version int, held text, inbox_at timestamptz,
    lease_until timestamptz, node text, holder text, claimed_at timestamptz, missed int, missed_since timestamptz,
    reason text, note text, acknowledged_at timestamptz, finished_at timestamptz,
    lane int, deliveries int"""
OCCURRENCE_COLUMNS: Final[LiteralString] = """
    id, event_id, scheduled_at, created_at, updated_at, round_began_at, due_at, cause, state, advances, ordinal, fence,
    attempts_made, attempts_before, round, event_version, held, inbox_at, lease_until, node, holder, claimed_at, missed,
    missed_since, reason, note, acknowledged_at, finished_at, lane, deliveries"""


def occurrence_of(row: Row) -> Occurrence:
    """From the columns `OCCURRENCE`, in their order, which is the order of the fields."""
    values = list(row)
    values[7] = _CAUSES[row[7]]
    values[8] = _STATES[row[8]]
    values[16] = _HELD[row[16]]
    values[24] = _REASONS[row[24]]
    return Occurrence(*values)


def occurrence_row(occurrence: Occurrence) -> dict[str, Any]:
    """All of it that is not None, for a document."""
    return {name: value for name in OCCURRENCE_NAMES if (value := getattr(occurrence, name)) is not None}


# --- attempts and entries -------------------------------------------------------------------------

_OUTCOMES: Final = {outcome.value: outcome for outcome in AttemptOutcome}
_ATTEMPT_NAMES: Final = tuple(part.name for part in fields(Attempt))
ATTEMPT: Final[LiteralString] = """
    occurrence_id, number, started_at, finished_at, outcome, status_code, error, duration_ms, retry_at, destination,
    response, node"""
ATTEMPT_TYPES: Final[LiteralString] = """
    occurrence_id uuid, number int, started_at timestamptz, finished_at timestamptz, outcome text, status_code int,
    error text, duration_ms int, retry_at timestamptz, destination text, response bytea, node text"""


def attempt_of(row: Row) -> Attempt:
    values = list(row)
    values[4] = _OUTCOMES[row[4]]
    return Attempt(*values)


def attempt_row(attempt: Attempt) -> dict[str, Any]:
    row = {name: value for name in _ATTEMPT_NAMES if (value := getattr(attempt, name)) is not None}
    if attempt.response is not None:
        row["response"] = "\\x" + attempt.response.hex()
    return row


ENTRY: Final[LiteralString] = "at, kind, event_id, occurrence_id, actor, detail"
ENTRY_TYPES: Final[LiteralString] = (
    "at timestamptz, kind text, event_id uuid, occurrence_id uuid, actor text, detail json"
)


def entry_of(row: Row) -> Entry:
    at, kind, event_id, occurrence_id, actor, detail = row
    return Entry(at, EntryKind(kind), event_id, occurrence_id, actor, detail)


def entry_row(entry: Entry) -> dict[str, Any]:
    return {
        "at": entry.at,
        "kind": entry.kind,
        "event_id": entry.event_id,
        "occurrence_id": entry.occurrence_id,
        "actor": entry.actor,
        "detail": entry.detail,
    }


# --- events ---------------------------------------------------------------------------------------

_EVENT_NAMES: Final = tuple(part.name for part in fields(Event))
EVENT: Final[LiteralString] = """
    e.id, e.created_by, e.name, e.schedule, e.anchor_at, e.created_at, e.updated_at, e.created_jti, e.caused_by,
    e.chain_depth, e.runs_per_day, e.key, e.description, e.timezone, e.start_time, e.end_time, e.max_occurrences,
    e.exclusions, e.action::text, e.secrets, e.hmac_secret_set, e.metadata, e.tags, e.labels, e.policies::text,
    e.version, e.status, e.paused_at, e.paused_until, e.paused_reason, e.deleted_at"""
EVENT_COLUMNS: Final[LiteralString] = """
    id, created_by, name, schedule, anchor_at, created_at, updated_at, created_jti, caused_by, chain_depth,
    runs_per_day, key, description, timezone, start_time, end_time, max_occurrences, exclusions, action, secrets,
    hmac_secret_set, metadata, tags, labels, policies, version, status, paused_at, paused_until, paused_reason,
    deleted_at, action_type, folded, likeness"""
EVENT_VALUES: Final[LiteralString] = """
    %(id)s, %(created_by)s, %(name)s, %(schedule)s, %(anchor_at)s, %(created_at)s, %(updated_at)s, %(created_jti)s,
    %(caused_by)s, %(chain_depth)s, %(runs_per_day)s, %(key)s, %(description)s, %(timezone)s, %(start_time)s,
    %(end_time)s, %(max_occurrences)s, %(exclusions)s, %(action)s, %(secrets)s, %(hmac_secret_set)s, %(metadata)s,
    %(tags)s, %(labels)s, %(policies)s, %(version)s, %(status)s, %(paused_at)s, %(paused_until)s, %(paused_reason)s,
    %(deleted_at)s, %(action_type)s, %(folded)s, %(likeness)s"""


def event_of(row: Row) -> Event:
    """From the columns `EVENT`, most of which stand in the order of the fields."""
    values = list(row)
    values[17] = tuple(row[17])
    values[18] = action_of(row[18])
    values[22] = tuple(row[22])
    values[23] = frozenset(row[23])
    values[24] = policies_of(row[24])
    values[26] = EventStatus(row[26])
    return Event(*values)


def event_row(event: Event) -> dict[str, Any]:
    """Parameters for `EVENT_VALUES`."""
    return {
        **{name: getattr(event, name) for name in _EVENT_NAMES},
        "schedule": as_json(event.schedule),
        "exclusions": list(event.exclusions),
        "action_type": event.action.type.value,
        "action": action_json(event.action),
        "metadata": as_json(event.metadata),
        "tags": list(event.tags),
        "labels": sorted(event.labels),
        "policies": policies_json(event.policies),
        "status": event.status.value,
        "folded": "\n".join((event.name, event.key or "", event.description)).casefold(),
        "likeness": likeness(event),
    }


# --- tokens and answers ---------------------------------------------------------------------------


def token_of(row: Row) -> TokenRecord:
    return TokenRecord(row[0], row[1], Access(row[2]), tuple(row[3]), *row[4:])


def revocation_of(row: Row) -> Revocation:
    return Revocation(*row)


def answer_of(row: Row) -> RememberedAnswer:
    return RememberedAnswer(*row)
