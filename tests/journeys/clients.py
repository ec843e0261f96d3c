"""Whoever speaks to a running node: MCP clients of each generation, event streams, WebSockets."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import httpx2
from mcp.client.extension import ClientExtension
from mcp.client.streamable_http import streamable_http_client
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.faces.mcp.speakers import Speaker, in_its_own_task, speaking
from tests.faces.mcp_events.asking import Frames, headers, request
from tests.faults.rig.nodes import Node

T = TypeVar("T")

WITHIN: Final = 20.0  # seconds: a machine may be busy, and what has not come by then will not


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def soon(awaited: Awaitable[T]) -> T:
    async with asyncio.timeout(WITHIN):
        return await awaited


@asynccontextmanager
async def speaker(
    node: Node, token: str, version: str, extensions: Sequence[ClientExtension] = ()
) -> AsyncIterator[Speaker]:
    async with httpx2.AsyncClient(headers=bearer(token), timeout=60) as http:
        transport = streamable_http_client(f"http://127.0.0.1:{node.port}/mcp", http_client=http)
        async with in_its_own_task(speaking(transport, version, extensions)) as speaker:
            yield speaker


@asynccontextmanager
async def event_stream(node: Node, token: str, **given: Any) -> AsyncIterator[Frames]:
    """An `events/stream` that is active."""
    body, url = request("events/stream", 7, **given), f"http://127.0.0.1:{node.port}/mcp"
    async with (
        httpx2.AsyncClient(headers=bearer(token), timeout=60) as http,
        http.stream("POST", url, json=body, headers=headers("events/stream")) as answer,
    ):
        frames = Frames(answer)
        await frames.notified("active")
        yield frames


@asynccontextmanager
async def socket(node: Node, token: str, **first: Any) -> AsyncIterator[ClientConnection]:
    """A `/ws` connection that is registered."""
    async with connect(f"ws://127.0.0.1:{node.port}/ws", additional_headers=bearer(token)) as connected:
        await connected.send(json.dumps(first))
        assert (await frame(connected))["type"] == "ack"
        yield connected


async def frame(socket: ClientConnection) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(await soon(socket.recv()))
    return told


async def close_code(socket: ClientConnection) -> int | None:
    async with asyncio.timeout(WITHIN):
        try:
            while True:
                await socket.recv()
        except ConnectionClosed as closed:
            return None if closed.rcvd is None else closed.rcvd.code


async def open_on(node: Node, kind: str) -> int:
    """How many streams, waits or sockets a node has open."""
    text = await asyncio.to_thread(node.text, "/metrics")
    [line] = [line for line in text.splitlines() if line.startswith(f'qhronos_open{{kind="{kind}"}}')]
    return int(float(line.split()[1]))
