"""The world of the tests ends with nothing of it left running, also where a test failed half-way."""

import asyncio
from pathlib import Path

from qhronos_core.domain.lifecycle import PENDING
from qhronos_core.ports import Delivery, Outcome
from tests.world import ACCEPT, a_world


async def never_answers(_: Delivery) -> Outcome:
    await asyncio.Event().wait()
    return ACCEPT


async def test_a_world_that_ends_leaves_no_task_behind(tmp_path: Path) -> None:
    before = asyncio.all_tasks()
    async with a_world(tmp_path) as world:
        await world.occurrence()
        await world.run()
        stuck = await world.occurrence()
        world.courier.will(never_answers)
        assert len((await world.dispatcher.claim()).claims) == 1
        while len(world.courier.deliveries) < 2:
            await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    async with a_world(tmp_path, clock=world.clock) as again:
        assert await again.state_of(stuck) is PENDING  # what was cut is on record, as at a real drain


async def test_a_look_takes_its_own_hands_away(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        before = asyncio.all_tasks()
        for _ in range(3):
            await world.occurrence()
            await world.run()
        assert asyncio.all_tasks() == before
