"""The real process, launched as a host launches it."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from mcp.client.stdio import StdioServerParameters, stdio_client

from qhronos_core.adapters.clock import SystemClock
from qhronos_core.domain.ids import EventId
from qhronos_mcp.mcp_server.push import INBOX
from tests.faces.mcp.house import House
from tests.faces.mcp.speakers import MODERN, VERSIONS, Speaker, in_its_own_task, slowness, speaking
from tests.faults.rig.receiver import a_receiver
from tests.world import a_world

ROOT = Path(__file__).parents[3]
COMMAND = [sys.executable, "-m", "qhronos_mcp", "stdio"]
HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}},
}
DISCOVER = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "server/discover",
    "params": {
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientCapabilities": {},
        }
    },
}


def environment(data_dir: Path, **more: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "QHRONOS_DATA_DIR": str(data_dir),
        "HOME": str(data_dir),
        **more,
    }


@asynccontextmanager
async def a_host(data_dir: Path, version: str, *arguments: str, **more: str) -> AsyncIterator[Speaker]:
    server = StdioServerParameters(
        command=COMMAND[0], args=[*COMMAND[1:], *arguments], env=environment(data_dir, **more), cwd=data_dir
    )
    async with in_its_own_task(speaking(stdio_client(server), version)) as speaker:
        yield speaker


@asynccontextmanager
async def a_process(data_dir: Path, *arguments: str, **more: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(data_dir, **more),
        cwd=data_dir,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def told(process: asyncio.subprocess.Process, message: dict[str, Any]) -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(message).encode() + b"\n")
    answer: dict[str, Any] = json.loads(await asyncio.wait_for(process.stdout.readline(), 30))
    return answer


@pytest.mark.parametrize("version", VERSIONS)
async def test_the_whole_job_over_a_pipe(tmp_path: Path, version: str) -> None:
    """Create, be told, claim, acknowledge; every tool is called on the way."""
    async with a_host(tmp_path, version) as alice:
        assert len((await alice.client.list_tools()).tools) == 8
        made = await alice.call("create_event", name="n", schedule="@yearly", key="k", description="d")
        assert made["result"] == "created"
        assert [row["event"] for row in (await alice.call("list_events"))["events"]] == ["k"]
        assert (await alice.call("update_event", event_id="k", changes={"name": "m"}))["result"] == "updated"
        async with alice.watching(INBOX) as ear:
            ran = await alice.call("trigger", event_id="k")
            await ear.until(INBOX)
        [item] = (await alice.call("wait_for_occurrences", seconds=10))["occurrences"]
        assert item["id"] == ran["occurrence"]["id"]
        assert item["by"] == "you"
        assert item["untrusted"]["name"] == "m"
        assert (await alice.read_json(INBOX))["held"] == [item["id"]]
        done = await alice.call("acknowledge_occurrence", occurrence_id=item["id"], outcome="done")
        assert done["occurrence"]["status"] == "completed"
        assert (await alice.call("list_occurrences"))["occurrences"][0]["status"] == "completed"
        assert (await alice.call("list_events", event_id="nope"))["code"] == "event_not_found"
        assert (await alice.call("delete_event", event_id="k"))["result"] == "deleted"


async def test_what_was_kept_is_there_after_the_host_comes_back(tmp_path: Path) -> None:
    async with a_host(tmp_path, MODERN) as alice:
        await alice.call("create_event", name="n", schedule="@daily", key="k")
    async with a_host(tmp_path, "2025-11-25", "--text", "line") as alice:
        found = await alice.call("list_events", event_id="k")
        assert found["event"]["by"] == "you"
        assert found.text == found["says"]


async def test_a_task_is_known_to_the_next_process_of_the_same_owner(tmp_path: Path) -> None:
    """A task is a row: a restart changes nothing, also of a process that was killed."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {"extensions": {"io.modelcontextprotocol/tasks": {}}},
    }

    def call(tool: str, **arguments: Any) -> dict[str, Any]:
        params = {"name": tool, "arguments": arguments, "_meta": meta}
        return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}

    async with a_process(tmp_path) as process:
        await told(process, call("create_event", name="n", schedule="@yearly", key="k"))
        task_id = (await told(process, call("wait_for_occurrences")))["result"]["taskId"]
        process.kill()
    async with a_process(tmp_path) as process:
        ran = (await told(process, call("trigger", event_id="k")))["result"]["structuredContent"]["occurrence"]["id"]
        get = {"jsonrpc": "2.0", "id": 2, "method": "tasks/get", "params": {"taskId": task_id, "_meta": meta}}
        async with asyncio.timeout(10):
            while (looked := await told(process, get))["result"]["status"] == "working":
                await asyncio.sleep(0.05)
        [item] = looked["result"]["result"]["structuredContent"]["occurrences"]
        assert item["id"] == ran
        done = await told(process, call("acknowledge_occurrence", occurrence_id=ran, outcome="done"))
        assert done["result"]["structuredContent"]["occurrence"]["status"] == "completed"


