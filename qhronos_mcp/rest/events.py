"""Events: create, read, change, stop, preview, run now."""

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from qhronos_core.usecases.events import EventAnswer, Preview
from qhronos_mcp import views
from qhronos_mcp.rest.answers import shown
from qhronos_mcp.rest.asked import (
    caller_of,
    core_of,
    event_query,
    fields_in,
    fields_of_an_event,
    flag,
    id_in,
    instant_in,
    no_fields,
    once_of,
    whole,
)
from qhronos_mcp.rest.lists import listed
from qhronos_mcp.rest.occurrences import triggered


async def create_event(request: Request) -> Response:
    """201 for a new event; 200 for one that its `key` found, and for a dry run."""
    events, caller, dry_run = core_of(request).events, caller_of(request), flag(request, "dry_run")
    fields = await fields_in(
        request, judged=lambda: events.create({}, caller=caller, dry_run=True), read=fields_of_an_event
    )
    once = await once_of(request, _kept)
    answer = await events.create(fields, caller=caller, once=None if dry_run else once, dry_run=dry_run)
    return shown(views.answered_event(answer), status=_status(answer))


async def list_events(request: Request) -> Response:
    query, caller, events = event_query(request), caller_of(request), core_of(request).events
    return await listed(
        request, lambda page, count: events.list(query, page, caller=caller, count=count), views.answered_event
    )


async def get_event(request: Request) -> Response:
    return shown(views.answered_event(await core_of(request).events.get(id_in(request), caller=caller_of(request))))


async def update_event(request: Request) -> Response:
    """Partial: what is not named stays as it is."""
    events, event_id, caller = core_of(request).events, id_in(request), caller_of(request)
    dry_run = flag(request, "dry_run")
    fields = await fields_in(
        request, judged=lambda: events.update(event_id, {}, caller=caller, dry_run=True), read=fields_of_an_event
    )
    return shown(views.answered_event(await events.update(event_id, fields, caller=caller, dry_run=dry_run)))


async def delete_event(request: Request) -> Response:
    return shown(views.answered_event(await core_of(request).events.delete(id_in(request), caller=caller_of(request))))


async def preview_event(request: Request) -> Response:
    """What the planner itself will do next."""
    count = whole(request, "count", least=1, most=100) or 5
    preview = await core_of(request).events.preview(
        id_in(request), caller=caller_of(request), count=count, since=instant_in(request, "from")
    )
    return shown(_preview(preview))


async def trigger_event(request: Request) -> Response:
    events, event_id, caller = core_of(request).events, id_in(request), caller_of(request)
    await fields_in(request, judged=lambda: events.update(event_id, {}, caller=caller, dry_run=True), read=no_fields)
    once = await once_of(request, triggered)
    status, body = triggered(await events.trigger(event_id, caller=caller, once=once))
    return shown(body, status=status)


def _status(answer: EventAnswer) -> int:
    return 201 if answer.result == "created" else 200


def _kept(answer: EventAnswer) -> tuple[int, Mapping[str, Any]]:
    """The answer as it may be given again: without a secret that is shown once."""
    body = views.answered_event(answer)
    body.pop("hmac_secret", None)
    return _status(answer), body


def _preview(of: Preview) -> views.View:
    return {
        "event_id": str(of.event.id),
        "schedule": of.event.schedule,
        "meaning": of.meaning,
        "timezone": of.event.timezone,
        "now": views.instant(of.now),
        "next": [views.run(each) for each in of.runs],
    }
