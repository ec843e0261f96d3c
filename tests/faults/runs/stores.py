"""PostgreSQL goes away, answers late, or has no room."""

import asyncio

from tests.faults.rig.runs import CLUSTER, SERVER, Asked, Found, Scene, fault, under_load


async def restarted(scene: Scene, over: asyncio.Event) -> None:
    assert scene.postgres is not None
    await asyncio.sleep(20)
    await asyncio.to_thread(scene.postgres.restart, "immediate")
    await over.wait()


@fault("F7", "PostgreSQL stopped at once and started again", on=(SERVER, CLUSTER), holds="no acknowledged write lost")
async def _(asked: Asked) -> Found:
    return await under_load(restarted)(asked)
