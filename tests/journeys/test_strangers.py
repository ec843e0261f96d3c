"""Clients that others wrote, against the server as a person starts it: the TypeScript client and the Inspector."""

import asyncio
import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import expect

from tests.conformance.node import NodeMissing, Programs, programs
from tests.faces.mcp.embedding import a_browser, framed, tell
from tests.faults.rig.nodes import MASTER, Node, a_cluster, free_port

ROOT = Path(__file__).parents[2]
JOURNEY = Path(__file__).parent / "strangers" / "journey.mjs"
INSPECTOR = "@modelcontextprotocol/inspector/clients/launcher/build/index.js"
TOOLS = [
    "create_event",
    "list_events",
    "update_event",
    "delete_event",
    "list_occurrences",
    "wait_for_occurrences",
    "acknowledge_occurrence",
    "trigger",
]
NEGOTIATED = {"legacy": "2025-11-25", "auto": "2026-07-28"}


@pytest.fixture(scope="module")
def node() -> Programs:
    try:
        return programs()
    except NodeMissing as missing:
        pytest.skip(f"the clients of strangers: {missing}")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, node: Programs) -> Iterator[Node]:
    with a_cluster(tmp_path_factory.mktemp("strangers"), lease="1m") as cluster:
        yield cluster.start()


def run(node: Programs, command: Sequence[str], cwd: Path) -> "subprocess.CompletedProcess[str]":
    """Away from the clone and with a home of its own: the Inspector writes its catalogue there."""
    environ = {**node.environ, "HOME": str(cwd)}
    return subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, check=False, timeout=90)


def launched(place: Path) -> dict[str, str]:
    """The environment of a server that its host starts: with nothing but a place of its own."""
    config = place / "config.yaml"
    config.write_text("server: {}\n")
    return {
        "PYTHONPATH": str(ROOT),
        "PYTHONTZPATH": "",
        "QHRONOS_CONFIG": str(config),
        "QHRONOS_DATA_DIR": str(place / "data"),
    }


def journey(node: Programs, cwd: Path, mode: str, **reached: Any) -> dict[str, Any]:
    told = {"modules": str(node.modules), "mode": mode, **reached}
    done = run(node, [node.node, str(JOURNEY), json.dumps(told)], cwd)
    assert done.returncode == 0, done.stderr[-3000:]
    saw: dict[str, Any] = json.loads(done.stdout)
    return saw


@pytest.mark.parametrize("mode", NEGOTIATED)
def test_the_typescript_client_does_the_main_job_over_http(
    node: Programs, server: Node, tmp_path: Path, mode: str
) -> None:
    saw = journey(node, tmp_path, mode, url=f"http://127.0.0.1:{server.port}/mcp", token=MASTER)
    assert (saw["version"], saw["tools"]) == (NEGOTIATED[mode], TOOLS)
    assert saw["progress"] >= 3


@pytest.mark.parametrize("mode", NEGOTIATED)
def test_the_typescript_client_does_the_main_job_over_stdio(node: Programs, tmp_path: Path, mode: str) -> None:
    started = {"command": sys.executable, "args": ["-m", "qhronos_mcp", "stdio"], "env": launched(tmp_path)}
    saw = journey(node, tmp_path, mode, **started)
    assert (saw["version"], saw["tools"]) == (NEGOTIATED[mode], TOOLS)
    assert saw["progress"] >= 3


