"""The server goes away in the middle of it (F7)."""

import asyncio
from pathlib import Path

import pytest

from tests.faults.rig.nodes import a_cluster
from tests.faults.rig.receiver import Receiver
from tests.faults.rig.writers import write
from tests.faults.test_kills import all_finished, verdict_on, webhook
from tests.servers import Postgres


@pytest.fixture(params=["postgres", "cluster"])
def redis_or_none(request: pytest.FixtureRequest) -> str | None:
    """With Redis, and without."""
    return str(request.getfixturevalue("redis_url")) if request.param == "cluster" else None


async def test_a_server_stopped_at_once_loses_nothing_acknowledged_and_no_node(
    tmp_path: Path,
    receiver: Receiver,
    migrated_postgres_url: str,
    postgres_server: Postgres,
    redis_or_none: str | None,
) -> None:
    receiver.takes = lambda _: 0.1
    with a_cluster(tmp_path, database_url=migrated_postgres_url, redis_url=redis_or_none, forks=True) as cluster:
        nodes = await asyncio.gather(*[asyncio.to_thread(cluster.start, number) for number in (1, 2)])
        over = asyncio.Event()
        writing = asyncio.create_task(write(cluster, over, lambda n: webhook(receiver, f"/{n % 20}"), every=0.05))
        await receiver.until(lambda log: len(log) >= 10, within=60)
        await asyncio.to_thread(postgres_server.restart, "immediate")
        heard = len(receiver.log)
        await receiver.until(lambda log: len(log) >= heard + 20, within=60)
        over.set()
        acknowledged, _ = await writing
        rows = await all_finished(nodes[0], [each.event_id for each in acknowledged])
        assert all(node.alive for node in nodes)
        verdict = await asyncio.to_thread(verdict_on, nodes[0], acknowledged, receiver, rows)
    assert verdict.clean(), verdict
    assert len({each.event_id for each in acknowledged}) == len(acknowledged)
    assert {row["status"] for row in rows} == {"completed"}
