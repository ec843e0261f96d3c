"""Completions of what the caller may read: events by key and id, failed occurrences, tags, and time zones."""

from collections.abc import Iterable
from typing import Any, Final

import mcp_types as t
from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver import MCPServer
from mcp.shared.exceptions import MCPError

from qhronos_core.domain.lifecycle import FAILED
from qhronos_core.domain.schedule.zones import NAMES
from qhronos_core.ports import EventQuery, OccurrenceQuery, Page
from qhronos_core.wiring import Core
from qhronos_mcp.mcp_server import compat
from qhronos_mcp.mcp_server.face import Face

_NEWEST: Final = 20
_TAGS_FROM: Final = 200  # events whose tags are offered
_MOST: Final = 100  # values in one answer, by the protocol


def register_completions(server: MCPServer[Core], face: Face) -> None:
    """What completes is found by the argument's name: it means the same in every prompt and template."""

    async def complete(_: ServerRequestContext[Core, Any], params: t.CompleteRequestParams) -> t.CompleteResult:
        if not await _is_ours(server, params.ref):
            raise MCPError(t.INVALID_PARAMS, "No such prompt or resource template. List them to see those there are.")
        find = finders.get(params.argument.name)
        found = [] if find is None else _matching(await find(), params.argument.value)
        shown = t.Completion(values=found[:_MOST], total=len(found), has_more=len(found) > _MOST)
        return t.CompleteResult(completion=shown)

    async def events() -> Iterable[str]:
        listing = await face.core.events.list(EventQuery(), Page(limit=_NEWEST), caller=face.caller())
        known = [answer.event for answer in listing.items]
        return [event.key for event in known if event.key] + [str(event.id) for event in known]

    async def occurrences() -> Iterable[str]:
        query = OccurrenceQuery(states=frozenset({FAILED}))
        listing = await face.core.occurrences.list(query, Page(limit=_NEWEST), caller=face.caller())
        return [str(answer.occurrence.id) for answer in listing.items]

    async def tags() -> Iterable[str]:
        listing = await face.core.events.list(EventQuery(), Page(limit=_TAGS_FROM), caller=face.caller())
        return dict.fromkeys(tag for answer in listing.items for tag in answer.event.tags)

    async def timezones() -> Iterable[str]:
        return sorted(NAMES)

    finders = {"event_id": events, "occurrence_id": occurrences, "tag": tags, "timezone": timezones}
    compat.lowlevel(server).add_request_handler("completion/complete", t.CompleteRequestParams, complete)


async def _is_ours(server: MCPServer[Core], ref: t.PromptReference | t.ResourceTemplateReference) -> bool:
    if isinstance(ref, t.PromptReference):
        return any(prompt.name == ref.name for prompt in await server.list_prompts())
    if any(template.uri_template == ref.uri for template in await server.list_resource_templates()):
        return True
    return any(str(resource.uri) == ref.uri for resource in await server.list_resources())


def _matching(values: Iterable[str], typed: str) -> list[str]:
    """Those that begin with what was typed, then those that hold it; case aside."""
    wanted = typed.casefold()
    begins = [value for value in values if value.casefold().startswith(wanted)]
    return begins + [value for value in values if wanted in value.casefold() and value not in begins]
