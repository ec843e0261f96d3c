"""Webhook subscriptions: rows that any node may deliver from, one at a time."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

from qhronos_core.domain.access import Access, Principal
from qhronos_core.domain.announcement import Topic, Wanted
from qhronos_core.domain.ids import EventId
from qhronos_core.domain.journal import Cursor
from qhronos_core.domain.subscription import Subscription
from qhronos_core.ports import Store
from tests.adapters.store.places import Place
from tests.clock import NOON, FakeClock

HOUR = timedelta(hours=1)
ALICE = Principal("alice", Access.WRITE, frozenset({"user:alice"}), jti=uuid4(), holder="h", expires_at=2_000_000_000)
EPOCH = uuid4()


def a_subscription(name: str = "sub_1", **given: Any) -> Subscription:
    subscription = Subscription(
        id=name,
        owner="alice's",
        principal=ALICE,
        url="https://receiver.example/hook?a=%20b",
        wanted=Wanted(Topic.OCCURRENCE_DUE, EventId(uuid4()), ("user:alice", "ä"), "a name"),
        secrets=b"\x00sealed",
        confirmed_at=NOON,
        expires_at=NOON + HOUR,
        verified_until=NOON + HOUR,
        cursor=Cursor(EPOCH, 7),
        next_at=NOON,
    )
    return replace(subscription, **given)


async def test_a_subscription_is_read_back_as_it_was_written(store: Store) -> None:
    subscription = a_subscription(last_delivery_at=NOON, last_error="timeout", failed_since=NOON, attempts=2)
    assert await store.subscriptions.start(subscription, most=1)
    assert await store.subscriptions.get(subscription.id) == subscription
    assert await store.subscriptions.get("sub_2") is None


async def test_one_owner_has_so_many_live_ones_also_when_asked_at_once(place: Place, clock: FakeClock) -> None:
    async with place.open(clock) as one, place.open(clock) as other:
        started = await asyncio.gather(
            *(store.subscriptions.start(a_subscription(f"sub_{n}"), most=3) for n in range(5) for store in (one, other))
        )
        assert await one.subscriptions.count_live("alice's") == 3
        assert started.count(True) in (3, 4, 5, 6)  # one that is there may be started again
        assert await one.subscriptions.start(a_subscription("another's", owner="bob's"), most=3)
        clock.advance(HOUR)
        assert await one.subscriptions.count_live("alice's") == 0


async def test_a_refresh_writes_the_grant_and_leaves_the_position(store: Store, clock: FakeClock) -> None:
    await store.subscriptions.start(a_subscription(attempts=2, next_at=NOON + HOUR), most=1)
    clock.advance(seconds=5)
    asked = a_subscription(secrets=b"new", expires_at=NOON + 2 * HOUR, cursor=Cursor(EPOCH, 99), next_at=clock.now())
    refreshed = await store.subscriptions.refresh(asked)
    assert refreshed is not None
    assert refreshed == replace(asked, cursor=Cursor(EPOCH, 7), attempts=2, wanted=refreshed.wanted)
    clock.advance(2 * HOUR)
    assert await store.subscriptions.refresh(asked) is None


async def test_an_endpoint_is_proved_for_its_owner_and_url_alone(store: Store, clock: FakeClock) -> None:
    one = a_subscription()
    await store.subscriptions.start(one, most=9)
    assert await store.subscriptions.verified(one.owner, one.url) == one.verified_until
    assert await store.subscriptions.verified("bob's", one.url) is None
    assert await store.subscriptions.verified(one.owner, one.url + "&") is None
    clock.advance(HOUR)
    assert await store.subscriptions.verified(one.owner, one.url) is None


async def test_only_one_node_claims_and_a_lapsed_lease_is_free_again(place: Place, clock: FakeClock) -> None:
    async with place.open(clock) as one, place.open(clock) as other:
        await one.subscriptions.start(a_subscription(), most=1)
        [due] = await one.subscriptions.due(10)
        claims = await asyncio.gather(*(store.subscriptions.claim(due, HOUR / 60) for store in (one, other) * 3))
        [held] = [claim for claim in claims if claim is not None]
        assert held.fence == due.fence + 1
        assert list(await other.subscriptions.due(10)) == []
        clock.advance(HOUR / 60)
        [again] = await other.subscriptions.due(10)
        taken = await other.subscriptions.claim(again, HOUR)
        assert taken is not None
        assert not await one.subscriptions.settle(replace(held, cursor=Cursor(EPOCH, 50)))
        assert await other.subscriptions.settle(replace(taken, cursor=Cursor(EPOCH, 9), lease_until=None))
        row = await one.subscriptions.get(held.id)
        assert row is not None
        assert (row.cursor, row.lease_until) == (Cursor(EPOCH, 9), None)


async def test_nothing_is_due_between_retries_or_after_the_end(store: Store, clock: FakeClock) -> None:
    await store.subscriptions.start(a_subscription(next_at=NOON + HOUR / 2), most=1)
    assert list(await store.subscriptions.due(10)) == []
    clock.advance(HOUR / 2)
    assert len(await store.subscriptions.due(10)) == 1
    clock.advance(HOUR / 2)
    assert list(await store.subscriptions.due(10)) == []


async def test_a_quiet_position_is_written_only_where_nothing_else_was(store: Store) -> None:
    one = a_subscription()
    await store.subscriptions.start(one, most=1)
    await store.subscriptions.advance(one, Cursor(EPOCH, 20))
    await store.subscriptions.advance(one, Cursor(EPOCH, 30))  # it stands at 20 by now
    row = await store.subscriptions.get(one.id)
    assert row is not None
    assert row.cursor.position == 20


async def test_what_has_ended_is_a_tombstone_for_a_day(store: Store, clock: FakeClock) -> None:
    for name in ("ended", "lapses"):
        await store.subscriptions.start(a_subscription(name), most=9)
    assert await store.subscriptions.end("ended")
    assert not await store.subscriptions.end("ended")
    assert not await store.subscriptions.end("never was")
    clock.advance(HOUR)
    assert await store.subscriptions.sweep() == 1
    for name in ("ended", "lapses"):
        row = await store.subscriptions.get(name)
        assert row is not None
        assert (row.url, row.secrets) == ("", b"")
        assert row.ended_at is not None
    clock.advance(timedelta(hours=23))
    assert await store.subscriptions.sweep() == 1
    clock.advance(HOUR)
    assert await store.subscriptions.sweep() == 1
    assert await store.subscriptions.get("lapses") is None


async def test_one_that_ended_may_begin_anew_and_nobody_settles_its_former_self(store: Store) -> None:
    await store.subscriptions.start(a_subscription(), most=1)
    [due] = await store.subscriptions.due(1)
    held = await store.subscriptions.claim(due, HOUR)
    assert held is not None
    await store.subscriptions.end(held.id)
    assert await store.subscriptions.start(a_subscription(cursor=Cursor(EPOCH, 1)), most=1)
    assert not await store.subscriptions.settle(replace(held, cursor=Cursor(EPOCH, 50)))
