"""The token bucket, alone and shared."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator

import pytest

from qhronos_core.adapters.local.limits import LocalLimits
from qhronos_core.adapters.redis.limits import RedisLimits
from qhronos_core.ports import Limits, RateLimit
from tests.servers import Redis

LIMIT = RateLimit(per_minute=60, burst=3)
SLOW = RateLimit(per_minute=1, burst=100)


class Seconds:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


@pytest.fixture
def alone(seconds: Seconds) -> LocalLimits:
    return LocalLimits(seconds)


@pytest.fixture
async def shared(redis_url: str) -> AsyncIterator[RedisLimits]:
    limits = RedisLimits(redis_url)
    yield limits
    await limits.aclose()


@pytest.fixture(params=["alone", "shared"])
def limits(request: pytest.FixtureRequest) -> Limits:
    found: Limits = request.getfixturevalue(request.param)
    return found


# --- both -------------------------------------------------------------------------------------------


async def test_a_burst_is_allowed_and_the_next_is_told_when_to_come_back(limits: Limits) -> None:
    verdicts = [await limits.take("ada", SLOW) for _ in range(101)]

    assert [verdict.allowed for verdict in verdicts] == [True] * 100 + [False]
    assert [verdict.remaining for verdict in verdicts[:3]] == [99, 98, 97]
    assert verdicts[99].remaining == verdicts[100].remaining == 0
    assert verdicts[0].retry_after == 0
    assert verdicts[0].reset_after == pytest.approx(60, abs=0.1)
    assert verdicts[100].retry_after == pytest.approx(60, abs=5)
    assert verdicts[100].reset_after == pytest.approx(6_000, abs=5)


async def test_each_bucket_is_its_own(limits: Limits) -> None:
    one = RateLimit(1, 1)
    assert (await limits.take("ada", one)).allowed
    assert (await limits.take("bob", one)).allowed
    assert not (await limits.take("ada", one)).allowed


async def test_no_limit_is_no_limit(limits: Limits) -> None:
    off = RateLimit(per_minute=0, burst=5)
    verdicts = [await limits.take("ada", off) for _ in range(50)]
    assert all(verdict.allowed and verdict.remaining == 5 and verdict.reset_after == 0 for verdict in verdicts)


async def test_a_lowered_limit_holds_at_once(limits: Limits) -> None:
    for _ in range(100):
        await limits.take("ada", SLOW)
    lowered = await limits.take("ada", RateLimit(per_minute=6_000, burst=2))
    assert not lowered.allowed
    assert lowered.retry_after <= 0.01


async def test_five_hundred_at_once_take_no_more_than_the_limit_and_one_in_a_hundred(limits: Limits) -> None:
    verdicts = await asyncio.gather(*(limits.take("ada", SLOW) for _ in range(500)))
    assert 100 <= sum(verdict.allowed for verdict in verdicts) <= 101


# --- alone ------------------------------------------------------------------------------------------


async def test_tokens_come_back_evenly(alone: LocalLimits, seconds: Seconds) -> None:
    for _ in range(3):
        assert (await alone.take("ada", LIMIT)).allowed
    refused = await alone.take("ada", LIMIT)
    assert (refused.allowed, refused.retry_after) == (False, 1.0)

    seconds.now += 0.999
    assert not (await alone.take("ada", LIMIT)).allowed
    seconds.now += 0.001
    assert (await alone.take("ada", LIMIT)).allowed
    assert not (await alone.take("ada", LIMIT)).allowed
    seconds.now += 3_600
    assert (await alone.take("ada", LIMIT)).remaining == 2


async def test_over_a_long_time_the_rate_is_the_limits(alone: LocalLimits, seconds: Seconds) -> None:
    allowed = 0
    for _ in range(60_000):
        seconds.now += 0.01
        allowed += (await alone.take("ada", LIMIT)).allowed
    assert 600 <= allowed <= 603


async def test_buckets_of_the_many_do_not_fill_the_memory(seconds: Seconds) -> None:
    small = LocalLimits(seconds, kept=100)
    for n in range(1_000):
        small.take_now(f"address {n}", LIMIT)
    assert len(small._full_at) == 100
    seconds.now += 60
    for n in range(60):
        small.take_now(f"later {n}", LIMIT)
    assert len(small._full_at) <= 60


# --- shared -----------------------------------------------------------------------------------------


async def test_nodes_share_one_bucket(redis_url: str) -> None:
    nodes = [RedisLimits(redis_url) for _ in range(3)]
    verdicts = await asyncio.gather(*(node.take("ada", SLOW) for node in nodes for _ in range(200)))
    assert 100 <= sum(verdict.allowed for verdict in verdicts) <= 101
    for node in nodes:
        await node.aclose()


async def test_a_flush_forgets_what_was_taken_and_nothing_breaks(shared: RedisLimits, redis_server: Redis) -> None:
    one = RateLimit(1, 1)
    assert (await shared.take("ada", one)).allowed
    redis_server.flush()
    assert (await shared.take("ada", one)).allowed
    assert not (await shared.take("ada", one)).allowed


async def test_a_full_bucket_leaves_nothing_in_redis(shared: RedisLimits) -> None:
    await shared.take("ada", RateLimit(per_minute=60_000, burst=1))
    deadline = time.monotonic() + 5
    while await shared._redis.dbsize():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.002)


async def test_without_redis_each_node_counts_alone_and_minting_stays_limited(redis_server: Redis) -> None:
    limits = RedisLimits(redis_server.url)
    redis_server.stop()
    try:
        verdicts = [await limits.take("master", RateLimit(1, 20)) for _ in range(40)]
    finally:
        redis_server.start()
    assert sum(verdict.allowed for verdict in verdicts) == 20
    await limits.aclose()


async def test_a_redis_that_sleeps_makes_nobody_wait_past_the_timeout(redis_server: Redis, redis_url: str) -> None:
    limits = RedisLimits(redis_url)
    await limits.take("ada", SLOW)
    os.kill(redis_server.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        first = await asyncio.gather(*(limits.take("ada", SLOW) for _ in range(50)))
        waited = time.monotonic() - began
        began = time.monotonic()
        await limits.take("ada", SLOW)
        again = time.monotonic() - began
    finally:
        os.kill(redis_server.pid, signal.SIGCONT)
    assert all(verdict.allowed for verdict in first)
    assert 0.2 < waited < 1.0
    assert again < 0.1
    await limits.aclose()


async def test_left_alone_a_node_counts_on_from_what_it_heard(redis_server: Redis) -> None:
    limits, slow = RedisLimits(redis_server.url), RateLimit(1, 20)
    for _ in range(19):
        await limits.take("left alone", slow)
    redis_server.stop()
    try:
        verdicts = [await limits.take("left alone", slow) for _ in range(5)]
    finally:
        redis_server.start()
    assert [verdict.allowed for verdict in verdicts] == [True, False, False, False, False]
    await limits.aclose()


async def test_a_busy_node_does_not_take_its_own_slowness_for_an_absence(redis_url: str) -> None:
    """Two nodes in one burst, each kept from its loop for longer than it waits for Redis."""
    nodes = [RedisLimits(redis_url) for _ in range(2)]
    for node in nodes:
        await node.take("warm", SLOW)
    takes = [asyncio.create_task(node.take("busy", SLOW)) for node in nodes for _ in range(150)]
    for _ in range(3):
        await asyncio.sleep(0)
        time.sleep(0.3)  # noqa: ASYNC251 - what a burst does to a small machine
    verdicts = await asyncio.gather(*takes)
    assert 100 <= sum(verdict.allowed for verdict in verdicts) <= 101
    for node in nodes:
        await node.aclose()


async def test_a_redis_that_comes_back_counts_again(redis_server: Redis, redis_url: str) -> None:
    node, other = RedisLimits(redis_url), RedisLimits(redis_url)
    redis_server.stop()
    assert (await node.take("ada", RateLimit(1, 1))).allowed
    redis_server.start()
    node._away_until = 0.0
    assert (await other.take("ada", RateLimit(1, 1))).allowed
    assert not (await node.take("ada", RateLimit(1, 1))).allowed
    await node.aclose()
    await other.aclose()
