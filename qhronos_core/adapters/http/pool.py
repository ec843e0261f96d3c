"""Connections between requests: kept for the next one, counted by address, and all cut at the end."""

import asyncio
from typing import Final

from qhronos_core.adapters.http.http1 import Connection, EgressFailure, FailureKind

IDLE_MOST: Final = (
    4.0  # seconds; less than the 5 after which many servers close, so that few requests meet a closing door
)
IDLE_CONNECTIONS_MOST: Final = 1_000


class Gates:
    """The cap per address, where the address is first known for certain: at the dial (S50).

    `hosts.Hosts` makes those wait that it knows will; whoever comes here in spite of that waits within its own deadline.
    """

    def __init__(self, at_once: int | None) -> None:
        """None: no cap."""
        self._at_once = at_once
        self._gates: dict[str, asyncio.Semaphore] = {}
        self._users: dict[str, int] = {}

    async def enter(self, address: str) -> None:
        if self._at_once is None:
            return
        if (gate := self._gates.get(address)) is None:
            gate = self._gates[address] = asyncio.Semaphore(self._at_once)
        self._users[address] = self._users.get(address, 0) + 1
        try:
            await gate.acquire()
        except BaseException:
            self._left(address)
            raise

    def leave(self, address: str) -> None:
        if self._at_once is not None:
            self._gates[address].release()
            self._left(address)

    def _left(self, address: str) -> None:
        self._users[address] -= 1
        if not self._users[address]:
            del self._users[address], self._gates[address]


class Pool:
    """Open connections by origin; the one used last is taken first. In use, each has a place at its address's gate."""

    def __init__(self, gates: Gates) -> None:
        self._gates = gates
        self._in_use: set[Connection] = set()
        self._idle: dict[str, list[Connection]] = {}
        self._resting: dict[Connection, tuple[str, float]] = {}  # origin and since when, longest at rest first
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False

    async def take(self, origin: str) -> Connection | None:
        """A connection to use again; to be given back or dropped."""
        while connections := self._idle.get(origin):
            connection = connections[-1]
            self._wake(connection)
            await self.enter(connection)
            if connection.reusable:
                return connection
            self.drop(connection)
        return None

    async def enter(self, connection: Connection) -> None:
        """Wait for a place at the gate of a connection's address; to be given back or dropped."""
        try:
            await self._gates.enter(connection.where)
        except BaseException:
            connection.cut()
            raise
        self._in_use.add(connection)
        if self._closed:
            self.drop(connection)
            raise EgressFailure(FailureKind.CONNECTION_FAILED)

    def replace(self, outer: Connection, inner: Connection) -> None:
        """From now on `inner`, a tunnel within `outer`, is used in its place."""
        self._in_use.discard(outer)
        self._in_use.add(inner)

    def give(self, origin: str, connection: Connection) -> None:
        """Its request is over: keep the connection for the next one, or cut it."""
        if self._closed or not connection.reusable or len(self._resting) >= IDLE_CONNECTIONS_MOST:
            self.drop(connection)
            return
        self._leave(connection)
        loop = asyncio.get_running_loop()
        connection.on_lost = self._wake
        self._resting[connection] = (origin, loop.time())
        self._idle.setdefault(origin, []).append(connection)
        if self._sweep is None:
            self._sweep = loop.call_later(IDLE_MOST, self._cut_idle, loop)

    def drop(self, connection: Connection) -> None:
        self._leave(connection)
        connection.cut()

    def close(self) -> None:
        """Cut them all; requests under way fail."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        for connection in (*self._in_use, *self._resting):
            connection.cut()

    def _leave(self, connection: Connection) -> None:
        self._in_use.discard(connection)
        self._gates.leave(connection.where)

    def _wake(self, connection: Connection) -> None:
        connection.on_lost = None
        origin, _ = self._resting.pop(connection)
        connections = self._idle[origin]
        if connections[-1] is connection:
            connections.pop()
        else:
            connections.remove(connection)
        if not connections:
            del self._idle[origin]

    def _cut_idle(self, loop: asyncio.AbstractEventLoop) -> None:
        self._sweep = None
        for connection, (_, since) in list(self._resting.items()):
            if (left := since + IDLE_MOST - loop.time()) > 0:
                self._sweep = loop.call_later(left, self._cut_idle, loop)
                return
            self._wake(connection)
            connection.cut()
