"""A process killed while it makes a store, works in it or closes it leaves a store that opens whole (F59)."""

import asyncio
import multiprocessing
import random
import sqlite3
from contextlib import closing
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from qhronos_core.adapters.sqlite import open_sqlite_store
from tests.adapters.store.scenes import an_event, an_occurrence, completed, kept, look
from tests.clock import FakeClock

SPAWN = multiprocessing.get_context("spawn")


def make_use_and_close_for_ever(pipe: "Connection[Any, Any]", directory: Path) -> None:
    async def run() -> None:
        pipe.send("ready")
        for number in count():
            async with open_sqlite_store(directory / f"{number:04}", clock=FakeClock()) as store:
                events = [an_event(description="x" * 2_000) for _ in range(20)]
                await asyncio.gather(*(kept(store, event, an_occurrence(event)) for event in events))
                looked = await look(store)
                await store.settle([completed(each.occurrence, looked.now) for each in looked.claims])

    asyncio.run(run())


async def test_what_a_killed_process_leaves_opens_whole(tmp_path: Path) -> None:
    rng = random.Random(59)
    for death in range(5):
        directory = tmp_path / str(death)
        directory.mkdir()
        ours, theirs = SPAWN.Pipe()
        process = SPAWN.Process(target=make_use_and_close_for_ever, args=(theirs, directory), daemon=True)
        process.start()
        assert await asyncio.to_thread(ours.poll, 30)
        await asyncio.sleep(rng.uniform(0.0, 0.15))
        process.kill()
        await asyncio.to_thread(process.join)

        for left in sorted(directory.iterdir()):
            async with open_sqlite_store(left, clock=FakeClock()) as store:
                await kept(store, an_event())
            with closing(sqlite3.connect(left / "qhronos.db")) as connection:
                assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
                half = "SELECT count(*) FROM events WHERE description <> '' AND id NOT IN (SELECT event_id FROM occurrences)"
                assert connection.execute(half).fetchone() == (0,)
