"""Clocks that are wrong: a node's, and the store's own."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from tests.faults.rig.clocks import WrongClock
from tests.faults.rig.runs import CLUSTER, EMBEDDED, NODES, SERVER, Asked, Found, Nemesis, Scene, fault, under_load

HOUR: Final = 3600.0


@fault(
    "F19",
    "nodes' clocks: one +1 h, one -1 h, one jumping",
    on=(SERVER, CLUSTER),
    holds="early 0, lateness unchanged, duplicates 0",
)
async def _(asked: Asked) -> Found:
    clocks = {number: WrongClock(asked.directory / f"clock-{number}") for number in NODES}

    async def prepare(scene: Scene) -> None:
        for number, seconds in zip(NODES, (HOUR, -HOUR, 0.0), strict=True):
            clocks[number].set(seconds)
            await scene.start(number, environ=clocks[number].environ)

    async def jumping(scene: Scene, over: asyncio.Event) -> None:
        jumps = 0
        while not over.is_set():
            await asyncio.sleep(2)
            clocks[3].set(scene.rng.uniform(-2 * HOUR, 2 * HOUR))
            jumps += 1
        scene.figures["jumps"] = jumps

    return await under_load(jumping, duplicates=0, lateness=2, prepare=prepare)(asked)


def the_stores_clock(asked: Asked, nemesis: Callable[[WrongClock], Nemesis]) -> Awaitable[Found]:
    """Embedded: the machine's, so of all nodes. On a server: the server's, and the nodes' are right."""
    clock = WrongClock(asked.directory / "clock")

    async def prepare(scene: Scene) -> None:
        if asked.store == EMBEDDED:
            await scene.start(*NODES, environ={"FAULTS_CLOCK": str(clock.file)}, planted="wrong_clock")
        else:
            await scene.start(*NODES)

    on_server = None if asked.store == EMBEDDED else clock.environ
    return under_load(nemesis(clock), prepare=prepare, environ_of_postgres=on_server, clock=clock.told_at)(asked)


def moved(seconds: float, clock: WrongClock) -> Nemesis:
    async def nemesis(scene: Scene, over: asyncio.Event) -> None:
        await asyncio.sleep(20)
        at = time.time()
        clock.set(seconds)
        if seconds > 0:  # every lease has lapsed by this clock: what is under way is taken over
            scene.blows.append((at - 0.5, at + 0.5))
        await over.wait()
        await asyncio.sleep(max(0.0, -seconds))  # what was to come is that much further off

    return nemesis


@fault("F20", "the store's clock 10 min on", on=(EMBEDDED, SERVER), holds="split 0, nothing early: catch_up")
async def _(asked: Asked) -> Found:
    return await the_stores_clock(asked, lambda clock: moved(600, clock))


@fault(
    "F20",
    "the store's clock back",
    on=(EMBEDDED, SERVER),
    holds="nothing twice, nothing early; 10 min, or 30 s of a tenth",
)
async def _(asked: Asked) -> Found:
    return await the_stores_clock(asked, lambda clock: moved(-600 if asked.events >= 500 else -30, clock))
