"""Signals between nodes: prompt with Redis, silent without it, never an error."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import pytest
import redis.asyncio

from qhronos_core.adapters.redis.signals import RedisSignals
from qhronos_core.ports import Stirred
from tests.clock import NOON
from tests.servers import Redis


class Node:
    def __init__(self, url: str) -> None:
        self.signals = RedisSignals(url)
        self.heard: list[Stirred] = []
        self.deaf = self.signals.listen(self.heard.append)

    async def joined(self) -> "Node":
        await asyncio.wait_for(self.signals.joined(), 10)
        self.heard.clear()
        return self


@pytest.fixture
async def nodes(redis_url: str) -> AsyncIterator[list[Node]]:
    two = [Node(redis_url), Node(redis_url)]
    for node in two:
        await node.joined()
    yield two
    for node in two:
        await node.signals.aclose()


async def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.002)


async def test_the_others_hear_it_and_those_here_hear_it_at_once_and_once(nodes: list[Node]) -> None:
    one, other = nodes
    signal = Stirred(NOON, revoked=True)
    await one.signals.announce(signal)
    assert one.heard == [signal]

    await until(lambda: other.heard == [signal])
    await other.signals.announce(Stirred())
    await until(lambda: len(one.heard) == 2)
    assert one.heard == [signal, Stirred()]
    assert other.heard == [signal, Stirred()]


async def test_many_are_told_as_few_with_the_earliest_instant_and_every_revocation(nodes: list[Node]) -> None:
    one, other = nodes
    for n in range(1_000):
        await one.signals.announce(Stirred(NOON + timedelta(seconds=1_000 - n), revoked=n == 500))

    await until(lambda: any(signal.due_at == NOON + timedelta(seconds=1) for signal in other.heard))
    assert any(signal.revoked for signal in other.heard)
    assert len(other.heard) <= 10


async def test_a_listener_that_ended_hears_nothing(nodes: list[Node]) -> None:
    one, other = nodes
    other.deaf()
    heard: list[Stirred] = []
    other.signals.listen(heard.append)
    await one.signals.announce(Stirred(NOON))
    await until(lambda: heard == [Stirred(NOON)])
    assert other.heard == []


async def test_what_others_publish_on_the_channel_harms_nobody(nodes: list[Node], redis_url: str) -> None:
    one, other = nodes
    async with redis.asyncio.Redis.from_url(redis_url) as stranger:
        for nonsense in ("", "[]", "{}", '["x", "y", 1]', '["x", 1e300, true]', b"\xff\xfe", "[1, 2, 3, 4]"):
            await stranger.publish("qhronos:stirred", nonsense)
    await one.signals.announce(Stirred(NOON))
    await until(lambda: Stirred(NOON) in other.heard)
    assert other.heard == [Stirred(NOON)]


async def test_without_redis_those_here_hear_and_nothing_is_raised(redis_server: Redis) -> None:
    redis_server.stop()
    try:
        node = Node(redis_server.url)
        for _ in range(100):
            await node.signals.announce(Stirred(NOON))
        assert node.heard == [Stirred(NOON)] * 100
        await asyncio.sleep(0.05)
        await node.signals.aclose()
    finally:
        redis_server.start()


async def test_a_node_that_lost_redis_joins_again_and_looks_at_once(nodes: list[Node], redis_server: Redis) -> None:
    one, other = nodes
    redis_server.stop()
    await until(lambda: not one.signals._joined.is_set() and not other.signals._joined.is_set())
    await one.signals.announce(Stirred(NOON))
    redis_server.start()

    await until(lambda: one.signals._joined.is_set() and other.signals._joined.is_set())
    assert Stirred(revoked=True) in other.heard
    assert Stirred(NOON) not in other.heard
    await one.signals.announce(Stirred(NOON))
    await until(lambda: Stirred(NOON) in other.heard)


async def test_closing_is_quiet_even_in_the_middle_of_telling(redis_url: str) -> None:
    node = Node(redis_url)
    await node.signals.announce(Stirred(NOON))
    await node.signals.aclose()
