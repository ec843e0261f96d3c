"""The wire of Claude Code's channel, and nothing more: it is a preview, and off unless asked for."""

import json
from pathlib import Path
from typing import Any

import pytest

from qhronos_mcp.mcp_server.channel import CONTENT
from tests.faces.mcp.test_stdio import DISCOVER, HELLO, a_process, told


@pytest.mark.parametrize("hello", [HELLO, DISCOVER])
async def test_a_session_is_woken_by_one_line_of_ours_with_ids(tmp_path: Path, hello: dict[str, Any]) -> None:
    meta = hello["params"].get("_meta")

    def call(number: int, tool: str, **arguments: str) -> dict[str, Any]:
        params = {"name": tool, "arguments": arguments} | ({"_meta": meta} if meta else {})
        return {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}

    async with a_process(tmp_path, "--claude-channel") as process:
        capabilities = (await told(process, hello))["result"]["capabilities"]
        assert capabilities["experimental"] == {"claude/channel": {}}
        made = await told(process, call(2, "create_event", name="MARKER", schedule="@yearly", key="k"))
        lines = [await told(process, call(3, "trigger", event_id="k"))]
        assert process.stdout is not None
        lines.append(json.loads(await process.stdout.readline()))
        [woken, ran] = sorted(lines, key=lambda line: "id" in line)  # whichever came first
        assert woken == {
            "jsonrpc": "2.0",
            "method": "notifications/claude/channel",
            "params": {
                "content": CONTENT,
                "meta": {
                    "event_id": made["result"]["structuredContent"]["event"]["id"],
                    "occurrence_id": ran["result"]["structuredContent"]["occurrence"]["id"],
                },
            },
        }


async def test_it_is_off_unless_asked_for(tmp_path: Path) -> None:
    async with a_process(tmp_path) as process:
        assert "experimental" not in (await told(process, HELLO))["result"]["capabilities"]
