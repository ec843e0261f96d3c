"""Everything the store keeps sealed, as bytes: for sealing it anew with another key."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, LiteralString

from qhronos_core.adapters.postgres.pool import Connections, Transaction
from qhronos_core.adapters.postgres.rows import document
from qhronos_core.ports import SealedIn, SealedValue


@dataclass(frozen=True, slots=True)
class _Statements:
    heads: LiteralString
    without: LiteralString
    replace: LiteralString


def _of(table: LiteralString, first: LiteralString, kind: LiteralString) -> _Statements:
    return _Statements(
        heads=f"""
            SELECT substring(secrets FOR %(length)s), count(*) FROM {table} WHERE octet_length(secrets) > 0 GROUP BY 1
        """,
        without=f"""
            SELECT id::text, secrets FROM {table}
             WHERE id > coalesce(%(after)s::{kind}, {first}) AND octet_length(secrets) > 0
               AND substring(secrets FOR octet_length(%(head)s::bytea)) <> %(head)s::bytea
             ORDER BY id LIMIT %(limit)s
        """,
        replace=f"""
            UPDATE {table} AS t SET secrets = decode(v.sealed, 'hex')
              FROM json_to_recordset(%(values)s) AS v (id {kind}, was text, sealed text)
             WHERE t.id = v.id AND t.secrets = decode(v.was, 'hex')
         RETURNING t.id
        """,
    )


_STATEMENTS: Final[Mapping[SealedIn, _Statements]] = {
    SealedIn.EVENTS: _of("events", "'00000000-0000-0000-0000-000000000000'", "uuid"),
    SealedIn.SUBSCRIPTIONS: _of("subscriptions", "''", "text"),
}


class PostgresSealedValues:
    """Implements `ports.SealedValues`."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def heads(self, length: int) -> Mapping[bytes, int]:
        counted: Counter[bytes] = Counter()
        for statements in _STATEMENTS.values():
            rows = await self._connections.rows(statements.heads, {"length": length})
            counted.update({bytes(head): count for head, count in rows})
        return counted

    async def without(self, head: bytes, *, after: SealedValue | None, limit: int) -> Sequence[SealedValue]:
        found: list[SealedValue] = []
        passed = after is None
        for table, statements in _STATEMENTS.items():
            here = after is not None and after.table is table
            passed = passed or here
            if not passed:
                continue
            begin = after.row if after is not None and here else None
            parameters = {"after": begin, "head": head, "limit": limit - len(found)}
            rows = await self._connections.rows(statements.without, parameters)
            found += [SealedValue(table, row, bytes(sealed)) for row, sealed in rows]
        return found

    async def replace(self, values: Sequence[tuple[SealedValue, bytes]]) -> int:
        async def work(transaction: Transaction) -> int:
            cursors = []
            for table, statements in _STATEMENTS.items():
                rows = [
                    {"id": was.row, "was": was.sealed.hex(), "sealed": sealed.hex()}
                    for was, sealed in values
                    if was.table is table
                ]
                if rows:
                    cursors.append(await transaction.send(statements.replace, {"values": document(rows)}))
            await transaction.seal()
            return sum([len(await cursor.fetchall()) for cursor in cursors])

        return await self._connections.transaction(work)
