"""The long runs: W5000 under each fault, and the table of what the checker found (`./scripts/faults.sh`).

Load W5000: three nodes, 500 events of ten instants over 60 s, twenty paths of a receiver that answers in 20 to 200 ms,
a lease of 5 s. `--tenth` runs a tenth of it. The seed is printed; a run that is not clean keeps its directory.
"""

import argparse
import asyncio
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.faults.rig.checker import Verdict, Wanted, judge
from tests.faults.rig.nodes import Cluster, a_cluster
from tests.faults.rig.receiver import Receiver, a_receiver
from tests.servers import Postgres, Redis, ServerMissing, private_postgres, private_redis

INSTANTS = 10
SPACING = 6  # seconds
NODES = (1, 2, 3)


@dataclass
class Run:
    cluster: Cluster
    receiver: Receiver
    postgres: Postgres | None
    redis: Redis | None
    rng: random.Random


Nemesis = Callable[[Run, asyncio.Event], Coroutine[Any, Any, None]]


async def quiet(_run: Run, over: asyncio.Event) -> None:
    """No fault at all: what the rig itself costs."""
    await over.wait()


async def killed(run: Run, over: asyncio.Event) -> None:
    """F1: one of three nodes killed every 2 s, and started again."""
    while not over.is_set():
        await asyncio.sleep(2)
        number = run.rng.choice(NODES[1:])  # the first is who the checker asks
        run.cluster.nodes[number].kill()
        await asyncio.to_thread(run.cluster.start, number)


async def flushed(run: Run, over: asyncio.Event) -> None:
    """F14: Redis is emptied every 5 s, while nodes are killed."""
    assert run.redis is not None
    killing = asyncio.create_task(killed(run, over))
    while not over.is_set():
        await asyncio.sleep(5)
        await asyncio.to_thread(run.redis.flush)
    await killing


async def restarted(run: Run, over: asyncio.Event) -> None:
    """F7: PostgreSQL stopped at once in the middle, and started again."""
    assert run.postgres is not None
    await asyncio.sleep(20)
    await asyncio.to_thread(run.postgres.restart, "immediate")
    await over.wait()


async def rolled(run: Run, over: asyncio.Event) -> None:
    """F45: a rolling deploy, one node after the other, twice."""
    for number in (*NODES, *NODES):
        if over.is_set():
            return
        await asyncio.sleep(4)
        await asyncio.to_thread(run.cluster.nodes[number].stopped_by, signal.SIGTERM, 60)
        await asyncio.to_thread(run.cluster.start, number)


RUNS: dict[str, tuple[Nemesis, tuple[str, ...], bool]] = {
    "no fault": (quiet, ("sqlite", "cluster"), True),
    "F1 a node killed every 2 s": (killed, ("sqlite", "cluster"), False),
    "F14 Redis flushed every 5 s": (flushed, ("cluster",), False),
    "F7 PostgreSQL restarted": (restarted, ("cluster",), False),
    "F45 rolling SIGTERM": (rolled, ("sqlite", "cluster"), True),
}


async def loaded(run: Run, events: int) -> list[Wanted]:
    """Create the events; what is wanted of them is computed here, not asked of the product."""
    node = run.cluster.nodes[1]
    begin = (datetime.now(UTC) + timedelta(seconds=6 + events / 40)).replace(microsecond=0)
    gate = asyncio.Semaphore(8)
    wanted: list[Wanted] = []

    async def create(number: int) -> None:
        start = begin + timedelta(seconds=number % SPACING)
        fields: dict[str, Any] = {
            "schedule": f"every {SPACING}s",
            "start_time": start.isoformat(),
            "max_occurrences": INSTANTS,
            "action": {"type": "webhook", "params": {"url": run.receiver.url(f"/{number % 20}")}},
            "retry": {"max_attempts": 8, "delays": ["1s"]},
            "catch_up": "all",
        }
        async with gate:
            event = await asyncio.to_thread(node.create, **fields)
        wanted.extend(Wanted(event["id"], start + timedelta(seconds=SPACING * k)) for k in range(INSTANTS))

    await asyncio.gather(*[create(number) for number in range(events)])
    return wanted


