"""One node is cut from the store, from Redis, from the receivers, one at a time."""

import asyncio
import time
from contextlib import AbstractAsyncContextManager
from typing import Final

from tests.faults.rig.proxy import Proxy, a_proxy, proxied
from tests.faults.rig.runs import CLUSTER, LEASE, Asked, Found, Scene, fault, under_load

CUT_OFF: Final = 3  # the node
POLL: Final = 1.0
FOR: Final = 20.0  # seconds


async def cut_from(what: str, asked: Asked, *, lateness: float | None) -> Found:
    """That node has a wire of its own to it, which is dead for a while. Attempts end after 2 s."""
    wire: list[Proxy] = []

    async def prepare(scene: Scene) -> None:
        await scene.start(1, 2)
        if what == "the receivers":
            proxy = await scene.stack.enter_async_context(a_proxy("127.0.0.1", scene.receiver.port))
            environ = {"QHRONOS_EGRESS__PROXY_URL": f"http://127.0.0.1:{proxy.port}"}
        else:
            name = {"the store": "DATABASE_URL", "Redis": "REDIS_URL"}[what]
            url = scene.cluster.environ()[name]
            made: AbstractAsyncContextManager[tuple[str, Proxy]] = proxied(url)
            through, proxy = await scene.stack.enter_async_context(made)
            environ = {name: through}
        wire.append(proxy)
        await scene.start(CUT_OFF, environ=environ)

    async def nemesis(scene: Scene, over: asyncio.Event) -> None:
        await asyncio.sleep(10)
        at = time.time()
        wire[0].blackhole()
        await asyncio.sleep(FOR)
        wire[0].heal()
        scene.blows.append((at - 0.5, time.time() + 0.5))
        await over.wait()

    settings = {"QHRONOS_DELIVERY__TIMEOUT": "2s"}
    found = await under_load(nemesis, prepare=prepare, settings=settings, duplicates=1)(asked)  # each of them explained
    if lateness is not None:
        found.must((found.worst_late or 0) <= lateness, f"taken over after {found.worst_late:.1f} s > {lateness:.1f} s")
    return found


@fault("F18", "one node cut from the store for 20 s", on=(CLUSTER,), holds="same id, takeover <= lease + poll")
async def _(asked: Asked) -> Found:
    return await cut_from("the store", asked, lateness=LEASE + POLL + 1)


@fault("F18", "one node cut from Redis for 20 s", on=(CLUSTER,), holds="late by a poll at most")
async def _(asked: Asked) -> Found:
    return await cut_from("Redis", asked, lateness=POLL + 1)


@fault("F18", "one node cut from the receivers for 20 s", on=(CLUSTER,), holds="same id, takeover <= lease + poll")
async def _(asked: Asked) -> Found:
    return await cut_from("the receivers", asked, lateness=LEASE + POLL + 2 + 1)  # an attempt there takes 2 s
