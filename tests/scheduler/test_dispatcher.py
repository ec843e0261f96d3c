"""One node's hands: slots, leases, the last look before a send, and the drain."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from qhronos_core.adapters.http.hosts import Hosts
from qhronos_core.domain.event import ActionType, Event
from qhronos_core.domain.lifecycle import COMPLETED, DISPATCHING, PENDING
from qhronos_core.domain.occurrence import AttemptOutcome
from qhronos_core.ports import Claimed, Delivery, EventSecrets, KeyMissingError, Outcome, VaultError
from qhronos_core.scheduler.dispatcher import Dispatcher, DispatchSettings
from tests.world import ACCEPT, NOON, OWNER, OpenHosts, World


class Gate:
    """Deliveries wait here until let through."""

    def __init__(self) -> None:
        self.waiting = 0
        self.most = 0
        self._came = asyncio.Event()
        self._open = asyncio.Event()

    async def __call__(self, _: Delivery) -> Outcome:
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        self._came.set()
        await self._open.wait()
        self.waiting -= 1
        return ACCEPT

    def let_through(self) -> None:
        self._open.set()

    async def holds(self, count: int) -> None:
        async with asyncio.timeout(5):
            while self.waiting < count:
                await self._came.wait()
                self._came.clear()


class FullHosts(OpenHosts):
    def __init__(self, until: datetime) -> None:
        self.until = until

    def admit(self, host: str, now: datetime, *, creator: int) -> datetime | None:
        return self.until


def no_secrets(_: Event) -> EventSecrets:
    return EventSecrets()


def dispatcher_of(
    world: World,
    *,
    hosts: Any = None,
    open_secrets: Callable[[Event], EventSecrets] = no_secrets,
    other_nodes: bool = False,
    **settings: Any,
) -> Dispatcher:
    dispatcher = Dispatcher(
        other_nodes=lambda: other_nodes,
        store=world.store,
        judge=world.judge,
        couriers={ActionType.WEBHOOK: world.courier},
        open_secrets=open_secrets,
        hosts=hosts or OpenHosts(),
        clock=world.clock,
        signals=world.signals,
        settings=DispatchSettings(node="node-1", **settings),
    )
    return world.drained_at_the_end(dispatcher)


async def many_due(world: World, count: int) -> None:
    for _ in range(count):
        await world.event(schedule="in 10m")
    world.clock.advance(timedelta(minutes=10))


BOB = replace(OWNER, sub="bob", master=False)


async def test_where_several_send_the_last_slots_are_kept_for_who_holds_few(world: World) -> None:
    """A creator whose receivers are slow holds up the others by no more than its share of the slots."""
    gate = Gate()
    world.courier.will(ACCEPT, ACCEPT, *[gate] * 20)
    dispatcher = dispatcher_of(world, concurrency=20)
    for caller in (OWNER, BOB):
        await world.event(caller=caller, schedule="in 5m")
    world.clock.advance(timedelta(minutes=5))
    await dispatcher.run_once()
    await many_due(world, 30)
    flood = await dispatcher.claim()
    await gate.holds(18)
    assert (len(flood.claims), dispatcher.free_slots, dispatcher.crowded) == (18, 2, True)
    assert (await dispatcher.claim()).judged == 0

    late = (await world.event(caller=BOB, schedule="in 10s")).event
    world.clock.advance(timedelta(seconds=10))
    async with asyncio.timeout(5):  # it is not asked at every look who has something due
        while not (claimed := await dispatcher.claim()).claims:
            await asyncio.sleep(0.01)
    assert [claim.event.id for claim in claimed.claims] == [late.id]
    assert not claimed.more
    await gate.holds(19)
    gate.let_through()
    await dispatcher.run_once()
    assert not dispatcher.crowded
    assert len((await dispatcher.run_once()).claims) == 12
    assert len(world.courier.deliveries) == 2 + 30 + 1


async def test_who_sends_alone_has_all_slots(world: World) -> None:
    await many_due(world, 30)
    gate = Gate()
    world.courier.will(*[gate] * 30)
    dispatcher = dispatcher_of(world, concurrency=20)
    assert len((await dispatcher.claim()).claims) == 20
    gate.let_through()
    await dispatcher.run_once()


async def test_many_who_hold_equally_much_crowd_nobody_out(world: World) -> None:
    gate = Gate()
    world.courier.will(*[gate] * 40)
    for number in range(40):
        await world.event(caller=replace(BOB, sub=f"user {number}"), schedule="in 10m")
    world.clock.advance(timedelta(minutes=10))
    dispatcher = dispatcher_of(world, concurrency=20)
    while dispatcher.free_slots:
        assert (await dispatcher.claim()).claims
    assert not dispatcher.crowded
    gate.let_through()
    while (await dispatcher.run_once()).judged:
        pass


async def test_claims_never_exceed_free_slots(world: World) -> None:
    await many_due(world, 12)
    gate = Gate()
    world.courier.will(*[gate] * 12)
    dispatcher = dispatcher_of(world, concurrency=5)

    assert len((await dispatcher.claim()).claims) == 5
    await gate.holds(5)
    assert dispatcher.free_slots == 0
    gate.let_through()
    await dispatcher.slots()
    while (await dispatcher.run_once()).judged:
        pass
    assert len(world.courier.deliveries) == 12
    assert gate.most == 5


async def test_a_claim_that_waited_longer_than_its_lease_is_not_sent(world: World) -> None:
    await many_due(world, 1)
    dispatcher = dispatcher_of(world, lease=timedelta(seconds=30))
    claimed = await dispatcher.claim()
    world.clock.advance(timedelta(seconds=31))
    await dispatcher.drain()
    assert len(claimed.claims) == 1
    assert world.courier.deliveries == []


def claims_become(world: World, monkeypatch: pytest.MonkeyPatch, become: Callable[[Claimed], Claimed]) -> None:
    """What the store answers to a claim, changed, or late."""
    claim_due = world.store.claim_due

    async def claimed(**asked: Any) -> Claimed:
        return become(await claim_due(**asked))

    monkeypatch.setattr(world.store, "claim_due", claimed)


async def test_a_node_stopped_in_the_middle_of_its_claim_knows_that_its_lease_has_lapsed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F5: the lease runs from before the store is asked, however long this node sleeps until it has the answer."""
    await many_due(world, 1)

    def late(claimed: Claimed) -> Claimed:
        world.clock.advance(timedelta(seconds=31))
        return claimed

    claims_become(world, monkeypatch, late)
    dispatcher = dispatcher_of(world, lease=timedelta(seconds=30))
    claimed = await dispatcher.claim()
    await dispatcher.drain()
    assert len(claimed.claims) == 1
    assert world.courier.deliveries == []


