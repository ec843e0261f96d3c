"""Callers in crowds, slow ones and those with giant bodies: they are turned away, and what is due is still sent (F26, F27, F29)."""

import asyncio
import json
import resource
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.faults.rig.checker import Wanted
from tests.faults.rig.nodes import Cluster, Node
from tests.faults.rig.odd_nodes import started
from tests.faults.rig.receiver import Receiver
from tests.faults.test_kills import all_finished, soon, verdict_on, webhook

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")


@pytest.fixture
def database_url() -> None:
    return None


@asynccontextmanager
async def connected(node: Node, count: int, first: bytes = b"") -> AsyncIterator[list[Streams]]:
    """So many connections, each with the first bytes of a request."""
    made = [await asyncio.open_connection("127.0.0.1", node.port) for _ in range(count)]
    for _, writer in made:
        writer.write(first)
    try:
        yield made
    finally:
        for _, writer in made:
            writer.transport.abort()


def processor_seconds(node: Node) -> float:
    return sum(map(int, Path(f"/proc/{node.process.pid}/stat").read_text().rsplit(") ", 1)[1].split()[11:13])) / 100


def memory_kib(node: Node) -> int:
    """The most it ever had."""
    status = Path(f"/proc/{node.process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


async def asked(node: Node, path: str = "/events") -> tuple[int, dict[str, str], bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        head, _, body = (await asyncio.wait_for(reader.read(), 20)).partition(b"\r\n\r\n")
    finally:
        writer.transport.abort()
    status, *lines = head.decode().split("\r\n")
    return int(status.split(" ")[1]), dict(line.lower().split(": ", 1) for line in lines), body


@linux
async def test_with_all_descriptors_used_up_callers_are_shed_and_what_is_due_is_sent_at_the_first_attempt(
    cluster: Cluster, receiver: Receiver
) -> None:
    """F26."""
    few = 64
    node = await asyncio.to_thread(
        started, cluster, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (few, few))
    )
    due = soon(4)
    events = [
        (await asyncio.to_thread(node.create, schedule=due.isoformat(), action=webhook(receiver, f"/{number}")))["id"]
        for number in range(30)
    ]
    held = 10
    async with connected(node, held):
        status, headers, body = await asked(node)
        assert (status, headers["retry-after"], headers["connection"]) == (503, "1", "close")
        assert json.loads(body)["code"] == "crowded"
        assert (await asked(node, "/health"))[0] == 200
    async with connected(node, 200):
        before = processor_seconds(node)
        await receiver.until(lambda log: len(log) == 30, within=30)
        assert processor_seconds(node) - before < 3
    rows = await all_finished(node, events)
    assert verdict_on(node, [Wanted(event, due) for event in events], receiver, rows).clean()
    assert {(row["status"], row["attempts_made"]) for row in rows} == {("completed", 1)}
    assert (await asked(node, "/health"))[0] == 200


@linux
async def test_hundreds_of_slow_callers_hold_up_nobody_and_cost_little_memory(
    cluster: Cluster, receiver: Receiver
) -> None:
    """F29, F27: heads and bodies that never end, and bodies far too long."""
    node = await asyncio.to_thread(cluster.start)
    due = soon(3)
    event = await asyncio.to_thread(node.create, schedule=due.isoformat(), action=webhook(receiver))
    before = memory_kib(node)
    body = b"POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"
    chunked = b"POST /events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + (
        b"10000\r\n" + b" " * 65_536 + b"\r\n"
    )
    async with (
        connected(node, 300, b"GET /events HTTP/1.1\r\nX:"),
        connected(node, 300, body),
        connected(node, 60, chunked * 40),
    ):
        times = [await timed(node) for _ in range(20)]
        rows = await all_finished(node, [event["id"]])
    assert sorted(times)[18] < 2
    assert verdict_on(node, [Wanted(event["id"], due)], receiver, rows).clean()
    assert memory_kib(node) - before < 150_000  # of 160 MB that were sent, and 660 connections


async def timed(node: Node) -> float:
    began = time.monotonic()
    assert (await asked(node, "/health"))[0] == 200
    return time.monotonic() - began
