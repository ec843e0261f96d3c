"""Receivers that are down, or answer half the time."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from tests.faults.rig.checker import Wanted
from tests.faults.rig.proxy import Proxy, a_proxy
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
    there: list[tuple[Receiver, Proxy, datetime]] = []

    async def planned(scene: Scene) -> None:
        """All before the load is made, for an instant in the middle of it, by the pace of the first two hundred."""
        await scene.start(*NODES)
        bad: Receiver = await scene.stack.enter_async_context(a_receiver("127.0.0.3"))
        bad.takes = lambda _: scene.rng.uniform(0.02, 0.2)
        door = await scene.stack.enter_async_context(a_proxy("127.0.0.3", bad.port, on="127.0.0.2"))
        await door.refuse()
        gate = asyncio.Semaphore(8)

        async def create(number: int, schedule: str) -> str:
            node = scene.cluster.nodes[NODES[number % 3]]
            fields: dict[str, Any] = {
                "schedule": schedule,
                "action": {"type": "webhook", "params": {"url": f"http://127.0.0.2:{door.port}/{number}"}},
                "retry": {"max_attempts": 12, "delays": ["2s", "5s", "10s"]},
            }
            async with gate:
                return str((await asyncio.to_thread(node.create, **fields))["id"])

        began = asyncio.get_running_loop().time()
        await asyncio.gather(*[create(number, "every 1d") for number in range(200)])
        takes = (asyncio.get_running_loop().time() - began) / 200 * many
        due = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1.2 * takes + 40)
        ids = await asyncio.gather(*[create(number, due.isoformat()) for number in range(many)])
        scene.written = [Wanted(each, due) for each in ids]
        scene.figures["planned"] = f"{(due - datetime.now(UTC)).total_seconds():.0f} s ahead"
        there.append((bad, door, due))

    async def down_and_back(scene: Scene, over: asyncio.Event) -> None:
        [(bad, door, due)] = there
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
        down_and_back,
        duplicates=0,
        prepare=planned,
        ends_within=900,
        settings={"QHRONOS_DELIVERY__PER_HOST": str(PER_HOST)},
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