async def test_a_claim_is_sent_as_long_as_the_store_says_it_holds_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F10: a slow store has made the lease longer than was asked for."""
    await many_due(world, 1)
    claims_become(world, monkeypatch, lambda claimed: replace(claimed, held_for=45))
    dispatcher = dispatcher_of(world, lease=timedelta(seconds=30))
    await dispatcher.claim()
    world.clock.advance(timedelta(seconds=31))
    await dispatcher.drain()
    assert len(world.courier.deliveries) == 1


async def test_an_old_claim_asks_the_store_before_it_is_sent(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """P6: paused after the claim, noticed before the send, and the attempt is given back."""
    answer = await world.event(schedule="in 10m")
    world.clock.advance(timedelta(minutes=10))
    dispatcher = dispatcher_of(world)
    still_wanted = world.store.still_wanted

    async def asked(claims: Any) -> Any:
        await world.events.update(answer.event.id, {"name": "another version"}, caller=OWNER)
        return await still_wanted(claims)

    monkeypatch.setattr(world.store, "still_wanted", asked)
    await dispatcher.claim()
    world.clock.advance(timedelta(seconds=2))  # it waited for its turn so long
    await dispatcher.drain()

    assert world.courier.deliveries == []
    (row,) = await world.occurrences_of(answer.event)
    assert (row.state, row.attempts_made) == (PENDING, 0)
    await world.settle_down()
    assert world.courier.deliveries[0].event.name == "another version"


async def test_claims_that_came_late_together_are_asked_for_together(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F10: a slow store is not made slower by a question for each claim."""
    await many_due(world, 12)
    dispatcher = dispatcher_of(world)
    asked: list[int] = []
    still_wanted = world.store.still_wanted

    async def counted(claims: Any) -> Any:
        asked.append(len(claims))
        return await still_wanted(claims)

    monkeypatch.setattr(world.store, "still_wanted", counted)
    await dispatcher.claim()
    world.clock.advance(timedelta(seconds=2))
    await dispatcher.drain()

    assert asked == [12]
    assert len(world.courier.deliveries) == 12


async def test_a_destination_that_is_full_costs_time_and_no_attempt(world: World) -> None:
    occurrence = await world.occurrence(scheduled_at=NOON)
    world.courier.host_of = lambda event: "receiver.example"  # type: ignore[method-assign]
    until = NOON + timedelta(seconds=7)
    await dispatcher_of(world, hosts=FullHosts(until)).run_once()

    row = await world.read(occurrence)
    assert (row.state, row.attempts_made, row.due_at) == (PENDING, 0, until)
    world.clock.set(until)
    await dispatcher_of(world).run_once()
    assert await world.state_of(occurrence) is COMPLETED
    assert [attempt.number for attempt in await world.attempts(occurrence)] == [1]