async def one(store: str, nemesis: Nemesis, events: int, seed: int) -> tuple[Verdict, float, Path]:
    """One run; the verdict, the p99 lateness in seconds, and where its logs are."""
    directory = _kept_directory()
    with ExitStack() as stack:
        postgres = stack.enter_context(private_postgres()) if store == "cluster" else None
        redis = stack.enter_context(private_redis()) if store == "cluster" else None
        cluster = stack.enter_context(
            a_cluster(
                directory,
                database_url=postgres.new_database() if postgres else None,
                redis_url=redis.url if redis else None,
                lease="5s",
                settings={"QHRONOS_DELIVERY__DRAIN": "10s"},
            )
        )
        async with a_receiver() as receiver:
            rng = random.Random(seed)
            receiver.takes = lambda _: rng.uniform(0.02, 0.2)
            run = Run(cluster, receiver, postgres, redis, rng)
            for number in NODES:
                await asyncio.to_thread(cluster.start, number)
            wanted = await loaded(run, events)
            over = asyncio.Event()
            fault = asyncio.create_task(nemesis(run, over))
            last = max(each.instant for each in wanted)
            await asyncio.sleep(max(0.0, (last - datetime.now(UTC)).total_seconds()) + 1)
            over.set()
            await fault
            rows, attempts = await settled(cluster, wanted)
            verdict = judge(wanted, receiver.log, rows, attempts)
            late = sorted(r.at - datetime.fromisoformat(r.scheduled_at).timestamp() for r in receiver.log)
            return verdict, late[int(len(late) * 0.99)] if late else 0.0, directory


def _kept_directory() -> Path:
    """Kept if the run is not clean. Others may enter: PostgreSQL may run as another user."""
    directory = Path(tempfile.mkdtemp(prefix="qhronos-faults-"))
    directory.chmod(0o755)
    return directory


async def settled(cluster: Cluster, wanted: list[Wanted]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rows of every event once all have ended (or after two minutes as they are), and their attempts."""
    node, events = cluster.nodes[1], sorted({each.event_id for each in wanted})
    for _ in range(60):
        rows = [row for event in events for row in await asyncio.to_thread(node.occurrences, event)]
        if all(row["status"] in ("completed", "failed", "missed", "cancelled") for row in rows):
            break
        await asyncio.sleep(2)
    return rows, {row["id"]: await asyncio.to_thread(node.attempts, row["id"]) for row in rows}


async def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--tenth", action="store_true", help="a tenth of the load")
    asked.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    asked.add_argument("--only", help="runs whose name holds this")
    told = asked.parse_args()
    events = 50 if told.tenth else 500
    console = Console(width=150, soft_wrap=True)
    console.print(f"seed {told.seed}, {events * INSTANTS} occurrences a run")
    columns = ("run", "store", "lost", "split", "alien", "early", "lying", "fence breach", "duplicates", "p99 late")
    table = Table(*columns)
    clean = True
    for name, (nemesis, stores, no_duplicates) in RUNS.items():
        for store in stores:
            if told.only and told.only not in f"{name} {store}":
                continue
            try:
                verdict, late, directory = await one(store, nemesis, events, told.seed)
            except ServerMissing as missing:
                table.add_row(name, store, f"not run: {missing}")
                continue
            well = verdict.clean() and not (no_duplicates and verdict.duplicates)
            clean = clean and well
            figures = verdict.faults
            table.add_row(
                name,
                store,
                *(str(figures[each]) for each in ("lost", "split", "alien", "early", "lying", "fence breach")),
                f"{verdict.duplicates} of {verdict.deliveries}",
                f"{late * 1000:.0f} ms",
            )
            console.print(f"{name} on {store}: {verdict}")
            if well:
                shutil.rmtree(directory)
            else:
                console.print(f"  kept: {directory}")
    console.print(table)
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
