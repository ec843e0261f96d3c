"""Everything the store keeps sealed, as bytes: for sealing it anew with another key."""

import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from qhronos_core.adapters.sqlite.threads import Readers, Writer
from qhronos_core.ports import SealedIn, SealedValue

_HEADS: Final = "SELECT substr(secrets, 1, ?), count(*) FROM {} WHERE length(secrets) > 0 GROUP BY 1"
_WITHOUT: Final = """
    SELECT id, secrets FROM {}
     WHERE id > ? AND length(secrets) > 0 AND substr(secrets, 1, ?) <> ?
     ORDER BY id LIMIT ?
"""
_REPLACE: Final = "UPDATE {} SET secrets = ? WHERE id = ? AND secrets = ?"
_FIRST: Final[Mapping[SealedIn, Any]] = {SealedIn.EVENTS: b"", SealedIn.SUBSCRIPTIONS: ""}


class SqliteSealedValues:
    """Implements `ports.SealedValues`."""

    def __init__(self, readers: Readers, writer: Writer) -> None:
        self._readers = readers
        self._writer = writer

    async def heads(self, length: int) -> Mapping[bytes, int]:
        def work(connection: sqlite3.Connection) -> Mapping[bytes, int]:
            counted: Counter[bytes] = Counter()
            for table in SealedIn:
                counted.update(dict(connection.execute(_HEADS.format(table), (length,)).fetchall()))
            return counted

        return await self._readers.read(work)

    async def without(self, head: bytes, *, after: SealedValue | None, limit: int) -> Sequence[SealedValue]:
        def work(connection: sqlite3.Connection) -> Sequence[SealedValue]:
            found: list[SealedValue] = []
            for table in SealedIn:
                if after is not None and list(SealedIn).index(table) < list(SealedIn).index(after.table):
                    continue
                begin = _raw(after) if after is not None and after.table is table else _FIRST[table]
                given = (begin, len(head), head, limit - len(found))
                rows = connection.execute(_WITHOUT.format(table), given).fetchall()
                found += [SealedValue(table, _told(row), sealed) for row, sealed in rows]
            return found

        return await self._readers.read(work)

    async def replace(self, values: Sequence[tuple[SealedValue, bytes]]) -> int:
        def work(connection: sqlite3.Connection) -> int:
            return sum(
                connection.execute(_REPLACE.format(was.table), (sealed, _raw(was), was.sealed)).rowcount
                for was, sealed in values
            )

        return await self._writer.write(work)


def _told(row: bytes | str) -> str:
    return row if isinstance(row, str) else str(UUID(bytes=row))


def _raw(value: SealedValue) -> bytes | str:
    return UUID(value.row).bytes if value.table is SealedIn.EVENTS else value.row
