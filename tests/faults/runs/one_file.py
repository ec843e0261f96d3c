"""Two processes on one file, and its write-ahead log (F60, F61)."""

import asyncio
import sqlite3
import time
from collections import Counter
from contextlib import closing, suppress
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from structlog.testing import capture_logs

from qhronos_core.adapters.clock import SystemClock
from qhronos_core.adapters.sqlite import SqliteStore, open_sqlite_store
from tests.adapters.store.places import Place
from tests.adapters.store.scenes import ScriptedJudge, an_event, an_occurrence, completed, kept
from tests.adapters.store.test_processes import LONG, claims_and_plans, started
from tests.clock import NOON, FakeClock
from tests.faults.rig.nodes import MASTER, Node
from tests.faults.rig.runs import EMBEDDED, Asked, Found, a_scene, fault
from tests.faults.test_one_file import STEADY

STARVED: Final = 2.0  # seconds
_RUNS: Final = 4  # of each event, as `claims_and_plans` has it
_ANSWERED_WITHIN: Final = 600.0
MIB: Final = 2**20


# --- F60 ----------------------------------------------------------------------------------------------------


def claim_until_empty(pipe: "Connection[Any, Any]", place: Place, name: str) -> None:
    """As of test_processes, and how long each look and each settle took."""

    async def run() -> tuple[list[UUID], list[float]]:
        taken: list[UUID] = []
        took: list[float] = []
        async with place.open(FakeClock(NOON)) as store:
            pipe.send("ready")
            pipe.recv()
            while True:
                judge, began = ScriptedJudge(claims_and_plans), time.monotonic()
                looked = await store.claim_due(node=name, lease=LONG, limit=25, judge=judge)
                claimed = time.monotonic()
                await store.settle([completed(each.occurrence, NOON) for each in looked.claims])
                took += [claimed - began, time.monotonic() - claimed]
                taken += [each.occurrence.id for each in looked.claims]
                if not looked.judged:
                    return taken, took

    pipe.send(asyncio.run(run()))


