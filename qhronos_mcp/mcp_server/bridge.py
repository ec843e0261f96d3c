"""`qhronos stdio --url`: a host that only launches programs reaches a remote server.

Each message goes through as it is, in both directions and both protocol generations. The bridge keeps
no state of ours: no store, no scheduler, nothing on disk. Its token comes from the environment alone.
"""

import asyncio
import os
import re
import signal
import sys
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

import anyio
import httpx2
import mcp_types as t
from mcp.client.streamable_http import streamable_http_client
from mcp.server.stdio import stdio_server
from mcp.shared.inbound import (
    MCP_METHOD_HEADER,
    MCP_NAME_HEADER,
    MCP_PROTOCOL_VERSION_HEADER,
    NAME_BEARING_METHODS,
    encode_header_value,
)
from mcp.shared.message import ClientMessageMetadata, SessionMessage

from qhronos_core.domain.errors import StartRefusedError

ANSWERED_WITHIN: Final = 0.75  # seconds that what was asked before stdin ended still has
ENDS_WITHIN: Final = 1.5  # seconds from there to the end, whatever the server does
PATIENCE: Final = 120.0  # seconds without a byte from the server: longer than any wait of ours
_VERSION: Final = "io.modelcontextprotocol/protocolVersion"


async def serve_bridge(url: str) -> int:
    """Carry messages until stdin ends or a signal comes; the exit status.

    Raises:
        StartRefusedError: no QHRONOS_TOKEN, or none that could be one, or an address that would show it to others.
    """
    token = os.environ.get("QHRONOS_TOKEN", "")
    if not token:
        raise StartRefusedError("stdio --url needs a token of that server in QHRONOS_TOKEN")
    if not re.fullmatch(r"[!-~]+", token):
        raise StartRefusedError("QHRONOS_TOKEN must be visible ASCII without spaces, to travel in a header")
    _refuse_clear_text(url)
    async with asyncio.TaskGroup() as group:
        stopping = group.create_task(_until_signalled())
        bridging = group.create_task(_bridge(url, token))
        await asyncio.wait({stopping, bridging}, return_when=asyncio.FIRST_COMPLETED)
        if not bridging.done():
            sys.stderr.flush()
            os._exit(0)  # the SDK's thread that reads stdin cannot be cancelled
        stopping.cancel()
    return 0


def _refuse_clear_text(url: str) -> None:
    """A token goes out over https, or to this machine."""
    with suppress(ValueError):  # of what is no address at all
        parts = urlsplit(url)
        if parts.scheme == "https" and parts.hostname:
            return
        if parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1", "::1"):
            return
    raise StartRefusedError("stdio --url needs an https:// address, since a token goes with every request")


async def _bridge(url: str, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    timeout = httpx2.Timeout(30, read=PATIENCE)
    async with (
        httpx2.AsyncClient(
            headers=headers, timeout=timeout, follow_redirects=False, transport=_Answering(trust_env=False)
        ) as http,
        streamable_http_client(url, http_client=http) as (from_server, to_server),
        stdio_server() as (from_host, to_host),
        to_host,  # its writer ends when nobody sends any more
        anyio.create_task_group() as group,
    ):
        negotiated = _Negotiated()
        waiting = _Waiting()

        async def answers() -> None:
            async for message in from_server:
                if isinstance(message, SessionMessage):
                    negotiated.hear(message.message)
                    await to_host.send(SessionMessage(message.message))
                    waiting.answered(message.message)
            group.cancel_scope.cancel()

        group.start_soon(answers)
        async for message in from_host:
            if isinstance(message, SessionMessage):
                waiting.asked(message.message)
                await to_server.send(SessionMessage(message.message, negotiated.headers_for(message.message)))
        asyncio.get_running_loop().call_later(ENDS_WITHIN, os._exit, 0)
        await waiting.over()
        group.cancel_scope.cancel()


class _Answering(httpx2.AsyncHTTPTransport):
    """A server that is away, or does not take the token, is an answer to the request, and not the end of the bridge."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        try:
            response = await super().handle_async_request(request)
            if response.headers.get("content-type", "").lower().startswith("application/json"):
                await response.aread()
        except httpx2.TransportError:
            return _refusal(request, 503, "The Qhronos server does not answer. Try again in a moment.")
        if response.status_code == httpx2.codes.UNAUTHORIZED:
            await response.aclose()
            return _refusal(request, 401, "The Qhronos server does not take the token in QHRONOS_TOKEN.")
        return response


def _refusal(request: httpx2.Request, status: int, says: str) -> httpx2.Response:
    error = {"code": t.INTERNAL_ERROR, "message": says}
    return httpx2.Response(status, request=request, json={"jsonrpc": "2.0", "id": None, "error": error})


class _Waiting:
    """The requests of the host that have no answer yet."""

    def __init__(self) -> None:
        self._ids: set[str | int] = set()
        self._stirred = asyncio.Event()

    def asked(self, message: Any) -> None:
        if isinstance(message, t.JSONRPCRequest):
            self._ids.add(message.id)

    def answered(self, message: Any) -> None:
        if isinstance(message, t.JSONRPCResponse | t.JSONRPCError) and message.id is not None:
            self._ids.discard(message.id)
            self._stirred.set()

    async def over(self) -> None:
        """Until each has its answer, or for a moment."""
        with anyio.move_on_after(ANSWERED_WITHIN):
            while self._ids:
                self._stirred.clear()
                await self._stirred.wait()


class _Negotiated:
    """The legacy version that was agreed on, which HTTP wants repeated in a header of every later request."""

    def __init__(self) -> None:
        self._asked: object = None
        self._version: str | None = None

    def hear(self, message: Any) -> None:
        if isinstance(message, t.JSONRPCResponse) and message.id == self._asked:
            self._version = str(message.result.get("protocolVersion", "")) or None

    def headers_for(self, message: Any) -> ClientMessageMetadata | None:
        method = getattr(message, "method", None)
        if method is None:
            return self._legacy()
        params = getattr(message, "params", None) or {}
        if method == "initialize":
            self._asked = message.id
            return None
        version = (params.get("_meta") or {}).get(_VERSION)
        if version is None:
            return self._legacy()
        headers = {MCP_PROTOCOL_VERSION_HEADER: str(version), MCP_METHOD_HEADER: str(method)}
        key = NAME_BEARING_METHODS.get(method) or ("taskId" if str(method).startswith("tasks/") else None)
        if key is not None and params.get(key) is not None:
            headers[MCP_NAME_HEADER] = encode_header_value(str(params[key]))
        return ClientMessageMetadata(headers=headers)

    def _legacy(self) -> ClientMessageMetadata | None:
        if self._version is None:
            return None
        return ClientMessageMetadata(headers={MCP_PROTOCOL_VERSION_HEADER: self._version})


async def _until_signalled() -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            return
