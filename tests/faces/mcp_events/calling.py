"""A principal that subscribes, and the node that calls it back."""

import base64
import os
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from standardwebhooks import Webhook

from qhronos_core.adapters.http.callbacks import EgressCallbacks, hardened, lifted
from qhronos_core.adapters.http.egress import Egress
from qhronos_core.adapters.local.limits import LocalLimits
from qhronos_core.adapters.local.vault import AesVault
from qhronos_core.domain.destination import EgressPolicy
from qhronos_core.scheduler.subscriptions import Deliveries, DeliveriesSettings
from qhronos_core.usecases.announcements import Announcements
from qhronos_core.usecases.subscriptions import SubscriptionCases, opened
from tests.faces.mcp.house import House
from tests.faces.mcp.speakers import MODERN
from tests.faces.mcp_events.asking import ask, refusal
from tests.faces.mcp_events.receiver import Receiver


def a_secret(length: int = 32) -> str:
    return "whsec_" + base64.b64encode(os.urandom(length)).decode()


@dataclass
class Caller:
    """The house, with callbacks."""

    house: House
    deliveries: Deliveries
    secret: str = field(default_factory=a_secret)

    async def subscribe(self, receiver: Receiver, bearer: str = "alice", **given: Any) -> dict[str, Any]:
        async with self.house.speaker(MODERN, bearer) as speaker:
            return await ask(speaker, "subscribe", **self.asked(receiver.url, **given))

    async def refused(self, url: str, bearer: str = "alice", **given: Any) -> Any:
        async with self.house.speaker(MODERN, bearer) as speaker:
            return (await refusal(speaker, "subscribe", **self.asked(url, **given))).error

    async def unsubscribe(self, receiver: Receiver, bearer: str = "alice", **given: Any) -> dict[str, Any]:
        async with self.house.speaker(MODERN, bearer) as speaker:
            return await ask(
                speaker,
                "unsubscribe",
                **{"name": "occurrence.due", "arguments": {}, "delivery": {"url": receiver.url}, **given},
            )

    def asked(self, url: str, **given: Any) -> dict[str, Any]:
        delivery = {"mode": "webhook", "url": url, "secret": given.pop("secret", self.secret)}
        return {"name": "occurrence.due", "arguments": {}, "delivery": delivery, **given}

    async def look(self) -> None:
        """One look, and all that comes of it."""
        await self.deliveries.look()
        await self.deliveries.idle()


def wired(house: House, *origins: str, most: int = 1000, per_message: bool = False) -> Caller:
    world = house.world
    policy = hardened(EgressPolicy())
    callbacks = EgressCallbacks(Egress(policy), Egress(lifted(policy, origins)), policy, origins)
    vault = AesVault(b"k" * 32)
    house.core.subscriptions = SubscriptionCases(
        world.store,
        world.signals,
        vault=vault,
        callbacks=callbacks,
        limits=LocalLimits(lambda: 0.0),  # nothing refills
        nonce=lambda: secrets.token_urlsafe(32),
        ttl=timedelta(hours=24),
        most=most,
    )
    deliveries = Deliveries(
        store=world.store,
        read=Announcements(world.store).after,
        still_holds=house.core.tokens.still_holds,
        open_secrets=lambda subscription: opened(vault, subscription),
        callbacks=callbacks,
        signals=world.signals,
        settings=DeliveriesSettings(poll=timedelta(seconds=1), per_message=per_message, forbidden=-32024),
    )
    return Caller(house, deliveries)


def origin_of(receiver: Receiver) -> str:
    return receiver.url.partition("/hook")[0]


def verified(got: tuple[dict[str, str], bytes], secret: str, at: datetime) -> None:
    """By the reference implementation, as if it were now."""
    headers, body = got
    assert abs(int(headers["webhook-timestamp"]) - at.timestamp()) < 300
    stamp = datetime.fromtimestamp(int(headers["webhook-timestamp"]), tz=UTC)
    signature = Webhook(secret).sign(headers["webhook-id"], stamp, body.decode())
    assert signature in headers["webhook-signature"].split(" ")


async def forgotten(house: House) -> None:
    """All of the journal goes, as retention lets it go."""
    now = house.now
    long_ago = now - timedelta(days=10_000)
    await house.world.store.retire(
        occurrences_before=long_ago,
        attempts_before=long_ago,
        journal_before=now + timedelta(seconds=1),
        deleted_before=long_ago,
        limit=1_000,
    )
