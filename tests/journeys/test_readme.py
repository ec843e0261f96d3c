"""Every command and snippet of the README, and every file of examples/, is run: the door opens as it says."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters

from qhronos_core.domain.schedule import preview
from tests.faults.rig.nodes import MASTER, Cluster, free_port
from tests.journeys.serving import place as place

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
SCHEDULES = README.partition("## When")[2].partition("\n## ")[0]
EXAMPLES = sorted(path.name for path in (ROOT / "examples").iterdir() if path.suffix in {".py", ".sh"})


def block(language: str, holding: str) -> str:
    found: str
    (found,) = [text for kind, text in BLOCKS if kind == language and holding in text]
    return found


def environ_of(place: Cluster) -> dict[str, str]:
    environ = place.environ()
    secrets = place.directory / "data" / "secrets"
    secrets.mkdir(parents=True, exist_ok=True, mode=0o700)
    token = secrets / "master_token"
    token.write_text(MASTER)
    token.chmod(0o600)
    return {**environ, "PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def run(script: str, environ: dict[str, str]) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], env=environ, cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_readme_opens_in_the_order_it_should() -> None:
    wanted = ["# Qhronos", "## Two commands", "## In your agent host", "## The first event in three calls"]
    wanted.append("## What it promises")
    places = [README.index(heading) for heading in wanted]
    assert places == sorted(places)


def test_every_block_of_the_readme_is_known_to_a_test() -> None:
    known = (
        "./scripts/run.sh     #",
        ".venv/bin/qhronos demo",
        '"mcpServers"',
        "export MASTER=",
        "./scripts/db.sh start",
    )
    assert [text for _, text in BLOCKS if not any(each in text for each in known)] == []


def test_every_script_the_readme_names_is_there_and_can_be_run() -> None:
    for name in set(re.findall(r"\./scripts/(\w+\.sh)", README)):
        assert os.access(ROOT / "scripts" / name, os.X_OK), name


def test_every_qhronos_command_the_readme_names_is_one() -> None:
    told = subprocess.run([sys.executable, "-m", "qhronos_mcp", "--help"], capture_output=True, text=True, check=True)
    for name in ("serve", "stdio", "demo", "migrate", "token", "secret", "rotate-key", "doctor"):
        assert name in README
        assert name in told.stdout


def test_the_first_event_in_three_calls(place: Cluster) -> None:
    environ = environ_of(place)
    node = place.start()
    script = block("sh", "export MASTER=").replace("http://127.0.0.1:8080", f"http://127.0.0.1:{node.port}")
    told = run(script, environ)
    assert "Stand-up notes" in told
    assert '"status":"pending"' in told


def test_the_example_of_three_calls(place: Cluster) -> None:
    environ = environ_of(place)
    node = place.start()
    told = run("examples/first_event.sh", {**environ, "QHRONOS_URL": f"http://127.0.0.1:{node.port}"})
    assert "Stand-up notes" in told


async def test_the_host_configuration_launches_a_server_an_agent_can_use(place: Cluster) -> None:
    (server,) = json.loads(block("json", "mcpServers"))["mcpServers"].values()
    assert (server["command"], server["args"]) == ("uvx", ["qhronos-mcp"])
    launch = StdioServerParameters(  # what uvx runs: the package's command of that name
        command=sys.executable,
        args=["-c", "from qhronos_mcp.cli import stdio_main; stdio_main()"],
        env=environ_of(place),
    )
    async with Client(launch) as client:
        tools = {tool.name for tool in (await client.list_tools()).tools}
    for name in ("create_event", "wait_for_occurrences", "acknowledge_occurrence"):
        assert name in tools
        assert name in README


@pytest.mark.parametrize("schedule", re.findall(r"^\| (`.*?`) +\| \S", SCHEDULES, re.MULTILINE))
def test_every_schedule_of_the_readme_is_accepted(schedule: str) -> None:
    for text in re.findall(r"`([^`]+)`", schedule.partition("|")[0]):
        assert preview(text, timezone="Europe/Paris", after=datetime(2026, 11, 24, tzinfo=UTC), count=1)


def test_the_example_agent_does_what_is_due(place: Cluster) -> None:
    told = run("python examples/agent_loop.py", environ_of(place))
    assert told == "doing: Look at the build for you\n"


async def test_the_example_receiver_believes_only_what_is_signed(place: Cluster) -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    node = await asyncio.to_thread(place.start)
    port = free_port()
    receiver = await asyncio.create_subprocess_exec(
        sys.executable,
        str(ROOT / "examples" / "webhook_receiver.py"),
        str(port),
        env={**environ_of(place), "QHRONOS_WEBHOOK_SECRET": secret},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        webhook = f"http://127.0.0.1:{port}/"
        retry = {"max_attempts": 5, "delays": ["1s"]}
        fields: dict[str, Any] = {"schedule": "in 2s", "webhook": webhook, "hmac_secret": secret, "retry": retry}
        await asyncio.to_thread(node.create, **{**fields, "name": "Water the plants"})
        assert receiver.stdout is not None
        line = await asyncio.wait_for(receiver.stdout.readline(), 30)
        assert line.startswith(b"Water the plants was due at ")
    finally:
        receiver.kill()
        await receiver.wait()


def test_every_example_is_run_by_a_test() -> None:
    assert EXAMPLES == ["agent_loop.py", "first_event.sh", "webhook_receiver.py"]


def test_the_demo_shows_the_job_and_says_how_late() -> None:
    began = time.monotonic()
    environ = {**os.environ, "COLUMNS": "120"}
    done = subprocess.run(
        [sys.executable, "-m", "qhronos_mcp", "demo"], env=environ, capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for told in ("signature verified", "MCP client was told", "acknowledged: completed", "webhook, signed", " ms"):
        assert told in done.stdout
    assert time.monotonic() - began < 60  # under 15 s on a quiet machine


def test_a_demo_that_is_told_to_end_leaves_nothing_behind(tmp_path: Path) -> None:
    environ = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONIOENCODING": "ascii"}
    with subprocess.Popen(
        [sys.executable, "-m", "qhronos_mcp", "demo"],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as demo:
        assert demo.stdout is not None
        while "scheduled" not in (line := demo.stdout.readline()):
            assert line
        demo.send_signal(signal.SIGTERM)
        _, err = demo.communicate(timeout=20)
    assert (demo.returncode, err) == (143, "")
    assert list(tmp_path.iterdir()) == []


def test_a_demo_on_a_terminal_of_few_signs_is_shown_all_the_same() -> None:
    environ = {**os.environ, "COLUMNS": "80", "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-m", "qhronos_mcp", "demo"], env=environ, capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 0, done.stderr
