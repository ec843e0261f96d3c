"""A run that comes due while an earlier one of its event is unfinished."""

from datetime import timedelta

import pytest

from qhronos_core.domain.lifecycle import COMPLETED, DISPATCHED, MISSED, PENDING
from qhronos_core.domain.occurrence import Held, Reason
from qhronos_core.ports import InboxQuery
from tests.world import OWNER, World


@pytest.mark.parametrize("overlap", ["allow", "skip", "queue"])
async def test_what_becomes_of_the_later_runs(world: World, overlap: str) -> None:
    answer = await world.event(schedule="*/10 * * * *", overlap=overlap, action={"type": "inbox"})
    for _ in range(3):
        world.clock.advance(timedelta(minutes=10))
        await world.store.claim_due(node="looks", lease=timedelta(minutes=1), limit=0, judge=world.judge)
        await world.settle_down()

    rows = (await world.occurrences_of(answer.event))[:3]
    states = [row.state for row in rows]
    if overlap == "allow":
        assert states == [DISPATCHED] * 3
    elif overlap == "skip":
        assert states == [DISPATCHED, MISSED, MISSED]
        assert rows[1].reason is Reason.OVERLAP
    else:
        assert states == [DISPATCHED, PENDING, PENDING]
        assert [row.held for row in rows] == [None, Held.OVERLAP, Held.OVERLAP]


async def test_queued_runs_go_one_by_one_oldest_first(world: World) -> None:
    answer = await world.event(schedule="*/10 * * * *", overlap="queue", action={"type": "inbox"})
    for _ in range(3):
        world.clock.advance(timedelta(minutes=10))
        await world.settle_down()
    order = []
    for _ in range(3):
        (taken,) = await world.occurrences.claim_inbox(InboxQuery(limit=5), caller=OWNER)
        order.append(taken.occurrence.scheduled_at)
        await world.occurrences.acknowledge(taken.occurrence.id, "done", caller=OWNER)
        await world.settle_down()
    rows = (await world.occurrences_of(answer.event))[:3]
    assert [row.state for row in rows] == [COMPLETED] * 3
    assert order == sorted(order)
