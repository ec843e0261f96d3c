"""The extension's requests, by the official client and as raw HTTP."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import mcp_types as t
from mcp.shared.exceptions import MCPError
from pydantic import ConfigDict

from tests.faces.mcp.house import House
from tests.faces.mcp.speakers import MODERN, Speaker


class Params(t.RequestParams):
    model_config = ConfigDict(extra="allow")


class Answer(t.Result):
    model_config = ConfigDict(extra="allow")


async def ask(speaker: Speaker, method: str, **params: Any) -> dict[str, Any]:
    request = t.Request[Params, str](method=f"events/{method}", params=Params.model_validate(params))
    answer = await speaker.client.session.send_request(request, Answer)
    return dict(answer.model_extra or {})


async def refusal(speaker: Speaker, method: str, **params: Any) -> MCPError:
    try:
        answer = await ask(speaker, method, **params)
    except MCPError as error:
        return error
    raise AssertionError(f"was answered: {answer}")


def request(method: str, request_id: int | str = 1, **params: Any) -> dict[str, Any]:
    meta = {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "raw", "version": "1"},
    }
    return {"jsonrpc": "2.0", "id": request_id, "method": method, "params": {**params, "_meta": meta}}


def headers(method: str) -> dict[str, str]:
    return {
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": MODERN,
        "Mcp-Method": method,
    }


async def post(house: House, method: str, bearer: str = "alice", **params: Any) -> dict[str, Any]:
    """The JSON-RPC answer, as it came."""
    async with house.http(bearer) as http:
        answer = await http.post(house.url, json=request(method, **params), headers=headers(method))
        told: dict[str, Any] = answer.json()
        return told


class Frames:
    """The messages of one `events/stream`, in order."""

    def __init__(self, answer: httpx2.Response) -> None:
        self._lines = answer.aiter_lines()

    async def next(self) -> dict[str, Any]:
        async for line in self._lines:
            if line.startswith("data:") and line[5:].strip():
                told: dict[str, Any] = json.loads(line[5:])
                return told
        raise AssertionError("the stream ended")

    async def notified(self, kind: str) -> dict[str, Any]:
        told = await self.next()
        assert told["method"] == f"notifications/events/{kind}", told
        params: dict[str, Any] = told["params"]
        return params


@asynccontextmanager
async def streaming(
    house: House, bearer: str = "alice", request_id: int | str = 7, **params: Any
) -> AsyncIterator[Frames]:
    method = "events/stream"
    body = request(method, request_id, **params)
    async with (
        house.http(bearer) as http,
        http.stream("POST", house.url, json=body, headers=headers(method)) as answer,
    ):
        assert answer.headers["content-type"].startswith("text/event-stream"), await answer.aread()
        yield Frames(answer)
