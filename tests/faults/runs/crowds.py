"""Callers with giant bodies before a node with little memory, and callers that are slow (F27, F29)."""

import asyncio
import json
import resource
import socket
import time
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from tests.faults.rig.checker import Wanted
from tests.faults.rig.lacking import NotRun
from tests.faults.rig.nodes import MASTER, Node
from tests.faults.rig.runs import ALL, Asked, Found, Scene, a_scene, fault, judged

MIB: Final = 2**20
AT_ONCE: Final = 100
SPARE: Final = 1024 * MIB  # address space beyond what a node at rest has; each thread reserves 64 MiB of it
EACH: Final = 2 * MIB
PUNCTUAL: Final = 0.25  # seconds: what is within this is served well whatever the quiet figure was
HEAD_WITHIN, BODY_WITHIN, SLACK = 30.0, 60.0, 5.0  # seconds
_DUE: Final = 50


def memory(node: Node, what: str) -> int:
    """Bytes, as the system counts them: VmHWM is the most it ever had in memory, VmPeak of addresses."""
    status = Path(f"/proc/{node.process.pid}/status")
    if not status.exists():
        raise NotRun("needs /proc")
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(what)) * 1024


async def due_meanwhile(scene: Scene, over: float) -> list[Wanted]:
    """Some one-shots, spread over so many seconds from now on."""
    node, begin = scene.cluster.nodes[1], datetime.now(UTC) + timedelta(seconds=5)
    wanted = []
    for number in range(_DUE):
        due = begin + timedelta(seconds=over * number / _DUE)
        action = {"type": "webhook", "params": {"url": scene.receiver.url(f"/{number}")}}
        event = await asyncio.to_thread(node.create, schedule=due.isoformat(), action=action)
        wanted.append(Wanted(event["id"], due))
    return wanted


def head(path: str, length: str, *, known: bool = True) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", length]
    lines += ["Accept: application/json, text/event-stream"]
    lines += [f"Authorization: Bearer {MASTER}"] if known else []
    return "\r\n".join([*lines, "", ""]).encode()


async def status_of(reader: asyncio.StreamReader) -> int:
    """Of the answer; 0: the connection was closed without one."""
    with suppress(ConnectionError):
        line = await reader.readline()
        if line:
            return int(line.split(b" ")[1])
    return 0


# --- giant bodies ---------------------------------------------------------------------------------------

_CHUNK: Final = b"10000\r\n" + b" " * 65_536 + b"\r\n"
_GIANT: Final = 64 * MIB


async def giant(node: Node, number: int) -> tuple[str, int, int]:
    """One caller who sends 64 MiB, or says that there are ten gigabytes to come: what was answered after how many bytes."""
    path = ("/events", "/mcp", "/tokens")[number % 3]
    known, declared = number % 7 != 0, number % 2 == 0
    length = "Content-Length: 10000000000" if declared else "Transfer-Encoding: chunked"
    small = socket.socket()
    small.setsockopt(
        socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536
    )  # so that what is counted as sent has nearly been taken
    small.setblocking(False)
    await asyncio.get_running_loop().sock_connect(small, ("127.0.0.1", node.port))
    reader, writer = await asyncio.open_connection(sock=small)
    answer = asyncio.create_task(status_of(reader))
    sent = 0
    try:
        with suppress(ConnectionError):
            writer.write(head(path, length, known=known))
            while sent < _GIANT and not answer.done():
                writer.write(_CHUNK)
                sent += len(_CHUNK)
                await writer.drain()
                await asyncio.sleep(0)
        status = await asyncio.wait_for(answer, 60)
    finally:
        answer.cancel()
        writer.transport.abort()
    return "known" if known else "unknown", status, sent


