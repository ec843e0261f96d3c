"""The shapes of rest.md §2: what an event, an occurrence, an attempt and a token look like from outside."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from qhronos_core.domain.event import Action, ActionType, Event
from qhronos_core.domain.lifecycle import PENDING
from qhronos_core.domain.occurrence import Attempt, Entry, EntryKind, Occurrence
from qhronos_core.domain.schedule import Run, say_duration, say_instant
from qhronos_core.ports import TokenRecord
from qhronos_core.usecases.events import EventAnswer
from qhronos_core.usecases.tokens import Minted, Revoked

View = dict[str, Any]
"""A JSON object made of plain values: text, numbers, booleans, lists, objects, null."""

HIDDEN: Final = "***"
RESPONSE_LIMIT: Final = 65_536  # bytes of a receiver's answer that are ever shown


def instant(at: datetime) -> str:
    """RFC 3339 in UTC with `Z`; no fraction when it is zero."""
    return say_instant(at)


def optional_instant(at: datetime | None) -> str | None:
    return None if at is None else instant(at)


def optional_epoch(seconds: int | None) -> str | None:
    return None if seconds is None else instant(datetime.fromtimestamp(seconds, UTC))


def duration(length: timedelta) -> str:
    """The text `schedules.md` §3 reads back as the same length: `90s` is `1m30s`, a week is `1w`."""
    return say_duration(length)


def optional_duration(length: timedelta | None) -> str | None:
    return None if length is None else duration(length)


def action(of: Action) -> View:
    """As given, but for the values of secret headers: `***`."""
    params = dict(of.params)
    if of.type is ActionType.APICALL and isinstance(headers := params.get("headers"), Mapping):
        secret = {name.lower() for name in params.get("secret_headers", ())} | {"authorization"}
        params["headers"] = {name: HIDDEN if name.lower() in secret else value for name, value in headers.items()}
    return {"type": of.type.value, "params": params}


def webhook(of: Action) -> str | None:
    """The later dialect's one-line form of the action, where it has one."""
    if of.type is ActionType.WEBHOOK:
        return str(of.params["url"])
    if of.type is ActionType.WEBSOCKET:
        return f"q:{of.params['client_name']}"
    return None


def event(of: Event) -> View:
    """The stored fields of an event; what is computed (meaning, next runs, notes) is added by the answer that knows it."""
    policies = of.policies
    shown: View = {
        "id": str(of.id),
        "name": of.name,
        "description": of.description,
        "schedule": of.schedule,
        "timezone": of.timezone,
        "start_time": optional_instant(of.start_time),
        "end_time": optional_instant(of.end_time),
        "max_occurrences": of.max_occurrences,
        "exclusions": list(of.exclusions),
        "tags": list(of.tags),
        "metadata": of.metadata,
        "action": action(of.action),
        "key": of.key,
        "catch_up": policies.catch_up.value,
        "overlap": policies.overlap.value,
        "expires_after": optional_duration(policies.expires_after),
        "ack": policies.ack.value,
        "ack_timeout": duration(policies.ack_timeout),
        "retry": {
            "max_attempts": policies.retry.max_attempts,
            "delays": [duration(delay) for delay in policies.retry.delays],
        },
        "status": of.status.value,
        "paused_until": optional_instant(of.paused_until),
        "paused_reason": of.paused_reason,
        "hmac_secret_set": of.hmac_secret_set,
        "created_by": of.created_by,
        "caused_by": None if of.caused_by is None else str(of.caused_by),
        "created_at": instant(of.created_at),
        "updated_at": instant(of.updated_at),
    }
    if (given := webhook(of.action)) is not None:
        shown["webhook"] = given
    return shown


def answered_event(of: EventAnswer) -> View:
    """The event with what its schedule means, and what this call did. A dry run of a new one has no id yet."""
    shown = event(of.event)
    if not of.stored:
        del shown["id"]
    shown |= {
        "meaning": of.meaning,
        "next_run_at": optional_instant(of.next_run_at),
        "next_runs": [run(each) for each in of.next_runs],
    }
    if of.result is not None:
        shown |= {"result": of.result, "warnings": [notice.says for notice in of.warnings]}
    if of.secret_once is not None:
        shown["hmac_secret"] = of.secret_once
    return shown


def run(of: Run) -> View:
    """One instant ahead, also as the wall of the event's zone shows it."""
    shown: View = {"at": instant(of.at), "local": of.local.isoformat(), "weekday": of.weekday, "note": of.note}
    return shown


def occurrence(of: Occurrence) -> View:
    """`due_at` is the next attempt's instant: nothing else that a row waits for is told under that name."""
    shown: View = {
        "id": str(of.id),
        "event_id": str(of.event_id),
        "scheduled_at": instant(of.scheduled_at),
        "status": of.state.value,
        "cause": of.cause.value,
        "due_at": optional_instant(of.due_at) if of.state is PENDING else None,
        "attempts_made": of.attempts_made,
        "reason": None if of.reason is None else of.reason.value,
        "acknowledged_at": optional_instant(of.acknowledged_at),
        "note": of.note,
        "finished_at": optional_instant(of.finished_at),
        "created_at": instant(of.created_at),
        "updated_at": instant(of.updated_at),
    }
    if of.missed is not None:
        shown["caught_up"] = {"missed": of.missed, "since": optional_instant(of.missed_since)}
    return shown


def attempt(of: Attempt, *, with_response: bool = False) -> View:
    shown: View = {
        "number": of.number,
        "started_at": instant(of.started_at),
        "finished_at": instant(of.finished_at),
        "node": of.node,
        "destination": of.destination,
        "outcome": of.outcome.value,
        "status_code": of.status_code,
        "error": of.error,
        "duration_ms": of.duration_ms,
        "retry_at": optional_instant(of.retry_at),
    }
    if with_response:
        answered = of.response
        shown["response"] = None if answered is None else answered[:RESPONSE_LIMIT].decode("utf-8", "replace")
    return shown


def token(of: TokenRecord) -> View:
    """What is kept of a token; never the token."""
    shown: View = {
        "jti": str(of.jti),
        "sub": of.sub,
        "access": of.access.value,
        "scope": list(of.scope),
        "issued_at": instant(of.issued_at),
        "expires_at": instant(of.expires_at),
    }
    if of.revoked_at is not None:
        shown["revoked_at"] = instant(of.revoked_at)
    return shown


def audit(of: Entry) -> View:
    """Who did what, and whether it was allowed."""
    return {
        "at": instant(of.at),
        "actor": of.actor,
        "what": of.kind.value,
        "allowed": of.kind is not EntryKind.ACCESS_REFUSED,
        "event_id": None if of.event_id is None else str(of.event_id),
        "occurrence_id": None if of.occurrence_id is None else str(of.occurrence_id),
        "detail": dict(of.detail),
    }


def minted(of: Minted) -> View:
    """The seed's shape; the only view that ever holds a token."""
    record = of.record
    return {
        "token": of.token,
        "type": "jwt",
        "sub": record.sub,
        "access": record.access.value,
        "scope": list(record.scope),
        "expires_at": instant(record.expires_at),
        "jti": str(record.jti),
        "warnings": [notice.says for notice in of.warnings],
    }


def revoked(of: Revoked) -> View:
    return {"jti": str(of.jti), "revoked_at": instant(of.revoked_at)}
