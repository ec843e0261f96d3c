"""Waits that outlive their request."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, LiteralString
from uuid import UUID

from qhronos_core.adapters.postgres.pool import Connections, Row, Transaction
from qhronos_core.adapters.postgres.time import NOW, StoreTime
from qhronos_core.adapters.rows import as_json, inbox_query_json, inbox_query_of
from qhronos_core.domain.ids import OccurrenceId
from qhronos_core.ports import Wait, WaitState

_WAIT: Final[LiteralString] = "id, holder, query, created_at, updated_at, ends_at, state, occurrence_ids, answer"
_GET: Final[LiteralString] = f"SELECT {_WAIT} FROM waits WHERE id = %(id)s"
_ADD: Final[LiteralString] = f"""
    INSERT INTO waits ({_WAIT})
    VALUES (%(id)s, %(holder)s, %(query)s, %(created_at)s, %(updated_at)s, %(ends_at)s, %(state)s,
            %(occurrence_ids)s::uuid[], %(answer)s)
    ON CONFLICT (id) DO NOTHING
"""
_END: Final[LiteralString] = f"""
    WITH ended AS (
        UPDATE waits SET state = %(state)s, answer = %(answer)s, updated_at = {NOW}
         WHERE id = %(id)s AND state = 'working'
     RETURNING {_WAIT})
    SELECT {_WAIT} FROM ended UNION ALL SELECT {_WAIT} FROM waits WHERE id = %(id)s LIMIT 1
"""
_LOCK_HOLDER: Final = "SELECT pg_advisory_xact_lock(hashtextextended(%(holder)s, 5))"
_OTHERS: Final[LiteralString] = f"""
    SELECT count(*) FROM waits
     WHERE holder = %(holder)s AND state = 'working' AND ends_at > (SELECT {NOW}) AND id <> %(id)s
"""
# The row is locked: of two looks at one wait the second meets what the first has claimed for it.
_LOCK: Final = """
    SELECT TRUE FROM waits WHERE id = %(id)s AND state = 'working' AND occurrence_ids = '{}' FOR UPDATE
"""
_RECORD: Final = "UPDATE waits SET occurrence_ids = %(ids)s::uuid[], updated_at = %(at)s WHERE id = %(id)s"


class PostgresWaits:
    """Implements `ports.Waits`."""

    def __init__(self, connections: Connections, time: StoreTime) -> None:
        self._connections = connections
        self._time = time

    async def start(self, wait: Wait, *, most: int) -> bool:
        parameters = {
            **self._time.parameter(),
            "id": wait.id,
            "holder": wait.holder,
            "query": inbox_query_json(wait.query),
            "created_at": wait.created_at,
            "updated_at": wait.updated_at,
            "ends_at": wait.ends_at,
            "state": wait.state.value,
            "occurrence_ids": list(wait.occurrence_ids),
            "answer": None if wait.answer is None else as_json(wait.answer),
        }

        async def work(transaction: Transaction) -> bool:
            await transaction.rows(_LOCK_HOLDER, parameters)
            if (await transaction.rows(_OTHERS, parameters))[0][0] >= most:
                return False
            await transaction.send(_ADD, parameters)
            await transaction.seal()
            return True

        return await self._connections.transaction(work)

    async def get(self, wait_id: UUID) -> Wait | None:
        rows = await self._connections.rows(_GET, {"id": wait_id})
        return _wait_of(rows[0]) if rows else None

    async def end(self, wait_id: UUID, state: WaitState, *, answer: Mapping[str, Any] | None = None) -> Wait | None:
        told = None if answer is None else as_json(answer)
        parameters = {**self._time.parameter(), "id": wait_id, "state": state.value, "answer": told}
        rows = await self._connections.rows(_END, parameters)
        return _wait_of(rows[0]) if rows else None


async def may_claim(transaction: Transaction, wait_id: UUID) -> bool:
    """Whether it goes on and nothing was claimed for it yet; if so it stays locked until the transaction ends."""
    return bool(await transaction.rows(_LOCK, {"id": wait_id}))


async def record(transaction: Transaction, wait_id: UUID, ids: Sequence[OccurrenceId], at: datetime) -> None:
    await transaction.send(_RECORD, {"id": wait_id, "ids": list(ids), "at": at})


def _wait_of(row: Row) -> Wait:
    wait_id, holder, query, created_at, updated_at, ends_at, state, occurrence_ids, answer = row
    return Wait(
        wait_id,
        holder,
        inbox_query_of(query),
        created_at,
        updated_at,
        ends_at,
        WaitState(state),
        tuple(OccurrenceId(row_id) for row_id in occurrence_ids),
        None if answer is None else json.loads(answer),
    )
