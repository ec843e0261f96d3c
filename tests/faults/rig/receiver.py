"""A receiver that writes to its log before it answers, and answers as its script says."""

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Received:
    """One request, as it came in: what the checker judges by."""

    at: float  # wall clock, seconds since 1970
    path: str
    webhook_id: str
    attempt: int
    timestamp: str
    signature: str
    body_hash: str
    event_id: str
    scheduled_at: str
    accepted: bool
    answered_at: float  # when the answer is given; known beforehand


@dataclass
class Receiver:
    """`answers` gives the status for a path's nth request; an answer of None is swallowed: the connection just ends."""

    log: list[Received] = field(default_factory=list)
    answers: Callable[[str, int], int | None] = lambda _path, _nth: 200
    takes: Callable[[str], float] = lambda _path: 0.0
    host: str = "127.0.0.1"
    port: int = 0
    under_way: int = 0
    most_at_once: int = 0
    _seen: dict[str, int] = field(default_factory=dict)
    _came: asyncio.Event = field(default_factory=asyncio.Event)

    def url(self, path: str = "/hook") -> str:
        return f"http://{self.host}:{self.port}{path}"

    async def until(self, done: Callable[[list[Received]], bool], *, within: float) -> None:
        """Wait until the log is as wanted."""
        async with asyncio.timeout(within):
            while not done(self.log):
                self._came.clear()
                await self._came.wait()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                first, *lines = head.split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                path = urlsplit(first.split(" ")[1]).path  # an egress proxy is sent the whole URL
                nth = self._seen[path] = self._seen.get(path, 0) + 1
                status = self.answers(path, nth)
                told = json.loads(body)
                at, takes = time.time(), self.takes(path)
                self.log.append(
                    Received(
                        at=at,
                        path=path,
                        webhook_id=headers.get("webhook-id", ""),
                        attempt=int(headers.get("qhronos-attempt", "0")),
                        timestamp=headers.get("webhook-timestamp", ""),
                        signature=headers.get("webhook-signature", ""),
                        body_hash=hashlib.sha256(body).hexdigest(),
                        event_id=told["event_id"],
                        scheduled_at=told["scheduled_at"],
                        accepted=status is not None and 200 <= status < 300,
                        answered_at=at + takes,
                    )
                )
                self._came.set()
                self.under_way += 1
                self.most_at_once = max(self.most_at_once, self.under_way)
                try:
                    if takes:
                        await asyncio.sleep(takes)
                finally:
                    self.under_way -= 1
                if status is None:
                    return
                writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode())
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            return
        finally:
            writer.close()


@asynccontextmanager
async def a_receiver(host: str = "127.0.0.1") -> AsyncIterator[Receiver]:
    """`host`: another loopback address is another destination, with caps and a breaker of its own."""
    receiver = Receiver(host=host)
    server = await asyncio.start_server(receiver.serve, host, 0, backlog=1024)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
