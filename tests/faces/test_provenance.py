"""Who made an event, and what woke whoever made it: set by the server, over REST and MCP alike; and the brakes on both."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from qhronos_core.usecases.events import CHAIN_LIMIT, EventCases, EventRules
from tests.faces.mcp_events.asking import headers, request
from tests.faces.rest.house import House, a_house, allowed
from tests.world import PLAIN_KEEPER

FACES = pytest.mark.parametrize("face", ["rest", "mcp"])
INBOX = {"name": "n", "schedule": "in 1 minute", "action": "inbox"}


@dataclass
class Agent:
    """One bearer, over both faces."""

    house: House
    http: httpx2.AsyncClient

    async def tool(self, tool: str, **arguments: Any) -> dict[str, Any]:
        body = request("tools/call", name=tool, arguments=arguments)
        sent = {**headers("tools/call"), "Mcp-Name": tool}
        answer = await self.http.post("/mcp", json=body, headers=sent)
        shown: dict[str, Any] = answer.json()["result"]["structuredContent"]
        return shown

    async def create(self, face: str, **fields: Any) -> tuple[str | None, str | None]:
        """The id of what was made, or why nothing was."""
        given = {**INBOX, **fields}
        if face == "mcp":
            shown = await self.tool("create_event", **given)
            return (None, shown["code"]) if "code" in shown else (shown["event"].get("id"), None)
        given["action"] = {"type": "inbox"}
        answer = await self.http.post("/events", json=given)
        if answer.status_code == 201:
            return answer.json()["id"], None
        assert answer.status_code == 409, answer.text
        return None, answer.json()["code"]

    async def made(self, face: str, **fields: Any) -> dict[str, Any]:
        made, why = await self.create(face, **fields)
        assert made is not None, why
        shown: dict[str, Any] = (await self.http.get(f"/events/{made}")).json()
        return shown

    async def woken(self, after: timedelta = timedelta(minutes=1), limit: int = 1) -> list[str]:
        """Time passes; the occurrences now in its hands."""
        self.house.world.clock.advance(after)
        await self.house.world.settle_down()
        shown = await self.tool("wait_for_occurrences", seconds=0, limit=limit)
        return [item["id"] for item in shown["occurrences"]]

    async def acknowledge(self, occurrence: str) -> None:
        await self.tool("acknowledge_occurrence", occurrence_id=occurrence, outcome="done")


Agents = Callable[..., Awaitable[Agent]]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with a_house(tmp_path) as house, served(house):
        yield house


@asynccontextmanager
async def served(house: House) -> AsyncIterator[None]:
    """The app's own life, entered and left by one task."""
    begun, over = asyncio.Event(), asyncio.Event()

    async def live() -> None:
        async with house.app.router.lifespan_context(house.app):
            begun.set()
            await over.wait()

    living = asyncio.create_task(live())
    await begun.wait()
    try:
        yield
    finally:
        over.set()
        await living


@pytest.fixture
async def agents(house: House) -> AsyncIterator[Agents]:
    opened: list[httpx2.AsyncClient] = []

    async def agent(sub: str = "alice", **fields: Any) -> Agent:
        http = house.client(await house.token("write", [f"user:{sub}"], sub=sub, **fields))
        opened.append(http)
        return Agent(house, http)

    yield agent
    for http in opened:
        await http.aclose()


@FACES
async def test_what_is_made_while_an_occurrence_is_held_names_it(agents: Agents, face: str) -> None:
    alice = await agents()
    first = await alice.made(face)
    assert (first["created_by"], first["caused_by"]) == ("alice", None)
    [held] = await alice.woken()
    child = await alice.made(face)
    assert (child["created_by"], child["caused_by"]) == ("alice", held)
    far = await alice.made(face, schedule="in 2 days")
    assert far["caused_by"] == held


@FACES
@pytest.mark.parametrize("how", ["acknowledged", "lapsed", "another's", "another token's"])
async def test_what_is_not_held_any_more_or_by_others_causes_nothing(agents: Agents, face: str, how: str) -> None:
    alice = await agents()
    await alice.made(face)
    [held] = await alice.woken()
    maker = alice
    if how == "acknowledged":
        await alice.acknowledge(held)
    elif how == "lapsed":
        alice.house.world.clock.advance(timedelta(minutes=16))
    else:
        maker = await agents("bob" if how == "another's" else "alice")
    assert (await maker.made(face))["caused_by"] is None


