"""Redis is emptied, asleep, full, old, or not there: slower, never wrong."""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from http.client import HTTPException
from typing import Final

import redis

from tests.faults.rig.runs import CLUSTER, NODES, Asked, Found, Scene, fault, under_load
from tests.faults.runs.processes import killed

_LIMITED: Final[Mapping[str, str]] = {"QHRONOS_RATE_LIMITS__MASTER__PER_MINUTE": "1000000"}
"""So that each request asks Redis for its limit."""


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


# --- absent, old, asleep, full ------------------------------------------------------------------------


async def asked_all_along(scene: Scene, over: asyncio.Event) -> None:
    """An agent that lists its events, ten times a second: no 5xx, and no wait beyond the timeout of Redis."""
    answers: Counter[int] = Counter()
    slowest = 0.0
    turn = 0
    while not over.is_set():
        turn += 1
        began = time.monotonic()
        try:
            status, _ = await asyncio.to_thread(scene.cluster.nodes[NODES[turn % 3]].ask, "GET", "/events?limit=1")
        except (OSError, HTTPException):
            status = 0
        slowest = max(slowest, time.monotonic() - began)
        answers[status] += 1
        await asyncio.sleep(0.1)
    scene.figures |= {"answers": dict(answers), "slowest": f"{slowest * 1000:.0f} ms"}
    if set(answers) != {200}:
        scene.broken.append(f"answers {dict(answers)}")
    if slowest > 1:
        scene.broken.append(f"a caller waited {slowest:.1f} s")


async def absent(scene: Scene) -> None:
    assert scene.redis is not None
    await asyncio.to_thread(scene.redis.stop)
    await scene.start(*NODES)


@fault("F15", "Redis absent the whole run", on=(CLUSTER,), holds="everything works, 5xx 0, p99 <= poll + 1 s")
async def _(asked: Asked) -> Found:
    play = under_load(asked_all_along, duplicates=0, lateness=2, prepare=absent, settings=_LIMITED)
    return await play(asked)


async def an_old_dump(scene: Scene, over: asyncio.Event) -> None:
    """Saved once; then it crashes again and again, and comes back with that."""
    assert scene.redis is not None
    with closing(redis.Redis.from_url(scene.redis.url)) as client:
        client.save()
    asking = asyncio.create_task(asked_all_along(scene, over))
    while not over.is_set():
        await asyncio.sleep(10)
        os.kill(scene.redis.pid, signal.SIGKILL)
        await asyncio.sleep(2)
        await asyncio.to_thread(scene.redis.restart)
    await asking


@fault("F16", "Redis killed, back with an old dump", on=(CLUSTER,), holds="stale signals do nothing: split 0")
async def _(asked: Asked) -> Found:
    return await under_load(an_old_dump, duplicates=0, lateness=2, settings=_LIMITED)(asked)


async def asleep(scene: Scene, over: asyncio.Event) -> None:
    assert scene.redis is not None
    asking = asyncio.create_task(asked_all_along(scene, over))
    while not over.is_set():
        await asyncio.sleep(8)
        os.kill(scene.redis.pid, signal.SIGSTOP)
        await asyncio.sleep(10)
        os.kill(scene.redis.pid, signal.SIGCONT)
    await asking


@fault("F17", "Redis asleep for 10 s, again and again", on=(CLUSTER,), holds="as F15; nobody waits past the timeout")
async def _(asked: Asked) -> Found:
    return await under_load(asleep, duplicates=0, lateness=2, settings=_LIMITED)(asked)


async def full(scene: Scene, over: asyncio.Event) -> None:
    assert scene.redis is not None
    with closing(redis.Redis.from_url(scene.redis.url)) as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", "1")
    await asked_all_along(scene, over)


@fault("F17", "Redis out of memory", on=(CLUSTER,), holds="as F15; nobody waits past the timeout")
async def _(asked: Asked) -> Found:
    return await under_load(full, duplicates=0, lateness=2, settings=_LIMITED)(asked)
