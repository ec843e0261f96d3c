"""A transaction that stays open: what has ended meanwhile cannot be vacuumed, and whoever looks reads past it (F13)."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

import psycopg

from qhronos_core.adapters.postgres import PostgresStore, open_postgres_store
from tests.faults.rig.checker import Wanted
from tests.faults.rig.runs import CLUSTER, NODES, SERVER, Asked, Found, Scene, a_scene, fault, judged, loaded

CLAIM: Final = 0.5  # seconds: the p99 of looks, and of the journal's delay
LATE: Final = 1.5  # seconds: the p99
IDLE: Final = "30s"
_MADE_AT_ONCE: Final = 100_000
_DUE_LONG_AGO: Final = """
    INSERT INTO occurrences (id, event_id, scheduled_at, created_at, updated_at, round_began_at, due_at, cause, state,
                             advances, ordinal, fence, attempts_made, attempts_before, round, event_version)
    SELECT gen_random_uuid(), %(event)s, at, at, at, at, at, 'schedule', 'pending', true, 1, 0, 0, 0, 1, 1
      FROM generate_series(%(first)s::int, %(last)s::int) AS n,
           LATERAL (SELECT now() - interval '1 h' + n * interval '1 ms' AS at) AS instant
"""
_ENDED: Final = """
    UPDATE occurrences SET state = 'completed', due_at = NULL, advances = false, fence = 2, finished_at = now()
     WHERE event_id = %(event)s AND unfinished
"""


def ended_rows(url: str, count: int) -> None:
    """So many that were due and have ended: each leaves dead entries at the head of the indexes of what is due."""
    event = uuid4()
    with psycopg.connect(url) as connection:
        for first in range(0, count, _MADE_AT_ONCE):
            last = min(count, first + _MADE_AT_ONCE) - 1
            connection.execute(_DUE_LONG_AGO, {"event": event, "first": first, "last": last})
            connection.execute(_ENDED, {"event": event})
            connection.commit()


@dataclass(frozen=True)
class Watched:
    """A load, and how long those took who claimed meanwhile and who read the journal; in seconds."""

    wanted: list[Wanted]
    looks: "Counter[float]"
    """How many took at most so long, by the upper bounds the nodes' metrics have."""
    journal: Sequence[float]
    late: Sequence[float]

    def __str__(self) -> str:
        looks = sorted(self.looks.elements())
        told = [f"p99 {_shown(_p99(of))}, worst {_shown(of[-1])}" for of in (looks, self.journal, self.late)]
        return f"looks {len(looks)}, at most {told[0]}; journal {told[1]}; late {told[2]}"


def _p99(of: Sequence[float]) -> float:
    return of[int(len(of) * 0.99)]


def _shown(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


async def watched(scene: Scene, store: PostgresStore, events: int) -> Watched:
    wanted = await loaded(scene, events)
    before = await asyncio.to_thread(_looks_of, scene)
    over = asyncio.Event()
    reading = asyncio.create_task(_delays(store, over))
    last = max(each.instant for each in wanted)
    await asyncio.sleep(max(0.0, (last - datetime.now(UTC)).total_seconds()) + 5)
    over.set()
    looks = await asyncio.to_thread(_looks_of, scene) - before
    ours = {each.event_id for each in wanted}
    first: dict[str, float] = {}
    for each in scene.receiver.log:
        if each.event_id in ours:
            first.setdefault(each.webhook_id, each.at - datetime.fromisoformat(each.scheduled_at).timestamp())
    return Watched(wanted, looks, sorted(await reading), sorted(first.values()))


def _looks_of(scene: Scene) -> "Counter[float]":
    looks: Counter[float] = Counter()
    for node in scene.cluster.nodes.values():
        below = 0
        for bound, so_far in re.findall(
            r'qhronos_claim_seconds_bucket\{le="([^"]+)"\} ([0-9.]+)', node.text("/metrics")
        ):
            looks[float(bound)] += int(float(so_far)) - below
            below = int(float(so_far))
    return looks


async def _delays(store: PostgresStore, over: asyncio.Event) -> list[float]:
    """From when each entry was written down until a reader had it who asks every 10 ms."""
    cursor, delays = await store.journal.end(), []
    while not over.is_set():
        page = await store.journal.after(cursor, limit=1_000)
        at = time.time()
        delays += [at - line.entry.at.timestamp() for line in page.lines]
        cursor = page.cursor
        await asyncio.sleep(0.01)
    return delays


@fault(
    "F13",
    "an old snapshot is held, a million rows are dead",
    on=(SERVER, CLUSTER),
    holds=f"p99: claim and journal <= {CLAIM} s, late <= {LATE} s; our own transactions may idle {IDLE} at most",
)
async def _(asked: Asked) -> Found:
    dead = asked.events * 2_000
    async with a_scene(asked) as scene:
        url = scene.cluster.database_url
        assert url is not None
        await scene.start(*NODES)
        async with open_postgres_store(url) as store:
            before = await watched(scene, store, asked.events)
            with psycopg.connect(url) as old:
                old.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
                old.execute("SELECT pg_current_xact_id()")  # from here on it is idle
                began = time.monotonic()
                await asyncio.to_thread(ended_rows, url, dead)
                scene.figures["dead rows"] = f"{dead:,} made in {time.monotonic() - began:.0f} s"
                after = await watched(scene, store, asked.events)
            idle = [
                (await pool.rows("SHOW idle_in_transaction_session_timeout"))[0][0]
                for pool in (store._callers, store._dispatch)
            ]
        found = await judged(scene, [*before.wanted, *after.wanted])
    found.figures |= {"before": before, "after": after, "idle in transaction": idle}
    found.must(set(idle) == {IDLE}, f"our transactions may idle for {idle}")
    found.must(_p99(sorted(after.looks.elements())) <= CLAIM, f"claims after: {after}")
    found.must(_p99(after.journal) <= CLAIM, f"the journal after: {after}")
    found.must(_p99(after.late) <= LATE, f"late after: {after}")
    return found
