"""Redis is emptied, asleep, full, or not there: slower, never wrong."""

import asyncio

from tests.faults.rig.runs import CLUSTER, Asked, Found, Scene, fault, under_load
from tests.faults.runs.processes import killed


async def flushed(scene: Scene, over: asyncio.Event) -> None:
    assert scene.redis is not None
    while not over.is_set():
        await asyncio.sleep(5)
        await asyncio.to_thread(scene.redis.flush)


async def killed_and_flushed(scene: Scene, over: asyncio.Event) -> None:
    await asyncio.gather(killed(scene, over), flushed(scene, over))


@fault("F14", "Redis flushed every 5 s", on=(CLUSTER,), holds="lost 0, split 0, p99 <= poll + 1 s")
async def _(asked: Asked) -> Found:
    return await under_load(flushed, duplicates=0, lateness=2)(asked)


@fault("F14", "Redis flushed every 5 s, a node killed every 2 s", on=(CLUSTER,), holds="as F1")
async def _(asked: Asked) -> Found:
    return await under_load(killed_and_flushed)(asked)
