"""A proxy before a server that does to a connection what networks do.

Each direction has its latency, jitter, bandwidth, slices and black hole of its own, changed at any time, also of connections
under way. A black hole keeps what it is given and lets it go when it ends, as a cable that is plugged in again. What is
sent may be cut at a request: before it, behind it, or once it was answered, the answer being swallowed: the fault that
makes duplicates.
"""

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from urllib.parse import urlsplit, urlunsplit

_CHUNK = 65_536


class Cut(Enum):
    """Where a connection is cut, seen from a request."""

    BEFORE = "the request is not passed on"
    BEHIND = "the request is passed on, and its answer not waited for"
    AFTER = "the request is passed on whole, and its answer swallowed"


@dataclass
class Way:
    """One direction. Nothing set: bytes pass as they come."""

    latency: float = 0.0  # seconds
    jitter: float = 0.0  # seconds more, at most; bytes keep their order
    bandwidth: float | None = None  # bytes in a second
    slices: int | None = None  # bytes in one piece
    passed: int = 0
    _open: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._open.set()

    def blackhole(self) -> None:
        self._open.clear()

    def heal(self) -> None:
        self.latency, self.jitter, self.bandwidth, self.slices = 0.0, 0.0, None, None
        self._open.set()

    async def carry(self, reader: asyncio.StreamReader, give: Callable[[bytes], "asyncio.Future[None] | None"]) -> None:
        """Everything until the end of the stream, each chunk with what this direction does to it."""
        loop = asyncio.get_running_loop()
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=256)

        async def arrive() -> None:
            while True:
                at, data = await under_way.get()
                if (ahead := at - loop.time()) > 0:
                    await asyncio.sleep(ahead)
                for piece in self._pieces(data):
                    await self._open.wait()
                    if self.bandwidth is not None:
                        await asyncio.sleep(len(piece) / self.bandwidth)
                    if (full := give(piece)) is not None:
                        await full
                    self.passed += len(piece)
                    if self.slices is not None:
                        await asyncio.sleep(0)
                under_way.task_done()

        arriving = asyncio.create_task(arrive())
        try:
            while data := await reader.read(_CHUNK):
                delay = self.latency + random.uniform(0, self.jitter)
                put = asyncio.ensure_future(under_way.put((loop.time() + delay, data)))
                await asyncio.wait([put, arriving], return_when=asyncio.FIRST_COMPLETED)
                if arriving.done():
                    put.cancel()
                    return
            joined = asyncio.ensure_future(under_way.join())
            await asyncio.wait([joined, arriving], return_when=asyncio.FIRST_COMPLETED)
            joined.cancel()
        finally:
            arriving.cancel()
            with suppress(asyncio.CancelledError, ConnectionError):
                await arriving

    def _pieces(self, data: bytes) -> list[bytes]:
        size = self.slices or len(data)
        return [data[at : at + size] for at in range(0, len(data), size)]


@dataclass(eq=False)
class Connection:
    """One client's, through the proxy. `memory` is for whoever decides on cuts."""

    proxy: "Proxy"
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    memory: dict[str, object] = field(default_factory=dict)
    swallowing: bool = False

    async def run(self, from_client: asyncio.StreamReader, from_server: asyncio.StreamReader) -> None:
        one = asyncio.create_task(self._requests(from_client))
        other = asyncio.create_task(self._answers(from_server))
        try:
            await asyncio.wait([one, other])
        finally:
            for task in (one, other):
                task.cancel()
            await asyncio.gather(one, other, return_exceptions=True)
            self.client.close()
            self.server.close()

    def reset(self) -> None:
        """Both ends see the connection torn, not closed."""
        for writer in (self.client, self.server):
            with suppress(OSError, AttributeError):
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            writer.transport.abort()

    def half_close(self, *, to_client: bool) -> None:
        """One direction has ended; the other goes on."""
        with suppress(OSError, RuntimeError):
            (self.client if to_client else self.server).write_eof()

    async def _requests(self, reader: asyncio.StreamReader) -> None:
        def give(data: bytes) -> "asyncio.Future[None] | None":
            cut = self.proxy.cuts_at(self, data)
            if cut is None:
                return _given(self.server, data)
            self.proxy.cuts += 1
            if cut is Cut.AFTER:
                self.swallowing = True
                return _given(self.server, data)
            if cut is Cut.BEHIND:
                self.server.write(data)
            self.server.close()  # what was written is still sent
            self.client.transport.abort()
            return None

        with suppress(ConnectionError):
            await self.proxy.to_server.carry(reader, give)
        self.half_close(to_client=False)

    async def _answers(self, reader: asyncio.StreamReader) -> None:
        def give(data: bytes) -> "asyncio.Future[None] | None":
            if self.swallowing:
                self.server.close()
                self.client.transport.abort()
                return None
            return _given(self.client, data)

        with suppress(ConnectionError):
            await self.proxy.to_client.carry(reader, give)
        self.half_close(to_client=True)
        if self.client.transport.is_closing():
            self.server.transport.abort()


