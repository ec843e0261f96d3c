"""Who may ask about an occurrence at all."""

from collections.abc import Awaitable, Callable

import pytest

from qhronos_core.domain.access import Principal
from qhronos_core.domain.errors import ForbiddenError
from qhronos_core.ports import OccurrenceQuery, Page
from tests.world import World

CONFINED = Principal.of_master(confined=True)


async def test_a_confined_master_is_forbidden_to_ask_about_any(world: World) -> None:
    """R7: 403, also where another caller would find nothing."""
    occurrence = await world.occurrence()
    cases, of_it = world.occurrences, OccurrenceQuery(event_id=occurrence.event_id)
    asks: list[Callable[[], Awaitable[object]]] = [
        lambda: cases.get(occurrence.id, caller=CONFINED),
        lambda: cases.get(occurrence.event_id, caller=CONFINED),  # there is no such occurrence
        lambda: cases.attempts(occurrence.id, caller=CONFINED),
        lambda: cases.list(of_it, Page(limit=1), caller=CONFINED),
        lambda: cases.upcoming(of_it, limit=1, caller=CONFINED),
        lambda: cases.acknowledge(occurrence.id, "done", caller=CONFINED),
        lambda: cases.retry(occurrence.id, caller=CONFINED),
    ]
    for ask in asks:
        with pytest.raises(ForbiddenError):
            await ask()
