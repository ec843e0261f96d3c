"""Waits that outlive their request: what they tell is judged when it is told."""

from datetime import timedelta

from qhronos_core.domain.access import Access, Principal
from qhronos_core.ports import InboxQuery
from qhronos_core.usecases.waits import WaitCases
from tests.world import World

ANN = Principal("ann", Access.WRITE, frozenset({"user:ann"}), holder="ann-1")


async def test_what_was_claimed_of_an_event_that_is_deleted_by_now_is_not_told(world: World) -> None:
    """A node died between the claim and the answer; access.md §6: a deleted event's occurrences are 404."""
    waits = WaitCases(world.store, world.signals)
    wait = await waits.start(InboxQuery(), timedelta(hours=2), caller=ANN)
    assert wait is not None
    event = (await world.events.create({"name": "ann's", "schedule": "in 1 hour"}, caller=ANN)).event
    world.clock.advance(timedelta(hours=1))
    await world.settle_down()
    looked = await waits.look(wait.id, caller=ANN)
    assert looked.news is not None
    assert len(looked.news) == 1
    await world.events.delete(event.id, caller=ANN)
    assert (await waits.look(wait.id, caller=ANN)).news == ()
