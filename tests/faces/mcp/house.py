"""The real core and the real MCP face, in this process: on a clock that moves when told, served over real HTTP."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx2
import uvicorn
from mcp.client.extension import ClientExtension
from mcp.client.streamable_http import streamable_http_client
from starlette.applications import Starlette

from qhronos_core.adapters.local.jwt import Jwt
from qhronos_core.adapters.local.limits import LocalLimits
from qhronos_core.config import Settings
from qhronos_core.domain.access import Principal
from qhronos_core.domain.event import Event
from qhronos_core.ports import Signals, Stirred
from qhronos_core.usecases.tokens import TokenCases
from qhronos_core.usecases.waits import WaitCases
from qhronos_core.wiring import Core
from qhronos_mcp.mcp_server.http import McpOverHttp
from qhronos_mcp.verifier import Verifier
from tests.canaries import JWT_SECRET, MASTER
from tests.faces.mcp.speakers import Speaker, in_its_own_task, speaking
from tests.world import World

ACCESS: Final = {"alice": "write", "bob": "write", "reader": "read", "admin": "admin"}
"""Bearers, by name. The reader is another token of alice, for reading."""


@dataclass
class House:
    world: World
    core: Core
    face: McpOverHttp
    tokens: dict[str, str]
    url: str = ""

    @asynccontextmanager
    async def speaker(
        self, version: str, bearer: str = "alice", *, extensions: Sequence[ClientExtension] = (), query: str = ""
    ) -> AsyncIterator[Speaker]:
        async with (
            self.http(bearer) as http,
            in_its_own_task(
                speaking(streamable_http_client(self.url + query, http_client=http), version, extensions)
            ) as speaker,
        ):
            yield speaker

    def http(self, bearer: str = "alice") -> AbstractAsyncContextManager[httpx2.AsyncClient]:
        return httpx2.AsyncClient(headers={"Authorization": f"Bearer {self.tokens[bearer]}"}, timeout=60)

    async def principal(self, bearer: str = "alice") -> Principal:
        return await self.core.tokens.authenticate(self.tokens[bearer])

    async def event(self, bearer: str = "alice", **fields: Any) -> Event:
        """An inbox event, due in an hour unless said otherwise."""
        given = {"name": "an event", "schedule": "in 1 hour", **fields}
        return (await self.core.events.create(given, caller=await self.principal(bearer))).event

    async def comes_due(self, after: timedelta = timedelta(hours=1)) -> None:
        """Time passes, and what is due is handed over."""
        self.world.clock.advance(seconds=after.total_seconds())
        await self.world.settle_down()
        await self.core.signals.announce(Stirred())

    @property
    def now(self) -> datetime:
        return self.world.clock.now()


def core_of(world: World, settings: Settings, signals: Signals) -> Core:
    signer = Jwt(
        key_id="1",
        secret=JWT_SECRET,
        previous_secrets={},
        issuer="qhronos",
        audience="qhronos",
        max_life=timedelta(days=365),
    )
    tokens = TokenCases(
        store=world.store,
        signer=signer,
        clock=world.clock,
        signals=signals,
        master_token=MASTER,
        max_life=timedelta(days=365),
    )
    return Core(
        settings=settings,
        tally=world.tally,
        node="node-1",
        events=world.events,
        occurrences=world.occurrences,
        tokens=tokens,
        waits=WaitCases(world.store, signals),
        journal=world.store.journal,
        signals=signals,
        limits=LocalLimits(),
        clock=world.clock,
        store=world.store,
        couriers={},
        started_at=world.clock.now(),
    )


async def minted(core: Core, access: str, sub: str) -> str:
    fields = {"sub": sub, "access": access, "scope": [f"user:{sub}"], "expires_at": "2027-06-01T00:00:00Z"}
    return (await core.tokens.mint(fields, caller=Principal.of_master())).token


@asynccontextmanager
async def a_house(
    world: World, data_dir: Path, signals: Signals | None = None, *, settings: Settings | None = None
) -> AsyncIterator[House]:
    """With `signals` of its own it is another node on the same store, which hears of nothing but by looking."""
    core = core_of(world, settings or Settings(data_dir=data_dir), signals or world.signals)
    face = McpOverHttp(core, Verifier(core))
    tokens = {
        name: await minted(core, access, "alice" if name == "reader" else name) for name, access in ACCESS.items()
    }
    house = House(world, core, face, {**tokens, "master": MASTER})
    app = Starlette(routes=[face.route], lifespan=lambda _: face.running())
    # With its protocol named: asyncio turns Nagle's algorithm off only on a socket that says it is TCP.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.bind(("127.0.0.1", 0))
        house.url = f"http://127.0.0.1:{listening.getsockname()[1]}/mcp"
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=5))
        serving = asyncio.create_task(server.serve([listening]))
        while not server.started:
            await asyncio.sleep(0.005)
        try:
            yield house
        finally:
            face.hub.close()
            server.should_exit = True
            await serving
