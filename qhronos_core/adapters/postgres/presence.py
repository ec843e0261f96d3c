"""Who is connected where."""

from collections.abc import Iterable
from typing import Final, LiteralString

from qhronos_core.adapters.postgres.pool import Connections, Transaction
from qhronos_core.adapters.postgres.time import NOW, StoreTime
from qhronos_core.ports import PRESENT_FOR

_FORGET: Final[LiteralString] = f"""
    DELETE FROM presence WHERE node = %(node)s OR seen_at <= (SELECT {NOW}) - %(present_for)s
"""
# No client's name is empty: that row is the node itself.
_HOLD: Final[LiteralString] = f"""
    INSERT INTO presence (node, client_name, seen_at)
    SELECT %(node)s, name, (SELECT {NOW}) FROM unnest(%(names)s::text[]) AS name
        ON CONFLICT (node, client_name) DO UPDATE SET seen_at = excluded.seen_at
"""
_ELSEWHERE: Final[LiteralString] = f"""
    SELECT DISTINCT client_name FROM presence
     WHERE node <> %(node)s AND client_name <> '' AND seen_at > (SELECT {NOW}) - %(present_for)s
"""

_NODES: Final[LiteralString] = f"""
    SELECT DISTINCT node FROM presence WHERE seen_at > (SELECT {NOW}) - %(present_for)s
"""


class PostgresPresence:
    """Implements `ports.Presence`."""

    def __init__(self, connections: Connections, time: StoreTime) -> None:
        self._connections = connections
        self._time = time

    async def hold(self, node: str, names: Iterable[str]) -> None:
        parameters = {**self._time.parameter(), "node": node, "names": ["", *names], "present_for": PRESENT_FOR}

        async def work(transaction: Transaction) -> None:
            await transaction.send(_FORGET, parameters)
            await transaction.send(_HOLD, parameters)
            await transaction.seal()

        await self._connections.transaction(work)

    async def elsewhere(self, node: str) -> frozenset[str]:
        parameters = {**self._time.parameter(), "node": node, "present_for": PRESENT_FOR}
        return frozenset(name for (name,) in await self._connections.rows(_ELSEWHERE, parameters))

    async def nodes(self) -> frozenset[str]:
        parameters = {**self._time.parameter(), "present_for": PRESENT_FOR}
        return frozenset(node for (node,) in await self._connections.rows(_NODES, parameters))
