"""Agents and hosts that die, hang up or stop listening (F51)."""

import asyncio
import json
import os
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from qhronos_core.adapters.clock import SystemClock
from qhronos_core.adapters.sqlite import open_sqlite_store
from qhronos_core.domain.access import Reach
from qhronos_core.domain.lifecycle import PENDING
from qhronos_core.ports import OccurrenceQuery, Page
from tests.adapters.http.receivers import receiving, silence
from tests.faces.mcp.speakers import slowness
from tests.faces.mcp.test_stdio import COMMAND, HELLO, a_process, environment

ENDS_WITHIN = 2.0  # seconds, on a machine that has nothing else to do
Process = asyncio.subprocess.Process


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Process]:
    async with an_agent(tmp_path) as process:
        yield process


def an_agent(data_dir: Path) -> Any:
    return a_process(data_dir, QHRONOS_EGRESS__ALLOW_LOOPBACK="true")


def send(process: Process, message: dict[str, Any]) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")


async def answer_to(process: Process, number: int) -> Any:
    assert process.stdout is not None
    async with asyncio.timeout(30):
        while (line := json.loads(await process.stdout.readline())).get("id") != number:
            pass
    return line["result"]


async def greeted(process: Process) -> None:
    send(process, HELLO)
    await answer_to(process, 1)
    send(process, {"method": "notifications/initialized"})


async def call(process: Process, number: int, tool: str, **arguments: Any) -> Any:
    send(process, {"id": number, "method": "tools/call", "params": {"name": tool, "arguments": arguments}})
    return (await answer_to(process, number))["structuredContent"]


async def ended(process: Process, began: float) -> None:
    assert await asyncio.wait_for(process.wait(), 60) == 0
    assert time.monotonic() - began < (ENDS_WITHIN + 1) * slowness()
    assert process.stderr is not None
    assert b"Traceback" not in await process.stderr.read()


@pytest.mark.parametrize("host", ["closes stdin", "dies"])
async def test_what_an_agent_held_is_free_for_the_next_one_when_its_host_has_gone(
    tmp_path: Path, agent: Process, host: str
) -> None:
    await greeted(agent)
    await call(agent, 2, "create_event", name="n", schedule="@yearly", key="k")
    await call(agent, 3, "trigger", event_id="k")
    [held] = (await call(agent, 4, "wait_for_occurrences", seconds=10))["occurrences"]
    began = time.monotonic()
    assert agent.stdin is not None
    agent.stdin.close()
    if host == "dies":
        agent._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
    await ended(agent, began)

    async with an_agent(tmp_path) as other:
        await greeted(other)
        [found] = (await call(other, 2, "wait_for_occurrences", seconds=10))["occurrences"]
        assert found["id"] == held["id"]


def test_a_process_whose_host_reads_no_more_and_closes_stdin_ends(tmp_path: Path) -> None:
    """Both pipes are full then: the end of stdin lies behind requests whose answers nobody takes."""
    pipe = subprocess.PIPE
    with subprocess.Popen(COMMAND, stdin=pipe, stdout=pipe, env=environment(tmp_path), cwd=tmp_path) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(HELLO).encode() + b"\n")
        process.stdin.flush()
        process.stdout.readline()
        asked = json.dumps({"jsonrpc": "2.0", "id": 9, "method": "tools/list"}).encode() + b"\n"
        os.set_blocking(process.stdin.fileno(), False)
        stuck_since = time.monotonic()
        while time.monotonic() - stuck_since < 1:
            try:
                os.write(process.stdin.fileno(), asked)
                stuck_since = time.monotonic()
            except BlockingIOError:
                time.sleep(0.05)
        began = time.monotonic()
        process.stdin.close()
        try:
            assert process.wait(60) == 0
        finally:
            process.kill()
        assert time.monotonic() - began < (ENDS_WITHIN + 1) * slowness()


async def test_what_is_being_sent_when_the_host_goes_is_cut_recorded_and_due_again(
    tmp_path: Path, agent: Process
) -> None:
    async with receiving(silence) as receiver:
        await greeted(agent)
        hook = {"type": "webhook", "params": {"url": receiver.url()}}
        await call(agent, 2, "create_event", name="n", schedule="@yearly", key="k", action=hook)
        await call(agent, 3, "trigger", event_id="k")
        async with asyncio.timeout(20):
            while not receiver.received:
                await asyncio.sleep(0.02)
        began = time.monotonic()
        assert agent.stdin is not None
        agent.stdin.close()
        await ended(agent, began)
    async with open_sqlite_store(tmp_path, clock=SystemClock()) as store:
        listed = await store.occurrences.list(OccurrenceQuery(), Reach(everything=True), Page(limit=10))
        [row] = [row for row in listed.items if row.attempts_made]
        [attempt] = await store.occurrences.attempts(row.id)
    assert (row.state, row.lease_until) == (PENDING, None)
    assert (attempt.outcome, attempt.error) == ("no_answer", "drained")
