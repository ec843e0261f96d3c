"""Other time zones than those that rows were planned by: what is still ahead moves, and nothing else."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from qhronos_core.domain.event import Event
from qhronos_core.domain.ids import occurrence_id
from qhronos_core.domain.occurrence import Occurrence
from qhronos_core.ports import Changes
from qhronos_core.usecases.zones import follow_zones
from tests.world import World


async def planned_by_other_zones(world: World, **fields: Any) -> tuple[Event, Occurrence]:
    """An event whose planned row is an hour from where today's zones put it."""
    answer = await world.event(**fields)
    (right,) = await world.occurrences_of(answer.event)
    later = right.scheduled_at + timedelta(hours=1)
    wrong = replace(
        right,
        id=occurrence_id(right.event_id, later),
        scheduled_at=later,
        due_at=later,
    )
    await world.store.commit(Changes(withdrawn=[right], planned=[wrong], at=world.clock.now()))
    return answer.event, right


async def test_a_new_store_only_notes_the_release(world: World) -> None:
    assert await world.store.zones_version() is None
    assert await follow_zones(world.store, world.signals, "2026.6") == 0
    assert await world.store.zones_version() == "2026.6"


async def test_wall_clock_rows_ahead_are_planned_anew(world: World) -> None:
    await follow_zones(world.store, world.signals, "2026.1")
    event, right = await planned_by_other_zones(world, schedule="0 9 * * *", timezone="Europe/Paris")

    assert await follow_zones(world.store, world.signals, "2026.1") == 0
    assert await follow_zones(world.store, world.signals, "2026.6") == 1
    (row,) = await world.occurrences_of(event)
    assert (row.id, row.scheduled_at) == (right.id, right.scheduled_at)
    assert await follow_zones(world.store, world.signals, "2026.6") == 0


async def test_intervals_and_utc_are_left_alone(world: World) -> None:
    await follow_zones(world.store, world.signals, "2026.1")
    await planned_by_other_zones(world, schedule="every 3h", timezone="Europe/Paris")
    await planned_by_other_zones(world, schedule="0 9 * * *")
    assert await follow_zones(world.store, world.signals, "2026.6") == 0
