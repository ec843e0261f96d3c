"""Webhook subscriptions of MCP Events."""

import json
import sqlite3
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from qhronos_core.adapters.rows import principal_json, principal_of
from qhronos_core.adapters.sqlite.rows import at
from qhronos_core.adapters.sqlite.statements import columns, marks
from qhronos_core.adapters.sqlite.threads import Readers, Writer
from qhronos_core.domain.announcement import Topic, wanted
from qhronos_core.domain.ids import microseconds
from qhronos_core.domain.journal import Cursor
from qhronos_core.domain.subscription import REMEMBERED_FOR, Subscription
from qhronos_core.ports import Clock

_NAMES: Final = (
    "id",
    "owner",
    "principal",
    "url",
    "topic",
    "arguments",
    "secrets",
    "confirmed_at",
    "expires_at",
    "verified_until",
    "epoch",
    "position",
    "next_at",
    "attempts",
    "fence",
    "lease_until",
    "last_delivery_at",
    "last_error",
    "failed_since",
    "ended_at",
)
_READ: Final = f"SELECT {columns(_NAMES)} FROM subscriptions WHERE id = ?"
_PUT: Final = f"INSERT OR REPLACE INTO subscriptions ({columns(_NAMES)}) VALUES ({marks(len(_NAMES))})"
_COUNT: Final = "SELECT count(*) FROM subscriptions WHERE owner = ? AND ended_at IS NULL AND expires_at > ?"
_VERIFIED: Final = """
    SELECT max(verified_until) FROM subscriptions WHERE owner = ? AND url = ? AND ended_at IS NULL AND verified_until > ?
"""
_REFRESH: Final = """
    UPDATE subscriptions
       SET principal = ?, secrets = ?, confirmed_at = ?, expires_at = ?, verified_until = ?, next_at = ?
     WHERE id = ? AND ended_at IS NULL AND expires_at > ?
"""
_ADVANCE: Final = """
    UPDATE subscriptions SET epoch = ?, position = ?
     WHERE id = ? AND fence = ? AND position = ? AND (lease_until IS NULL OR lease_until <= ?)
"""
_END: Final = """
    UPDATE subscriptions SET ended_at = ?, url = '', secrets = x'', lease_until = NULL, fence = fence + 1
     WHERE id = ? AND ended_at IS NULL AND expires_at > ?
"""
_DUE: Final = f"""
    -- served by subscriptions_due_idx (next_at) WHERE ended_at IS NULL
    SELECT {columns(_NAMES)} FROM subscriptions
     WHERE ended_at IS NULL AND next_at <= ? AND expires_at > ? AND (lease_until IS NULL OR lease_until <= ?)
     ORDER BY next_at LIMIT ?
"""
_CLAIM: Final = """
    UPDATE subscriptions SET lease_until = ?, fence = fence + 1
     WHERE id = ? AND fence = ? AND ended_at IS NULL AND expires_at > ? AND (lease_until IS NULL OR lease_until <= ?)
"""
_SETTLE: Final = """
    UPDATE subscriptions
       SET epoch = ?, position = ?, next_at = ?, attempts = ?, lease_until = ?, last_delivery_at = ?, last_error = ?,
           failed_since = ?
     WHERE id = ? AND fence = ? AND ended_at IS NULL
"""
_LAPSE: Final = """
    UPDATE subscriptions SET ended_at = expires_at, url = '', secrets = x'', lease_until = NULL, fence = fence + 1
     WHERE ended_at IS NULL AND expires_at <= ?
"""


