"""Other time zones than those that rows were planned by: what is still ahead moves, and nothing else."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from qhronos_core.domain.event import Event
from qhronos_core.domain.ids import occurrence_id
from qhronos_core.domain.occurrence import Occurrence
from qhronos_core.ports import Changes
from qhronos_core.usecases.zones import follow_zones
from tests.world import OWNER, World


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


async def an_hour_later(world: World, row: Occurrence) -> Occurrence:
    """The planned row as zones an hour behind today's have it."""
    later = row.scheduled_at + timedelta(hours=1)
    wrong = replace(row, id=occurrence_id(row.event_id, later), scheduled_at=later, due_at=later)
    await world.store.commit(Changes(withdrawn=[row], planned=[wrong], at=world.clock.now()))
    return wrong


async def planned_row(world: World, event: Event) -> Occurrence:
    planned = await world.store.occurrences.planned(event.id)
    assert planned is not None
    return planned


@pytest.mark.parametrize("skips", [1, 3])
async def test_what_was_skipped_stays_skipped(world: World, skips: int) -> None:
    await follow_zones(world.store, world.signals, "2026.1")
    answer = await world.event(schedule="0 9 * * *", timezone="Europe/Paris")
    event, first = answer.event, await planned_row(world, answer.event)
    for _ in range(skips):
        await an_hour_later(world, await planned_row(world, event))
        await world.events.update(event.id, {"skip_next": True}, caller=OWNER)
    right = await planned_row(world, event)
    assert right.scheduled_at == first.scheduled_at + timedelta(days=skips)
    await an_hour_later(world, right)

    assert await follow_zones(world.store, world.signals, "2026.6") == 1
    assert (await planned_row(world, event)).scheduled_at == right.scheduled_at
    assert (await planned_row(world, event)).ordinal == right.ordinal


async def test_a_run_is_not_lost_where_what_was_skipped_before_it_is_past_by_these_zones(world: World) -> None:
    """Skipped at 10:00, now 9:30; by these zones it was at 9:00. The run after it is the first ahead, and stands."""
    await follow_zones(world.store, world.signals, "2026.1")
    answer = await world.event(schedule="0 9 * * *", timezone="Europe/Paris")
    first = await planned_row(world, answer.event)
    await an_hour_later(world, first)
    world.clock.set(first.scheduled_at + timedelta(minutes=30))
    await world.events.update(answer.event.id, {"skip_next": True}, caller=OWNER)
    right = await planned_row(world, answer.event)
    await an_hour_later(world, right)

    assert await follow_zones(world.store, world.signals, "2026.6") == 1
    assert (await planned_row(world, answer.event)).scheduled_at == first.scheduled_at + timedelta(days=1)


async def test_where_every_hour_is_the_rule_an_hours_change_moves_nothing(world: World) -> None:
    await follow_zones(world.store, world.signals, "2026.1")
    answer = await world.event(schedule="0 * * * *", timezone="Europe/Paris")
    await world.events.update(answer.event.id, {"skip_next": True}, caller=OWNER)
    assert await follow_zones(world.store, world.signals, "2026.6") == 0
