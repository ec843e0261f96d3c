"""Who is connected where."""

import sqlite3
from collections.abc import Iterable

from qhronos_core.adapters.sqlite.threads import Readers, Writer
from qhronos_core.domain.ids import microseconds
from qhronos_core.ports import PRESENT_FOR, Clock


class SqlitePresence:
    """Implements `ports.Presence`."""

    def __init__(self, readers: Readers, writer: Writer, clock: Clock) -> None:
        self._readers = readers
        self._writer = writer
        self._clock = clock

    async def hold(self, node: str, names: Iterable[str]) -> None:
        held = ["", *names]  # no client's name is empty: that row is the node itself

        def work(connection: sqlite3.Connection) -> None:
            now = self._clock.now()
            stale = microseconds(now - PRESENT_FOR)
            connection.execute("DELETE FROM presence WHERE node = ? OR seen_at <= ?", (node, stale))
            connection.executemany(
                "INSERT INTO presence (node, client_name, seen_at) VALUES (?, ?, ?)",
                [(node, name, microseconds(now)) for name in held],
            )

        await self._writer.write(work)

    async def elsewhere(self, node: str) -> frozenset[str]:
        sql = "SELECT DISTINCT client_name FROM presence WHERE node <> ? AND client_name <> '' AND seen_at > ?"
        since = microseconds(self._clock.now() - PRESENT_FOR)
        rows = await self._readers.read(lambda connection: connection.execute(sql, (node, since)).fetchall())
        return frozenset(name for (name,) in rows)

    async def nodes(self) -> frozenset[str]:
        sql = "SELECT DISTINCT node FROM presence WHERE seen_at > ?"
        since = microseconds(self._clock.now() - PRESENT_FOR)
        rows = await self._readers.read(lambda connection: connection.execute(sql, (since,)).fetchall())
        return frozenset(node for (node,) in rows)
