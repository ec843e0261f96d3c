"""Callers that write while faults go on, as a program with a key would: the same request until it is acknowledged."""

import asyncio
import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.client import HTTPException
from typing import Any

from tests.faults.rig.checker import Wanted
from tests.faults.rig.nodes import Cluster


async def write(
    cluster: Cluster,
    over: asyncio.Event,
    action: Callable[[int], dict[str, Any]],
    *,
    every: float = 0.1,
    ahead: timedelta = timedelta(seconds=2),
) -> tuple[list[Wanted], int]:
    """One-shots, each on the next node that lives, until `over`. What was acknowledged, and how often it was not at first."""
    acknowledged: list[Wanted] = []
    refused = 0
    turn = itertools.count()

    async def one(number: int) -> None:
        nonlocal refused
        due = datetime.now(UTC).replace(microsecond=0) + ahead
        fields = {"name": "w", "key": f"written-{number}", "schedule": due.isoformat(), "action": action(number)}
        while True:
            nodes = [node for node in list(cluster.nodes.values()) if node.alive]
            if nodes:
                node = nodes[next(turn) % len(nodes)]
                try:
                    status, event = await asyncio.to_thread(node.ask, "POST", "/events", fields)
                except (OSError, HTTPException):
                    status, event = 0, None
                if status in (200, 201):
                    acknowledged.append(Wanted(event["id"], due))
                    return
                if status not in (0, 503):
                    raise AssertionError(f"{status} {event}")
            refused += 1
            await asyncio.sleep(0.1)

    async with asyncio.TaskGroup() as group:
        for number in itertools.count():
            if over.is_set():
                break
            group.create_task(one(number))
            await asyncio.sleep(every)
    return acknowledged, refused
