"""Occurrences: what happened and what is coming, their attempts, and the last word about them."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from qhronos_core.domain.errors import Fault, InvalidInputError
from qhronos_core.domain.ids import EventId
from qhronos_core.ports import OccurrenceQuery
from qhronos_core.usecases.occurrences import OccurrenceAnswer
from qhronos_mcp import strict_json, views
from qhronos_mcp.rest.answers import shown
from qhronos_mcp.rest.asked import (
    caller_of,
    core_of,
    fields_in,
    flag,
    id_in,
    no_fields,
    occurrence_query,
    once_of,
    only,
    word,
)
from qhronos_mcp.rest.lists import listed


async def list_occurrences(request: Request) -> Response:
    return await _listed(request, occurrence_query(request))


async def list_event_occurrences(request: Request) -> Response:
    """As `list_occurrences`, of one event; one out of reach is 404."""
    return await _listed(request, occurrence_query(request, EventId(id_in(request))))


async def _listed(request: Request, query: OccurrenceQuery) -> Response:
    occurrences, caller = core_of(request).occurrences, caller_of(request)
    return await listed(request, lambda page, count: occurrences.list(query, page, caller=caller, count=count), _view)


async def get_occurrence(request: Request) -> Response:
    return shown(_view(await core_of(request).occurrences.get(id_in(request), caller=caller_of(request))))


async def list_attempts(request: Request) -> Response:
    with_response = word(request, "include", {"response": True}) or False
    attempts = await core_of(request).occurrences.attempts(id_in(request), caller=caller_of(request))
    return shown([views.attempt(each, with_response=with_response) for each in attempts])


async def acknowledge_occurrence(request: Request) -> Response:
    """The same outcome again has the same answer."""
    occurrences, occurrence_id, caller = core_of(request).occurrences, id_in(request), caller_of(request)
    said = await fields_in(
        request, judged=lambda: occurrences.acknowledge(occurrence_id, "", caller=caller), read=_acknowledgement
    )
    once = await once_of(request, _ok)
    return shown(_view(await occurrences.acknowledge(occurrence_id, **said, caller=caller, once=once)))


async def retry_occurrence(request: Request) -> Response:
    occurrences, occurrence_id, caller = core_of(request).occurrences, id_in(request), caller_of(request)
    await fields_in(request, judged=lambda: occurrences.acknowledge(occurrence_id, "", caller=caller), read=no_fields)
    return shown(_view(await occurrences.retry(occurrence_id, caller=caller, once=await once_of(request, _ok))))


async def retry_occurrences(request: Request) -> Response:
    """All that match and may be written, at most 1,000; with `dry_run` those that would be."""
    only(request, "dry_run", "event_id", "tags", "match", "status", "from", "to")
    occurrences, caller, query = core_of(request).occurrences, caller_of(request), occurrence_query(request)
    await fields_in(
        request,
        judged=lambda: occurrences.retry_matching(query, caller=caller, dry_run=True),
        read=no_fields,
    )
    dry_run, once = flag(request, "dry_run"), await once_of(request, _all_ok, filtered=True)
    answers = await occurrences.retry_matching(query, caller=caller, dry_run=dry_run, once=once)
    return shown([_view(each) for each in answers])


def triggered(answer: OccurrenceAnswer) -> tuple[int, Mapping[str, Any]]:
    return 201, _view(answer)


def _ok(answer: OccurrenceAnswer) -> tuple[int, Mapping[str, Any]]:
    return 200, _view(answer)


def _all_ok(answers: Sequence[OccurrenceAnswer]) -> tuple[int, list[views.View]]:
    return 200, [_view(each) for each in answers]


def _view(answer: OccurrenceAnswer) -> views.View:
    return views.occurrence(answer.occurrence)


_ACK_FIELDS: Final = ("outcome", "delay", "note")


def _acknowledgement(body: bytes) -> Mapping[str, Any]:
    """`{"outcome", "delay"?, "note"?}`, all of them text; what the words mean is the use case's to judge."""
    said = strict_json.read_object(body)
    faults = [
        Fault(name, "unknown_field", f"No such field. The fields are {', '.join(_ACK_FIELDS)}.")
        for name in said
        if name not in _ACK_FIELDS
    ]
    if "outcome" not in said:
        faults.append(Fault("outcome", "required", "One of done, failed, later.", fix=({"outcome": "done"},)))
    faults += [
        Fault(name, "wrong_type", "This must be text.", got=value)
        for name, value in said.items()
        if name in _ACK_FIELDS and not (isinstance(value, str) or (value is None and name != "outcome"))
    ]
    if faults:
        raise InvalidInputError(faults=faults)
    return said
