"""Many agents listening at once: how soon one occurrence is known to all of them, and how soon the server ends under them."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import aiohttp

from scripts.bench.figures import Figure, Scale, mid, percentile
from scripts.bench.loops import run
from scripts.bench.serving import listening
from scripts.bench.stores import MASTER, Place, on_each_store
from tests.servers import free_port

_VERSION: Final = "2026-07-28"
_ONE_TOKEN: Final = 20  # streams: what one principal may have on a node
_INBOX: Final = "qhronos://inbox"
_WITHIN: Final = 60.0  # seconds; beyond it there is something wrong, not slow


def streams(scale: Scale) -> Iterator[Figure]:
    """`subscriptions/listen` by many tokens; one inbox occurrence to all; then SIGTERM with all of them open."""
    yield from on_each_store(scale, lambda place: _streams_on(place, scale))


def _streams_on(place: Place, scale: Scale) -> Iterator[Figure]:
    tokens = scale.of(25, 2)
    count = tokens * _ONE_TOKEN
    told: list[_Told] = []
    for _ in range(scale.rounds):
        place.emptied()
        port = free_port()
        environ = {**place.environ, "QHRONOS_SERVER__PORT": str(port)}
        with listening((sys.executable, "-m", "qhronos_mcp", "serve"), environ, port) as (url, process):
            told.append(run(_round(url, port, process, tokens)))
    all_told = [each.told for each in told]
    yield Figure(
        f"{count} listen streams, one occurrence to all, {place.name}",
        f"first {mid(each.first for each in told) * 1000:.0f}, p50 {mid(percentile(each, 50) for each in all_told) * 1000:.0f}, "
        f"last {mid(max(each) for each in all_told) * 1000:.0f} ms after it was asked for",
        "last within 1,000 ms",
    )
    yield Figure(
        f"SIGTERM under {count} listen streams, {place.name}",
        f"all ended after {mid(each.streams_ended for each in told):.2f} s, gone after {mid(each.gone for each in told):.2f} s",
        "gone within 2 s",
    )
    yield Figure(
        f"memory of a listen stream, {place.name}",
        f"{mid(each.bytes_each for each in told) / 1024:.0f} KiB each; opened {mid(count / each.opening for each in told):,.0f}/s",
    )


@dataclass(slots=True)
class _Told:
    opening: float  # seconds until all were open
    bytes_each: float
    told: list[float]  # seconds, of each stream
    streams_ended: float
    gone: float

    @property
    def first(self) -> float:
        return min(self.told)


@dataclass(slots=True)
class _Stream(asyncio.Protocol):
    """One listen stream, as cheap as can be: what it measures is the server."""

    request: bytes
    acknowledged: "asyncio.Future[None]"
    updated: "asyncio.Future[float]"
    ended: "asyncio.Future[float]"
    seen: bytearray = field(default_factory=bytearray)

    @classmethod
    async def opened(cls, port: int, token: str, number: int) -> "_Stream":
        loop = asyncio.get_running_loop()
        made = cls(_listen(port, token, number), loop.create_future(), loop.create_future(), loop.create_future())
        await loop.create_connection(lambda: made, "127.0.0.1", port)
        await made.acknowledged
        return made

    def connection_made(self, transport: Any) -> None:
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        self.seen += data
        if not self.acknowledged.done() and b"subscriptions/acknowledged" in self.seen:
            self.acknowledged.set_result(None)
        if not self.updated.done() and b"resources/updated" in self.seen:
            self.updated.set_result(now)
        if not self.ended.done() and b'"result"' in self.seen:
            self.ended.set_result(now)

    def connection_lost(self, _: Exception | None) -> None:
        for awaited in (self.acknowledged, self.updated, self.ended):
            if not awaited.done():
                awaited.set_exception(RuntimeError(f"the stream ended: {bytes(self.seen[-300:])!r}"))
                awaited.exception()  # looked at: who awaits it is told all the same


def _listen(port: int, token: str, number: int) -> bytes:
    meta = {
        "io.modelcontextprotocol/protocolVersion": _VERSION,
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"},
    }
    params = {"notifications": {"resourceSubscriptions": [_INBOX]}, "_meta": meta}
    asked = {"jsonrpc": "2.0", "id": number, "method": "subscriptions/listen", "params": params}
    body = json.dumps(asked).encode()
    head = (
        f"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n"
        f"Accept: application/json, text/event-stream\r\nContent-Type: application/json\r\n"
        f"MCP-Protocol-Version: {_VERSION}\r\nMcp-Method: subscriptions/listen\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _round(url: str, port: int, process: "subprocess.Popen[str]", tokens: int) -> _Told:
    async with (
        asyncio.timeout(_WITHIN),
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {MASTER}"}) as session,
    ):
        bearers = [await _minted(session, url, number) for number in range(tokens)]
        event = await _posted(
            session, f"{url}/events", {"name": "bench", "schedule": "@yearly", "tags": ["team:bench"]}
        )
        before, began = _resident(process.pid), time.perf_counter()
        opened = []
        for place, bearer in enumerate(bearers):
            numbers = range(place * _ONE_TOKEN, (place + 1) * _ONE_TOKEN)
            opened += await asyncio.gather(*(_Stream.opened(port, bearer, number) for number in numbers))
        opening = time.perf_counter() - began
        bytes_each = (_resident(process.pid) - before) / len(opened)
        began = time.perf_counter()
        await _posted(session, f"{url}/events/{event['id']}/trigger", {})
        updated = [await stream.updated - began for stream in opened]
        began = time.perf_counter()
        process.send_signal(signal.SIGTERM)
        ended = max([await stream.ended - began for stream in opened])
        await asyncio.to_thread(process.wait)
        gone = time.perf_counter() - began
    return _Told(opening, bytes_each, updated, ended, gone)


async def _minted(session: aiohttp.ClientSession, url: str, number: int) -> str:
    until = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    asked = {"sub": f"bench-{number}", "access": "write", "scope": ["team:bench"], "expires_at": until}
    return str((await _posted(session, f"{url}/tokens", asked))["token"])


async def _posted(session: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> dict[str, Any]:
    async with session.post(url, json=body) as answer:
        told: dict[str, Any] = await answer.json()
        if answer.status >= 300:
            raise RuntimeError(str(told))
        return told


def _resident(pid: int) -> int:
    """Bytes of memory a process has (Linux); 0 where that is not told."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
