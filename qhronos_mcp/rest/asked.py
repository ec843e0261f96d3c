"""What a request asks: its caller, its ids, its parameters, its body. Everything read here is refused here."""

import asyncio
import difflib
import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, Final, TypeVar
from uuid import UUID

from starlette.requests import Request

from qhronos_core.domain.access import Principal
from qhronos_core.domain.errors import Fault, InvalidInputError, TooLargeError
from qhronos_core.domain.event import EventStatus
from qhronos_core.domain.ids import EventId
from qhronos_core.domain.lifecycle import State
from qhronos_core.domain.plain import printable
from qhronos_core.domain.schedule import parse_instant
from qhronos_core.ports import EventQuery, OccurrenceQuery, Rendered
from qhronos_core.usecases.once import Once
from qhronos_core.wiring import Core
from qhronos_mcp import strict_json
from qhronos_mcp.middleware import facts_of

BODY_LIMIT: Final = 1_048_576
BODY_WITHIN: Final = 60  # seconds
TAGS_LIMIT: Final = 64
TAG_LIMIT: Final = 128
TEXT_LIMIT: Final = 200
KEY: Final = re.compile(r"[A-Za-z0-9._:/-]{1,100}")

_CANONICAL_UUID: Final = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_WHOLE: Final = re.compile(r"[0-9]{1,9}")
_IDEMPOTENCY_KEY: Final = re.compile(r'"([\x21-\x7e]{1,255})"|((?!")[\x21-\x7e]{1,255})')
_LOST_PLUS: Final = re.compile(r"(.*:[0-9]{2}(?:\.[0-9]+)?) ([0-9]{2}:[0-9]{2})")

T = TypeVar("T")


def core_of(request: Request) -> Core:
    core: Core = request.app.state.core
    return core


def caller_of(request: Request) -> Principal:
    """Who came through the door. An operation whose door is not shut has no caller to ask for."""
    caller = facts_of(request.scope).caller
    if caller is None:
        raise LookupError("this operation's door let a request in without a caller")
    return caller


def id_in(request: Request, name: str = "id") -> UUID:
    """The id in the path: a UUID as it is always written, hyphens and all."""
    text = request.path_params[name]
    if not _CANONICAL_UUID.fullmatch(text):
        raise InvalidInputError.of(name, "Not a UUID.", code="invalid_id", got=text)
    return UUID(text)


# --- the query ----------------------------------------------------------------------------------------


def one(request: Request, name: str) -> str | None:
    """The value of a parameter that may be given once."""
    values = request.query_params.getlist(name)
    if len(values) > 1:
        raise InvalidInputError.of(name, "Given more than once.", got=values[:10])
    if values and "\x00" in values[0]:
        raise InvalidInputError.of(name, "NUL is refused in any text.", code="bad_text")
    return values[0] if values else None


def only(request: Request, *known: str) -> None:
    """For a call that changes all that match: a filter that is not known would be no filter.

    Raises:
        InvalidInputError: a parameter with another name, with the nearest known one.
    """
    for name in request.query_params:
        if name not in known:
            near = difflib.get_close_matches(name[:40], known, n=1, cutoff=0.0)[0]
            why = f"No such parameter; the nearest is {near}."
            raise InvalidInputError.of(printable(name), why, code="unknown_parameter")


def flag(request: Request, name: str) -> bool:
    if (text := one(request, name)) is None:
        return False
    if text not in ("true", "false"):
        raise InvalidInputError.of(name, "Either true or false.", got=text, fix=[{name: "true"}])
    return text == "true"


def whole(request: Request, name: str, *, least: int, most: int) -> int | None:
    if (text := one(request, name)) is None:
        return None
    if not _WHOLE.fullmatch(text) or not least <= int(text) <= most:
        fix = least if not _WHOLE.fullmatch(text) or int(text) < least else most
        raise InvalidInputError.of(name, f"A whole number from {least} to {most}.", got=text, fix=[{name: fix}])
    return int(text)


def word(request: Request, name: str, known: Mapping[str, T]) -> T | None:
    if (text := one(request, name)) is None:
        return None
    if text not in known:
        fix: list[dict[str, object]] = [{name: each} for each in list(known)[:3]]
        raise InvalidInputError.of(name, f"One of {', '.join(known)}.", got=text, fix=fix)
    return known[text]


def words(request: Request, name: str, known: Mapping[str, T]) -> frozenset[T]:
    """A list with commas, or a repeated parameter. Empty: no filter."""
    return frozenset(_known(name, each, known) for each in _listed(request, name))


def _known(name: str, text: str, known: Mapping[str, T]) -> T:
    if text not in known:
        raise InvalidInputError.of(name, f"Each one of {', '.join(known)}.", got=text)
    return known[text]


def instant_in(request: Request, name: str) -> datetime | None:
    """An RFC 3339 instant with its offset. A `+` that the query turned into a space is one again."""
    if (text := one(request, name)) is None:
        return None
    lost = _LOST_PLUS.fullmatch(text)
    return parse_instant(f"{lost[1]}+{lost[2]}" if lost else text, field=name, timezone=None)


def _listed(request: Request, name: str) -> list[str]:
    parts = [part for value in request.query_params.getlist(name) for part in value.split(",") if part]
    for part in parts:
        if "\x00" in part:
            raise InvalidInputError.of(name, "NUL is refused in any text.", code="bad_text")
    return parts


