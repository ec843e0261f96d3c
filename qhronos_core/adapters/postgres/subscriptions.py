"""Webhook subscriptions of MCP Events."""

import json
from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any, Final, LiteralString

from qhronos_core.adapters.postgres.pool import Connections, Row, Transaction
from qhronos_core.adapters.postgres.time import NOW, StoreTime
from qhronos_core.adapters.rows import principal_json, principal_of
from qhronos_core.domain.announcement import Topic, wanted
from qhronos_core.domain.journal import Cursor
from qhronos_core.domain.subscription import REMEMBERED_FOR, Subscription

_COLUMNS: Final[LiteralString] = (
    "id, owner, principal, url, topic, arguments, secrets, confirmed_at, expires_at, verified_until, epoch, position, "
    "next_at, attempts, fence, lease_until, last_delivery_at, last_error, failed_since, ended_at"
)
_LIVE: Final[LiteralString] = f"ended_at IS NULL AND expires_at > (SELECT {NOW})"
_FREE: Final[LiteralString] = f"(lease_until IS NULL OR lease_until <= (SELECT {NOW}))"
_GET: Final[LiteralString] = f"SELECT {_COLUMNS} FROM subscriptions WHERE id = %(id)s"
_COUNT: Final[LiteralString] = f"SELECT count(*) FROM subscriptions WHERE owner = %(owner)s AND {_LIVE}"
_VERIFIED: Final[LiteralString] = f"""
    SELECT max(verified_until) FROM subscriptions
     WHERE owner = %(owner)s AND url = %(url)s AND ended_at IS NULL AND verified_until > (SELECT {NOW})
"""
# Two requests of one owner count one after the other.
_LOCK_OWNER: Final = "SELECT pg_advisory_xact_lock(hashtextextended(%(owner)s, 4))"
_OTHERS: Final[LiteralString] = f"{_COUNT} AND id <> %(id)s"
_PUT: Final[LiteralString] = f"""
    INSERT INTO subscriptions AS s ({_COLUMNS})
    VALUES (%(id)s, %(owner)s, %(principal)s, %(url)s, %(topic)s, %(arguments)s, %(secrets)s, %(confirmed_at)s,
            %(expires_at)s, %(verified_until)s, %(epoch)s, %(position)s, %(next_at)s, %(attempts)s, 0, %(lease_until)s,
            %(last_delivery_at)s, %(last_error)s, %(failed_since)s, %(ended_at)s)
        ON CONFLICT (id) DO UPDATE
       SET ({_COLUMNS}) = ROW (
               excluded.id, excluded.owner, excluded.principal, excluded.url, excluded.topic, excluded.arguments,
               excluded.secrets, excluded.confirmed_at, excluded.expires_at, excluded.verified_until, excluded.epoch,
               excluded.position, excluded.next_at, excluded.attempts, s.fence + 1, excluded.lease_until,
               excluded.last_delivery_at, excluded.last_error, excluded.failed_since, excluded.ended_at)
"""
_REFRESH: Final[LiteralString] = f"""
    UPDATE subscriptions
       SET principal = %(principal)s, secrets = %(secrets)s, confirmed_at = %(confirmed_at)s,
           expires_at = %(expires_at)s, verified_until = %(verified_until)s, next_at = (SELECT {NOW})
     WHERE id = %(id)s AND {_LIVE}
 RETURNING {_COLUMNS}
"""
_ADVANCE: Final[LiteralString] = f"""
    UPDATE subscriptions SET epoch = %(to_epoch)s, position = %(to)s
     WHERE id = %(id)s AND fence = %(fence)s AND position = %(position)s AND {_FREE}
 RETURNING id
"""
_END: Final[LiteralString] = f"""
    UPDATE subscriptions SET ended_at = (SELECT {NOW}), url = '', secrets = '', lease_until = NULL, fence = fence + 1
     WHERE id = %(id)s AND {_LIVE}
 RETURNING id
"""
_DUE: Final[LiteralString] = f"""
    -- served by subscriptions_due_idx (next_at) WHERE ended_at IS NULL
    SELECT {_COLUMNS} FROM subscriptions
     WHERE {_LIVE} AND next_at <= (SELECT {NOW}) AND {_FREE}
     ORDER BY next_at LIMIT %(limit)s
"""
_CLAIM: Final[LiteralString] = f"""
    UPDATE subscriptions SET lease_until = (SELECT {NOW}) + %(lease)s, fence = fence + 1
     WHERE id = %(id)s AND fence = %(fence)s AND {_LIVE} AND {_FREE}
 RETURNING {_COLUMNS}
"""
_SETTLE: Final = """
    UPDATE subscriptions
       SET epoch = %(epoch)s, position = %(position)s, next_at = %(next_at)s, attempts = %(attempts)s,
           lease_until = %(lease_until)s, last_delivery_at = %(last_delivery_at)s, last_error = %(last_error)s,
           failed_since = %(failed_since)s
     WHERE id = %(id)s AND fence = %(fence)s AND ended_at IS NULL
 RETURNING id
"""
_SWEEP: Final[LiteralString] = f"""
    WITH t AS MATERIALIZED (SELECT {NOW} AS now),
         lapsed AS (
             UPDATE subscriptions
                SET ended_at = expires_at, url = '', secrets = '', lease_until = NULL, fence = fence + 1
              WHERE ended_at IS NULL AND expires_at <= (SELECT now FROM t)
          RETURNING 1),
         gone AS (
             DELETE FROM subscriptions WHERE ended_at <= (SELECT now FROM t) - %(remembered_for)s
          RETURNING 1)
    SELECT (SELECT count(*) FROM lapsed) + (SELECT count(*) FROM gone)
"""
_PLAIN: Final = tuple(part.name for part in fields(Subscription) if part.name not in {"principal", "wanted", "cursor"})


