"""Serving one host over stdin and stdout.

stdout is the wire: nothing prints at import, logs go to stderr, and while the SDK serves, descriptor 1
points at stderr. The process ends when its host closes stdin, or at SIGTERM and SIGINT, with leases
given back and the store closed.
"""

import asyncio
import io
import os
import signal
import sys
import threading
from typing import Final

import anyio
from mcp.server.lowlevel import NotificationOptions
from mcp.server.stdio import stdio_server

from qhronos_core.config import Settings
from qhronos_core.domain.access import Principal
from qhronos_core.domain.errors import StartRefusedError, UnauthenticatedError
from qhronos_core.wiring import Core, open_core
from qhronos_mcp.mcp_server import compat
from qhronos_mcp.mcp_server.face import Face, Local
from qhronos_mcp.mcp_server.push import Hub, serve_legacy_subscriptions
from qhronos_mcp.mcp_server.server import build_server

_STOP_WITHIN: Final = 5.0  # seconds from a signal to the end, whatever hangs


async def serve_stdio(settings: Settings, *, text_line: bool = False) -> int:
    """Serve until stdin ends or a signal comes; the process's exit status.

    Raises:
        StartRefusedError: the token proves nothing, or there is none and the store is not the embedded one.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    async with open_core(settings) as core:
        face = Face(core, await local_of(core, os.environ.get("QHRONOS_TOKEN")), text_line)
        hub = Hub(face)
        signalled = asyncio.create_task(_signalled(), name="signals")
        serving = asyncio.create_task(_serve(face, hub), name="stdio")
        core.start_scheduler()
        await asyncio.wait({signalled, serving}, return_when=asyncio.FIRST_COMPLETED)
        hub.close()
        if serving.done():
            await serving
    # The core is closed: leases given back, the store shut.
    if signalled.done():
        os._exit(0)  # the SDK's thread that reads stdin cannot be cancelled, and would hold the interpreter's exit
    signalled.cancel()
    return 0


async def _serve(face: Face, hub: Hub) -> None:
    async with anyio.create_task_group() as group:
        server = build_server(face, hub)
        serve_legacy_subscriptions(server, hub, group, face)
        group.start_soon(hub.run)
        low = compat.lowlevel(server)
        async with stdio_server() as (read, write):
            await low.run(read, write, low.create_initialization_options(NotificationOptions()))
        group.cancel_scope.cancel()  # end of file: the ordinary exit


async def _signalled() -> None:
    """Until the first signal; from then on the process has `_STOP_WITHIN` to end, whatever hangs."""
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            watchdog = threading.Timer(_STOP_WITHIN, os._exit, (0,))
            watchdog.daemon = True
            watchdog.start()
            return


async def local_of(core: Core, token: str | None) -> Local:
    """Who speaks on this process's stdin.

    Raises:
        StartRefusedError: see `serve_stdio`.
    """
    if token is not None:
        try:
            return Local(await core.tokens.authenticate(token), token)
        except UnauthenticatedError:
            raise StartRefusedError("QHRONOS_TOKEN is not a valid token of this server") from None
    settings = core.settings
    if not settings.embedded:
        raise StartRefusedError("QHRONOS_TOKEN must be set: with PostgreSQL there is no local owner")
    owner = Principal.of_local_owner(settings.auth.local_sub, holder=f"local:{core.node}")
    return Local(owner)