async def test_of_many_due_at_once_a_destination_is_sent_no_more_in_a_second_than_its_rate(world: World) -> None:
    await many_due(world, 6)
    world.courier.host_of = lambda event: "receiver.example"  # type: ignore[method-assign]
    dispatcher = dispatcher_of(world, hosts=Hosts(10, per_second=2))
    begun = world.clock.now()
    sent = []
    for _ in range(8):
        await dispatcher.run_once()
        sent.append(len(world.courier.deliveries))
        world.clock.advance(seconds=0.5)
    assert sent[:4] == [2, 2, 3, 4]  # the others are spread over the seconds that follow
    assert sent[-1] == 6
    rows = [await world.read(each) for each in [delivery.occurrence for delivery in world.courier.deliveries]]
    assert {(row.state, row.attempts_made) for row in rows} == {(COMPLETED, 1)}
    assert world.clock.now() - begun == timedelta(seconds=4)


async def test_a_drain_lets_what_is_under_way_finish(world: World) -> None:
    occurrence = await world.occurrence(scheduled_at=NOON)
    gate = Gate()
    world.courier.will(gate)
    dispatcher = dispatcher_of(world)
    await dispatcher.claim()
    await gate.holds(1)
    draining = asyncio.create_task(dispatcher.drain())
    await asyncio.sleep(0)
    gate.let_through()
    await draining
    assert await world.state_of(occurrence) is COMPLETED


async def test_what_outlasts_the_drain_is_cut_recorded_and_tried_again(world: World) -> None:
    occurrence = await world.occurrence(scheduled_at=NOON)
    gate = Gate()
    world.courier.will(gate)
    dispatcher = dispatcher_of(world, drain=timedelta(seconds=0.05))
    await dispatcher.claim()
    await gate.holds(1)
    await dispatcher.drain()

    row = await world.read(occurrence)
    assert row.state is PENDING
    (cut,) = await world.attempts(occurrence)
    assert (cut.outcome, cut.error) == (AttemptOutcome.NO_ANSWER, "drained")


