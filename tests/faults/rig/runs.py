"""The long runs: each a named fault, played on each store its row of reliability.md §3 names, and what must hold of it.

To add one, write in a module of `tests/faults/runs`:

    @fault("F1", "one of 3 nodes killed every 2 s", on=ALL, holds="lost 0, same id, duplicates at most 2 %")
    async def killed(asked: Asked) -> Found:
        ...

A run of load W5000 under a nemesis is `under_load(nemesis)`. What the machine lacks is `raise NotRun(why)`.
"""

import asyncio
import importlib
import math
import pkgutil
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from tests.faults.rig.checker import Verdict, Wanted, judge
from tests.faults.rig.clocks import environ
from tests.faults.rig.nodes import Cluster, a_cluster
from tests.faults.rig.proxy import Proxy, proxied
from tests.faults.rig.receiver import Received, Receiver, a_receiver
from tests.servers import Postgres, Redis, private_postgres, private_redis

EMBEDDED: Final = "sqlite"
SERVER: Final = "postgres"
CLUSTER: Final = "cluster"
ALL: Final = (EMBEDDED, CLUSTER)
"""`*` of the table: what holds with Redis holds without it, where no fault is Redis's own."""

INSTANTS: Final = 10
SPACING: Final = 6  # seconds
NODES: Final = (1, 2, 3)
LEASE: Final = 5.0  # seconds
ENDS: Final = ("completed", "failed", "missed", "cancelled")

_AS_IN_EARNEST: Final = {"fsync": "on", "full_page_writes": "on"}


@dataclass(frozen=True)
class Asked:
    """`events` of ten instants each: 500 are W5000."""

    store: str
    events: int
    seed: int
    directory: Path


@dataclass
class Found:
    """What came of a run. `broken` names each thing that had to hold and did not."""

    verdict: Verdict | None = None
    p99_late: float | None = None  # seconds
    worst_late: float | None = None
    figures: dict[str, object] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)

    def must(self, held: bool, otherwise: str) -> None:
        if not held:
            self.broken.append(otherwise)


Play = Callable[[Asked], Awaitable[Found]]


@dataclass(frozen=True)
class Fault:
    number: str
    name: str
    stores: tuple[str, ...]
    holds: str
    play: Play

    def __str__(self) -> str:
        return f"{self.number} {self.name}"


_FAULTS: list[Fault] = []


def fault(number: str, name: str, *, on: Sequence[str], holds: str) -> Callable[[Play], Play]:
    def registered(play: Play) -> Play:
        _FAULTS.append(Fault(number, name, tuple(on), holds, play))
        return play

    return registered


def every_fault() -> list[Fault]:
    """All of them, in the order of their numbers."""
    from tests.faults import runs

    for module in pkgutil.iter_modules(runs.__path__):
        importlib.import_module(f"{runs.__name__}.{module.name}")
    return sorted(_FAULTS, key=lambda each: int(each.number.removeprefix("F")))


# --- what they are played on ----------------------------------------------------------------------


@dataclass
class Scene:
    cluster: Cluster
    receiver: Receiver
    postgres: Postgres | None
    redis: Redis | None
    rng: random.Random
    clock: Callable[[float], float]
    """What the store's clock tells at a true time."""
    stack: AsyncExitStack
    """Closed after the nodes have ended: for what a run adds."""
    proxies: dict[str, Proxy]
    """Those asked for: all nodes reach "postgres" or "redis" through it."""
    blows: list[tuple[float, float]] = field(default_factory=list)
    """From when to when, by the wall clock, an answer may have gone unrecorded: what explains a duplicate."""
    figures: dict[str, object] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    written: list[Wanted] = field(default_factory=list)
    """What was acknowledged to those who wrote during the run, beside the load."""

    async def start(self, *numbers: int, environ: Mapping[str, str] | None = None, planted: str = "") -> None:
        for number in numbers:
            await asyncio.to_thread(self.cluster.start, number, environ=environ, planted=planted)