async def test_two_hosts_share_one_store(tmp_path: Path) -> None:
    async with a_host(tmp_path, MODERN) as one, a_host(tmp_path, "2025-06-18") as other:
        await one.call("create_event", name="n", schedule="@yearly", key="k")
        wait = asyncio.create_task(other.call("wait_for_occurrences", seconds=20))
        await one.call("trigger", event_id="k")
        [item] = (await wait)["occurrences"]
        refused = await one.call("acknowledge_occurrence", occurrence_id=item["id"], outcome="done")
        assert refused["code"] == "not_held"  # each process holds its own


@pytest.mark.parametrize("hello", [HELLO, DISCOVER])
async def test_every_line_on_stdout_is_the_protocol_s(tmp_path: Path, hello: dict[str, Any]) -> None:
    meta = hello["params"].get("_meta")
    calls: list[tuple[str, dict[str, Any]]] = [
        ("create_event", {"name": "n", "schedule": "@daily", "key": "k"}),
        ("create_event", {"name": "n"}),
        ("list_events", {}),
        ("update_event", {"event_id": "k", "do": "pause"}),
        ("trigger", {"event_id": "k"}),
        ("wait_for_occurrences", {"seconds": 1}),
        ("list_occurrences", {}),
        ("acknowledge_occurrence", {"occurrence_id": "x", "outcome": "done"}),
        ("delete_event", {"event_id": "k"}),
        ("nothing", {}),
    ]
    async with a_process(tmp_path) as process:
        await told(process, hello)
        assert process.stdin is not None
        for number, (tool, arguments) in enumerate(calls):
            params = {"name": tool, "arguments": arguments} | ({"_meta": meta} if meta else {})
            request = {"jsonrpc": "2.0", "id": number + 2, "method": "tools/call", "params": params}
            process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.write(b"this is not JSON\n")
        await asyncio.sleep(0)
        lines: list[dict[str, Any]] = []
        assert process.stdout is not None
        async with asyncio.timeout(30):
            while sum("result" in line for line in lines) < len(calls):
                lines.append(json.loads(await process.stdout.readline()))
        process.stdin.close()
        rest = await process.stdout.read()
        lines += [json.loads(line) for line in rest.splitlines()]
        assert {line["jsonrpc"] for line in lines} == {"2.0"}
        assert await process.wait() == 0


@pytest.mark.parametrize("hello", [HELLO, DISCOVER])
async def test_a_handshake_over_a_pipe_advertises_what_one_over_http_does(
    tmp_path: Path, house: House, hello: dict[str, Any]
) -> None:
    async with a_process(tmp_path) as process:
        piped = (await told(process, hello))["result"]["capabilities"]
    headers = {"Accept": "application/json, text/event-stream"}
    if hello is DISCOVER:
        headers |= {"MCP-Protocol-Version": MODERN, "Mcp-Method": "server/discover"}
    async with house.http() as http:
        answer = await http.post(house.url, json=hello, headers=headers)
    [line] = [line for line in answer.text.splitlines() if line.removeprefix("data: ").startswith("{")]
    served = json.loads(line.removeprefix("data: "))["result"]["capabilities"]
    assert piped == served