class Proxy:
    """`cuts_at` is asked at each piece a client sends. `cuts` counts."""

    def __init__(self, host: str, port: int, on: str) -> None:
        self._upstream = (host, port)
        self._on = on
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self.port = 0
        self.to_server = Way()
        self.to_client = Way()
        self.connections: set[Connection] = set()
        self.accepted = 0
        self.cuts = 0
        self.cuts_at: Callable[[Connection, bytes], Cut | None] = lambda _connection, _data: None

    def cut(self, marker: bytes, where: Cut, *, times: int = 1) -> None:
        """At each of the next `times` pieces that hold `marker`, of whatever connection."""
        left = times

        def at(_connection: Connection, data: bytes) -> Cut | None:
            nonlocal left
            if left == 0 or marker not in data:
                return None
            left -= 1
            return where

        self.cuts_at = at

    def drop_after_request(self, *, times: int = 1) -> None:
        """The next requests go through whole, and their answers are swallowed."""
        self.cut(b"", Cut.AFTER, times=times)

    def blackhole(self) -> None:
        """Nothing passes, in either direction. A new connection is made, and is as silent as the others."""
        self.to_server.blackhole()
        self.to_client.blackhole()

    def heal(self) -> None:
        self.to_server.heal()
        self.to_client.heal()
        self.cuts_at = lambda _connection, _data: None

    def reset(self) -> None:
        """Every connection is torn."""
        for connection in list(self.connections):
            connection.reset()

    async def refuse(self) -> None:
        """Nobody listens any more; what is connected stays so."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def listen(self) -> None:
        """On the port it had, if it had one."""
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, self._on, self.port, backlog=512)
            self.port = self._server.sockets[0].getsockname()[1]

    async def end(self) -> None:
        await self.refuse()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, from_client: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        self.accepted += 1
        try:
            from_server, server = await asyncio.open_connection(*self._upstream)
        except OSError:
            client.transport.abort()
            return
        connection = Connection(self, client, server)
        self.connections.add(connection)
        try:
            await connection.run(from_client, from_server)
        except asyncio.CancelledError:  # streams would log the end of a test as a failure
            pass
        finally:
            self.connections.discard(connection)
            client.transport.abort()
            server.transport.abort()


def _given(writer: asyncio.StreamWriter, data: bytes) -> "asyncio.Future[None] | None":
    if writer.is_closing():
        raise ConnectionResetError
    writer.write(data)
    return asyncio.ensure_future(writer.drain()) if writer.transport.get_write_buffer_size() > _CHUNK else None


@asynccontextmanager
async def a_proxy(host: str, port: int, *, on: str = "127.0.0.1") -> AsyncIterator[Proxy]:
    proxy = Proxy(host, port, on)
    await proxy.listen()
    try:
        yield proxy
    finally:
        await proxy.end()


@asynccontextmanager
async def proxied(url: str) -> AsyncIterator[tuple[str, Proxy]]:
    """The URL that goes through a proxy, and the proxy. Of PostgreSQL's, without TLS, so that it can read along."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    async with a_proxy(parts.hostname, parts.port) as proxy:
        credentials = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
        query = "sslmode=disable" if parts.scheme == "postgresql" else parts.query
        yield urlunsplit((parts.scheme, f"{credentials}127.0.0.1:{proxy.port}", parts.path, query, "")), proxy
