"""What callers wait for: creating over REST, a tool call over MCP, the first answer of a new process."""

import asyncio
import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import aiohttp
import httpx2
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from scripts.bench.figures import CouldNotRun, Figure, Scale, mid, percentile
from scripts.bench.loops import run
from scripts.bench.stores import MASTER, SQLITE, Place, a_place, on_each_store
from tests.servers import free_port

_ROOT: Final = Path(__file__).parents[2]
_COMMAND: Final = (sys.executable, "-m", "qhronos_mcp")
_TRIVIAL: Final = (sys.executable, "-m", "scripts.bench.trivial")
_CLIENTS: Final = 16
_START_WITHIN: Final = 30.0


# --- REST ---------------------------------------------------------------------------------------------


def rest(scale: Scale) -> Iterator[Figure]:
    """Creating events over 16 connections, beside one row inserted alone and durably into a table of one column."""
    yield from on_each_store(scale, lambda place: _rest_on(place, scale))


def _rest_on(place: Place, scale: Scale) -> Iterator[Figure]:
    place.emptied()
    with _served(place) as url:
        rates, took = [], []
        for _ in range(scale.rounds):
            rate, each = run(_create(url, scale.of(2_000, 60)))
            rates.append(rate)
            took += each
    plain = mid(_plain_inserts(place, scale) for _ in range(scale.rounds))
    told = f"{mid(rates):,.0f}/s; p50 {percentile(took, 50):.1f}, p99 {percentile(took, 99):.1f} ms"
    limit = f"bare durable insert {plain:,.0f}/s"
    yield Figure(f"POST /events, {_CLIENTS} clients, {place.name}", told, limit, mid(rates) / plain)


async def _create(url: str, count: int) -> tuple[float, list[float]]:
    took = []
    left = iter(range(count))
    headers = {"Authorization": f"Bearer {MASTER}"}
    async with aiohttp.ClientSession(headers=headers) as session:

        async def worker() -> None:
            for number in left:
                began = time.perf_counter()
                body = {"name": f"bench {number}", "schedule": "0 9 * * 1-5", "timezone": "Europe/Berlin"}
                async with session.post(f"{url}/events", json=body) as answer:
                    if answer.status != 201:
                        raise RuntimeError(await answer.text())
                took.append((time.perf_counter() - began) * 1000)

        began = time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(_CLIENTS)))
        return count / (time.perf_counter() - began), took


def _plain_inserts(place: Place, scale: Scale) -> float:
    """Rows a second, each its own durable commit: PostgreSQL by pgbench with as many clients, SQLite by one writer."""
    if place.server is not None:
        return _pgbench(place, scale.of(5, 1))
    with sqlite3.connect(place.directory / "plain.db", isolation_level=None) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE IF NOT EXISTS plain (id INTEGER PRIMARY KEY, text TEXT)")
        count, began = scale.of(2_000, 50), time.perf_counter()
        for _ in range(count):
            connection.execute("INSERT INTO plain (text) VALUES ('one row')")
        rate = count / (time.perf_counter() - began)
    connection.close()
    return rate


def _pgbench(place: Place, seconds: int) -> float:
    if place.server is None or place.url is None:
        raise CouldNotRun("no PostgreSQL")
    program = place.server.binaries / "pgbench"
    if not program.exists():
        raise CouldNotRun("pgbench is not among PostgreSQL's binaries")
    script = place.directory / "insert.sql"
    script.write_text("INSERT INTO plain (text) VALUES ('one row');\n")
    psql = (place.server.binaries / "psql", place.url, "-qc")
    subprocess.run(
        [*psql, "CREATE TABLE IF NOT EXISTS plain (id bigserial PRIMARY KEY, text text)"],
        check=True,
        capture_output=True,
    )
    command = [str(program), "-n", "-f", str(script), "-c", str(_CLIENTS), "-j", "2", "-T", str(seconds), place.url]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"tps = ([0-9.]+)", told)
    if found is None:
        raise CouldNotRun(f"pgbench said {told!r}")
    return float(found[1])


# --- MCP ----------------------------------------------------------------------------------------------


def mcp(scale: Scale) -> Iterator[Figure]:
    """One tool call after another, beside a tool that does nothing on the same SDK and transport."""
    calls = scale.of(300, 20)
    with a_place(SQLITE) as place:
        place.emptied()
        yield run(_stdio_calls(place, calls))
        with _served(place) as url, _trivial_http() as trivial:
            yield run(_http_calls(url, trivial, calls))


async def _stdio_calls(place: Place, calls: int) -> Figure:
    ours = await _calls_of(_stdio(_COMMAND, "stdio", place.environ), calls, "list_events")
    bare = await _calls_of(_stdio(_TRIVIAL, "stdio", place.environ), calls, "nothing")
    return _compared("MCP tool call, stdio", ours, bare)


