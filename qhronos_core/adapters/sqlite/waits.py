"""Waits that outlive their request."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from qhronos_core.adapters.rows import as_json, inbox_query_json, inbox_query_of, texts_of
from qhronos_core.adapters.sqlite.rows import at
from qhronos_core.adapters.sqlite.statements import columns, marks
from qhronos_core.adapters.sqlite.threads import Readers, Writer
from qhronos_core.domain.ids import OccurrenceId, microseconds
from qhronos_core.ports import Clock, Wait, WaitState

_NAMES: Final = (
    "id",
    "holder",
    "query",
    "created_at",
    "updated_at",
    "ends_at",
    "state",
    "occurrence_ids",
    "answer",
)
_READ: Final = f"SELECT {columns(_NAMES)} FROM waits WHERE id = ?"
_GOING: Final = "SELECT count(*) FROM waits WHERE holder = ? AND state = 'working' AND ends_at > ?"
_ADD: Final = f"INSERT INTO waits ({columns(_NAMES)}) VALUES ({marks(len(_NAMES))})"
_END: Final = "UPDATE waits SET state = ?, answer = ?, updated_at = ? WHERE id = ? AND state = 'working'"


class SqliteWaits:
    """Implements `ports.Waits`."""

    def __init__(self, readers: Readers, writer: Writer, clock: Clock) -> None:
        self._readers = readers
        self._writer = writer
        self._clock = clock

    async def start(self, wait: Wait, *, most: int) -> bool:
        def work(connection: sqlite3.Connection) -> bool:
            (going,) = connection.execute(_GOING, (wait.holder, microseconds(self._clock.now()))).fetchone()
            if going >= most:
                return False
            connection.execute(_ADD, _row(wait))
            return True

        return await self._writer.write(work)

    async def get(self, wait_id: UUID) -> Wait | None:
        return await self._readers.read(lambda connection: _read(connection, wait_id))

    async def end(self, wait_id: UUID, state: WaitState, *, answer: Mapping[str, Any] | None = None) -> Wait | None:
        told = None if answer is None else as_json(answer)

        def work(connection: sqlite3.Connection) -> Wait | None:
            connection.execute(_END, (state.value, told, microseconds(self._clock.now()), wait_id.bytes))
            return _read(connection, wait_id)

        return await self._writer.write(work)


def may_claim(connection: sqlite3.Connection, wait_id: UUID) -> bool:
    """Whether it goes on and nothing was claimed for it yet. Asked under the write lock."""
    wait = _read(connection, wait_id)
    return wait is not None and wait.state is WaitState.WORKING and not wait.occurrence_ids


def record(connection: sqlite3.Connection, wait_id: UUID, ids: Sequence[OccurrenceId], now: datetime) -> None:
    connection.execute(
        "UPDATE waits SET occurrence_ids = ?, updated_at = ? WHERE id = ?",
        (as_json([str(row) for row in ids]), microseconds(now), wait_id.bytes),
    )


def _read(connection: sqlite3.Connection, wait_id: UUID) -> Wait | None:
    row = connection.execute(_READ, (wait_id.bytes,)).fetchone()
    if row is None:
        return None
    return Wait(
        UUID(bytes=row[0]),
        row[1],
        inbox_query_of(row[2]),
        at(row[3]),
        at(row[4]),
        at(row[5]),
        WaitState(row[6]),
        tuple(OccurrenceId(UUID(text)) for text in texts_of(row[7])),
        None if row[8] is None else json.loads(row[8]),
    )


def _row(wait: Wait) -> tuple[Any, ...]:
    return (
        wait.id.bytes,
        wait.holder,
        inbox_query_json(wait.query),
        microseconds(wait.created_at),
        microseconds(wait.updated_at),
        microseconds(wait.ends_at),
        wait.state.value,
        as_json([str(row) for row in wait.occurrence_ids]),
        None if wait.answer is None else as_json(wait.answer),
    )
