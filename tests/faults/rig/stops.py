"""F43: events are edited, paused and deleted within 200 ms of an instant, while due, claimed, or waiting for a retry."""

import asyncio
import random
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import psycopg

from tests.faults.rig.nodes import Cluster
from tests.faults.rig.receiver import Receiver

DEEDS: Final = ("pause", "edit", "delete")
WHILE: Final = ("due", "claimed", "waiting for a retry")
AROUND: Final = 0.2  # seconds before or after the instant
_SPREAD: Final = 0.04  # seconds from one event's instant to the next's


@dataclass
class Stopped:
    deed: str
    while_: str
    event_id: str
    answered_at: float = 0.0  # by the wall clock, which is the store's too: all are on one machine


@dataclass
class Stops:
    stopped: list[Stopped]
    claims_after: list[str]
    """Attempts of an old version that began after the answer."""
    latest_request: float
    """Seconds from an answer to the last request of the version it ended. Negative: none came after."""


async def stop_around_their_instants(
    cluster: Cluster, receiver: Receiver, count: int, rng: random.Random, *, nodes: Sequence[int]
) -> Stops:
    receiver.answers = lambda path, nth: 503 if "/waiting" in path and nth == 1 else 200
    receiver.takes = lambda path: 0.4 if "/claimed" in path else 0.02
    begin = (datetime.now(UTC) + timedelta(seconds=2 + count / 50)).replace(microsecond=0)
    gate = asyncio.Semaphore(8)

    async def made(number: int) -> tuple[Stopped, datetime]:
        deed, while_ = DEEDS[number % 3], WHILE[number // 3 % 3]
        due = begin + timedelta(seconds=number * _SPREAD)
        path = f"/{while_.split()[0]}/{number}"
        fields: dict[str, Any] = {
            "schedule": "every 1s",
            "start_time": due.isoformat(),
            "action": {"type": "webhook", "params": {"url": receiver.url(path)}},
            "retry": {"max_attempts": 3, "delays": ["1s"]},
        }
        async with gate:
            event = await asyncio.to_thread(cluster.nodes[nodes[0]].create, **fields)
        return Stopped(deed, while_, event["id"]), due + timedelta(seconds=1 if while_ == WHILE[2] else 0)

    async def stop(each: Stopped, instant: datetime) -> None:
        at = instant.timestamp() + rng.uniform(-AROUND, AROUND)
        await asyncio.sleep(max(0.0, at - time.time()))
        node = cluster.nodes[rng.choice(nodes)]
        bodies: dict[str, dict[str, Any] | None] = {
            "pause": {"status": "paused"},
            "edit": {"action": {"type": "webhook", "params": {"url": receiver.url("/edited")}}},
            "delete": None,
        }
        method = "DELETE" if each.deed == "delete" else "PUT"
        status, answer = await asyncio.to_thread(node.ask, method, f"/events/{each.event_id}", bodies[each.deed])
        each.answered_at = time.time()
        assert status == 200, answer

    both = await asyncio.gather(*[made(number) for number in range(count)])
    await asyncio.gather(*[stop(each, instant) for each, instant in both])
    await asyncio.sleep(3)  # a run or two later, of those that were edited
    return _judged(cluster, receiver, [each for each, _ in both])


def _judged(cluster: Cluster, receiver: Receiver, stopped: list[Stopped]) -> Stops:
    by_event = {each.event_id: each for each in stopped}
    after = []
    for event_id, claimed_at, version in _claims(cluster):
        each = by_event.get(event_id)
        if each is not None and claimed_at > each.answered_at and (version == 1 or each.deed != "edit"):
            after.append(f"{each.deed} while {each.while_}: claimed {claimed_at - each.answered_at:.3f} s after")
    requests = [
        request.at - by_event[request.event_id].answered_at
        for request in receiver.log
        if request.event_id in by_event and request.path != "/edited"
    ]
    return Stops(stopped, after, max(requests, default=-1.0))


def _claims(cluster: Cluster) -> list[tuple[str, float, int]]:
    """When each occurrence was last claimed, and for which version of its event: the API does not tell."""
    what = "SELECT event_id, claimed_at, event_version FROM occurrences WHERE claimed_at IS NOT NULL"
    if cluster.database_url is None:
        (file,) = (cluster.directory / "data").glob("*.db")
        rows = sqlite3.connect(f"file:{file}?mode=ro", uri=True).execute(what).fetchall()
        return [(str(UUID(bytes=event)), at / 1e6, version) for event, at, version in rows]
    with psycopg.connect(cluster.database_url) as connection:
        return [(str(event), at.timestamp(), version) for event, at, version in connection.execute(what)]
