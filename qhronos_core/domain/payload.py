"""What a receiver is told about an occurrence (rest.md §6): the body of a webhook, and of a `/ws` delivery around it."""

from typing import Any

from qhronos_core.domain.event import Event
from qhronos_core.domain.occurrence import Occurrence
from qhronos_core.domain.schedule import say_instant


def payload(event: Event, occurrence: Occurrence) -> dict[str, Any]:
    """Members in their published order. Depends on nothing that changes between attempts of one version of the event."""
    told: dict[str, Any] = {
        "event_id": str(event.id),
        "occurrence_id": str(occurrence.id),
        "name": event.name,
        "description": event.description,
        "scheduled_at": say_instant(occurrence.scheduled_at),
        "metadata": event.metadata,
        "tags": list(event.tags),
    }
    if occurrence.missed is not None and occurrence.missed_since is not None:
        told["catch_up"] = {"missed": occurrence.missed, "since": say_instant(occurrence.missed_since)}
    return told
