"""SIGTERM with everything open at once: all of it ends in order, and nothing is held by the dead (mcp.md §8, F45, P9)."""

import asyncio
import signal
import time
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import UUID

import pytest

from qhronos_core.adapters.clock import SystemClock
from qhronos_core.domain.ids import OccurrenceId
from qhronos_mcp.mcp_server.push import INBOX
from tests.faces.mcp.speakers import MODERN, slowness
from tests.faults.conftest import database_url as database_url
from tests.faults.rig.nodes import MASTER, Node, a_cluster
from tests.faults.rig.receiver import a_receiver
from tests.journeys.clients import close_code, event_stream, frame, open_on, socket, soon, speaker
from tests.world import a_world

DRAIN = 2


async def test_with_everything_open_all_of_it_ends_and_nothing_is_held(
    tmp_path: Path, database_url: str | None
) -> None:
    settings = {"QHRONOS_DELIVERY__DRAIN": f"{DRAIN}s", "QHRONOS_SCHEDULER__LEASE": "10m"}
    with a_cluster(tmp_path, database_url=database_url, settings=settings) as cluster:
        node = await asyncio.to_thread(cluster.start)
        async with AsyncExitStack() as stack:
            receiver = await stack.enter_async_context(a_receiver())
            receiver.takes = lambda path: {"/slow": 1.0, "/never": 60.0}[path]
            modern = await stack.enter_async_context(speaker(node, MASTER, MODERN))
            legacy = await stack.enter_async_context(speaker(node, MASTER, "2025-11-25"))
            for client in (modern, legacy):  # a client reads the list of tools once, with its first call
                await client.call("list_events")
            listening = await stack.enter_async_context(modern.watching(INBOX))
            await stack.enter_async_context(legacy.watching(INBOX))
            frames = await stack.enter_async_context(event_stream(node, MASTER, name="occurrence.due"))
            hook = await stack.enter_async_context(socket(node, MASTER, type="client-hook", client_name="laptop"))
            waits = [
                asyncio.create_task(client.call("wait_for_occurrences", seconds=50)) for client in (modern, legacy)
            ]
            while await open_on(node, "waits") < len(waits):
                await asyncio.sleep(0.05)
            assert (await open_on(node, "streams"), await open_on(node, "sockets")) == (3, 1)
            handed = await fired(node, {"type": "websocket", "params": {"client_name": "laptop"}})
            assert (await frame(hook))["occurrence_id"] == handed
            never, slow = [
                await fired(node, {"type": "webhook", "params": {"url": receiver.url(path), "timeout": "30s"}})
                for path in ("/never", "/slow")
            ]
            await receiver.until(lambda log: len(log) == 2, within=20)
            for _ in range(3):
                await soon(frames.notified("event"))

            began = time.monotonic()
            node.send(signal.SIGTERM)
            assert [answer["occurrences"] for answer in [await soon(wait) for wait in waits]] == [[], []]
            await soon(listening.ended.wait())
            assert "io.modelcontextprotocol/subscriptionId" in (await soon(frames.next()))["result"]["_meta"]
            assert await close_code(hook) == 1001
            assert await node.until_dead() == -signal.SIGTERM
            assert time.monotonic() - began < DRAIN + 3 * slowness()
        async with a_world(tmp_path / "data", postgres_url=database_url, clock=SystemClock()) as world:
            ends = {}
            for name, row_id in (("handed", handed), ("never", never), ("slow", slow)):
                row = await world.read(OccurrenceId(UUID(row_id)))
                assert row.lease_until is None
                [attempt] = await world.attempts(row)
                ends[name] = (row.state, attempt.outcome, attempt.error)
                if name == "handed":  # dispatched, its time was up at once
                    assert row.due_at is not None
                    assert row.due_at <= world.clock.now()
            assert await world.store.presence.elsewhere("another node") == frozenset()
        assert ends == {
            "handed": ("dispatched", "accepted", None),
            "never": ("pending", "no_answer", "drained"),
            "slow": ("completed", "accepted", None),
        }


async def fired(node: Node, action: dict[str, object]) -> str:
    event = await asyncio.to_thread(node.create, schedule="@yearly", action=action)
    status, made = await asyncio.to_thread(node.ask, "POST", f"/events/{event['id']}/trigger")
    assert status == 201
    return str(made["id"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_does_not_undo_the_first(tmp_path: Path, number: signal.Signals) -> None:
    """F46: told twice, it ends once, and what was claimed is settled or left to its lease."""
    with a_cluster(tmp_path, settings={"QHRONOS_DELIVERY__DRAIN": f"{DRAIN}s"}) as cluster:
        node = await asyncio.to_thread(cluster.start)
        async with a_receiver() as receiver:
            receiver.takes = lambda _: 1.0
            row_id = await fired(node, {"type": "webhook", "params": {"url": receiver.url()}})
            await receiver.until(lambda log: len(log) == 1, within=20)
            for _ in range(2):
                node.send(number)
                await asyncio.sleep(0.2)
            assert await node.until_dead() == -number
        async with a_world(tmp_path / "data", clock=SystemClock()) as world:
            row = await world.read(OccurrenceId(UUID(row_id)))
            assert row.state in ("completed", "dispatching")
