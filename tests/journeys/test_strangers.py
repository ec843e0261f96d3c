"""Clients that others wrote, against the server as a person starts it: the TypeScript client and the Inspector."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.node import NodeMissing, Programs, programs
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
    config = tmp_path / "config.yaml"
    config.write_text("server: {}\n")
    environ = {
        "PYTHONPATH": str(ROOT),
        "PYTHONTZPATH": "",
        "QHRONOS_CONFIG": str(config),
        "QHRONOS_DATA_DIR": str(tmp_path / "data"),
    }
    started = {"command": sys.executable, "args": ["-m", "qhronos_mcp", "stdio"], "env": environ}
    saw = journey(node, tmp_path, mode, **started)
    assert (saw["version"], saw["tools"]) == (NEGOTIATED[mode], TOOLS)
    assert saw["progress"] >= 3


def inspected(node: Programs, server: Node, cwd: Path, *words: str) -> Any:
    command = node.script(INSPECTOR)
    command += ["--cli", f"http://127.0.0.1:{server.port}/mcp", "--transport", "http"]
    command += ["--header", f"Authorization: Bearer {MASTER}", *words]
    done = run(node, command, cwd)
    assert done.returncode == 0, (done.returncode, done.stdout[-2000:], done.stderr[-2000:])
    return json.loads(done.stdout)


@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_the_inspector_finds_no_fault_with_the_tools(node: Programs, server: Node, tmp_path: Path, era: str) -> None:
    listed = inspected(node, server, tmp_path, "--protocol-era", era, "--method", "tools/list", "--strict")
    assert [tool["name"] for tool in listed["tools"]] == TOOLS


@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_the_inspector_calls_a_tool(node: Programs, server: Node, tmp_path: Path, era: str) -> None:
    answer = inspected(
        node, server, tmp_path, "--protocol-era", era, "--method", "tools/call", "--tool-name", "list_events"
    )
    assert not answer.get("isError")
    assert answer["structuredContent"]["now"]


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