@asynccontextmanager
async def a_scene(
    asked: Asked,
    *,
    settings: Mapping[str, str] | None = None,
    of_postgres: Mapping[str, str] | None = None,
    of_redis: Mapping[str, str] | None = None,
    environ_of_postgres: Mapping[str, str] | None = None,
    through: Sequence[str] = (),
    clock: Callable[[float], float] = lambda at: at,
) -> AsyncIterator[Scene]:
    """Servers as in earnest, a receiver that answers in 20 to 200 ms, and no node yet."""
    async with AsyncExitStack() as stack:
        proxies: dict[str, Proxy] = {}
        postgres = redis = None
        if asked.store != EMBEDDED:
            with environ(environ_of_postgres or {}):
                postgres = stack.enter_context(private_postgres({**_AS_IN_EARNEST, **(of_postgres or {})}))
        if asked.store == CLUSTER:
            redis = stack.enter_context(private_redis(of_redis))
        urls = {"postgres": postgres.new_database() if postgres else None, "redis": redis.url if redis else None}
        for name in through:
            if (url := urls[name]) is not None:
                urls[name], proxies[name] = await stack.enter_async_context(proxied(url))
        added = await stack.enter_async_context(AsyncExitStack())
        cluster = stack.enter_context(
            a_cluster(
                asked.directory,
                database_url=urls["postgres"],
                redis_url=urls["redis"],
                lease=f"{LEASE:.0f}s",
                settings={"QHRONOS_DELIVERY__DRAIN": "10s", **(settings or {})},
            )
        )
        receiver = await stack.enter_async_context(a_receiver())
        rng = random.Random(asked.seed)
        receiver.takes = lambda _: rng.uniform(0.02, 0.2)
        yield Scene(cluster, receiver, postgres, redis, rng, clock, added, proxies)


async def loaded(scene: Scene, events: int, *, paths: int = 20) -> list[Wanted]:
    """Create the events; what is wanted of them is computed here, not asked of the product."""
    node = scene.cluster.nodes[1]
    tried = time.monotonic()
    await asyncio.gather(*[asyncio.to_thread(node.create, schedule="every 1d") for _ in range(8)])
    takes = (time.monotonic() - tried) / 8 * events
    begin = (datetime.now(UTC) + timedelta(seconds=5 + 2 * takes)).replace(microsecond=0)
    gate = asyncio.Semaphore(8)
    wanted: list[Wanted] = []

    async def create(number: int) -> None:
        start = begin + timedelta(milliseconds=scene.rng.randrange(SPACING * 1000))  # a steady flow, not bursts
        fields: dict[str, Any] = {
            "schedule": f"every {SPACING}s",
            "start_time": start.isoformat(),
            "max_occurrences": INSTANTS,
            "action": {"type": "webhook", "params": {"url": scene.receiver.url(f"/{number % paths}")}},
            "retry": {"max_attempts": 8, "delays": ["1s"]},
            "catch_up": "all",
        }
        async with gate:
            event = await asyncio.to_thread(node.create, **fields)
        wanted.extend(Wanted(event["id"], start + timedelta(seconds=SPACING * k)) for k in range(INSTANTS))

    await asyncio.gather(*[create(number) for number in range(events)])
    if datetime.now(UTC) >= begin:  # an instant that passed before its event was made is nobody's
        raise TimeoutError("the load was not made in time: this machine is busy with something else")
    return wanted


