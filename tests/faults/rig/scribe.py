"""The victims of `disks.Zygote`: each works on a store, and writes down beside it whatever the store acknowledged.

python -m tests.faults.rig.scribe <the preloaded library>: one JSON line in, a fork, one JSON line out.
"""

import asyncio
import ctypes
import json
import os
import sqlite3
import sys
import traceback
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from qhronos_core.adapters.sqlite import open_sqlite_store, threads
from qhronos_core.adapters.sqlite.file import StoreFile
from qhronos_core.domain.errors import StoreUnavailableError
from tests.adapters.store.scenes import an_event, an_occurrence, kept
from tests.clock import FakeClock
from tests.world import NOON, OWNER, World, a_world

Acknowledge = Callable[..., None]
Begin = Callable[[], None]  # from here on the disk counts, and fails as it was told to
BEGIN: Final = NOON - timedelta(minutes=5)


async def life(data: Path, begin: Begin, acknowledge: Acknowledge) -> None:
    """A first creation, events made, claimed with their successors, settled, changed, deleted; a checkpoint; the end."""
    begin()
    async with a_world(data, at=BEGIN) as world:
        await lived(world, acknowledge)
        await world.store._writer.write(lambda _: None)  # type: ignore[attr-defined]
        world.store._writer._tend_log()  # type: ignore[attr-defined]
        await lived(world, acknowledge)


async def lived(world: World, acknowledge: Acknowledge) -> None:
    made = [(await world.event(schedule="* * * * *", description="x" * 3_000)).event for _ in range(3)]
    for event in made:
        acknowledge("created", str(event.id))
    dispatcher = world.dispatcher
    for _ in range(2):
        world.clock.advance(seconds=60)
        claimed = await dispatcher.run_once()
        acknowledge("completed", *(str(claim.occurrence.id) for claim in claimed.claims))
    await dispatcher.drain()
    changed = await world.events.update(made[0].id, {"name": "changed"}, caller=OWNER)
    acknowledge("changed", str(changed.event.id))
    deleted = await world.events.delete(made[1].id, caller=OWNER)
    acknowledge("deleted", str(deleted.event.id))


async def stubborn(data: Path, begin: Begin, acknowledge: Acknowledge) -> None:
    """Events made, claimed and settled, each step tried again until the store takes it."""
    async with a_world(data, at=BEGIN) as world:
        dispatcher = world.dispatcher
        begin()
        for _ in range(2):
            answer = await _until_taken(lambda: world.event(schedule="* * * * *", description="x" * 3_000))
            acknowledge("created", str(answer.event.id))
            world.clock.advance(seconds=60)
            claimed = await _until_taken(dispatcher.run_once)
            acknowledge("completed", *(str(claim.occurrence.id) for claim in claimed.claims))
        await dispatcher.drain()


async def _until_taken(step: Callable[[], Awaitable[Any]]) -> Any:
    for _ in range(1_000):
        try:
            return await step()
        except StoreUnavailableError:
            continue
    raise AssertionError("the store never came back")


async def many(data: Path, begin: Begin, acknowledge: Acknowledge) -> None:
    """Events without end, a few waiting together, each told of once it is acknowledged."""
    begin()
    async with open_sqlite_store(data, clock=FakeClock(BEGIN)) as store:

        async def make() -> None:
            while True:
                event = an_event()
                await kept(store, event, an_occurrence(event))
                acknowledge("created", str(event.id))

        await asyncio.gather(*(make() for _ in range(4)))


async def careless(data: Path, begin: Begin, acknowledge: Acknowledge) -> None:
    """The same by a store that does not wait for its disk: the planted bug of F64."""
    connect = StoreFile.connect

    def hasty(self: StoreFile, *, read_only: bool = False) -> sqlite3.Connection:
        connection = connect(self, read_only=read_only)
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection

    StoreFile.connect = hasty  # type: ignore[method-assign]
    await many(data, begin, acknowledge)


WORKS: Final = {work.__name__: work for work in (life, stubborn, many, careless)}


def main() -> None:
    disk = ctypes.CDLL(sys.argv[1])
    for line in sys.stdin:
        told = json.loads(line)
        directory = Path(told["directory"])
        reading, writing = os.pipe()
        victim = os.fork()
        if not victim:
            _be(disk, told, directory, writing)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            calls = pipe.read()
        status = os.waitstatus_to_exitcode(os.waitpid(victim, 0)[1])
        print(json.dumps({"status": status, "calls": int(calls or 0)}), flush=True)


def _be(disk: ctypes.CDLL, told: dict[str, Any], directory: Path, pipe: int) -> None:
    """A victim's whole life."""
    status = 1
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what it logs; the other end reads JSON
        log = os.open(directory / "acknowledged", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

        def acknowledge(what: str, *ids: str) -> None:
            os.write(log, json.dumps([what, *ids]).encode() + b"\n")

        def begin() -> None:
            if told["kept"]:
                (directory / "kept").mkdir()
                disk.disk_keeps(str(directory / "kept").encode())
            disk.disk_dies_at(ctypes.c_long(told["dies_at"]))
            disk.disk_fails(*map(ctypes.c_long, told["fails"]))
            disk.disk_under(str(directory / "data").encode())

        threads._IDLE = 60.0  # type: ignore[misc]  # the checkpoint is made when told, not by the clock
        asyncio.run(WORKS[told["work"]](directory / "data", begin, acknowledge))
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os.write(pipe, str(disk.disk_calls()).encode())
        os._exit(status)


if __name__ == "__main__":
    main()
