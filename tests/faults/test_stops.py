"""What is stopped, stops (F43)."""

import asyncio
import random

from tests.faults.rig.nodes import Cluster
from tests.faults.rig.receiver import Receiver
from tests.faults.rig.stops import stop_around_their_instants


async def test_no_attempt_of_an_old_version_begins_after_the_stop_was_answered(
    cluster: Cluster, receiver: Receiver
) -> None:
    await asyncio.gather(*[asyncio.to_thread(cluster.start, number) for number in (1, 2)])
    found = await stop_around_their_instants(cluster, receiver, 90, random.Random(43), nodes=(1, 2))
    assert found.claims_after == []
    assert found.latest_request < 5
    assert receiver.log
