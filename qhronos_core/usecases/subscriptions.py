"""Webhook subscriptions of MCP Events: made, refreshed and ended by the principal that holds them."""

import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from qhronos_core.domain.access import Principal
from qhronos_core.domain.announcement import Topic, wanted
from qhronos_core.domain.errors import ConflictError, InvalidInputError, LimitedError, NotFoundError
from qhronos_core.domain.journal import Cursor
from qhronos_core.domain.subscription import (
    VERIFIED_FOR,
    Subscription,
    SubscriptionSecrets,
    granted,
    json_of,
    owner_of,
    read_secret,
    signed_headers,
    subscription_id,
)
from qhronos_core.ports import Callbacks, Limits, RateLimit, SealedIn, Signals, Stirred, Store, Vault
from qhronos_core.usecases.announcements import Announcements, NoSuchTopicError

CHALLENGE_WITHIN: Final = 8.0  # seconds
_CHALLENGES: Final = RateLimit(per_minute=60, burst=20)  # at one host, whoever asks


class NoSubscriptionError(NotFoundError):
    code = "subscription_not_found"

    def __init__(self) -> None:
        super().__init__("You hold no subscription to this type, with these arguments, at this URL.")


class TooManySubscriptionsError(ConflictError):
    code = "too_many_subscriptions"

    def __init__(self, most: int) -> None:
        self.most = most
        super().__init__(f"At most {most} subscriptions may be live at once. Unsubscribe from one first.")


class EndpointError(ConflictError):
    """`reason`: connection_refused, timeout, tls_error or challenge_failed; never a word of what the endpoint said."""

    code = "callback_endpoint"

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"The callback endpoint did not prove itself: {reason}.")


@dataclass(frozen=True, slots=True)
class Asked:
    """`events/subscribe`, as far as it has the right form. `max_age` counts only with a cursor."""

    name: str
    arguments: Mapping[str, Any]
    url: str
    secret: object
    cursor: str | None = None
    max_age: timedelta | None = None
    ttl: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Granted:
    subscription: Subscription
    truncated: bool
    refreshed: bool


