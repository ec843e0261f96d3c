"""Nodes that are killed, and nodes that are told to end."""

import asyncio
import signal
import time
from typing import Final

from tests.faults.rig.runs import ALL, LEASE, NODES, Asked, Found, Scene, fault, under_load

AWAY: Final = 30.0  # seconds
UNRECORDED: Final = 0.5  # seconds before a kill in which an answer may not have been written


async def quiet(_scene: Scene, over: asyncio.Event) -> None:
    await over.wait()


async def killed(scene: Scene, over: asyncio.Event) -> None:
    """Whichever of them, 2 s after the last one is back: of three that are up.

    What is at the receivers of the one that is killed is sent again, whatever the node did: at 83 a second, each taking
    0.11 s, that is three a kill, and half as many more where only two are up. So the share of duplicates is the kills'.
    """
    while not over.is_set():
        await asyncio.sleep(2)
        await kill(scene, scene.rng.choice(NODES))


async def kill(scene: Scene, number: int) -> None:
    """And start it again. What it was sending may be sent again: that is what the kill explains."""
    at = time.time()
    scene.cluster.nodes[number].kill()
    scene.blows.append((at - UNRECORDED, at + 0.05))
    await scene.start(number)
    scene.figures["kills"] = len(scene.blows)


async def rolled(scene: Scene, over: asyncio.Event) -> None:
    """One node after the other, twice."""
    slowest = 0.0
    for number in (*NODES, *NODES):
        if over.is_set():
            break
        await asyncio.sleep(4)
        began = time.monotonic()
        await asyncio.to_thread(scene.cluster.nodes[number].stopped_by, signal.SIGTERM, 60)
        slowest = max(slowest, time.monotonic() - began)
        await scene.start(number)
    scene.figures["slowest exit"] = f"{slowest:.1f} s"


@fault("F0", "no fault at all", on=ALL, holds="lost 0, duplicates 0: what the rig itself costs")
async def _(asked: Asked) -> Found:
    return await under_load(quiet, duplicates=0)(asked)


@fault("F1", "one of 3 nodes killed every 2 s", on=ALL, holds="lost 0, same id, duplicates <= 2 %, p99 <= lease + 2 s")
async def _(asked: Asked) -> Found:
    return await under_load(killed, lateness=LEASE + 2)(asked)


async def all_killed(scene: Scene, over: asyncio.Event) -> None:
    """In the middle of it; nobody is there for half a minute."""
    await asyncio.sleep(20)
    at = time.time()
    for number in NODES:
        scene.cluster.nodes[number].kill()
    scene.blows.append((at - UNRECORDED, at + 0.05))
    await asyncio.sleep(AWAY)
    await scene.start(*NODES)
    await over.wait()


@fault("F2", "all nodes killed at once, back after 30 s", on=ALL, holds="lost 0; late_grace and catch_up applied")
async def _(asked: Asked) -> Found:
    """What was missed is less late than `late_grace` or runs by `catch_up: all`: each instant is sent."""
    return await under_load(all_killed)(asked)


@fault("F45", "rolling SIGTERM under load", on=ALL, holds="lost 0, duplicates 0, exit <= drain + 1 s")
async def _(asked: Asked) -> Found:
    return await under_load(rolled, duplicates=0)(asked)
