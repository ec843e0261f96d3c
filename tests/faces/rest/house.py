"""The whole app over a throw-away store, a clock that moves when told, and clients that speak to it without a network."""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import httpx2
from pydantic import SecretStr
from starlette.applications import Starlette

from qhronos_core.adapters.local.jwt import Jwt
from qhronos_core.adapters.local.limits import LocalLimits
from qhronos_core.adapters.local.vault import AesVault
from qhronos_core.config import Settings
from qhronos_core.domain.destination import EgressPolicy, parse_url
from qhronos_core.domain.event import Action, ActionType
from qhronos_core.usecases.events import EventCases, EventRules
from qhronos_core.usecases.secrets import keeper_of
from qhronos_core.usecases.tokens import TokenCases
from qhronos_core.usecases.waits import WaitCases
from qhronos_core.wiring import Core
from qhronos_mcp.app import build_app
from tests.canaries import AT_REST_KEY as AT_REST_KEY
from tests.canaries import JWT_SECRET as JWT_SECRET
from tests.canaries import MASTER as MASTER
from tests.canaries import METRICS_TOKEN as METRICS_TOKEN
from tests.telltales import tells_nothing
from tests.world import World, a_world

BASE: Final = "http://localhost"
NO_LIMITS: Final = {name: {"per_minute": 0, "burst": 1} for name in ("master", "admin", "read_write")}

DAILY: Final[Mapping[str, Any]] = {"name": "stand-up", "schedule": "0 9 * * *"}


@dataclass
class House:
    """`world` has the clock, the dispatcher and the scripted courier; `app` is what a server would serve."""

    world: World
    core: Core
    app: Starlette
    settings: Settings
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    def client(self, token: str | None = None, **headers: str) -> httpx2.AsyncClient:
        sent = dict(headers)
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        transport = httpx2.ASGITransport(app=self.app, raise_app_exceptions=False)
        hooks = {"response": [tells_nothing]}
        return httpx2.AsyncClient(transport=transport, base_url=BASE, headers=sent, event_hooks=hooks)

    @property
    def master(self) -> httpx2.AsyncClient:
        return self.client(MASTER)

    async def token(self, access: str, scope: Iterable[str], *, sub: str = "someone", **fields: Any) -> str:
        """A freshly minted JWT, good for a day."""
        until = (self.world.clock.now() + timedelta(days=1)).isoformat()
        given = {"sub": sub, "access": access, "scope": list(scope), "expires_at": until, **fields}
        answer = await self.master.post("/tokens", json=given)
        assert answer.status_code == 201, answer.text
        token: str = answer.json()["token"]
        return token

    async def as_(self, access: str, *scope: str, sub: str = "someone") -> httpx2.AsyncClient:
        return self.client(await self.token(access, scope, sub=sub))

    async def event(self, client: httpx2.AsyncClient | None = None, **fields: Any) -> dict[str, Any]:
        """A daily inbox event, made by the master unless said otherwise."""
        answer = await (client or self.master).post("/events", json={**DAILY, **fields})
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    async def failed_occurrence(self, client: httpx2.AsyncClient | None = None, **fields: Any) -> dict[str, Any]:
        """One that its receiver refused until no attempt was left."""
        from tests.world import HOOK, REFUSE

        event = await self.event(client, schedule="in 1 hour", action=HOOK, retry={"max_attempts": 1}, **fields)
        self.world.courier.will(REFUSE)
        self.world.clock.advance(timedelta(hours=1))
        await self.world.settle_down()
        found = (await (client or self.master).get(f"/events/{event['id']}/occurrences")).json()
        assert [row["status"] for row in found] == ["failed"]
        row: dict[str, Any] = found[0]
        return row

    async def inbox_occurrence(self, client: httpx2.AsyncClient | None = None, **fields: Any) -> dict[str, Any]:
        """One that lies in the inbox, unclaimed."""
        event = await self.event(client, **{"schedule": "in 1 hour", **fields})
        self.world.clock.advance(timedelta(hours=1))
        await self.world.settle_down()
        found = (await (client or self.master).get(f"/events/{event['id']}/occurrences")).json()
        assert [row["status"] for row in found][-1] == "dispatched"
        row: dict[str, Any] = found[-1]
        return row


def settings_for(data_dir: Path, **sections: Mapping[str, Any]) -> Settings:
    given: dict[str, Any] = {
        "data_dir": data_dir,
        "auth": {"master_token": SecretStr(MASTER), "jwt_secret": SecretStr(JWT_SECRET)},
        "metrics": {"token": SecretStr(METRICS_TOKEN)},
        "rate_limits": NO_LIMITS,
    }
    for name, section in sections.items():
        given[name] = {**given.get(name, {}), **section} if name != "rate_limits" else section
    return Settings.model_validate(given)


@asynccontextmanager
async def a_house(
    data_dir: Path, *, postgres_url: str | None = None, **sections: Mapping[str, Any]
) -> AsyncIterator[House]:
    """On SQLite in `data_dir`, or on PostgreSQL. `sections`: those of the settings."""
    settings = settings_for(data_dir, **sections)
    async with a_world(data_dir, postgres_url=postgres_url) as world:
        world.events = EventCases(
            world.store,
            world.signals,
            keeper=keeper_of(AesVault(AT_REST_KEY)),
            check_destination=allowed,
            rules=EventRules(),
            tally=world.tally,
        )
        core = core_over(world, settings)
        yield House(world, core, build_app(core, settings), settings)


async def allowed(action: Action) -> None:
    """The policy's word about a URL, without asking any resolver."""
    if action.type in (ActionType.WEBHOOK, ActionType.APICALL):
        parse_url(str(action.params["url"]), policy=EgressPolicy(), field="action.params.url")


def core_over(world: World, settings: Settings) -> Core:
    auth = settings.auth
    signer = Jwt(
        key_id=auth.key_id,
        secret=JWT_SECRET,
        previous_secrets={key: secret.get_secret_value() for key, secret in auth.previous_secrets.items()},
        issuer=auth.jwt_issuer,
        audience=auth.jwt_audience,
        max_life=auth.max_token_life,
    )
    tokens = TokenCases(
        store=world.store,
        signer=signer,
        clock=world.clock,
        signals=world.signals,
        master_token=MASTER,
        max_life=auth.max_token_life,
        reserved_subs=frozenset({"master", auth.local_sub}),
        master_may_use_api=auth.master_may_use_api,
    )
    return Core(
        tally=world.tally,
        settings=settings,
        node="node-1",
        events=world.events,
        occurrences=world.occurrences,
        tokens=tokens,
        waits=WaitCases(world.store, world.signals),
        journal=world.store.journal,
        signals=world.signals,
        limits=LocalLimits(world.clock.monotonic),
        clock=world.clock,
        store=world.store,
        couriers={},
        started_at=world.clock.now(),
    )