@pytest.fixture(params=["http", "stdio"])
def reached(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """The words by which the Inspector reaches a server."""
    if request.param == "http":
        server: Node = request.getfixturevalue("server")
        url = f"http://127.0.0.1:{server.port}/mcp"
        return [url, "--transport", "http", "--header", f"Authorization: Bearer {MASTER}"]
    given = {name: value for name, value in launched(tmp_path).items() if value}  # the Inspector passes no empty one
    environ = [word for name, value in given.items() for word in ("-e", f"{name}={value}")]
    return [*environ, "--transport", "stdio", "--", sys.executable, "-m", "qhronos_mcp", "stdio"]


def inspected(node: Programs, reached: Sequence[str], cwd: Path, *words: str) -> Any:
    target = reached.index("--") if "--" in reached else len(reached)
    command = [*node.script(INSPECTOR), "--cli", *reached[:target], *words, *reached[target:]]
    done = run(node, command, cwd)
    assert done.returncode == 0, (done.returncode, done.stdout[-2000:], done.stderr[-2000:])
    return json.loads(done.stdout)


@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_the_inspector_finds_no_fault_with_the_tools(
    node: Programs, reached: list[str], tmp_path: Path, era: str
) -> None:
    listed = inspected(node, reached, tmp_path, "--protocol-era", era, "--method", "tools/list", "--strict")
    assert [tool["name"] for tool in listed["tools"]] == TOOLS


@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_the_inspector_calls_a_tool(node: Programs, reached: list[str], tmp_path: Path, era: str) -> None:
    answer = inspected(
        node, reached, tmp_path, "--protocol-era", era, "--method", "tools/call", "--tool-name", "list_events"
    )
    assert not answer.get("isError")
    assert answer["structuredContent"]["now"]


@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_the_inspector_finds_the_app_of_a_tool(node: Programs, reached: list[str], tmp_path: Path, era: str) -> None:
    found = inspected(
        node,
        reached,
        tmp_path,
        "--protocol-era",
        era,
        "--method",
        "tools/call",
        "--tool-name",
        "list_occurrences",
        "--app-info",
    )
    assert (found["hasApp"], found["resourceUri"]) == (True, "ui://qhronos/timeline")


# --- MCP Events ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("discovery", [True, False], ids=["modern", "legacy"])
def test_the_ai_sdk_is_woken_by_mcp_events_and_keeps_its_subscription_over_a_restart(
    node: Programs, tmp_path: Path, discovery: bool
) -> None:
    callback = free_port()
    settings = {"QHRONOS_EVENTS__DEV_ORIGINS": f"http://127.0.0.1:{callback}"}
    told = {"modules": str(node.modules), "token": MASTER, "discovery": discovery, "callback": callback}
    with a_cluster(tmp_path, lease="1m", settings=settings) as cluster, (tmp_path / "stderr").open("w+") as stderr:
        served = cluster.start()
        journey = subprocess.Popen(
            [node.node, str(JOURNEY.with_name("events.mjs")), json.dumps(told)],
            env=node.environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
        try:
            assert journey.stdin is not None
            assert journey.stdout is not None
            journey.stdin.write(f"http://127.0.0.1:{served.port}\n")
            journey.stdin.flush()
            if journey.stdout.readline():  # it asks for a restart
                served.stopped_by(signal.SIGTERM)
                served = cluster.start()
                journey.stdin.write(f"http://127.0.0.1:{served.port}\n")
                journey.stdin.flush()
            last, _ = journey.communicate(timeout=90)
        finally:
            journey.kill()
            journey.wait()
        stderr.seek(0)
        assert journey.returncode == 0, stderr.read()[-3000:]
    saw = json.loads(last)
    assert (saw["faults"], saw["refused"], saw["app"]) == ([], [], "ui://qhronos/timeline")
    assert "occurrence.due" in saw["types"]


# --- MCP Apps --------------------------------------------------------------------------------------------


@pytest.mark.skipif(
    shutil.which("chromium") is None,
    reason="the timeline in a stranger's host: no Chromium here (Debian: apt-get install chromium)",
)
async def test_the_timeline_lives_in_a_host_built_on_the_protocols_own_bridge(node: Programs, server: Node) -> None:
    event = server.create(name="Water the plants", schedule="in 1 day", action={"type": "inbox"})
    server.ask("POST", f"/events/{event['id']}/trigger")
    given = {"modules": str(node.modules), "token": MASTER, "url": f"http://127.0.0.1:{server.port}/mcp"}
    told = json.dumps({**given, "arguments": {"event_id": event["id"]}})
    host = await asyncio.create_subprocess_exec(
        node.node,
        str(JOURNEY.with_name("host.mjs")),
        told,
        env=node.environ,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**20,
    )
    to_host, from_host = host.stdin, host.stdout
    assert to_host is not None
    assert from_host is not None
    said: list[dict[str, Any]] = []

    async def line() -> dict[str, Any]:
        shown: dict[str, Any] = json.loads(await from_host.readline())
        return shown

    async def heard(message: dict[str, Any]) -> None:
        to_host.write(json.dumps(message).encode() + b"\n")

    try:
        app = await line()
        async with (
            a_browser(shutil.which("chromium") or "") as browser,
            framed(browser, app["html"], app["csp"], heard) as page,
        ):

            async def carry() -> None:
                while "ended" not in (shown := await line()):
                    said.append(shown)
                    if "tell" in shown:
                        await tell(page, shown["tell"])

            carried = asyncio.create_task(carry())
            frame = page.frame_locator("iframe")
            await expect(frame.get_by_role("heading", level=1)).to_have_text("Water the plants")
            await expect(frame.locator("li.run")).to_have_count(2)
            await frame.get_by_role("button", name=re.compile("acknowledged")).click()
            await expect(frame.get_by_text("The event was made by you.")).to_be_visible()
            to_host.write(b"end\n")
            await carried
    finally:
        if host.returncode is None:
            host.kill()
        await host.wait()
    assert [shown for shown in said if "fault" in shown] == []
    sizes = [shown["size"] for shown in said if "size" in shown]
    assert sizes[-1]["height"] > sizes[0]["height"] > 0
