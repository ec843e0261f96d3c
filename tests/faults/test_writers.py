"""Many who write one event while it is dispatched (F44); events that crash their workers beside others (F38)."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from qhronos_core.domain.errors import ConflictError, UnavailableError
from qhronos_core.domain.lifecycle import COMPLETED, FAILED
from tests.world import OWNER, World, a_world

WRITERS = 50


@pytest.fixture
async def world(tmp_path: Path, database_url: str | None) -> AsyncIterator[World]:
    async with a_world(tmp_path, postgres_url=database_url) as made:
        yield made


async def test_of_fifty_writers_on_one_event_none_loses_a_field_while_it_is_dispatched(world: World) -> None:
    """F44, L10. Each writes a field that others write too; the last answered of each field must stand."""
    event = (await world.event(schedule="* * * * *", description="at first")).event
    dispatcher = world.dispatcher
    over = asyncio.Event()

    async def dispatch() -> None:
        while not over.is_set():
            world.clock.advance(seconds=60)
            await dispatcher.run_once()
            await asyncio.sleep(0)

    fields: list[dict[str, Any]] = [
        *({"name": f"name {number}"} for number in range(WRITERS // 2)),
        *({"metadata": {"writer": number}} for number in range(WRITERS // 2)),
    ]
    answered: list[dict[str, Any]] = []

    async def write(given: dict[str, Any]) -> None:
        for _ in range(100):
            try:
                answer = await world.events.update(event.id, given, caller=OWNER)
            except (ConflictError, UnavailableError):  # it moved five times, or there was no connection left: said,
                continue  # and not swallowed
            answered.append({"version": answer.event.version, **given})
            return

    dispatching = asyncio.create_task(dispatch())
    await asyncio.gather(*(write(each) for each in fields))
    over.set()
    await dispatching
    await dispatcher.drain()

    assert len(answered) == WRITERS
    now = await world.store.events.get(event.id)
    latest = {name: each[name] for each in sorted(answered, key=lambda a: a["version"]) for name in each}
    assert (now.name, now.metadata) == (latest["name"], latest["metadata"])
    assert now.version == event.version + WRITERS  # every change is a version; a dispatch is none
    assert now.description == "at first"
    rows = await world.occurrences_of(event)
    assert len({row.scheduled_at for row in rows}) == len(rows) > 1


async def test_an_event_that_crashes_every_worker_ends_failed_and_the_others_go_on(world: World) -> None:
    """F38: a worker that dies with a claim has used an attempt. Ten poisoned rows among forty good ones."""
    poisoned = {(await world.event(schedule="in 1 minute", name="poison")).event.id for _ in range(10)}
    good = [(await world.event(schedule="in 1 minute", retry={"max_attempts": 3})).event for _ in range(40)]
    world.clock.advance(seconds=61)
    claims = 0
    for _ in range(40):
        claimed = await world.store.claim_due(
            node="n", lease=timedelta(minutes=1), limit=50, judge=world.dispatcher._judge
        )
        claims += sum(claim.event.id in poisoned for claim in claimed.claims)
        dispatcher = world.dispatcher
        for claim in claimed.claims:
            if claim.event.id not in poisoned:  # the others' worker dies here, before it has sent
                await dispatcher._attempt(claim, world.clock.monotonic(), claimed.held_for)
        await dispatcher.drain()
        world.clock.advance(seconds=61)
    for event in good:
        [row] = await world.occurrences_of(event)
        assert (row.state, row.attempts_made) == (COMPLETED, 1)
    for event_id in poisoned:
        event = await world.store.events.get(event_id)
        [row] = await world.occurrences_of(event)
        assert (row.state, row.reason) == (FAILED, "exhausted")
        assert {attempt.outcome for attempt in await world.attempts(row)} == {"lease_lost"}
    assert claims == 10 * 8  # max_attempts each
