"""Receivers that are down, or answer half the time."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from tests.faults.rig.checker import Wanted
from tests.faults.rig.proxy import a_proxy
from tests.faults.rig.receiver import Receiver, a_receiver
from tests.faults.rig.runs import CLUSTER, EMBEDDED, NODES, Asked, Found, Scene, fault, lateness_of, under_load
from tests.faults.runs.processes import quiet

PER_HOST: Final = 10
DOWN_FOR: Final = 40.0  # seconds, for the hour of the table


@fault(
    "F35",
    "a receiver down with 10,000 due, then back",
    on=(EMBEDDED, CLUSTER),
    holds="lost 0; peak <= cap of each node; others' p99 as in F0",
)
async def _(asked: Asked) -> Found:
    """Another address is another destination: the load goes to 127.0.0.1 all the while."""
    many = asked.events * 20

    async def down_and_back(scene: Scene, over: asyncio.Event) -> None:
        bad: Receiver = await scene.stack.enter_async_context(a_receiver("127.0.0.3"))
        bad.takes = lambda _: scene.rng.uniform(0.02, 0.2)
        door = await scene.stack.enter_async_context(a_proxy("127.0.0.3", bad.port, on="127.0.0.2"))
        await door.refuse()
        due = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=5)
        gate = asyncio.Semaphore(8)

        async def create(number: int) -> Wanted:
            node = scene.cluster.nodes[NODES[number % 3]]
            fields: dict[str, Any] = {
                "schedule": due.isoformat(),
                "action": {"type": "webhook", "params": {"url": f"http://127.0.0.2:{door.port}/{number}"}},
                "retry": {"max_attempts": 12, "delays": ["2s", "5s", "10s"]},
            }
            async with gate:
                event = await asyncio.to_thread(node.create, **fields)
            return Wanted(event["id"], due)

        scene.written = list(await asyncio.gather(*[create(number) for number in range(many)]))
        await asyncio.sleep(max(0.0, (due - datetime.now(UTC)).total_seconds()) + DOWN_FOR)
        scene.figures["others' p99"] = f"{lateness_of(scene.receiver.log)[0] * 1000:.0f} ms"
        await door.listen()
        back = asyncio.get_running_loop().time()
        while len({each.webhook_id for each in bad.log}) < many and asyncio.get_running_loop().time() < back + 600:
            await asyncio.sleep(1)
        scene.figures["drained after"] = f"{asyncio.get_running_loop().time() - back:.0f} s"
        scene.figures["most at once"] = bad.most_at_once
        if bad.most_at_once > PER_HOST * len(NODES):
            scene.broken.append(f"{bad.most_at_once} at once > {PER_HOST} of each node")
        scene.receiver.log += bad.log
        await over.wait()

    return await under_load(
        down_and_back, duplicates=0, ends_within=900, settings={"QHRONOS_DELIVERY__PER_HOST": str(PER_HOST)}
    )(asked)


@fault(
    "F36",
    "a receiver that fails half the time",
    on=(EMBEDDED, CLUSTER),
    holds="lost 0; an open breaker costs time and no attempts",
)
async def _(asked: Asked) -> Found:
    async def failing(scene: Scene, over: asyncio.Event) -> None:
        scene.receiver.answers = lambda _path, _nth: scene.rng.choice((200, 503))
        await quiet(scene, over)

    return await under_load(failing, duplicates=0, ends_within=1_800)(asked)