async def test_an_answer_that_the_end_of_the_drain_meets_while_it_is_written_is_not_lost(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    occurrence = await world.occurrence(scheduled_at=NOON)
    settle, asked, goes_on = world.store.settle, asyncio.Event(), asyncio.Event()

    async def slowly(moves: Any) -> Any:
        asked.set()
        await goes_on.wait()
        return await settle(moves)

    monkeypatch.setattr(world.store, "settle", slowly)
    dispatcher = dispatcher_of(world, drain=timedelta(seconds=0.01))
    await dispatcher.claim()
    await asked.wait()
    draining = asyncio.create_task(dispatcher.drain())
    await asyncio.sleep(0.05)
    goes_on.set()
    await draining
    assert await world.state_of(occurrence) is COMPLETED


async def test_an_outcome_that_cannot_be_written_takes_no_other_with_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that share its transaction would be sent again when their leases lapse (P3)."""
    await many_due(world, 5)
    settle, gate = world.store.settle, Gate()
    bad: list[Any] = []

    async def choking(moves: Any) -> Any:
        if any(move.was.id in bad for move in moves):
            raise RuntimeError("a bug")
        return await settle(moves)

    monkeypatch.setattr(world.store, "settle", choking)
    world.courier.will(*[gate] * 5)
    dispatcher = dispatcher_of(world)
    claimed = await dispatcher.claim()
    rows = [claim.occurrence for claim in claimed.claims]
    bad.append(rows[2].id)
    await gate.holds(5)
    gate.let_through()
    await dispatcher.drain()
    states = [await world.state_of(row) for row in rows]
    assert states == [COMPLETED, COMPLETED, DISPATCHING, COMPLETED, COMPLETED]


async def test_a_courier_that_crashes_is_an_attempt_without_an_answer(world: World) -> None:
    occurrence = await world.occurrence(scheduled_at=NOON)

    def crash(_: Delivery) -> Outcome:
        raise RuntimeError("a bug")

    world.courier.will(crash)
    await world.run()
    (attempt,) = await world.attempts(occurrence)
    assert (attempt.outcome, attempt.error) == (AttemptOutcome.NO_ANSWER, "internal")
    assert await world.state_of(occurrence) is PENDING


async def test_a_row_whose_judgement_crashes_is_set_aside_and_the_others_go_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = await world.event(schedule="in 10m", name="bad")
    good = await world.event(schedule="in 10m", name="good")
    world.clock.advance(timedelta(minutes=10))
    judge = type(world.judge).judge

    def judged(self: Any, due: Any) -> Any:
        if due.event.id == bad.event.id:
            raise RuntimeError("a bug")
        return judge(self, due)

    monkeypatch.setattr(type(world.judge), "judge", judged)
    await world.settle_down()
    assert [row.state for row in await world.occurrences_of(good.event)] == [COMPLETED]
    (row,) = await world.occurrences_of(bad.event)
    assert row.state is PENDING
    assert row.due_at is not None
    assert row.due_at > world.clock.now()


async def test_two_nodes_never_hold_one_occurrence(world: World) -> None:
    await many_due(world, 30)
    nodes = [dispatcher_of(world, batch=7) for _ in range(4)]
    for _ in range(10):
        await asyncio.gather(*[node.run_once() for node in nodes])
    sent = [delivery.occurrence.id for delivery in world.courier.deliveries]
    assert len(sent) == len(set(sent)) == 30
    assert DISPATCHING not in {row.state for row in [await world.read(each) for each in sent]}


async def test_a_node_without_the_key_gives_its_claim_back_and_no_attempt_is_made(world: World) -> None:
    """Another node may have the key: nothing was sent, nothing is counted, and it is due again a little later."""

    def unknown(_: Event) -> EventSecrets:
        raise KeyMissingError

    occurrence = await world.occurrence()
    await dispatcher_of(world, open_secrets=unknown).run_once()
    row = await world.read(occurrence)
    assert (row.state, row.attempts_made, await world.attempts(occurrence)) == (PENDING, 0, [])
    assert row.due_at == NOON + timedelta(seconds=10)
    world.clock.advance(seconds=10)
    await world.dispatcher.run_once()
    assert await world.state_of(occurrence) is COMPLETED
    assert [attempt.number for attempt in await world.attempts(occurrence)] == [1]


async def test_secrets_that_were_tampered_with_are_an_attempt_without_an_answer(world: World) -> None:
    def tampered(_: Event) -> EventSecrets:
        raise VaultError("changed since it was sealed")

    occurrence = await world.occurrence()
    await dispatcher_of(world, open_secrets=tampered).run_once()
    (attempt,) = await world.attempts(occurrence)
    assert (attempt.outcome, attempt.error) == (AttemptOutcome.NO_ANSWER, "internal")
    assert world.courier.deliveries == []


class ShutHosts(OpenHosts):
    """Every breaker is open, for a minute more."""

    def admit(self, host: str, now: datetime, *, creator: int) -> datetime | None:
        return now + timedelta(minutes=1)

    def lends(self, host: str) -> bool:
        return True


@pytest.mark.parametrize(("other_nodes", "waits"), [(True, [1, 1, 1, 60, 60]), (False, [60, 60])])
async def test_what_a_breaker_holds_back_other_nodes_may_try_first(
    world: World, monkeypatch: pytest.MonkeyPatch, other_nodes: bool, waits: list[int]
) -> None:
    """F18: a node that is cut off from receivers does not hold up the cluster; a receiver that is down costs little."""
    monkeypatch.setattr(world.courier, "host_of", lambda _: "receiver.example")
    event = (await world.event(schedule="in 10m")).event
    world.clock.advance(timedelta(minutes=10))
    dispatcher = dispatcher_of(world, hosts=ShutHosts(), other_nodes=other_nodes)
    for wait in waits:
        await dispatcher.run_once()
        (row,) = await world.occurrences_of(event)
        assert (row.state, row.attempts_made, row.due_at) == (PENDING, 0, world.clock.now() + timedelta(seconds=wait))
        world.clock.advance(timedelta(seconds=wait))
    await dispatcher.drain()


class NoHosts(ShutHosts):
    """Not one of them answers."""

    def is_cut_off(self, now: datetime) -> bool:
        return True


async def test_a_node_that_no_host_answers_lets_others_claim_first(world: World) -> None:
    await many_due(world, 10)
    cut_off = dispatcher_of(world, hosts=NoHosts(), other_nodes=True)
    healthy = dispatcher_of(world, other_nodes=True)

    left, taken = await asyncio.gather(cut_off.claim(), healthy.claim())

    assert (len(left.claims), len(taken.claims)) == (0, 10)
    await healthy.drain()
    await world.event(schedule="in 10m")
    world.clock.advance(timedelta(minutes=10))
    assert len((await cut_off.claim()).claims) == 1  # what nobody takes, it does
    await cut_off.drain()
