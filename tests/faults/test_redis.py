"""Redis is emptied again and again: slower at most, never wrong (F14)."""

import asyncio
from pathlib import Path

from tests.faults.rig.nodes import a_cluster
from tests.faults.rig.receiver import Receiver
from tests.faults.rig.writers import write
from tests.faults.test_kills import all_finished, verdict_on, webhook
from tests.servers import Redis


async def test_a_redis_flushed_over_and_over_loses_splits_and_repeats_nothing(
    tmp_path: Path, receiver: Receiver, migrated_postgres_url: str, redis_server: Redis, redis_url: str
) -> None:
    receiver.takes = lambda _: 0.05
    with a_cluster(
        tmp_path, database_url=migrated_postgres_url, redis_url=redis_url, lease="30s", forks=True
    ) as cluster:
        nodes = await asyncio.gather(*[asyncio.to_thread(cluster.start, number) for number in (1, 2)])
        over = asyncio.Event()
        writing = asyncio.create_task(write(cluster, over, lambda n: webhook(receiver, f"/{n % 20}"), every=0.05))
        for _ in range(12):
            await asyncio.to_thread(redis_server.flush)
            await asyncio.sleep(0.5)
        over.set()
        acknowledged, refused = await writing
        rows = await all_finished(nodes[1], [each.event_id for each in acknowledged])
        verdict = await asyncio.to_thread(verdict_on, nodes[1], acknowledged, receiver, rows)
    assert verdict.clean(), verdict
    assert (verdict.duplicates, refused) == (0, 0)
    assert {row["status"] for row in rows} == {"completed"}