async def test_a_caller_cannot_say_who_made_it_or_why(agents: Agents) -> None:
    alice = await agents()
    await alice.made("rest")
    [held] = await alice.woken()
    await alice.acknowledge(held)
    claimed = {"caused_by": held, "created_by": "bob"}
    made = await alice.made("rest", **claimed)
    assert (made["created_by"], made["caused_by"]) == ("alice", None)
    for name, value in claimed.items():
        assert (await alice.tool("create_event", **INBOX, **{name: value}))["code"] == "unknown_argument"
    shown = await alice.tool("create_event", name="n", schedule="@daily", metadata=claimed)
    again = (await alice.http.get(f"/events/{shown['event']['id']}")).json()
    assert (again["created_by"], again["caused_by"], again["metadata"]) == ("alice", None, claimed)


@FACES
async def test_the_eleventh_quick_link_of_a_chain_is_refused_and_a_slow_one_is_not(agents: Agents, face: str) -> None:
    alice = await agents()
    await alice.made(face)
    for _ in range(CHAIN_LIMIT - 1):
        [held] = await alice.woken()
        assert (await alice.made(face))["caused_by"] == held
        await alice.acknowledge(held)
    [held] = await alice.woken()
    assert await alice.create(face) == (None, "chain_too_long")
    assert await alice.create(face, schedule="in 1 hour") == (None, "chain_too_long")
    if face == "mcp":
        assert await alice.create(face, dry_run=True) == (None, "chain_too_long")
    slow = await alice.made(face, schedule="in 61 minutes")
    assert slow["caused_by"] == held
    await alice.acknowledge(held)
    [again] = await alice.woken(timedelta(minutes=61))
    assert (await alice.made(face))["caused_by"] == again  # another chain


async def hurried(agent: Agent, how: str, event: str) -> tuple[int, str | None]:
    """An event made for later is made to run soon."""
    if how == "triggered":
        answer = await agent.http.post(f"/events/{event}/trigger")
    else:
        answer = await agent.http.put(f"/events/{event}", json={"schedule": "in 1 minute"})
    return answer.status_code, answer.json().get("code")


@pytest.mark.parametrize("how", ["triggered", "edited"])
async def test_a_link_made_slow_and_hurried_afterwards_is_a_quick_one(agents: Agents, how: str) -> None:
    alice = await agents()
    await alice.made("rest")
    for _ in range(CHAIN_LIMIT - 1):
        [held] = await alice.woken()
        slow = await alice.made("rest", schedule="in 61 minutes")
        assert await hurried(alice, how, slow["id"]) == ({"triggered": 201, "edited": 200}[how], None)
        await alice.acknowledge(held)
    [held] = await alice.woken()
    last = f"/events/{(await alice.made('rest', schedule='in 61 minutes'))['id']}"
    assert await hurried(alice, how, last.removeprefix("/events/")) == (409, "chain_too_long")
    assert (await alice.http.get(last)).json()["next_run_at"] is not None
    for harmless in ({"name": "another"}, {"schedule": "in 2 hours"}):
        assert (await alice.http.put(last, json=harmless)).status_code == 200
    alice.house.world.clock.advance(timedelta(minutes=61))
    assert (await hurried(alice, how, last.removeprefix("/events/")))[1] is None  # by now it was slow


async def test_a_claim_kept_aside_does_not_hide_how_long_a_chain_is(agents: Agents) -> None:
    alice = await agents()
    aside = await alice.made("mcp", expires_after="1d")
    [kept] = await alice.woken()
    await alice.http.put(f"/events/{aside['id']}", json={"ack_timeout": "1h"})
    await alice.made("mcp")
    for _ in range(CHAIN_LIMIT):
        [held] = await alice.woken()
        made, why = await alice.create("mcp")
        if made is None:
            assert why == "chain_too_long"
            break
        await alice.acknowledge(held)
    else:
        pytest.fail("never stopped")
    assert (await alice.tool("wait_for_occurrences", seconds=0))["held"] == [kept, held]


@FACES
async def test_over_its_quota_a_sub_is_told_so_and_another_is_not(agents: Agents, house: House, face: str) -> None:
    house.core.events = EventCases(
        house.world.store,
        house.world.signals,
        keeper=PLAIN_KEEPER,
        check_destination=allowed,
        rules=EventRules(quota_events=2, quota_runs_per_day=30),
    )
    alice, twin, bob = await agents(), await agents(), await agents("bob")
    await alice.made(face, schedule="@daily")
    assert await twin.create(face, schedule="every 30m") == (None, "quota_exceeded")
    await twin.made(face, schedule="@daily")
    assert await alice.create(face, schedule="@daily") == (None, "quota_exceeded")
    await bob.made(face, schedule="@daily")
    made = await asyncio.gather(*(bob.create(face, schedule="@daily") for _ in range(10)))
    assert sorted(why or "made" for _, why in made) == ["made", *["quota_exceeded"] * 9]
