"""What an agent or its host can read by address: the inbox, one event, one occurrence, the guide, a calendar.

Templates, not one resource per event: the lists never change, so they can be cached.
"""

from importlib import resources as files
from typing import Any, Final

from mcp.server.mcpserver import MCPServer
from mcp_types import Annotations

from qhronos_core.ports import InboxQuery, OccurrenceQuery
from qhronos_core.wiring import Core
from qhronos_mcp.mcp_server.arguments import occurrence_ref, ref
from qhronos_mcp.mcp_server.calendar import calendar_of
from qhronos_mcp.mcp_server.face import Face
from qhronos_mcp.mcp_server.push import INBOX
from qhronos_mcp.mcp_server.results import EventShown, Inbox, OccurrenceShown, View, compact_json, spoken

GUIDE: Final = "qhronos://guide/schedules"
EVENT: Final = "qhronos://events/{event_id}"
OCCURRENCE: Final = "qhronos://occurrences/{occurrence_id}"
CALENDAR: Final = "qhronos://calendar/{tag}.ics"
CALENDAR_RUNS: Final = 200

_JSON: Final = "application/json"


def register_resources(server: MCPServer[Core], face: Face) -> None:
    """Closures over `face`: a static resource is given no Context."""
    core = face.core

    def shown(view: View) -> str:
        stamped: dict[str, Any] = {**view.model_dump(mode="json"), "now": spoken(core.clock.now())}
        return compact_json(stamped)

    @server.resource(INBOX, name="inbox", title="Inbox", mime_type=_JSON, description=_INBOX_TEXT)
    async def inbox() -> str:
        return shown(Inbox.of(await core.occurrences.inbox(InboxQuery(), caller=face.caller())))

    @server.resource(
        GUIDE, name="guide", title="Schedules, results and errors", mime_type="text/markdown", description=_GUIDE_TEXT
    )
    async def guide() -> str:
        return files.files("qhronos_mcp.mcp_server").joinpath("guide.md").read_text(encoding="utf-8")

    @server.resource(EVENT, name="event", title="Event", mime_type=_JSON, description=_EVENT_TEXT)
    async def event(event_id: str) -> str:
        caller = face.caller()
        return shown(EventShown.of(await core.events.get(ref(event_id), caller=caller), caller))

    @server.resource(OCCURRENCE, name="occurrence", title="Occurrence", mime_type=_JSON, description=_OCCURRENCE_TEXT)
    async def occurrence(occurrence_id: str) -> str:
        caller, found = face.caller(), occurrence_ref(occurrence_id)
        answer = await core.occurrences.get(found, caller=caller)
        return shown(OccurrenceShown.of(answer, await core.occurrences.attempts(found, caller=caller), caller))

    @server.resource(
        CALENDAR,
        name="calendar",
        title="Calendar of a tag",
        mime_type="text/calendar",
        description=_CALENDAR_TEXT,
        annotations=Annotations(audience=["user"]),  # it holds event text
    )
    async def calendar(tag: str) -> str:
        query = OccurrenceQuery(tags=(tag,))
        runs = await core.occurrences.upcoming(query, limit=CALENDAR_RUNS, caller=face.caller())
        return calendar_of(runs, now=core.clock.now())


_INBOX_TEXT: Final = "What is due and waits for an agent: counts and the first ten. Reading claims nothing."
_GUIDE_TEXT: Final = "How schedules are written, what the policies mean, and the shapes of results."
_EVENT_TEXT: Final = "One event in full, by id or key, with its next runs."
_OCCURRENCE_TEXT: Final = "One occurrence in full, with its attempts."
_CALENDAR_TEXT: Final = "The next 200 runs of the events with this tag, as iCalendar."