class SqliteSubscriptions:
    """Implements `ports.Subscriptions`."""

    def __init__(self, readers: Readers, writer: Writer, clock: Clock) -> None:
        self._readers = readers
        self._writer = writer
        self._clock = clock

    async def get(self, subscription_id: str) -> Subscription | None:
        return await self._readers.read(lambda connection: _read(connection, subscription_id))

    async def count_live(self, owner: str) -> int:
        now = microseconds(self._clock.now())
        return int(await self._readers.read(lambda connection: connection.execute(_COUNT, (owner, now)).fetchone()[0]))

    async def verified(self, owner: str, url: str) -> datetime | None:
        given = (owner, url, microseconds(self._clock.now()))
        until = await self._readers.read(lambda connection: connection.execute(_VERIFIED, given).fetchone()[0])
        return None if until is None else at(until)

    async def start(self, subscription: Subscription, *, most: int) -> bool:
        def work(connection: sqlite3.Connection) -> bool:
            now = self._clock.now()
            there = _read(connection, subscription.id)
            others = connection.execute(_COUNT, (subscription.owner, microseconds(now))).fetchone()[0]
            if others - (there is not None and there.live(now)) >= most:
                return False
            fence = 0 if there is None else there.fence + 1
            connection.execute(_PUT, _row(subscription, fence))
            return True

        return await self._writer.write(work)

    async def refresh(self, subscription: Subscription) -> Subscription | None:
        def work(connection: sqlite3.Connection) -> Subscription | None:
            now = microseconds(self._clock.now())
            given = (
                principal_json(subscription.principal),
                subscription.secrets,
                microseconds(subscription.confirmed_at),
                microseconds(subscription.expires_at),
                microseconds(subscription.verified_until),
                now,
                subscription.id,
                now,
            )
            if connection.execute(_REFRESH, given).rowcount == 0:
                return None
            return _read(connection, subscription.id)

        return await self._writer.write(work)

    async def advance(self, subscription: Subscription, cursor: Cursor) -> None:
        given = (
            cursor.epoch.bytes,
            cursor.position,
            subscription.id,
            subscription.fence,
            subscription.cursor.position,
            microseconds(self._clock.now()),
        )
        await self._writer.write(lambda connection: connection.execute(_ADVANCE, given).rowcount)

    async def end(self, subscription_id: str) -> bool:
        now = microseconds(self._clock.now())
        return await self._writer.write(
            lambda connection: connection.execute(_END, (now, subscription_id, now)).rowcount == 1
        )

    async def due(self, limit: int) -> Sequence[Subscription]:
        now = microseconds(self._clock.now())
        rows = await self._readers.read(lambda connection: connection.execute(_DUE, (now, now, now, limit)).fetchall())
        return [_subscription(row) for row in rows]

    async def claim(self, subscription: Subscription, lease: timedelta) -> Subscription | None:
        def work(connection: sqlite3.Connection) -> Subscription | None:
            now = self._clock.now()
            until, this = microseconds(now + lease), microseconds(now)
            given = (until, subscription.id, subscription.fence, this, this)
            if connection.execute(_CLAIM, given).rowcount == 0:
                return None
            return _read(connection, subscription.id)

        return await self._writer.write(work)

    async def settle(self, subscription: Subscription) -> bool:
        given = (
            subscription.cursor.epoch.bytes,
            subscription.cursor.position,
            microseconds(subscription.next_at),
            subscription.attempts,
            _stamp(subscription.lease_until),
            _stamp(subscription.last_delivery_at),
            subscription.last_error,
            _stamp(subscription.failed_since),
            subscription.id,
            subscription.fence,
        )
        return await self._writer.write(lambda connection: connection.execute(_SETTLE, given).rowcount == 1)

    async def sweep(self) -> int:
        now = self._clock.now()
        this, before = microseconds(now), microseconds(now - REMEMBERED_FOR)
        there = "SELECT 1 FROM subscriptions WHERE (ended_at IS NULL AND expires_at <= ?) OR ended_at <= ? LIMIT 1"
        if not await self._readers.read(lambda connection: connection.execute(there, (this, before)).fetchone()):
            return 0

        def work(connection: sqlite3.Connection) -> int:
            lapsed = connection.execute(_LAPSE, (this,)).rowcount
            return lapsed + connection.execute("DELETE FROM subscriptions WHERE ended_at <= ?", (before,)).rowcount

        return await self._writer.write(work)


def _read(connection: sqlite3.Connection, subscription_id: str) -> Subscription | None:
    row = connection.execute(_READ, (subscription_id,)).fetchone()
    return None if row is None else _subscription(row)


def _subscription(row: Sequence[Any]) -> Subscription:
    return Subscription(
        id=row[0],
        owner=row[1],
        principal=principal_of(row[2]),
        url=row[3],
        wanted=wanted(Topic(row[4]), json.loads(row[5])),
        secrets=row[6],
        confirmed_at=at(row[7]),
        expires_at=at(row[8]),
        verified_until=at(row[9]),
        cursor=Cursor(UUID(bytes=row[10]), row[11]),
        next_at=at(row[12]),
        attempts=row[13],
        fence=row[14],
        lease_until=_at(row[15]),
        last_delivery_at=_at(row[16]),
        last_error=row[17],
        failed_since=_at(row[18]),
        ended_at=_at(row[19]),
    )


def _row(subscription: Subscription, fence: int) -> tuple[Any, ...]:
    return (
        subscription.id,
        subscription.owner,
        principal_json(subscription.principal),
        subscription.url,
        subscription.wanted.topic.value,
        subscription.wanted.arguments,
        subscription.secrets,
        microseconds(subscription.confirmed_at),
        microseconds(subscription.expires_at),
        microseconds(subscription.verified_until),
        subscription.cursor.epoch.bytes,
        subscription.cursor.position,
        microseconds(subscription.next_at),
        subscription.attempts,
        fence,
        _stamp(subscription.lease_until),
        _stamp(subscription.last_delivery_at),
        subscription.last_error,
        _stamp(subscription.failed_since),
        _stamp(subscription.ended_at),
    )


def _at(stamp: int | None) -> datetime | None:
    return None if stamp is None else at(stamp)


def _stamp(instant: datetime | None) -> int | None:
    return None if instant is None else microseconds(instant)
