"""The route table. The router, the OpenAPI document, `/docs` and the tests all read this one table."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from starlette.routing import Route

from qhronos_core.wiring import Core
from qhronos_mcp.rest import events, occurrences, schemas, service, tokens
from qhronos_mcp.rest.openapi import document
from qhronos_mcp.rest.operation import Answer, Door, Operation, Parameter
from qhronos_mcp.rest.resource import Doorkeeper, Resource
from qhronos_mcp.rest.schemas import array_of, listing, ref
from qhronos_mcp.verifier import Verifier

# --- parameters that several calls take -----------------------------------------------------------------

_DRY_RUN: Final = Parameter("dry_run", "Decide all of it, keep nothing.", schemas.FLAG)
_TAGS: Final = Parameter(
    "tags",
    "Any of these tags; with commas, or repeated. Empty: no filter.",
    array_of({"type": "string", "pattern": "^[^\\u0000]*$"}, maxItems=64),
    repeats=True,
)
_MATCH: Final = Parameter("match", "`all`: every one of the tags.", {"type": "string", "enum": ["any", "all"]})
_FROM: Final = Parameter("from", "Instants from this one on.", schemas.INSTANT)
_TO: Final = Parameter("to", "Instants before this one.", schemas.INSTANT)
_PAGING: Final = (
    Parameter("page", "Pages by number, from 1.", {"type": "integer", "minimum": 1, "maximum": 1_000_000}),
    Parameter("limit", "Items per page; default 50.", {"type": "integer", "minimum": 1, "maximum": 100}),
    Parameter(
        "cursor",
        "Pages by position, stable while rows are added: empty to begin, then each `next_cursor`.",
        {"type": "string", "maxLength": 512},
    ),
    Parameter("after", "Where an array of 1,000 goes on; its `Link` has it.", {"type": "string", "maxLength": 512}),
)
_OF_OCCURRENCES: Final = (
    _TAGS,
    _MATCH,
    Parameter("status", "Any of these.", schemas.words(*schemas.STATES), repeats=True),
    _FROM,
    _TO,
)
_RETRYABLE: Final = Parameter("status", "Either or both.", schemas.words("failed", "missed"), repeats=True)
_OF_ANY_EVENT: Final = Parameter("event_id", "Of this event.", schemas.UUID)
_ONCE: Final = Parameter(
    "Idempotency-Key",
    "Makes the call safe to repeat for 24 hours: the same key has the same answer.",
    {"type": "string", "pattern": "^[!#-~][!-~]{0,254}$"},
    place="header",
)

# --- answers --------------------------------------------------------------------------------------------

_LINK: Final = {"Link": 'Where a longer array goes on: <...>; rel="next".'}
_REPLAYED: Final = {"Idempotent-Replayed": "`true`: this was answered before."}


def _list_of(name: str, says: str) -> Mapping[int, Answer]:
    return {200: Answer(says, listing(name), headers=_LINK)}


def _one(name: str, says: str, status: int = 200, **more: Any) -> Mapping[int, Answer]:
    return {status: Answer(says, ref(name), **more)}


# --- the table ------------------------------------------------------------------------------------------

OPERATIONS: Final[Sequence[Operation]] = (
    Operation(
        "POST",
        "/tokens",
        tokens.mint_token,
        "Mint a token",
        "The master token only. The token is in this answer and in no other.",
        "Tokens",
        _one("MintedToken", "The token.", 201),
        errors=(400, 413),
        body=ref("NewToken"),
        example={"type": "jwt", "sub": "agent-7", "access": "write", "scope": ["user:rizqme"]},
    ),
    Operation(
        "GET",
        "/tokens",
        tokens.list_tokens,
        "List tokens",
        "What is kept of each, newest first; the master token only.",
        "Tokens",
        _list_of("Token", "Tokens."),
        errors=(400,),
        parameters=_PAGING,
    ),
    Operation(
        "DELETE",
        "/tokens/{jti}",
        tokens.revoke_token,
        "Revoke a token",
        "It stops within 5 seconds on every node. The master token only.",
        "Tokens",
        _one("RevokedToken", "Revoked."),
        errors=(400, 404),
        parameters=(Parameter("cascade", "Also pause the events it created.", schemas.FLAG),),
    ),
    Operation(
        "POST",
        "/events",
        events.create_event,
        "Create an event",
        "Or update the one with the same `key`: `result` says which it was.",
        "Events",
        {
            201: Answer("Created.", ref("Event"), headers=_REPLAYED),
            200: Answer("Found by its `key` (updated or unchanged), or a dry run.", ref("Event"), headers=_REPLAYED),
        },
        errors=(400, 404, 409, 413),
        parameters=(_DRY_RUN, _ONCE),
        body=ref("NewEvent"),
        example={
            "name": "Daily stand-up",
            "schedule": "every weekday at 9am",
            "timezone": "Europe/Paris",
            "tags": ["user:rizqme"],
            "key": "standup",
        },
    ),
    Operation(
        "GET",
        "/events",
        events.list_events,
        "List events",
        "Newest first, those the token reads.",
        "Events",
        _list_of("Event", "Events."),
        errors=(400,),
        parameters=(
            _TAGS,
            _MATCH,
            Parameter(
                "status",
                "Any of these.",
                schemas.words("active", "paused", "inactive"),
                repeats=True,
            ),
            Parameter("q", "Text in the name, key or description.", {"type": "string", "maxLength": 200}),
            Parameter("key", "The event with this key.", {"type": "string", "pattern": "^[A-Za-z0-9._:/-]{1,100}$"}),
            *_PAGING,
        ),
    ),
    Operation(
        "GET",
        "/events/{id}",
        events.get_event,
        "Get an event",
        "With what its schedule means and its next runs.",
        "Events",
        _one("Event", "The event."),
        errors=(400, 404),
    ),
    Operation(
        "PUT",
        "/events/{id}",
        events.update_event,
        "Change an event",
        "Only the fields named are written; null clears one; a change of nothing changes nothing.",
        "Events",
        _one("Event", "The event."),
        errors=(400, 404, 409, 413),
        parameters=(_DRY_RUN,),
        body=ref("EventChanges"),
        example={"status": "paused"},
    ),
    Operation(
        "DELETE",
        "/events/{id}",
        events.delete_event,
        "Delete an event",
        "For good: nothing more is sent. Attempts under way are left to finish.",
        "Events",
        _one("Event", "The event as it was, `deleted`."),
        errors=(400, 404, 409),
    ),
    Operation(
        "GET",
        "/events/{id}/occurrences",
        occurrences.list_event_occurrences,
        "List an event's occurrences",
        "Latest first.",
        "Events",
        _list_of("Occurrence", "Occurrences."),
        errors=(400, 404),
        parameters=(*_OF_OCCURRENCES, *_PAGING),
    ),
    Operation(
        "GET",
        "/events/{id}/preview",
        events.preview_event,
        "Preview an event's runs",
        "By the planner's own function; what is left out, or lost where clocks change, is among them and marked.",
        "Events",
        _one("Preview", "The next runs."),
        errors=(400, 404),
        parameters=(
            Parameter("count", "How many; default 5.", {"type": "integer", "minimum": 1, "maximum": 100}),
            Parameter("from", "Runs from this instant on; default now.", schemas.INSTANT),
        ),
    ),
    Operation(
        "POST",
        "/events/{id}/trigger",
        events.trigger_event,
        "Run an event now",
        "One more occurrence, due now; the schedule does not move. Also while paused or inactive.",
        "Events",
        _one("Occurrence", "The new occurrence.", 201, headers=_REPLAYED),
        errors=(400, 404, 409, 413),
        parameters=(_ONCE,),
        body=ref("Nothing"),
        body_required=False,
    ),
    Operation(
        "GET",
        "/occurrences",
        occurrences.list_occurrences,
        "List occurrences",
        "Latest first, of the events the token reads.",
        "Occurrences",
        _list_of("Occurrence", "Occurrences."),
        errors=(400, 404),
        parameters=(_OF_ANY_EVENT, *_OF_OCCURRENCES, *_PAGING),
    ),
    Operation(
        "POST",
        "/occurrences/retry",
        occurrences.retry_occurrences,
        "Send all that match again",
        "Every failed or missed occurrence that matches and may be written, at most 1,000.",
        "Occurrences",
        {
            200: Answer(
                "Those that are pending again; or, in a dry run, that would be.",
                array_of(ref("Occurrence")),
                headers=_REPLAYED,
            )
        },
        errors=(400, 404, 409, 413),
        parameters=(_DRY_RUN, _ONCE, _OF_ANY_EVENT, _TAGS, _MATCH, _RETRYABLE, _FROM, _TO),
        body=ref("Nothing"),
        body_required=False,
    ),
    Operation(
        "GET",
        "/occurrences/{id}",
        occurrences.get_occurrence,
        "Get an occurrence",
        "What became of one instant.",
        "Occurrences",
        _one("Occurrence", "The occurrence."),
        errors=(400, 404),
    ),
    Operation(
        "GET",
        "/occurrences/{id}/attempts",
        occurrences.list_attempts,
        "List an occurrence's attempts",
        "First attempt first.",
        "Occurrences",
        {200: Answer("Attempts.", array_of(ref("Attempt")))},
        errors=(400, 404),
        parameters=(
            Parameter(
                "include", "`response`: with what the receiver answered.", {"type": "string", "enum": ["response"]}
            ),
        ),
    ),
    Operation(
        "POST",
        "/occurrences/{id}/ack",
        occurrences.acknowledge_occurrence,
        "Acknowledge an occurrence",
        "`done`, `failed`, or `later`. The same outcome again has the same answer.",
        "Occurrences",
        _one("Occurrence", "The occurrence.", headers=_REPLAYED),
        errors=(400, 404, 409, 413),
        parameters=(_ONCE,),
        body=ref("Acknowledgement"),
        example={"outcome": "done"},
    ),
    Operation(
        "POST",
        "/occurrences/{id}/retry",
        occurrences.retry_occurrence,
        "Send an occurrence again",
        "A failed or missed one, with the same id and a new round of attempts.",
        "Occurrences",
        _one("Occurrence", "Pending again.", headers=_REPLAYED),
        errors=(400, 404, 409, 413),
        parameters=(_ONCE,),
        body=ref("Nothing"),
        body_required=False,
    ),
    Operation(
        "GET",
        "/audit",
        tokens.list_audit,
        "Who did what",
        "Allowed or refused, newest first; admins and the master.",
        "Service",
        _list_of("AuditEntry", "Entries."),
        errors=(400,),
        parameters=(_FROM, *_PAGING),
    ),
    Operation(
        "GET",
        "/health",
        service.health,
        "Whether it lives",
        "With `ready=true`, whether it takes work: 503 while stopping, or without a store that can be written.",
        "Service",
        _one("Health", "It does."),
        door=Door.OPEN,
        errors=(400,),
        parameters=(Parameter("ready", "Also ask whether it takes work.", schemas.FLAG),),
    ),
    Operation(
        "GET",
        "/status",
        service.status,
        "How it is",
        "More with a token.",
        "Service",
        _one("Status", "How it is."),
        door=Door.AJAR,
    ),
    Operation(
        "GET",
        "/metrics",
        service.metrics,
        "Figures",
        "Prometheus text; an admin token, the master token, or `metrics.token`.",
        "Service",
        {200: Answer("Figures.", schemas.TEXT, media="text/plain")},
        door=Door.METRICS,
    ),
    Operation(
        "GET",
        "/openapi.json",
        service.openapi,
        "This document",
        "OpenAPI 3.1.",
        "Service",
        {200: Answer("The document.", {"type": "object"})},
        door=Door.OPEN,
    ),
)


def rest_routes(core: Core, verifier: Verifier) -> list[Route]:
    """One route per path; a path's methods are its resource's own affair, so that `Allow` is complete."""
    keeper = Doorkeeper(core, verifier)
    by_path = groupby(sorted(OPERATIONS, key=_fixed_before_named), key=lambda operation: operation.path)
    return [Route(path, Resource(list(operations), keeper)) for path, operations in by_path]


def _fixed_before_named(operation: Operation) -> tuple[bool, str]:
    """`/occurrences/retry` must be looked at before `/occurrences/{id}`."""
    return "{" in operation.path, operation.path


def openapi_document() -> dict[str, Any]:
    return document(OPERATIONS, version=service.VERSION)
