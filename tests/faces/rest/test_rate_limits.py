"""rest.md §5: one bucket per token, its headers, and that nothing over it comes through."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faces.rest.house import DAILY, MASTER, House, a_house


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """With the limits of the specification."""
    limits = {
        "master": {"per_minute": 1000, "burst": 200},
        "admin": {"per_minute": 500, "burst": 100},
        "read_write": {"per_minute": 200, "burst": 50},
    }
    async with a_house(tmp_path, rate_limits=limits) as made:
        yield made


@pytest.mark.parametrize(("access", "burst", "refill"), [("read", 50, 15), ("write", 50, 15), ("admin", 100, 12)])
async def test_each_answer_tells_the_bucket(house: House, access: str, burst: int, refill: int) -> None:
    client = await house.as_(access, "user:a")
    answer = await client.get("/events")
    assert answer.headers["ratelimit-policy"] == f'"default";q={burst};w={refill}'
    assert re.fullmatch(rf'"default";r={burst - 1};t=\d+', answer.headers["ratelimit"])
    assert answer.headers["x-ratelimit-limit"] == str(burst)
    assert answer.headers["x-ratelimit-remaining"] == str(burst - 1)
    assert answer.headers["x-ratelimit-reset"].isdigit()


async def test_the_masters_bucket_is_its_own(house: House) -> None:
    answer = await house.master.get("/events")
    assert answer.headers["ratelimit-policy"] == '"default";q=200;w=12'


async def test_above_the_burst_is_429_with_whole_seconds(house: House) -> None:
    client = await house.as_("read", "user:a")
    statuses = [(await client.get("/events")).status_code for _ in range(50)]
    assert set(statuses) == {200}
    refused = await client.get("/events")
    assert refused.status_code == 429
    assert re.fullmatch(r"[1-9]\d*", refused.headers["retry-after"])
    assert refused.headers["x-ratelimit-remaining"] == "0"
    assert (refused.json()["code"], refused.headers["content-type"]) == ("rate_limited", "application/json")
    house.world.clock.advance(seconds=int(refused.headers["retry-after"]))
    assert (await client.get("/events")).status_code == 200


async def test_errors_cost_and_tell_the_same(house: House) -> None:
    client = await house.as_("read", "user:a")
    for path in ("/events/x", "/occurrences/x"):
        answer = await client.get(path)
        assert (answer.status_code, "ratelimit" in answer.headers) == (400, True)
    assert (await client.post("/events", json=dict(DAILY))).headers["x-ratelimit-remaining"] == "47"


async def test_500_callers_at_once_get_no_more_than_the_burst_and_a_hundredth(house: House) -> None:
    client = await house.as_("write", "user:a")
    answers = await asyncio.gather(*(client.get("/events") for _ in range(500)))
    assert sum(answer.status_code == 200 for answer in answers) <= 50 * 1.01
    assert {answer.status_code for answer in answers} == {200, 429}


async def test_buckets_are_by_token_and_not_by_address_or_sub(house: House) -> None:
    first, second = await house.as_("read", "user:a", sub="a"), await house.as_("read", "user:a", sub="a")
    for _ in range(60):
        await first.get("/events")
    assert (await first.get("/events")).status_code == 429
    assert (await second.get("/events")).status_code == 200


async def test_what_is_open_is_outside(house: House) -> None:
    for _ in range(300):
        assert (await house.client().get("/health")).status_code == 200
    for path in ("/status", "/openapi.json"):
        answer = await house.client().get(path)
        assert answer.status_code == 200
        assert "ratelimit" not in answer.headers
    assert "ratelimit" in (await house.master.get("/status")).headers


async def test_failed_authentications_are_slowed_by_address_and_a_good_token_is_not(house: House) -> None:
    guesses = [await house.client("guess").get("/events") for _ in range(201)]
    assert [guess.status_code for guess in guesses[:200]] == [401] * 200
    assert guesses[200].status_code == 429
    assert guesses[200].headers["retry-after"].isdigit()
    assert (await house.client(MASTER).get("/events")).status_code == 200


async def test_a_limit_of_zero_is_none(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        answers = [await house.master.get("/events") for _ in range(300)]
        assert {answer.status_code for answer in answers} == {200}
        assert "ratelimit" not in answers[0].headers
