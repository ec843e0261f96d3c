"""An MCP App: `list_occurrences` as a timeline, in hosts that show apps. In others its text is all there is.

The page is one file of ours that loads nothing. It holds no data: a host hands it the tool's result, and it may ask the
host for more of the same.
"""

from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Final

from mcp.server.apps import Apps, ResourceCsp

TIMELINE: Final = "ui://qhronos/timeline"
TOOL_METAS: Final[Mapping[str, dict[str, Any]]] = {
    "list_occurrences": {"ui": {"resourceUri": TIMELINE, "visibility": ["model", "app"]}},
    "list_events": {"ui": {"visibility": ["model", "app"]}},
}
"""What the page is of, and what it asks for besides; said aloud, since some hosts lend an app only tools that say so."""
_NOWHERE: Final[Mapping[str, list[str]]] = {
    "connect_domains": [],
    "resource_domains": [],
    "frame_domains": [],
    "base_uri_domains": [],
}


def timeline() -> Apps:
    apps = Apps()
    apps.add_html_resource(
        TIMELINE,
        files(__package__).joinpath("timeline.html").read_text(encoding="utf-8"),
        name="timeline",
        title="Timeline",
        description="Occurrences, past and coming, on a timeline: for hosts that show MCP Apps.",
        csp=ResourceCsp(**_NOWHERE),
        prefers_border=True,
    )
    return apps