async def _http_calls(url: str, trivial: str, calls: int) -> Figure:
    token = await _token(url)
    ours = await _calls_of(_http(f"{url}/mcp", token), calls, "list_events")
    bare = await _calls_of(_http(f"{trivial}/mcp", token), calls, "nothing")
    return _compared("MCP tool call, HTTP", ours, bare)


def _compared(name: str, ours: list[float], bare: list[float]) -> Figure:
    told = f"p50 {percentile(ours, 50):.1f}, p99 {percentile(ours, 99):.1f} ms"
    limit = f"trivial tool p50 {percentile(bare, 50):.1f}, p99 {percentile(bare, 99):.1f} ms"
    return Figure(name, told, limit, percentile(bare, 50) / percentile(ours, 50))


def _stdio(command: tuple[str, ...], what: str, environ: dict[str, str]) -> Any:
    return Client(StdioServerParameters(command=command[0], args=[*command[1:], what], env=environ, cwd=_ROOT))


@asynccontextmanager
async def _http(url: str, token: str) -> AsyncIterator[Client]:
    async with AsyncExitStack() as stack:
        headers = {"Authorization": f"Bearer {token}"}
        http = await stack.enter_async_context(httpx2.AsyncClient(headers=headers, timeout=30))
        yield await stack.enter_async_context(Client(streamable_http_client(url, http_client=http)))


async def _calls_of(opened: Any, calls: int, tool: str) -> list[float]:
    took = []
    async with opened as client:
        for _ in range(calls + 5):
            began = time.perf_counter()
            result = await client.call_tool(tool, {})
            took.append((time.perf_counter() - began) * 1000)
            if result.is_error:
                raise RuntimeError(str(result.content))
    return took[5:]


async def _token(url: str) -> str:
    until = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    asked = {"sub": "bench", "access": "admin", "scope": ["user:bench"], "expires_at": until}
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {MASTER}"}) as session,
        session.post(f"{url}/tokens", json=asked) as answer,
    ):
        made = await answer.json()
    return str(made["token"])


# --- starting -----------------------------------------------------------------------------------------


def starting(scale: Scale) -> Iterator[Figure]:
    """From the start of a process to its first answer, on a data directory that is there already."""
    times = scale.of(7, 1)
    with a_place(SQLITE) as place:
        place.emptied()
        _first_stdio_answer(place)
        stdio = [_first_stdio_answer(place) for _ in range(times)]
        serve = []
        for _ in range(times):
            began = time.perf_counter()
            with _served(place):
                serve.append(time.perf_counter() - began)
        bare = [_interpreter() for _ in range(times)]
    limit = f"`python -c pass` {mid(bare):.2f} s"
    yield Figure("stdio: first answer, second start", f"{mid(stdio):.2f} s", limit)
    yield Figure("serve: first answer, second start", f"{mid(serve):.2f} s", limit)


def _first_stdio_answer(place: Place) -> float:
    asked = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "bench", "version": "1"},
        },
    }
    began = time.perf_counter()
    with subprocess.Popen(
        [*_COMMAND, "stdio"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=place.environ,
        cwd=_ROOT,
    ) as process:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("no pipes")
        process.stdin.write(json.dumps(asked).encode() + b"\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
        took = time.perf_counter() - began
        process.stdin.close()
        process.wait(30)
    if "result" not in answer:
        raise RuntimeError(str(answer))
    return took


def _interpreter() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.perf_counter() - began


@contextmanager
def _served(place: Place) -> Iterator[str]:
    """A real server's URL, from its first answer on."""
    port = free_port()
    environ = {**place.environ, "QHRONOS_SERVER__PORT": str(port)}
    with listening((*_COMMAND, "serve"), environ, port) as (url, _):
        yield url


@contextmanager
def _trivial_http() -> Iterator[str]:
    port = free_port()
    with listening((*_TRIVIAL, "http", str(port)), {**os.environ, "PYTHONPATH": str(_ROOT)}, port) as (url, _):
        yield url


@contextmanager
def listening(
    command: tuple[str, ...], environ: Mapping[str, str], port: int
) -> "Iterator[tuple[str, subprocess.Popen[str]]]":
    """A server's URL and its process, from its first answer on; it may have ended by the time this does."""
    process = subprocess.Popen(
        command, env=environ, cwd=_ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_it_answers(process, f"{url}/health")
        yield url, process
    finally:
        process.terminate()
        process.communicate()


def _wait_until_it_answers(process: subprocess.Popen[str], url: str) -> None:
    deadline = time.monotonic() + _START_WITHIN
    while True:
        try:
            httpx2.get(url)
            return
        except httpx2.TransportError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{process.args!r} did not start: {process.communicate()[1]}") from None
            time.sleep(0.005)
