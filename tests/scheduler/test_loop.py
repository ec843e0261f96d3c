"""The node's heartbeat, with real time and a real store: prompt when woken, patient when the store is away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from qhronos_core.adapters.clock import SystemClock
from qhronos_core.domain.errors import StoreUnavailableError
from qhronos_core.domain.event import EventStatus
from qhronos_core.domain.judgement import Judgement
from qhronos_core.domain.lifecycle import COMPLETED
from qhronos_core.ports import Delivery, Outcome
from qhronos_core.scheduler.dispatcher import Dispatcher
from qhronos_core.scheduler.loop import Loop
from tests.world import ACCEPT, OWNER, World, a_world


@pytest.fixture
async def living(tmp_path: Path) -> AsyncIterator[World]:
    """A world whose clock is the machine's."""
    async with a_world(tmp_path, clock=SystemClock()) as world:
        yield world


def loop_of(world: World, *, dispatcher: Dispatcher | None = None, poll: timedelta = timedelta(seconds=30)) -> Loop:
    return Loop(
        store=world.store,
        dispatcher=dispatcher or world.dispatcher,
        resume_due=world.events.resume_due,
        clock=world.clock,
        signals=world.signals,
        poll=poll,
    )


@asynccontextmanager
async def looping(world: World, *, poll: timedelta = timedelta(seconds=30)) -> AsyncIterator[Loop]:
    loop = loop_of(world, poll=poll)
    task = asyncio.create_task(loop.run())
    try:
        yield loop
    finally:
        loop.stop()
        await asyncio.wait_for(task, 10)


async def test_a_look_that_the_store_never_answers_does_not_outlive_the_stop(
    living: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qhronos_core.scheduler.loop.LOOK_ENDS_WITHIN", 0.2)
    asked = asyncio.Event()

    async def for_ever(**_: Any) -> None:
        asked.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(living.store, "claim_due", for_ever)
    loop = loop_of(living)
    task = asyncio.create_task(loop.run())
    await asked.wait()
    loop.stop()
    done, _ = await asyncio.wait([task], timeout=5)
    assert done == {task}


async def delivered(world: World, count: int = 1) -> list[datetime]:
    async with asyncio.timeout(10):
        while len(world.courier.deliveries) < count:
            await asyncio.sleep(0.005)
    return [delivery.occurrence.scheduled_at for delivery in world.courier.deliveries]


async def test_it_sleeps_until_the_due_instant_and_not_until_the_poll(living: World) -> None:
    async with looping(living):
        answer = await living.event(schedule="in 1s")
        (instant,) = await delivered(living)
        assert living.courier.deliveries[0].now >= instant
    (row,) = await living.occurrences_of(answer.event)
    assert row.state is COMPLETED


async def test_something_earlier_wakes_it(living: World) -> None:
    async with looping(living):
        await living.event(schedule="in 1 hour")
        await asyncio.sleep(0.1)
        answer = await living.event(schedule="in 2 hours")
        await living.events.trigger(answer.event.id, caller=OWNER)
        await delivered(living)


async def test_without_a_signal_it_looks_at_each_poll(living: World) -> None:
    deaf: Any = living.signals
    deaf.announce = _nobody_hears
    async with looping(living, poll=timedelta(seconds=0.2)):
        await asyncio.sleep(0.3)
        await living.event(schedule="in 1s")
        await delivered(living)


async def _nobody_hears(_: object) -> None: ...


async def test_a_store_that_is_away_is_asked_again_and_nothing_is_lost(
    living: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = living.store.claim_due
    away = 3

    async def sometimes(**asked: Any) -> Any:
        nonlocal away
        if away:
            away -= 1
            raise StoreUnavailableError
        return await claim(**asked)

    monkeypatch.setattr(living.store, "claim_due", sometimes)
    await living.event(schedule="in 1s")
    async with looping(living):
        await delivered(living)
    assert away == 0


async def test_an_event_paused_until_an_instant_is_resumed_by_the_loop(living: World) -> None:
    async with looping(living):
        answer = await living.event(schedule="every 1s")
        until = (living.clock.now() + timedelta(seconds=1)).isoformat()
        await living.events.update(answer.event.id, {"paused_until": until}, caller=OWNER)
        await delivered(living, 2)


async def test_stopped_it_makes_no_new_claim(living: World) -> None:
    async with looping(living) as loop:
        loop.stop()
        await living.event(schedule="in 1s")
        await asyncio.sleep(1.5)
    assert living.courier.deliveries == []


async def test_a_pause_is_lifted_while_there_is_always_more_due(living: World, monkeypatch: pytest.MonkeyPatch) -> None:
    claim = living.store.claim_due

    async def always_more(**asked: Any) -> Any:
        await asyncio.sleep(0.01)
        return replace(await claim(**asked), more=True)

    monkeypatch.setattr(living.store, "claim_due", always_more)
    answer = await living.event(schedule="in 1 hour")
    until = (living.clock.now() + timedelta(seconds=0.5)).isoformat()
    await living.events.update(answer.event.id, {"paused_until": until}, caller=OWNER)
    async with looping(living), asyncio.timeout(5):
        while (await living.store.events.get(answer.event.id)).status is EventStatus.PAUSED:
            await asyncio.sleep(0.02)


async def test_what_waits_for_a_slot_is_not_late(world: World) -> None:
    """A node whose receivers are slow looks all the same: under load nothing is given up as late."""
    answered = asyncio.Event()

    async def slowly(_: Delivery) -> Outcome:
        await answered.wait()
        return ACCEPT

    world.courier.will(slowly)
    world.judge = Judgement(late_grace=timedelta(seconds=10))
    await world.event(schedule="in 50s")
    minutely = (await world.event(schedule="* * * * *", catch_up="none")).event
    dispatcher = world.dispatcher_of("busy", concurrency=1)
    loop = loop_of(world, dispatcher=dispatcher, poll=timedelta(seconds=0.01))
    running = asyncio.create_task(loop.run())
    for _ in range(50):
        world.clock.advance(seconds=1)
        await asyncio.sleep(0.01)
    await delivered(world)
    for _ in range(50):
        world.clock.advance(seconds=1)
        await asyncio.sleep(0.02)
    answered.set()
    await delivered(world, 2)
    loop.stop()
    await asyncio.wait_for(running, 10)
    first, *_ = await world.occurrences_of(minutely)
    assert first.state is COMPLETED


async def test_while_one_creator_holds_nearly_all_slots_another_is_served_and_the_store_is_not_asked_without_end(
    living: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim, asked, answered = living.store.claim_due, 0, asyncio.Event()
    bob = replace(OWNER, sub="bob", master=False)

    async def counted(**fields: Any) -> Any:
        nonlocal asked
        asked += 1
        return await claim(**fields)

    async def slowly(_: Delivery) -> Outcome:
        await answered.wait()
        return ACCEPT

    monkeypatch.setattr(living.store, "claim_due", counted)
    monkeypatch.setattr(World, "dispatcher", property(lambda world: world.dispatcher_of("few", concurrency=10)))
    async with looping(living):
        await living.event(caller=bob, schedule="in 1s")
        await delivered(living, 1)
        living.courier.will(*[slowly] * 9, ACCEPT)
        for _ in range(15):
            await living.event(schedule="in 1s")
        await delivered(living, 10)
        asked = 0
        await asyncio.sleep(1)
        assert 2 < asked < 30
        late = (await living.event(caller=bob, schedule="in 1s")).event
        await delivered(living, 11)
        assert living.courier.deliveries[-1].event.id == late.id
        answered.set()
        await delivered(living, 17)
