"""`qhronos stdio --url`: a host that only launches programs works with a remote server."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters

from tests.faults.rig.nodes import Cluster, Node
from tests.journeys.serving import place as place

ROOT = Path(__file__).parents[2]


def minted(node: Node) -> str:
    fields = {"sub": "ann", "access": "write", "scope": ["user:ann"]}
    token: str = node.ask("POST", "/tokens", fields)[1]["token"]
    return token


def launch(node: Node, token: str) -> StdioServerParameters:
    return StdioServerParameters(
        command=sys.executable,
        args=["-m", "qhronos_mcp", "stdio", "--url", f"http://127.0.0.1:{node.port}/mcp"],
        env={"QHRONOS_TOKEN": token, "PYTHONPATH": str(ROOT)},
    )


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
async def test_both_generations_go_through_it(place: Cluster, mode: str) -> None:
    node = await asyncio.to_thread(place.start)
    token = await asyncio.to_thread(minted, node)
    async with Client(launch(node, token), mode=mode) as client:
        assert len((await client.list_tools()).tools) == 8
        made = await client.call_tool("create_event", {"name": "over the bridge", "schedule": "in 1s"})
        assert not made.is_error
        waited = await client.call_tool("wait_for_occurrences", {"seconds": 15})
        shown = waited.structured_content or {}
        assert shown["occurrences"][0]["untrusted"]["name"] == "over the bridge"
        taken = shown["occurrences"][0]["id"]
        done = await client.call_tool("acknowledge_occurrence", {"occurrence_id": taken, "outcome": "done"})
        assert (done.structured_content or {})["occurrence"]["status"] == "completed"
    events = (await asyncio.to_thread(node.ask, "GET", "/events"))[1]
    assert [event["created_by"] for event in events] == ["ann"]


async def test_a_push_goes_through_it(place: Cluster) -> None:
    node = await asyncio.to_thread(place.start)
    token = await asyncio.to_thread(minted, node)
    async with (
        Client(launch(node, token), mode="2026-07-28") as client,
        client.listen(resource_subscriptions=["qhronos://inbox"]) as changes,
    ):
        await client.call_tool("create_event", {"name": "n", "schedule": "in 1s"})
        async with asyncio.timeout(20):
            async for change in changes:
                assert str(change.uri) == "qhronos://inbox"  # type: ignore[union-attr]
                break


INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "n", "version": "1"}},
}


def bridging(port: int, token: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "qhronos_mcp", "stdio", "--url", f"http://127.0.0.1:{port}/mcp"],
        env={"QHRONOS_TOKEN": token, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def asked(bridge: "subprocess.Popen[str]", **message: Any) -> Any:
    assert bridge.stdin is not None
    assert bridge.stdout is not None
    bridge.stdin.write(json.dumps({**INITIALIZE, **message}) + "\n")
    bridge.stdin.flush()
    return json.loads(bridge.stdout.readline())


@pytest.mark.parametrize("said", ["", json.dumps(INITIALIZE) + "\n"], ids=["nothing", "a request"])
def test_it_ends_with_its_host_and_answers_what_was_asked_before(place: Cluster, said: str) -> None:
    """F51."""
    node = place.start()
    with bridging(node.port, minted(node)) as bridge:
        out, err = bridge.communicate(said, timeout=10)  # writes, and closes stdin
        assert (bridge.returncode, err) == (0, "")
        assert [json.loads(line)["result"]["serverInfo"]["name"] for line in out.splitlines()] == ["qhronos"][
            : len(said)
        ]


def test_a_server_that_is_away_is_an_answer_and_the_bridge_stands_until_it_is_back(
    place: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = place.start()
    token, port = minted(node), node.port
    node.kill()
    with bridging(port, token) as bridge:
        for number in (1, 2):
            answer = asked(bridge, id=number)
            assert answer["id"] == number
            assert "does not answer" in answer["error"]["message"]
        monkeypatch.setattr("tests.faults.rig.nodes.free_port", lambda: port)
        place.start()
        assert asked(bridge, id=3)["result"]["serverInfo"]["name"] == "qhronos"
        _, err = bridge.communicate(timeout=10)
        assert (bridge.returncode, err) == (0, "")


def test_a_token_that_is_not_valid_there_is_said_so(place: Cluster) -> None:
    node = place.start()
    with bridging(node.port, "not-a-token") as bridge:
        assert "QHRONOS_TOKEN" in asked(bridge)["error"]["message"]
        bridge.communicate(timeout=10)
        assert bridge.returncode == 0


@pytest.mark.parametrize(
    ("url", "token", "told"),
    [
        ("http://example.org/mcp", "t", "https://"),
        ("https://example.org/mcp", "", "QHRONOS_TOKEN"),
        ("https://example.org/mcp", "tökén", "QHRONOS_TOKEN"),
        ("https://example.org/mcp", "a\nb", "QHRONOS_TOKEN"),
        ("https://[example/mcp", "t", "https://"),
        ("https:///mcp", "t", "https://"),
    ],
)
def test_a_token_is_neither_missing_nor_shown_to_others(url: str, token: str, told: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "qhronos_mcp", "stdio", "--url", url],
        env={"QHRONOS_TOKEN": token, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
