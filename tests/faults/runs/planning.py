"""Very many events that run every minute: a row each, and no transaction that others have to wait for (F40)."""

import asyncio
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import psycopg

from qhronos_core.adapters.clock import SystemClock
from qhronos_core.domain import planning
from qhronos_core.domain.event import Action, ActionType, Event, EventStatus
from qhronos_core.ports import Changes, EventSave, Store
from tests.adapters.store.places import Place
from tests.adapters.store.scenes import an_event
from tests.faults.rig.nodes import Cluster
from tests.faults.rig.runs import ALL, EMBEDDED, LEASE, NODES, Asked, Found, Scene, a_scene, fault
from tests.faults.runs.tenants import NO_LIMITS

MINUTES: Final = 3  # at least
LOCKED: Final = 2.0  # seconds that another writer of the same file waits (F60)
_IN_ONE: Final = 500  # events that are made in one transaction
_WITHIN: Final = 15  # minutes in which each event has run once, however slow the machine


async def minutely(scene: Scene, place: Place, count: int) -> tuple[list[Event], datetime]:
    """So many events, made through the store's port, and the instant at which all of them run first."""
    async with place.open(SystemClock()) as store:
        tried = time.monotonic()
        await store.commit(Changes(saves=[EventSave(an_event(status=EventStatus.INACTIVE)) for _ in range(_IN_ONE)]))
        takes = 4 * (time.monotonic() - tried) * count / _IN_ONE  # twice, and twice the rows
        now = datetime.now(UTC)
        begin = (now + timedelta(seconds=15 + takes)).replace(second=0, microsecond=0) + timedelta(minutes=1)
        accepted = begin - timedelta(seconds=30)
        events = []
        for _ in range(count // _IN_ONE):
            made = [an_event(anchor_at=accepted, created_at=now, updated_at=now) for _ in range(_IN_ONE)]
            made = [replace(event, action=_call(scene, event, begin)) for event in made]
            rows = [planning.first(event, accepted) for event in made]
            await store.commit(
                Changes(saves=[EventSave(event) for event in made], planned=[row for row in rows if row is not None])
            )
            events += made
        await _planned_once(store, events)
    if datetime.now(UTC) >= begin - timedelta(seconds=10):
        raise TimeoutError("the events were not made in time: this machine is busy with something else")
    return events, begin


def _call(scene: Scene, event: Event, begin: datetime) -> Action:
    body = {"event_id": str(event.id), "scheduled_at": begin.isoformat()}
    return Action(ActionType.APICALL, {"method": "POST", "url": scene.receiver.url("/"), "body": body})


async def _planned_once(store: Store, events: Sequence[Event]) -> None:
    for begin in range(0, len(events), 1_000):
        some = [event.id for event in events[begin : begin + 1_000]]
        assert len(await store.occurrences.planned_of(some)) == len(some), "an event without its planned row"


# --- transactions, as another process sees them ------------------------------------------------------------

Lasts = Callable[[], float]


@contextmanager
def longest_seen(cluster: Cluster) -> Iterator[list[float]]:
    """How long transactions lasted, looked at by a thread until the end: on PostgreSQL as the server tells, every 20 ms;
    on SQLite as one more writer who waits for the lock, ten times a second."""
    lasted = [0.0]
    over = threading.Event()

    def on_server(url: str) -> None:
        what = (
            "SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0)::float FROM pg_stat_activity"
            " WHERE application_name = 'qhronos'"
        )
        with psycopg.connect(url, autocommit=True) as connection:
            while not over.wait(0.02):
                lasted.extend(row[0] for row in connection.execute(what))

    def on_file(file: Path) -> None:
        with closing(sqlite3.connect(file, isolation_level=None, timeout=0)) as connection:
            while not over.wait(0.1):
                began = time.monotonic()
                while not _locked(connection):
                    time.sleep(0.0005)
                connection.execute("ROLLBACK")
                lasted.append(time.monotonic() - began)

    url = cluster.database_url
    file = cluster.directory / "data" / "qhronos.db"
    looks = threading.Thread(target=on_file if url is None else on_server, args=(file if url is None else url,))
    looks.start()
    try:
        yield lasted
    finally:
        over.set()
        looks.join()


def _locked(connection: sqlite3.Connection) -> bool:
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError:
        return False
    return True


def _rows(cluster: Cluster) -> tuple[int, int, int]:
    """All, those planned (never begun), and how many events these are of."""
    what = (
        "SELECT count(*), sum(CASE WHEN advances THEN 1 ELSE 0 END), count(DISTINCT CASE WHEN advances THEN event_id END)"
        " FROM occurrences"
    )
    if cluster.database_url is None:
        with closing(sqlite3.connect(cluster.directory / "data" / "qhronos.db")) as file:
            return tuple(file.execute(what).fetchone())
    with psycopg.connect(cluster.database_url) as connection:
        row = connection.execute(what).fetchone()
        assert row is not None
        return row[0], row[1], row[2]


@fault(
    "F40",
    "100,000 events that run every minute",
    on=ALL,
    holds=f"one planned row each, before and after; no transaction over a lease, no wait for a file over {LOCKED:.0f} s; each event runs",
)
async def _(asked: Asked) -> Found:
    """All are due at the same instant of each minute. Where a minute is too short for that, `catch_up: one` says how many."""
    found, count = Found(), asked.events * 200
    async with a_scene(asked, settings={**NO_LIMITS, "QHRONOS_DELIVERY__CONCURRENCY": "200"}) as scene:
        scene.receiver.takes = lambda _: 0.0
        url = scene.cluster.database_url
        place = Place("sqlite", str(asked.directory / "data")) if url is None else Place("postgres", url)
        began = time.monotonic()
        events, begin = await minutely(scene, place, count)
        made = time.monotonic() - began
        await scene.start(*NODES)
        with longest_seen(scene.cluster) as lasted:
            for minute in range(1, _WITHIN + 1):
                until = begin + timedelta(minutes=minute, seconds=-5)
                await asyncio.sleep((until - datetime.now(UTC)).total_seconds())
                if minute >= MINUTES and len({each.event_id for each in scene.receiver.log}) == count:
                    break
        ends = [asyncio.to_thread(node.stopped_by, signal.SIGTERM, 60) for node in scene.cluster.nodes.values()]
        await asyncio.gather(*ends)
        rows, planned, of_events = await asyncio.to_thread(_rows, scene.cluster)
        async with place.open(SystemClock()) as store:
            await _planned_once(store, events)
        runs = Counter(each.event_id for each in scene.receiver.log)
        by_minute = Counter(int((each.at - begin.timestamp()) // 60) for each in scene.receiver.log)
    lasted.sort()
    found.figures = {
        "events": f"{count:,} made in {made:.0f} s",
        "rows": f"{rows:,}, planned {planned:,} of {of_events:,} events",
        "sent in each minute": [by_minute[n] for n in range(minute)],
        "runs of an event": f"{min(runs.values(), default=0)} to {max(runs.values(), default=0)}",
        "longest wait for the lock" if asked.store == EMBEDDED else "longest transaction": f"{lasted[-1] * 1000:.0f} ms"
        f" (p99 {lasted[int(len(lasted) * 0.99)] * 1000:.0f} ms of {len(lasted)})",
    }
    found.must(planned == of_events == count, f"{planned} planned rows of {of_events} events")
    found.must(lasted[-1] <= (LOCKED if asked.store == EMBEDDED else LEASE), f"a transaction lasted {lasted[-1]:.1f} s")
    found.must(len(runs) == count, f"{count - len(runs)} events never ran")
    found.must(min(by_minute, default=0) >= 0, "something ran before its first instant")
    found.must(max(runs.values(), default=0) <= minute, "an event ran more often than its instants came")
    return found