def _tags(request: Request) -> tuple[str, ...]:
    tags = tuple(dict.fromkeys(_listed(request, "tags")))
    if len(tags) > TAGS_LIMIT:
        raise InvalidInputError.of("tags", f"At most {TAGS_LIMIT} tags.", got=len(tags))
    for tag in tags:
        if len(tag) > TAG_LIMIT:
            raise InvalidInputError.of("tags", f"A tag has at most {TAG_LIMIT} characters.", got=tag)
    return tags


_MATCH: Final = {"any": False, "all": True}
_STATES: Final = {state.value: state for state in State}
_STATUSES: Final = {status.value: status for status in EventStatus if status is not EventStatus.DELETED}


def event_query(request: Request) -> EventQuery:
    text, key = one(request, "q"), one(request, "key")
    if text is not None and len(text) > TEXT_LIMIT:
        raise InvalidInputError.of("q", f"At most {TEXT_LIMIT} characters.", got=text)
    if key is not None and not KEY.fullmatch(key):
        raise InvalidInputError.of("key", "1 to 100 of A-Z a-z 0-9 . _ : / -", got=key)
    return EventQuery(
        tags=_tags(request),
        match_all=word(request, "match", _MATCH) or False,
        statuses=words(request, "status", _STATUSES),
        text=text or None,
        key=key,
    )


def occurrence_query(request: Request, event_id: UUID | None = None) -> OccurrenceQuery:
    if event_id is None and (text := one(request, "event_id")) is not None:
        if not _CANONICAL_UUID.fullmatch(text):
            raise InvalidInputError.of("event_id", "Not a UUID.", code="invalid_id", got=text)
        event_id = UUID(text)
    since, until = instant_in(request, "from"), instant_in(request, "to")
    return OccurrenceQuery(
        event_id=None if event_id is None else EventId(event_id),
        tags=_tags(request),
        match_all=word(request, "match", _MATCH) or False,
        states=words(request, "status", _STATES),
        since=since,
        until=until,
    )


# --- the body -----------------------------------------------------------------------------------------


async def fields_in(
    request: Request,
    *,
    judged: Callable[[], Awaitable[object]],
    read: Callable[[bytes], Mapping[str, Any]] = strict_json.read_object,
) -> Mapping[str, Any]:
    """The body as `read` reads it. A bad one is refused only after `judged` has judged the caller (access.md R8).

    Raises:
        TooLargeError: over 1 MiB; no more than that is ever read.
        InvalidInputError: what `read` refuses.
        NotFoundError, ForbiddenError: of `judged`.
    """
    try:
        return read(await body_of(request))
    except InvalidInputError as unreadable:
        with suppress(InvalidInputError):
            await judged()
        raise unreadable


async def body_of(request: Request) -> bytes:
    """The whole body, read piece by piece, or refused as soon as it is over 1 MiB."""
    refuse_long_body(request)
    if (kept := request.scope.get(_KEPT)) is not None:
        return bytes(kept)
    try:
        async with asyncio.timeout(BODY_WITHIN):
            body = await _read_body(request)
    except TimeoutError:
        raise InvalidInputError.of("body", f"It did not come within {BODY_WITHIN} s.", code="incomplete") from None
    request.scope[_KEPT] = body
    return body


async def _read_body(request: Request) -> bytes:
    body = bytearray()
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise InvalidInputError.of("body", "It ended early.", code="incomplete")
        body += message.get("body", b"")
        if len(body) > BODY_LIMIT:
            raise _too_large()
        if not message.get("more_body", False):
            return bytes(body)


_KEPT: Final = "qhronos.body"
_LENGTH: Final = re.compile(r"0*([0-9]+)")


def refuse_long_body(request: Request) -> None:
    """Refuse by the declared length alone, before a byte is read."""
    declared = _LENGTH.fullmatch(request.headers.get("content-length", ""))
    if declared is not None and (len(declared[1]) > len(str(BODY_LIMIT)) or int(declared[1]) > BODY_LIMIT):
        raise _too_large()


def fields_of_an_event(body: bytes) -> Mapping[str, Any]:
    """Unread: what is wrong with the text of a field is told by the field's own reader."""
    return strict_json.read_object(body, any_text=True)


def no_fields(body: bytes) -> Mapping[str, Any]:
    """Of a call that takes no fields: nothing, or an empty object."""
    fields = strict_json.read_object(body) if body.strip() else {}
    for name in fields:
        raise InvalidInputError.of(name, "This call takes no fields.", code="unknown_field")
    return fields


def _too_large() -> TooLargeError:
    return TooLargeError(faults=[Fault("body", TooLargeError.code, "Over 1 MiB.")])


# --- repeats ------------------------------------------------------------------------------------------


async def once_of(
    request: Request, render: Callable[[Any], tuple[int, Rendered]], *, filtered: bool = False
) -> Once | None:
    """The request's `Idempotency-Key`, bound to its token, path and body; None if it has none.

    Two bodies are the same if they say the same: members in another order, other spaces, or nothing for `{}`
    make no other request. `filtered`: what the request says stands in its query too.
    """
    given = request.headers.getlist("idempotency-key")
    if not given:
        return None
    found = _IDEMPOTENCY_KEY.fullmatch(given[0])
    if found is None or len(given) > 1:
        raise InvalidInputError.of("Idempotency-Key", "One key of 1 to 255 visible ASCII characters.", got=given[0])
    body = await body_of(request)
    said = json.dumps(strict_json.read(body, any_text=True) if body.strip() else {}, sort_keys=True)
    if filtered:
        said += json.dumps(sorted(request.query_params.multi_items()))
    return Once(
        principal=caller_of(request).holder,
        path=f"{request.method} {request.url.path}",
        key=found[1] or found[2],
        body_hash=hashlib.sha256(said.encode()).digest(),
        render=render,
    )
