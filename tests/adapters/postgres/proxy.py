"""A proxy before the server that swallows: a message goes through, or not, and its answer never comes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit, urlunsplit


class Proxy:
    """Cuts a connection when a client's bytes hold `marker`, once for each `cut`: before or after passing them on."""

    def __init__(self, host: str, port: int) -> None:
        self._upstream = (host, port)
        self._tasks: set[asyncio.Task[None]] = set()
        self.marker: bytes | None = None
        self.passes_on = False
        self.awaits_answer = True
        self.cuts = 0

    def cut(self, marker: bytes, *, passes_on: bool, awaits_answer: bool = True) -> None:
        """`awaits_answer`: what was passed on is carried out before the cut; else perhaps not until long after."""
        self.marker, self.passes_on, self.awaits_answer = marker, passes_on, awaits_answer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        up_reader, up_writer = await asyncio.open_connection(*self._upstream)
        back = asyncio.create_task(self._pass_back(up_reader, writer))
        try:
            while data := await reader.read(65_536):
                if self.marker is not None and self.marker in data:
                    self.marker = None
                    self.cuts += 1
                    back.cancel()
                    await asyncio.wait([back])
                    if self.passes_on:
                        up_writer.write(data)
                        await up_writer.drain()
                        if self.awaits_answer:
                            await up_reader.read(1)
                    break
                up_writer.write(data)
                await up_writer.drain()
        except (ConnectionError, asyncio.CancelledError):  # streams would log the end of a test as a failure
            pass
        finally:
            back.cancel()
            writer.transport.abort()
            up_writer.close()

    async def _pass_back(self, up_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await up_reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.transport.abort()

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def proxied(url: str) -> AsyncIterator[tuple[str, Proxy]]:
    """The URL that goes through the proxy, and the proxy."""
    parts = urlsplit(url)
    proxy = Proxy(str(parts.hostname), int(parts.port or 5432))
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    netloc = f"{parts.username}:{parts.password}@127.0.0.1:{port}"
    try:
        yield urlunsplit((parts.scheme, netloc, parts.path, "sslmode=disable", "")), proxy
    finally:
        server.close()
        await proxy.end()
