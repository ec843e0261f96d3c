"""A webhook subscription of MCP Events: its key, what it was granted, and the message that carries one announcement."""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from qhronos_core.domain.access import Principal
from qhronos_core.domain.announcement import Announcement, Wanted
from qhronos_core.domain.errors import InvalidInputError
from qhronos_core.domain.journal import Cursor
from qhronos_core.domain.signature import SECRET_PREFIX, key_of, sign

TTL_LEAST: Final = timedelta(minutes=5)
TTL_MOST: Final = timedelta(days=7)
GRACE: Final = timedelta(minutes=10)  # how long a replaced secret signs beside the new one
SIGN_ALONG: Final = 4  # replaced secrets at most, the latest: each is a signature in one header line
VERIFIED_FOR: Final = timedelta(hours=24)
REMEMBERED_FOR: Final = timedelta(days=1)  # a key that was held is known for so long after its end
ATTEMPTS: Final = 5
# After the first failure soon: a receiver may still be storing the answer to its own subscribe.
RETRY_AFTER: Final = (timedelta(seconds=1), timedelta(seconds=20), timedelta(minutes=2), timedelta(minutes=9))
NEVER_AGAIN: Final = frozenset({410, 413})  # statuses after which this one delivery is given up
_SECRET_BYTES: Final = range(24, 65)


@dataclass(frozen=True, slots=True)
class SubscriptionSecrets:
    """What is sealed. `retired`: replaced secrets and until when they sign too."""

    secret: str
    retired: tuple[tuple[str, datetime], ...] = ()

    def __repr__(self) -> str:
        return "SubscriptionSecrets(***)"

    def replaced_by(self, secret: str, now: datetime) -> "SubscriptionSecrets":
        kept = tuple((old, until) for old, until in self.retired if until > now and not _same(old, secret))
        if _same(secret, self.secret):
            return SubscriptionSecrets(secret, kept)
        return SubscriptionSecrets(secret, (*kept, (self.secret, now + GRACE))[-SIGN_ALONG:])

    def keys(self, now: datetime) -> list[bytes]:
        """The present key first."""
        return [key_of(self.secret), *(key_of(old) for old, until in reversed(self.retired) if until > now)]


@dataclass(frozen=True, slots=True)
class Subscription:
    """A row. `cursor`: all up to it was accepted or given up. `confirmed_at`: when its token was last shown.

    Once it has ended it is a tombstone: `url` and `secrets` are gone.
    """

    id: str
    owner: str
    principal: Principal
    url: str
    wanted: Wanted
    secrets: bytes = field(repr=False)
    confirmed_at: datetime
    expires_at: datetime
    verified_until: datetime
    cursor: Cursor
    next_at: datetime
    attempts: int = 0
    fence: int = 0
    lease_until: datetime | None = None
    last_delivery_at: datetime | None = None
    last_error: str | None = None
    failed_since: datetime | None = None
    ended_at: datetime | None = None

    def live(self, now: datetime) -> bool:
        return self.ended_at is None and self.expires_at > now


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def owner_of(principal: Principal) -> str:
    """The same for every token of one (sub, access, scope): a host that renews its token keeps its subscriptions."""
    told = [principal.master, principal.sub, principal.access.value, sorted(principal.scope)]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def subscription_id(owner: str, url: str, wanted: Wanted) -> str:
    """Derived from the key, so the same after every refresh and restart. Names a subscription; opens nothing."""
    told = json.dumps([owner, url, wanted.topic.value, wanted.arguments], ensure_ascii=False)
    return "sub_" + hashlib.sha256(told.encode()).hexdigest()[:32]


def read_secret(given: object) -> str:
    """A client's signing secret: `whsec_` and base64 of 24 to 64 bytes, padded or not.

    Raises:
        InvalidInputError: something else.
    """
    wrong = InvalidInputError.of("delivery.secret", "A secret is whsec_ and base64 of 24 to 64 bytes.")
    if not isinstance(given, str) or not given.startswith(SECRET_PREFIX):
        raise wrong
    try:
        if len(key_of(given)) in _SECRET_BYTES:
            return given
    except InvalidInputError:
        pass
    raise wrong


def granted(asked: timedelta | None, default: timedelta, principal: Principal, now: datetime) -> datetime:
    """Until when: as asked within the bounds, and never beyond the life of the token that asks."""
    length = min(max(asked if asked is not None else default, TTL_LEAST), TTL_MOST)
    until = now + length
    if principal.expires_at is not None:
        until = min(until, datetime.fromtimestamp(principal.expires_at, tz=now.tzinfo))
    return until


# --- the message ------------------------------------------------------------------------------------


def json_of(told: Mapping[str, Any]) -> bytes:
    return json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()


def message_id(subscription: str, told: Announcement, *, per_message: bool) -> str:
    """The event's own id, or one per subscription and event; the same on every attempt either way."""
    if not per_message:
        return told.event_id
    digest = hashlib.sha256(f"{subscription} {told.event_id}".encode()).digest()
    return "msg_" + base64.urlsafe_b64encode(digest[:18]).decode()


def signed_headers(
    body: bytes, *, message: str, subscription: str, keys: Sequence[bytes], now: datetime
) -> dict[str, str]:
    timestamp = int(now.timestamp())
    return {
        "Content-Type": "application/json",
        "User-Agent": "Qhronos",
        "webhook-id": message,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(body, keys=keys, message_id=message, timestamp=timestamp),
        "X-MCP-Subscription-Id": subscription,
    }
