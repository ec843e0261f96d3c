"""Fired on one node, received on another, with every signal between them lost: within the poll."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from qhronos_core.adapters.local.signals import LocalSignals
from qhronos_mcp.mcp_server.push import INBOX
from tests.faces.mcp.house import House, a_house
from tests.faces.mcp.speakers import MODERN
from tests.faces.mcp.test_waits import Patient, ask, task


@pytest.fixture
async def deaf(house: House, tmp_path: Path) -> AsyncIterator[House]:
    """Another node on the same store, which no signal reaches."""
    async with a_house(house.world, tmp_path, LocalSignals()) as other:
        other.tokens = house.tokens
        yield other


async def test_streams_subscriptions_long_polls_and_tasks_hear_of_what_another_node_did(
    house: House, deaf: House
) -> None:
    patient = Patient()
    async with (
        deaf.speaker(MODERN) as modern,
        deaf.speaker("2025-06-18") as old,
        deaf.speaker(MODERN, extensions=[patient]) as patient_one,
        modern.watching(INBOX) as stream,
        old.watching(INBOX) as subscription,
    ):
        begun = await task(patient_one, patient, event_id=(await house.event(key="a")).key)
        await house.event(key="b")
        wait = asyncio.create_task(modern.call("wait_for_occurrences", event_id="b", seconds=50))
        while len(deaf.face.hub.watching) < 3:
            await asyncio.sleep(0.01)
        began = time.monotonic()
        await house.comes_due()
        await stream.until(INBOX)
        await subscription.until(INBOX)
        assert (await wait)["occurrences"][0]["event"] == "b"
        done = await ask(patient_one, "tasks/get", begun.task_id)
        assert done.status == "completed"
        poll = deaf.core.settings.scheduler.poll.total_seconds()
        assert time.monotonic() - began < 5 * poll  # and not the five seconds after which a wait looks by itself


async def test_what_one_node_claimed_the_other_may_acknowledge_for_the_same_token(house: House, deaf: House) -> None:
    await house.event()
    await house.comes_due()
    async with house.speaker(MODERN) as here, deaf.speaker("2025-11-25") as there:
        [item] = (await here.call("wait_for_occurrences"))["occurrences"]
        assert (await there.call("wait_for_occurrences", seconds=0))["held"] == [item["id"]]
        done = await there.call("acknowledge_occurrence", occurrence_id=item["id"], outcome="done")
        assert done["occurrence"]["status"] == "completed"