async def settled(
    cluster: Cluster, wanted: Sequence[Wanted], within: float
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rows of every event once all have ended (or after `within` seconds as they are), and their attempts."""
    node = next(node for node in cluster.nodes.values() if node.alive)
    gate = asyncio.Semaphore(8)

    async def told(path: str) -> list[dict[str, Any]]:
        """An event that is not there has no rows: its instants count as lost."""
        async with gate:
            for _ in range(20):
                with suppress(TimeoutError):
                    status, answer = await asyncio.to_thread(node.ask, "GET", path)
                    if status in (200, 404):
                        return list(answer) if status == 200 else []
                await asyncio.sleep(0.5)
        raise TimeoutError(f"{path} is not answered")

    events = sorted({each.event_id for each in wanted})
    rows: dict[str, list[dict[str, Any]]] = {}
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        waiting = [event for event in events if not rows.get(event) or not all(map(_ended, rows[event]))]
        if not waiting:
            break
        rows.update(
            zip(
                waiting, await asyncio.gather(*[told(f"/events/{event}/occurrences") for event in waiting]), strict=True
            )
        )
        if not all(rows[event] and all(map(_ended, rows[event])) for event in waiting):
            await asyncio.sleep(2)
    every = [row for event in events for row in rows.get(event, [])]
    attempts = await asyncio.gather(*[told(f"/occurrences/{row['id']}/attempts") for row in every])
    return every, {row["id"]: tries for row, tries in zip(every, attempts, strict=True)}


def _ended(row: Mapping[str, Any]) -> bool:
    return row["status"] in ENDS


# --- W5000 under a nemesis ------------------------------------------------------------------------

Nemesis = Callable[[Scene, asyncio.Event], Coroutine[Any, Any, None]]


def under_load(
    nemesis: Nemesis,
    *,
    duplicates: float = 0.02,
    lateness: float | None = None,
    prepare: Callable[[Scene], Awaitable[None]] | None = None,
    ends_within: float = 120,
    **scene: Any,
) -> Play:
    """`duplicates`: the greatest share of the deliveries. `lateness`: the greatest p99, in seconds. `scene`: as `a_scene`.

    `ends_within`: how many seconds after the last instant every row must have ended; breakers wait for minutes.
    `prepare` starts the nodes, if it is not simply all three.
    """

    async def play(asked: Asked) -> Found:
        async with a_scene(asked, **scene) as stage:
            await (prepare(stage) if prepare else stage.start(*NODES))
            wanted = await loaded(stage, asked.events)
            over = asyncio.Event()
            striking = asyncio.create_task(nemesis(stage, over))
            last = max(each.instant for each in wanted)
            await asyncio.sleep(max(0.0, (last - datetime.now(UTC)).total_seconds()) + 1)
            over.set()
            await striking
            found = await judged(stage, [*wanted, *stage.written], within=ends_within)
        assert found.verdict is not None
        share = found.verdict.duplicates / max(1, found.verdict.deliveries)
        found.must(share <= duplicates, f"duplicates {share:.1%} > {duplicates:.0%}")
        if lateness is not None and found.p99_late is not None:
            found.must(found.p99_late <= lateness, f"p99 late {found.p99_late:.1f} s > {lateness:.1f} s")
        return found

    return play


async def judged(scene: Scene, wanted: Sequence[Wanted], *, within: float = 120) -> Found:
    """What the checker says once every row has ended; the figures are the scene's."""
    rows, attempts = await settled(scene.cluster, wanted, within)
    log = [
        replace(each, at=scene.clock(each.at), answered_at=scene.clock(each.answered_at)) for each in scene.receiver.log
    ]
    blows = [(scene.clock(since), scene.clock(until)) for since, until in scene.blows]
    verdict = judge(wanted, log, rows, attempts, blows=blows)
    found = Found(verdict, figures=scene.figures, broken=scene.broken)
    scene.figures["rescued"] = sum(each["outcome"] == "lease_lost" for tries in attempts.values() for each in tries)
    if log:
        found.p99_late, found.worst_late = lateness_of(log)
        scene.figures["worst late"] = f"{found.worst_late:.1f} s"
    for odd in verdict.unexplained:
        gap = min((since - odd.answered_at for since, _ in blows if since > odd.answered_at), default=math.inf)
        tries = [f"{each['node']} {each['started_at']} {each['outcome']}" for each in attempts.get(odd.webhook_id, ())]
        scene.broken.append(f"{odd.webhook_id} answered {gap:.2f} s too early for the next fault: {', '.join(tries)}")
    found.must(verdict.clean(), str(verdict))
    return found


def lateness_of(log: Sequence[Received]) -> tuple[float, float]:
    """The p99 and the worst, in seconds, of the first request for each occurrence."""
    first: dict[str, float] = {}
    for request in log:
        first.setdefault(request.webhook_id, request.at - datetime.fromisoformat(request.scheduled_at).timestamp())
    late = sorted(first.values())
    return late[int(len(late) * 0.99)], late[-1]