@fault(
    "F27",
    "a memory limit, and bodies of gigabytes",
    on=ALL,
    holds=f"413 to who is known, 401 to who is not; memory grows by {EACH // MIB} MiB for each of those at once, however many "
    "come; what is due is sent",
)
async def _(asked: Asked) -> Found:
    """A hundred callers at once, then ten times as many by turns. Those unknown are refused before their body is read."""
    callers = asked.events * 2
    async with a_scene(asked) as scene:
        await scene.start(1)
        limit = memory(scene.cluster.nodes[1], "VmPeak") + SPARE
        scene.cluster.nodes[1].kill()
        node = await asyncio.to_thread(
            scene.cluster.start, 1, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        )
        wanted = await due_meanwhile(scene, callers / 50)
        gate, answers, most, began = asyncio.Semaphore(AT_ONCE), Counter[str](), 0, time.monotonic()

        async def calls(number: int) -> None:
            nonlocal most
            async with gate:
                who, status, sent = await giant(node, number)
            answers[f"{status} to {who}"] += 1
            most = max(most, sent)

        before = memory(node, "VmHWM")
        await asyncio.gather(*[calls(number) for number in range(3 * AT_ONCE)])
        at_first = memory(node, "VmHWM")
        await asyncio.gather(*[calls(number) for number in range(callers)])
        at_last = memory(node, "VmHWM")
        scene.figures |= {
            "callers": f"{answers.total()} in {time.monotonic() - began:.0f} s, {AT_ONCE} at once",
            "answers": dict(sorted(answers.items())),
            "sent by one": f"{most / MIB:.1f} MiB at most",
            "limit": f"{limit // MIB} MiB of addresses",
            "resident": f"{before // MIB} MiB, peak of the first {at_first // MIB} MiB, of all {at_last // MIB} MiB",
        }
        found = await judged(scene, wanted)
    found.must(set(answers) == {"413 to known", "401 to unknown"}, f"answers {dict(answers)}")
    found.must(most < _GIANT, "a body was taken whole")
    found.must(at_last - before <= AT_ONCE * EACH, f"memory grew by {(at_last - before) // MIB} MiB")
    return found


# --- slow callers -------------------------------------------------------------------------------------------


async def slow(node: Node, first: bytes, over: asyncio.Event) -> tuple[int, float]:
    """A byte a second, until the node ends it: what it says, and after how many seconds."""
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    answer, began = asyncio.create_task(status_of(reader)), time.monotonic()
    try:
        with suppress(ConnectionError):
            writer.write(first)
            while not answer.done() and not over.is_set():
                await asyncio.wait([answer], timeout=1)
                writer.write(b" ")
                await writer.drain()
        return (answer.result() if answer.done() else -1), time.monotonic() - began
    finally:
        answer.cancel()
        writer.transport.abort()


async def served(node: Node, seconds: float) -> list[float]:
    """How long each of a good client's calls took, a new connection each, twenty a second."""
    request = f"GET /events?limit=1 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {MASTER}\r\n".encode()
    times, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
        writer.write(request + b"Connection: close\r\n\r\n")
        told, _, body = (await asyncio.wait_for(reader.read(), 60)).partition(b"\r\n\r\n")
        times.append(time.monotonic() - began)
        writer.transport.abort()
        assert told.startswith(b"HTTP/1.1 200 "), told
        json.loads(body)
        await asyncio.sleep(0.05)
    return sorted(times)


@fault(
    "F29",
    "1,000 slow callers",
    on=ALL,
    holds=f"heads end after {HEAD_WITHIN:.0f} s, bodies after {BODY_WITHIN:.0f} s; a good client's p99 at most doubles, or "
    f"is under {PUNCTUAL} s",
)
async def _(asked: Asked) -> Found:
    callers = asked.events * 2
    async with a_scene(asked) as scene:
        await scene.start(1)
        node, over = scene.cluster.nodes[1], asyncio.Event()
        wanted = await due_meanwhile(scene, BODY_WITHIN)
        quiet = await served(node, 10)
        body = head("/events", "Content-Length: 1000") + b"{"
        begun = [
            asyncio.create_task(slow(node, body if number % 2 else b"GET /events HTTP/1.1\r\nX:", over))
            for number in range(callers)
        ]
        beside = await served(node, BODY_WITHIN + SLACK)
        over.set()
        ends = await asyncio.gather(*begun)
        found = await judged(scene, wanted)
    heads, bodies = ends[::2], ends[1::2]
    found.figures |= {
        "callers": callers,
        "quiet": f"p99 {_p99(quiet) * 1000:.0f} ms of {len(quiet)}",
        "beside them": f"p99 {_p99(beside) * 1000:.0f} ms of {len(beside)}, worst {beside[-1] * 1000:.0f} ms",
        "heads": f"{dict(Counter(status for status, _ in heads))} after {max(after for _, after in heads):.1f} s at most",
        "bodies": f"{dict(Counter(status for status, _ in bodies))} after {max(after for _, after in bodies):.1f} s at most",
    }
    found.must({status for status, _ in heads} == {408}, "heads were not ended by 408")
    found.must({status for status, _ in bodies} == {400}, "bodies were not ended by 400")
    found.must(max(after for _, after in heads) <= HEAD_WITHIN + SLACK, "a head was kept too long")
    found.must(max(after for _, after in bodies) <= BODY_WITHIN + SLACK, "a body was kept too long")
    found.must(_p99(beside) <= max(2 * _p99(quiet), PUNCTUAL), f"a good client's p99 was {_p99(beside):.2f} s")
    return found


def _p99(times: list[float]) -> float:
    return times[int(len(times) * 0.99)]
