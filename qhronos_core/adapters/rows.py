"""How domain values are written in a row, the same in both stores.

JSON texts where a value has structure; lengths of time as whole microseconds. A value read back
equals the value written.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import timedelta
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

from qhronos_core.domain.access import Access, Principal
from qhronos_core.domain.event import Ack, Action, ActionType, CatchUp, Event, Overlap, Policies
from qhronos_core.domain.ids import EventId
from qhronos_core.domain.retry import RetryPolicy
from qhronos_core.ports import InboxQuery

_MICROSECOND: Final = timedelta(microseconds=1)


def as_json(value: Any) -> str:
    """JSON of a value made of dicts, lists, strings, numbers, booleans and None; the order of keys is kept."""
    return _ENCODER.encode(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Iterable):
        return list(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain)


@lru_cache(maxsize=4096)
def texts_of(text: str) -> tuple[str, ...]:
    """A JSON array of strings: tags, labels, exclusions, scope."""
    return tuple(json.loads(text))


def action_json(action: Action) -> str:
    return as_json({"type": action.type, "params": action.params})


def action_of(text: str) -> Action:
    read = json.loads(text)
    return Action(ActionType(read["type"]), read["params"])


@lru_cache(maxsize=1024)
def policies_json(policies: Policies) -> str:
    retry = policies.retry
    return as_json(
        {
            "catch_up": policies.catch_up,
            "overlap": policies.overlap,
            "expires_after": _length(policies.expires_after) if policies.expires_after is not None else None,
            "ack": policies.ack,
            "ack_timeout": _length(policies.ack_timeout),
            "retry": {"max_attempts": retry.max_attempts, "delays": [_length(delay) for delay in retry.delays]},
        }
    )


@lru_cache(maxsize=1024)
def policies_of(text: str) -> Policies:
    read = json.loads(text)
    retry = read["retry"]
    return Policies(
        catch_up=CatchUp(read["catch_up"]),
        overlap=Overlap(read["overlap"]),
        expires_after=None if read["expires_after"] is None else read["expires_after"] * _MICROSECOND,
        ack=Ack(read["ack"]),
        ack_timeout=read["ack_timeout"] * _MICROSECOND,
        retry=RetryPolicy(retry["max_attempts"], tuple(delay * _MICROSECOND for delay in retry["delays"])),
    )


def _length(length: timedelta) -> int:
    return length // _MICROSECOND


def likeness(event: Event) -> bytes:
    """Sixteen bytes that are equal for events with the same schedule, zone and action (`Events.look_alikes`)."""
    same = json.dumps(
        [event.schedule, event.timezone, event.action.type, event.action.params], sort_keys=True, default=_plain
    )
    return hashlib.sha256(same.encode()).digest()[:16]


def inbox_query_json(query: InboxQuery) -> str:
    event_id = None if query.event_id is None else str(query.event_id)
    return as_json({"limit": query.limit, "event_id": event_id, "tags": query.tags})


def inbox_query_of(text: str) -> InboxQuery:
    read = json.loads(text)
    event_id = None if read["event_id"] is None else EventId(UUID(read["event_id"]))
    return InboxQuery(read["limit"], event_id, tuple(read["tags"]))


def principal_json(principal: Principal) -> str:
    return as_json(
        {
            "sub": principal.sub,
            "access": principal.access.value,
            "scope": sorted(principal.scope),
            "jti": None if principal.jti is None else str(principal.jti),
            "master": principal.master,
            "holder": principal.holder,
            "expires_at": principal.expires_at,
        }
    )


def principal_of(text: str) -> Principal:
    read = json.loads(text)
    return Principal(
        sub=read["sub"],
        access=Access(read["access"]),
        scope=frozenset(read["scope"]),
        jti=None if read["jti"] is None else UUID(read["jti"]),
        master=read["master"],
        holder=read["holder"],
        expires_at=read["expires_at"],
    )