@fault(
    "F60",
    "two processes claim from one file",
    on=(EMBEDDED,),
    holds=f"double claims 0 of 10,000; both finish; neither waits over {STARVED:.0f} s",
)
async def _(asked: Asked) -> Found:
    found, claims = Found(), asked.events * 20
    place = Place("sqlite", str(asked.directory / "data"))
    began = NOON - timedelta(minutes=1)
    async with place.open(FakeClock(NOON)) as store:
        events = [an_event() for _ in range(claims // _RUNS)]
        await kept(store, *events, *(an_occurrence(event, began) for event in events))
    others = [started(claim_until_empty, place, f"node-{number}") for number in (1, 2)]
    try:
        for _, pipe in others:
            await _answer(pipe)
        for _, pipe in others:
            pipe.send("go")
        told = [await _answer(pipe) for _, pipe in others]
    finally:
        for process, _ in others:
            process.kill()
            process.join()
    every = Counter(each for taken, _ in told for each in taken)
    longest = [max(took) for _, took in told]
    found.figures = {
        "claims": every.total(),
        "shares": [len(taken) for taken, _ in told],
        "longest wait": f"{max(longest) * 1000:.0f} ms",
    }
    found.must(every.total() == claims, f"{every.total()} claims of {claims}")
    found.must(set(every.values()) == {1}, f"claimed twice: {sum(count > 1 for count in every.values())}")
    found.must(all(taken for taken, _ in told), "one of them got nothing")
    found.must(max(longest) <= STARVED, f"one waited {max(longest):.1f} s")
    return found


async def _answer(pipe: "Connection[Any, Any]") -> Any:
    assert await asyncio.to_thread(pipe.poll, _ANSWERED_WITHIN), "a process said nothing"
    return pipe.recv()


# --- F61 ----------------------------------------------------------------------------------------------------

_READERS: Final = 20
_FOLDED_WITHIN: Final = 60.0  # seconds


async def written(store: SqliteStore) -> None:
    """A megabyte of events that are due in a year."""
    for _ in range(8):
        now = await store.now()
        events = [an_event(description="x" * 4_000) for _ in range(32)]
        rows = [an_occurrence(event, now + timedelta(days=365)) for event in events]
        await asyncio.gather(*(kept(store, event, row) for event, row in zip(events, rows, strict=True)))


async def grown(store: SqliteStore, log: Path, seconds: float) -> tuple[int, int]:
    """Writes for so long: the log's greatest size meanwhile, and how many megabytes were written."""
    most = megabytes = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        await written(store)
        megabytes += 1
        most = max(most, _size(log))
    return most, megabytes


async def reads_without_end(node: Node) -> None:
    """Asks for the longest list there is, over and over, and takes none of it."""
    request = f"GET /events?limit=1000 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {MASTER}\r\n\r\n".encode()
    while True:
        reader, writer = await asyncio.open_connection("127.0.0.1", node.port, limit=1)
        try:
            with suppress(ConnectionError):
                for _ in range(100):
                    writer.write(request)
                    await writer.drain()
                    await asyncio.sleep(0.3)
            del reader
        finally:
            writer.transport.abort()


@fault(
    "F61",
    "the log of a file that is written without end",
    on=(EMBEDDED,),
    holds="beside readers that never finish, and after a stranger's snapshot, at most 2 x its steady size; over 64 MiB it says so",
)
async def _(asked: Asked) -> Found:
    """The hour is cut to three times a fifth of a second per event: 5 min at full size. What grows, grows by the write."""
    found, each = Found(), asked.events * 0.2
    async with a_scene(asked) as scene:
        await scene.start(1)
        log = asked.directory / "data" / "qhronos.db-wal"
        async with open_sqlite_store(asked.directory / "data", clock=SystemClock()) as store:
            await grown(store, log, 2)
            steady, alone = await grown(store, log, each)
            readers = [asyncio.create_task(reads_without_end(scene.cluster.nodes[1])) for _ in range(_READERS)]
            beside, read = await grown(store, log, each)
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)
            held, warned = await _held_by_a_stranger(store, asked.directory / "data" / "qhronos.db", log)
            folded = await _folded(store, log, 2 * steady)
            after, later = await grown(store, log, each)
        found.must(scene.cluster.nodes[1].alive, "the node ended")
    found.figures = {
        "played": f"3 x {each:.0f} s",
        "written": f"{alone}, {read}, {later} MB",
        "steady": f"{steady / MIB:.1f} MiB",
        "beside readers": f"{beside / MIB:.1f} MiB",
        "behind a stranger's snapshot": f"{held / MIB:.1f} MiB",
        "afterwards": f"{after / MIB:.1f} MiB, from {folded:.1f} s on",
    }
    found.must(steady <= 2 * STEADY, f"the steady size is {steady}")
    found.must(beside <= 2 * steady, f"{beside} bytes beside readers, steady {steady}")
    found.must(warned, "nothing was said of a log over 64 MiB")
    found.must(after <= 2 * steady, f"{after} bytes afterwards, steady {steady}")
    return found


async def _held_by_a_stranger(store: SqliteStore, file: Path, log: Path) -> tuple[int, bool]:
    """Another program's read transaction, until the log is so large that it is said."""
    with closing(sqlite3.connect(file, isolation_level=None)) as stranger, capture_logs() as logs:
        stranger.execute("BEGIN")
        stranger.execute("SELECT count(*) FROM events").fetchall()
        for _ in range(400):
            await written(store)
            if any(entry["event"] == "write_ahead_log_is_large" for entry in logs):
                return _size(log), True
        return _size(log), False


async def _folded(store: SqliteStore, log: Path, enough: int) -> float:
    """Goes on writing until the log is no larger than that: how many seconds."""
    began = time.monotonic()
    while _size(log) > enough and time.monotonic() - began < _FOLDED_WITHIN:
        await written(store)
    return time.monotonic() - began


def _size(file: Path) -> int:
    return file.stat().st_size