class SubscriptionCases:
    def __init__(
        self,
        store: Store,
        signals: Signals,
        *,
        vault: Vault,
        callbacks: Callbacks,
        limits: Limits,
        nonce: Callable[[], str],
        ttl: timedelta,
        most: int,
    ) -> None:
        self._store = store
        self._signals = signals
        self._announcements = Announcements(store)
        self._vault = vault
        self._callbacks = callbacks
        self._limits = limits
        self._nonce = nonce
        self._ttl = ttl
        self._most = most

    async def subscribe(self, asked: Asked, *, caller: Principal) -> Granted:
        """Make it, or refresh the live one of the same key: new secret, new grant, the same position.

        An endpoint this principal has not used within a day is challenged first.

        Raises:
            InvalidInputError, NoSuchTopicError, EventNotFoundError, ForbiddenError: what is asked for cannot be had.
            TooManySubscriptionsError: nothing was made, nobody called.
            EndpointError: the endpoint did not echo the challenge.
            LimitedError: its host is being challenged too often.
        """
        subject = await self._announcements.admit(asked.name, asked.arguments, caller=caller)
        secret = read_secret(asked.secret)
        if (why := self._callbacks.refusal(asked.url)) is not None:
            raise InvalidInputError.of("delivery.url", why)
        owner = owner_of(caller)
        key = subscription_id(owner, asked.url, subject)
        now = await self._store.now()
        there = await self._store.subscriptions.get(key)
        live = there is not None and there.live(now)
        if not live and await self._store.subscriptions.count_live(owner) >= self._most:
            raise TooManySubscriptionsError(self._most)
        begin, truncated = await self._begin(asked, caller)
        verified_until = await self._store.subscriptions.verified(owner, asked.url)
        if verified_until is None:
            await self._challenge(asked.url, secret, key)
            now = await self._store.now()
            verified_until = now + VERIFIED_FOR
        subscription = Subscription(
            id=key,
            owner=owner,
            principal=caller,
            url=asked.url,
            wanted=subject,
            secrets=b"",
            confirmed_at=now,
            expires_at=granted(asked.ttl, self._ttl, caller, now),
            verified_until=verified_until,
            cursor=begin,
            next_at=now,
        )
        if there is not None and live:
            secrets = self._opened(there).replaced_by(secret, now)
            refreshed = await self._store.subscriptions.refresh(self._sealed(subscription, secrets))
            if refreshed is not None:
                refreshed = await self._watermark(refreshed)
                await self._signals.announce(Stirred())
                return Granted(refreshed, False, True)
        if not await self._store.subscriptions.start(
            self._sealed(subscription, SubscriptionSecrets(secret)), most=self._most
        ):
            raise TooManySubscriptionsError(self._most)
        await self._signals.announce(Stirred())
        return Granted(subscription, truncated, False)

    async def unsubscribe(self, name: str, arguments: Mapping[str, Any], url: str, *, caller: Principal) -> None:
        """End it. Said again within a day, or of one that has lapsed meanwhile, it is as well.

        Raises:
            NoSubscriptionError: a key that this principal has not held.
        """
        try:
            topic = Topic(name)
        except ValueError:
            raise NoSuchTopicError() from None
        key = subscription_id(owner_of(caller), url, wanted(topic, arguments))
        if not await self._store.subscriptions.end(key) and await self._store.subscriptions.get(key) is None:
            raise NoSubscriptionError()

    async def _begin(self, asked: Asked, caller: Principal) -> tuple[Cursor, bool]:
        begin, truncated = await self._announcements.begin(asked.cursor)
        if asked.cursor is None or asked.max_age is None:
            return begin, truncated
        subject = await self._announcements.admit(asked.name, asked.arguments, caller=caller)
        batch = await self._announcements.after(begin, subject, caller=caller, limit=1, max_age=asked.max_age)
        if not batch.skipped:
            return begin, truncated
        return (batch.announcements[0].before if batch.announcements else batch.cursor), True

    async def _watermark(self, subscription: Subscription) -> Subscription:
        """The position moves in quiet times too: past everything that is not for this subscription."""
        batch = await self._announcements.after(
            subscription.cursor, subscription.wanted, caller=subscription.principal, limit=1
        )
        cursor = batch.announcements[0].before if batch.announcements else batch.cursor
        if subscription.lease_until is not None or cursor.position <= subscription.cursor.position:
            return subscription
        await self._store.subscriptions.advance(subscription, cursor)
        return replace(subscription, cursor=cursor)

    async def _challenge(self, url: str, secret: str, key: str) -> None:
        verdict = await self._limits.take(f"challenge:{self._callbacks.host_of(url)}", _CHALLENGES)
        if not verdict.allowed:
            raise LimitedError(verdict.retry_after)
        nonce, now = self._nonce(), await self._store.now()
        body = json_of({"type": "verification", "challenge": nonce})
        headers = signed_headers(
            body,
            message=f"msg_verification_{self._nonce()}",
            subscription=key,
            keys=SubscriptionSecrets(secret).keys(now),
            now=now,
        )
        called = await self._callbacks.post(url, headers=headers, body=body, deadline=CHALLENGE_WITHIN)
        if called.error is not None:
            raise EndpointError(called.error)
        if called.status is None or not 200 <= called.status <= 299 or not _echoes(called.body, nonce):
            raise EndpointError("challenge_failed")

    def _sealed(self, subscription: Subscription, secrets: SubscriptionSecrets) -> Subscription:
        plain = json.dumps([secrets.secret, [[old, until.isoformat()] for old, until in secrets.retired]])
        context = SealedIn.SUBSCRIPTIONS.context(subscription.id)
        return replace(subscription, secrets=self._vault.seal(plain.encode(), context=context))

    def _opened(self, subscription: Subscription) -> SubscriptionSecrets:
        return opened(self._vault, subscription)


def opened(vault: Vault, subscription: Subscription) -> SubscriptionSecrets:
    """Raises VaultError: sealed under a key that is not kept."""
    context = SealedIn.SUBSCRIPTIONS.context(subscription.id)
    secret, retired = json.loads(vault.open(subscription.secrets, context=context))
    return SubscriptionSecrets(secret, tuple((old, datetime.fromisoformat(until)) for old, until in retired))


def _echoes(body: bytes, nonce: str) -> bool:
    try:
        told = json.loads(body)
    except ValueError:
        return False
    said = told.get("challenge") if isinstance(told, dict) else None
    return isinstance(said, str) and hmac.compare_digest(said.encode(), nonce.encode())