class PostgresSubscriptions:
    """Implements `ports.Subscriptions`."""

    def __init__(self, connections: Connections, time: StoreTime) -> None:
        self._connections = connections
        self._time = time

    async def get(self, subscription_id: str) -> Subscription | None:
        return _one(await self._connections.rows(_GET, {"id": subscription_id}))

    async def count_live(self, owner: str) -> int:
        return int((await self._rows(_COUNT, owner=owner))[0][0])

    async def verified(self, owner: str, url: str) -> datetime | None:
        until: datetime | None = (await self._rows(_VERIFIED, owner=owner, url=url))[0][0]
        return until

    async def start(self, subscription: Subscription, *, most: int) -> bool:
        parameters = {**self._time.parameter(), **_parameters(subscription)}

        async def work(transaction: Transaction) -> bool:
            await transaction.rows(_LOCK_OWNER, parameters)
            if (await transaction.rows(_OTHERS, parameters))[0][0] >= most:
                return False
            await transaction.send(_PUT, parameters)
            await transaction.seal()
            return True

        return await self._connections.transaction(work)

    async def refresh(self, subscription: Subscription) -> Subscription | None:
        return _one(await self._rows(_REFRESH, **_parameters(subscription)))

    async def advance(self, subscription: Subscription, cursor: Cursor) -> None:
        await self._rows(_ADVANCE, **_parameters(subscription), to_epoch=cursor.epoch, to=cursor.position)

    async def end(self, subscription_id: str) -> bool:
        return bool(await self._rows(_END, id=subscription_id))

    async def due(self, limit: int) -> Sequence[Subscription]:
        return [_subscription(row) for row in await self._rows(_DUE, limit=limit)]

    async def claim(self, subscription: Subscription, lease: timedelta) -> Subscription | None:
        return _one(await self._rows(_CLAIM, id=subscription.id, fence=subscription.fence, lease=lease))

    async def settle(self, subscription: Subscription) -> bool:
        return bool(await self._rows(_SETTLE, **_parameters(subscription)))

    async def sweep(self) -> int:
        return int((await self._rows(_SWEEP, remembered_for=REMEMBERED_FOR))[0][0])

    async def _rows(self, statement: LiteralString, **parameters: Any) -> Sequence[Row]:
        return await self._connections.rows(statement, {**self._time.parameter(), **parameters})


def _one(rows: Sequence[Row]) -> Subscription | None:
    return _subscription(rows[0]) if rows else None


def _subscription(row: Row) -> Subscription:
    return Subscription(
        id=row[0],
        owner=row[1],
        principal=principal_of(row[2]),
        url=row[3],
        wanted=wanted(Topic(row[4]), json.loads(row[5])),
        secrets=bytes(row[6]),
        confirmed_at=row[7],
        expires_at=row[8],
        verified_until=row[9],
        cursor=Cursor(row[10], row[11]),
        next_at=row[12],
        attempts=row[13],
        fence=row[14],
        lease_until=row[15],
        last_delivery_at=row[16],
        last_error=row[17],
        failed_since=row[18],
        ended_at=row[19],
    )


def _parameters(subscription: Subscription) -> dict[str, Any]:
    return {
        **{name: getattr(subscription, name) for name in _PLAIN},
        "principal": principal_json(subscription.principal),
        "topic": subscription.wanted.topic.value,
        "arguments": subscription.wanted.arguments,
        "epoch": subscription.cursor.epoch,
        "position": subscription.cursor.position,
    }