async def test_the_process_ends_when_its_host_closes_the_pipe(tmp_path: Path) -> None:
    async with a_process(tmp_path) as process:
        await told(process, HELLO)
        assert process.stdin is not None
        process.stdin.close()
        assert await asyncio.wait_for(process.wait(), 10) == 0
        assert process.stderr is not None
        assert b"Traceback" not in await process.stderr.read()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_process_and_gives_back_what_it_held(tmp_path: Path, number: signal.Signals) -> None:
    async with a_process(tmp_path) as process:
        await told(process, HELLO)
        assert process.stdin is not None
        process.stdin.write(b'{"jsonrpc": "2.0", "method": "notifications/initialized"}\n')
        call = {"name": "wait_for_occurrences", "arguments": {"seconds": 50}}
        process.stdin.write(
            json.dumps({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": call}).encode() + b"\n"
        )
        await told(process, {"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": {"name": "list_events"}})
        began = time.monotonic()
        process.send_signal(number)
        assert await asyncio.wait_for(process.wait(), 10) == 0
        assert time.monotonic() - began < 4
        assert process.stderr is not None
        assert b"Traceback" not in await process.stderr.read()


@pytest.mark.parametrize("end", ["closes stdin", "dies", "stops reading and closes stdin", "sends SIGTERM"])
async def test_whatever_its_host_does_the_process_ends_soon_and_holds_nothing(tmp_path: Path, end: str) -> None:
    """F51: with a wait, an answer nobody takes and a webhook to a receiver that thinks, all under way."""
    async with a_receiver() as receiver:
        receiver.takes = lambda _: 60.0
        with a_bare_process(tmp_path, QHRONOS_EGRESS__ALLOW_LOOPBACK="true") as process:

            async def say(message: dict[str, Any]) -> dict[str, Any]:
                return await asyncio.to_thread(spoken_to, process, message)

            await say(HELLO)
            action = {"type": "webhook", "params": {"url": receiver.url()}}
            made = await say(call(2, "create_event", name="n", schedule="in 1 second", action=action))
            await receiver.until(lambda log: len(log) == 1, within=20)
            tell(process, call(3, "wait_for_occurrences", seconds=50))
            if "reading" in end:
                for number in range(60):  # far more than a pipe holds
                    tell(process, {"jsonrpc": "2.0", "id": 10 + number, "method": "tools/list"})
            else:
                await say(call(4, "list_events"))
            began = time.monotonic()
            if end == "sends SIGTERM":
                process.send_signal(signal.SIGTERM)
            else:
                assert process.stdin is not None
                process.stdin.close()
            if end == "dies":
                assert process.stdout is not None
                process.stdout.close()
            assert await asyncio.to_thread(process.wait, 20) == 0
            assert time.monotonic() - began < 3 * slowness()
            assert process.stderr is not None
            assert b"Traceback" not in process.stderr.read()
    event_id = made["result"]["structuredContent"]["event"]["id"]
    async with a_world(tmp_path, clock=SystemClock()) as world:
        [row] = await world.occurrences_of(await world.store.events.get(EventId(UUID(event_id))))
        assert (row.state, row.lease_until) == ("pending", None)
        [attempt] = await world.attempts(row)
        assert (attempt.outcome, attempt.error) == ("no_answer", "drained")


@pytest.mark.parametrize("hello", [HELLO, DISCOVER])
async def test_what_was_asked_before_the_pipe_was_closed_is_answered(tmp_path: Path, hello: dict[str, Any]) -> None:
    """As a script asks: all its lines at once, and then the end; the server is not even ready by then."""
    meta = hello["params"].get("_meta")
    asked = [hello, call(2, "create_event", name="n", schedule="@daily"), call(3, "wait_for_occurrences", seconds=50)]
    if meta is not None:
        for request in asked[1:]:
            request["params"]["_meta"] = meta
    with a_bare_process(tmp_path) as process:
        out, _ = await asyncio.to_thread(
            process.communicate, b"".join(json.dumps(request).encode() + b"\n" for request in asked), 30
        )
        assert process.returncode == 0
    answers = {line["id"]: line["result"] for line in map(json.loads, out.splitlines()) if "id" in line}
    assert answers[2]["structuredContent"]["result"] == "created"
    assert answers[3]["structuredContent"]["occurrences"] == []


def call(number: int, tool: str, **arguments: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}


@contextmanager
def a_bare_process(data_dir: Path, **more: str) -> "Iterator[subprocess.Popen[bytes]]":
    """With pipes that nobody reads but by asking."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        COMMAND, stdin=pipe, stdout=pipe, stderr=pipe, env=environment(data_dir, **more), cwd=data_dir
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for end in (process.stdin, process.stdout, process.stderr):
            assert end is not None
            with suppress(BrokenPipeError):
                end.close()


def tell(process: "subprocess.Popen[bytes]", message: dict[str, Any]) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(message).encode() + b"\n")
    process.stdin.flush()


def spoken_to(process: "subprocess.Popen[bytes]", message: dict[str, Any]) -> dict[str, Any]:
    tell(process, message)
    assert process.stdout is not None
    answer: dict[str, Any] = json.loads(process.stdout.readline())
    return answer


async def test_a_bad_token_stops_the_start_with_one_line(tmp_path: Path) -> None:
    async with a_process(tmp_path, QHRONOS_TOKEN="nonsense") as process:
        assert await asyncio.wait_for(process.wait(), 30) == 2
        assert process.stderr is not None
        assert (await process.stderr.read()).decode().strip() == (
            "qhronos: QHRONOS_TOKEN is not a valid token of this server"
        )


async def test_with_a_shared_store_there_is_no_local_owner(tmp_path: Path) -> None:
    secrets = {"QHRONOS_MASTER_TOKEN": "m1" * 20, "QHRONOS_JWT_SECRET": "j2" * 20}
    async with a_process(tmp_path, DATABASE_URL="postgresql://nobody@127.0.0.1:1/none", **secrets) as process:
        assert await asyncio.wait_for(process.wait(), 30) == 2
        assert process.stderr is not None
        assert b"QHRONOS_TOKEN must be set" in await process.stderr.read()


async def test_the_handshake_waits_for_nothing_heavy(tmp_path: Path) -> None:
    heavy = [
        "qhronos_core.wiring",
        "qhronos_core.config",
        "structlog",
        "sqlite3",
        "aiohttp",
        "qhronos_core.domain.schedule",
    ]
    asks = f"import qhronos_mcp.mcp_server.stdio, sys; print([name for name in {heavy} if name in sys.modules])"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", asks, stdout=asyncio.subprocess.PIPE, env=environment(tmp_path)
    )
    out, _ = await process.communicate()
    assert out.decode().strip() == "[]"


async def test_a_store_that_is_away_is_said_by_every_call_and_by_no_handshake(tmp_path: Path) -> None:
    secrets = {"QHRONOS_MASTER_TOKEN": "m1" * 20, "QHRONOS_JWT_SECRET": "j2" * 20}
    away = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none", "QHRONOS_TOKEN": "m1" * 20}
    async with a_process(tmp_path, **away, **secrets) as process:
        assert "capabilities" in (await told(process, HELLO))["result"]
        call = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "list_events", "arguments": {}}}
        result = (await told(process, call))["result"]
        assert result["isError"]
        assert result["structuredContent"]["code"] == "store_unavailable"
        read: dict[str, Any] = {"jsonrpc": "2.0", "id": 3, "method": "completion/complete"}
        ref = {"type": "ref/resource", "uri": "qhronos://events/{event_id}"}
        read["params"] = {"ref": ref, "argument": {"name": "event_id", "value": ""}}
        error = (await told(process, read))["error"]
        assert error["data"]["code"] == "store_unavailable"


async def test_a_store_that_must_not_be_used_stops_the_start_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "qhronos.db").write_bytes(b"this is no database" * 100)
    async with a_process(tmp_path) as process:
        assert await asyncio.wait_for(process.wait(), 30) == 2
        assert process.stderr is not None
        line = (await process.stderr.read()).decode()
        assert line.startswith("qhronos: ")
        assert line.count("\n") == 1


async def test_it_listens_nowhere_and_holds_its_secrets_in_files_of_its_own(tmp_path: Path) -> None:
    """S42: no listening socket, no secret among the arguments; what it keeps is its owner's alone."""
    async with a_process(tmp_path) as process:
        await told(process, HELLO)
        call = {"name": "create_event", "arguments": {"name": "n", "schedule": "@daily"}}
        answer = await told(process, {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": call})
        assert answer["result"]["isError"] is False
        await asyncio.to_thread(nothing_stands_open, process.pid, tmp_path)


def nothing_stands_open(pid: int, data_dir: Path) -> None:
    secrets = [file.read_text().strip() for file in (data_dir / "secrets").iterdir() if file.name != ".lock"]
    assert len(secrets) == 3
    of_process = Path(f"/proc/{pid}")
    arguments, environ = ((of_process / name).read_text() for name in ("cmdline", "environ"))
    assert not any(secret in arguments or secret in environ for secret in secrets)
    held = {os.readlink(each) for each in (of_process / "fd").iterdir()}
    listening = {
        f"socket:[{line.split()[9]}]"
        for kind in ("tcp", "tcp6")
        for line in (of_process / "net" / kind).read_text().splitlines()[1:]
        if line.split()[3] == "0A"
    }
    assert held & listening == set()
    for path in data_dir.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
