"""What a claim waits for: the next instant of a rule, and the head of the line however long the line is."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import psycopg

from qhronos_core.adapters.clock import SystemClock
from qhronos_core.adapters.postgres import open_postgres_store
from qhronos_core.adapters.sqlite import open_sqlite_store
from qhronos_core.domain import planning
from qhronos_core.domain.event import Action, ActionType, Event
from qhronos_core.domain.ids import new_event_id
from qhronos_core.domain.judgement import Judgement
from qhronos_core.domain.schedule import Timetable, preview
from qhronos_core.ports import Changes, EventSave, Store
from scripts.bench.figures import Figure, Scale, mid
from scripts.bench.loops import run
from scripts.bench.stores import Place, on_each_store

_RULES: Final[dict[str, str | dict[str, object]]] = {
    "cron": "*/7 8-17 * * mon-fri",
    "cron, rare": "0 0 29 2 *",
    "interval": "every 15m",
    "phrase": "every mon, wed and fri at 9:30am",
    "instant": "2030-03-01T09:00:00Z",
    "iCalendar": "RRULE:FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1;BYHOUR=17;BYMINUTE=0",
    "iCalendar, counted": "RRULE:FREQ=DAILY;BYHOUR=6,18;COUNT=100000",
    "iCalendar, hours filtered": "RRULE:FREQ=HOURLY;INTERVAL=5;BYDAY=MO,FR;BYMINUTE=0,30",
    "iCalendar, minutes filtered and counted": "RRULE:FREQ=MINUTELY;INTERVAL=7;BYHOUR=9,10,11;COUNT=100000",
    "object": {"frequency": "weekly", "interval": 2, "by_day": ["MO", "WE"]},
}
_FORESEEN: Final = 1_000
_BATCH: Final = 100
_NEAR: Final = timedelta(hours=1)


def next_after(scale: Scale) -> Iterator[Figure]:
    """One step of a rule that was parsed before, as each claim takes it, and a long preview. Every rule is five years old."""
    anchor, begin = datetime(2022, 3, 1, 12, tzinfo=UTC), datetime(2027, 3, 1, 12, tzinfo=UTC)
    steps = scale.of(2_000, 50)
    for name, rule in _RULES.items():
        took, instant = [], begin
        for _ in range(steps):
            began = time.perf_counter()
            following = Timetable.of(rule, timezone="Europe/Berlin", anchor=anchor).next_after(instant)
            took.append((time.perf_counter() - began) * 1000)
            instant = following if following is not None and following.year < 2100 else begin
        yield Figure(f"next_after, {name}", f"{mid(took):.4f} ms", "at most 0.1 ms", mid(took) / 0.1)
    longest = ("", 0.0)
    for name, rule in _RULES.items():
        took = []
        for _ in range(5):
            began = time.perf_counter()
            preview(rule, timezone="Europe/Berlin", after=begin, start_time=anchor, count=_FORESEEN)
            took.append((time.perf_counter() - began) * 1000)
        longest = max(longest, (name, mid(took)), key=lambda each: each[1])
    what = f"preview of {_FORESEEN:,} runs, the slowest ({longest[0]})"
    yield Figure(what, f"{longest[1]:.1f} ms", "at most 100 ms", longest[1] / 100)


def claiming(scale: Scale) -> Iterator[Figure]:
    """A claim of 100 among ten thousand that wait, and among many more."""
    sizes = (10_000, scale.of(500_000, 20_000))

    def claims_on(place: Place) -> Iterator[Figure]:
        few, many = [run(_claims_among(place, size, scale.of(15, 3))) for size in sizes]
        what = f"claim of {_BATCH} among {sizes[1]:,} pending, {place.name}"
        yield Figure(what, f"{many:.1f} ms", f"among {sizes[0]:,}: {few:.1f} ms", many / few)

    yield from on_each_store(scale, claims_on)


async def _claims_among(place: Place, pending: int, rounds: int) -> float:
    """The median claim, in ms, of `_BATCH` due rows, while `pending` others are due later."""
    place.emptied()
    if place.url is not None:
        async with open_postgres_store(place.url) as store:
            return await _claims(store, rounds, lambda: _multiply_on_server(str(place.url), pending))
    async with open_sqlite_store(place.data_dir, clock=SystemClock()) as store:
        return await _claims(store, rounds, lambda: _multiply_in_file(place, pending))


async def _claims(store: Store, rounds: int, multiply: Callable[[], Awaitable[None]]) -> float:
    now = await store.now()
    await _plan(store, 1, now + _NEAR)
    await multiply()
    took = []
    for _ in range(rounds):
        await _plan(store, _BATCH, await store.now())
        began = time.perf_counter()
        claimed = await store.claim_due(node="bench", lease=timedelta(minutes=5), limit=_BATCH, judge=Judgement())
        took.append((time.perf_counter() - began) * 1000)
        if len(claimed.claims) != _BATCH:
            raise RuntimeError(f"{len(claimed.claims)} claimed of {_BATCH}")
    return mid(took)


async def _plan(store: Store, count: int, due: datetime) -> None:
    changes = Changes(at=due)
    action = Action(ActionType.WEBHOOK, {"url": "https://receiver.example/hook"})
    now = await store.now()
    for number in range(count):
        event = Event(new_event_id(now), "bench", f"bench {number}", "every 1h", due, now, now, action=action)
        changes.saves.append(EventSave(event))
        changes.planned.append(planning.at_instant(event, due, 1, now))
    await store.commit(changes)


# A row of an event that is due in an hour, again and again: with other ids, and seconds apart.

_COPIED: Final = (
    "created_at, updated_at, round_began_at, cause, state, advances, ordinal, fence, attempts_made, attempts_before,"
    " round, event_version"
)


async def _multiply_in_file(place: Place, pending: int) -> None:
    import sqlite3

    def multiply() -> None:
        connection = sqlite3.connect(place.data_dir / "qhronos.db", isolation_level=None)
        connection.execute(
            f"""
            WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?)
            INSERT INTO occurrences (id, event_id, scheduled_at, due_at, {_COPIED})
            SELECT randomblob(16), randomblob(16), scheduled_at + n * 1000, due_at + n * 1000, {_COPIED}
              FROM occurrences, n
            """,
            (pending,),
        )
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        connection.close()

    await asyncio.to_thread(multiply)


async def _multiply_on_server(url: str, pending: int) -> None:
    parameters: dict[str, Any] = {"pending": pending}
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(
            f"""
            INSERT INTO occurrences (id, event_id, scheduled_at, due_at, {_COPIED})
            SELECT gen_random_uuid(), gen_random_uuid(), scheduled_at + n * interval '1 millisecond',
                   due_at + n * interval '1 millisecond', {_COPIED}
              FROM occurrences, generate_series(1, %(pending)s) AS n
            """,
            parameters,
        )
        await connection.execute("VACUUM ANALYZE occurrences")
