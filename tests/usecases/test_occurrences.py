"""Who may ask about an occurrence at all."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from qhronos_core.domain.access import Access, Principal
from qhronos_core.domain.errors import ForbiddenError
from qhronos_core.ports import InboxQuery, OccurrenceQuery, Page
from qhronos_core.usecases.once import Once, Replay
from tests.world import GONE, OWNER, World

CONFINED = Principal.of_master(confined=True)
ANN = Principal("ann", Access.WRITE, frozenset({"user:ann"}), holder="ann-1")


async def test_a_confined_master_is_forbidden_to_ask_about_any(world: World) -> None:
    """R7: 403, also where another caller would find nothing."""
    occurrence = await world.occurrence()
    cases, of_it = world.occurrences, OccurrenceQuery(event_id=occurrence.event_id)
    asks: list[Callable[[], Awaitable[object]]] = [
        lambda: cases.get(occurrence.id, caller=CONFINED),
        lambda: cases.get(occurrence.event_id, caller=CONFINED),  # there is no such occurrence
        lambda: cases.attempts(occurrence.id, caller=CONFINED),
        lambda: cases.list(of_it, Page(limit=1), caller=CONFINED),
        lambda: cases.upcoming(of_it, limit=1, caller=CONFINED),
        lambda: cases.acknowledge(occurrence.id, "done", caller=CONFINED),
        lambda: cases.retry(occurrence.id, caller=CONFINED),
    ]
    for ask in asks:
        with pytest.raises(ForbiddenError):
            await ask()


@pytest.mark.parametrize("asks", ["list", "inbox", "claim_inbox", "retry_matching"])
async def test_an_event_given_to_others_while_its_occurrences_are_read_is_not_told(
    world: World, monkeypatch: pytest.MonkeyPatch, asks: str
) -> None:
    """P7: rows are found by the labels of one moment, and events are read in the next."""
    action = (
        {"action": {"type": "webhook", "params": {"url": "https://a.example/"}}} if asks == "retry_matching" else {}
    )
    event = (await world.events.create({"name": "ann's", "schedule": "in 1 hour", **action}, caller=ANN)).event
    world.clock.advance(timedelta(hours=1))
    if asks == "retry_matching":
        world.courier.will(GONE)
    await world.settle_down()
    where: Any = world.store if asks == "claim_inbox" else world.store.occurrences
    name = asks if asks in ("inbox", "claim_inbox") else "list"
    reads = getattr(where, name)

    async def then_given_away(*args: Any, **kwargs: Any) -> Any:
        found = await reads(*args, **kwargs)
        assert found.items if name == "list" else found
        changed = {"name": "bob's secret", "tags": ["user:bob"]}
        await world.events.update(event.id, changed, caller=OWNER)
        return found

    monkeypatch.setattr(where, name, then_given_away)
    cases, page = world.occurrences, Page(limit=10)
    told: dict[str, Callable[[], Awaitable[object]]] = {
        "list": lambda: cases.list(OccurrenceQuery(), page, caller=ANN),
        "inbox": lambda: cases.inbox(InboxQuery(), caller=ANN),
        "claim_inbox": lambda: cases.claim_inbox(InboxQuery(), caller=ANN),
        "retry_matching": lambda: cases.retry_matching(OccurrenceQuery(), caller=ANN, dry_run=True),
    }
    assert "bob's secret" not in repr(await told[asks]())


async def test_a_retry_that_was_sent_twice_at_once_is_answered_twice(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second finds no answer to the first yet, and then what the first has done."""
    occurrence = await world.occurrence()
    world.courier.will(GONE)
    await world.settle_down()
    once = Once("owner", f"POST /occurrences/{occurrence.id}/retry", "k", b"hash", lambda _: (200, {"told": "once"}))
    remembered, first = world.store.remembered, True

    async def a_moment_too_early(*asked: Any) -> Any:
        nonlocal first
        if not first:
            return await remembered(*asked)
        first = False
        found = await remembered(*asked)
        await world.occurrences.retry(occurrence.id, caller=OWNER, once=once)
        return found

    monkeypatch.setattr(world.store, "remembered", a_moment_too_early)
    with pytest.raises(Replay) as replayed:
        await world.occurrences.retry(occurrence.id, caller=OWNER, once=once)
    assert (replayed.value.status, replayed.value.answer) == (200, {"told": "once"})
