"""Serving one host over stdin and stdout.

stdout is the wire: nothing prints at import, logs go to stderr, and while the SDK serves, descriptor 1
points at stderr. A host waits for the answer to its handshake, so that is served first, and the core is
imported and opened meanwhile. The process ends when its host closes stdin (also where the host has stopped reading
the answers), or at SIGTERM and SIGINT, with leases given back and the store closed.
"""

import asyncio
import io
import logging
import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Final, NoReturn

import anyio
from mcp.server.lowlevel import NotificationOptions
from mcp.server.stdio import stdio_server

from qhronos_core.domain.access import Principal
from qhronos_core.domain.errors import (
    StartRefusedError,
    StoreUnavailableError,
    UnauthenticatedError,
    UnavailableError,
)
from qhronos_mcp.collector import collect_seldom
from qhronos_mcp.mcp_server import compat
from qhronos_mcp.mcp_server.channel import CAPABILITY, Channel
from qhronos_mcp.mcp_server.conversation import Conversation
from qhronos_mcp.mcp_server.server import QhronosServer

if TYPE_CHECKING:
    from qhronos_core.config import Settings
    from qhronos_core.wiring import Core
    from qhronos_mcp.mcp_server.face import Face, Local

_STOP_WITHIN: Final = 5.0  # seconds from a signal to the end, whatever hangs
_DRAIN: Final = timedelta(seconds=1)  # a host waits two seconds for its server to end, and not for strangers' receivers
_ANSWERED_WITHIN: Final = 0.75  # seconds that what was asked before the end still has
_UNREAD: Final = 0.5  # seconds that answers lie unread after which a host that has closed stdin has gone
_TAKEN_WITHIN: Final = 0.25  # seconds that the last answers have to be read


async def serve_stdio(load: Callable[[], "Settings"], *, text_line: bool = False, claude_channel: bool = False) -> int:
    """Serve until stdin ends or a signal comes; the exit status. `load` may refuse to start: one line, status 2."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    logging.getLogger().addHandler(logging.StreamHandler(sys.stderr))  # before the SDK finds a bare root logger
    server = QhronosServer()
    channel = None
    if claude_channel:
        channel = Channel()
        channel.declare(server)
    signalled = asyncio.create_task(_signalled(), name="signals")
    host = Conversation()
    over = asyncio.create_task(host.over(), name="host")
    gone = asyncio.create_task(_gone(os.dup(0), os.dup(1)), name="gone")  # the SDK moves 0 and 1 elsewhere
    serving = asyncio.create_task(_serve(server, channel, host), name="stdio")
    ended = asyncio.create_task(_first(signalled, serving, over, gone), name="ended")
    try:
        await _furnished(server, load, ended, host, text_line=text_line, channel=channel)
    except StartRefusedError as refusal:
        _end(2, f"qhronos: {refusal}\n")
    except Exception:  # ours to mend; but the process must end, and its stdin thread would not let it
        _end(1, traceback.format_exc())
    # The core is closed: leases given back, the store shut.
    host.let_go()
    if over.done():
        await asyncio.wait([serving], timeout=_TAKEN_WITHIN)
    if not serving.done():
        _end(0)
    for task in (signalled, over, gone):
        task.cancel()
    try:
        await serving
    except* (BrokenPipeError, ConnectionResetError):
        pass  # the host has gone, and with it whoever could be told
    return 0


def _end(status: int, last_words: str = "") -> NoReturn:
    """At once: the SDK's thread that reads stdin cannot be cancelled, and would hold the interpreter's exit."""
    sys.stderr.write(last_words)
    sys.stderr.flush()
    os._exit(status)


async def _first(*tasks: "asyncio.Task[None]") -> None:
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)


async def _serve(server: QhronosServer, channel: Channel | None, host: Conversation) -> None:
    low = compat.lowlevel(server)
    options = low.create_initialization_options(NotificationOptions(), None if channel is None else CAPABILITY)
    async with stdio_server() as pipe, host.between(*pipe) as (read, write):
        await low.run(read, write, options)


async def _furnished(
    server: QhronosServer,
    load: Callable[[], "Settings"],
    ended: "asyncio.Task[None]",
    host: Conversation,
    *,
    text_line: bool,
    channel: Channel | None,
) -> None:
    """Open the core, let requests in, and stay until `ended`."""
    await asyncio.to_thread(_import_the_rest)
    from qhronos_core.wiring import configure_logs, open_core
    from qhronos_mcp.mcp_server.face import Face
    from qhronos_mcp.mcp_server.push import Hub, serve_legacy_subscriptions

    settings = load()
    configure_logs(settings)
    delivery = settings.delivery.model_copy(update={"drain": min(settings.delivery.drain, _DRAIN)})
    settings = settings.model_copy(update={"delivery": delivery})
    async with open_core(settings) as core:
        face = Face(core, await local_of(core, os.environ.get("QHRONOS_TOKEN")), text_line)
        sys.stderr.writelines(f"note: made {path}\n" for path in core.secrets_made)
        hub = Hub(face)
        async with anyio.create_task_group() as group:
            serve_legacy_subscriptions(server, hub, group, face)
            group.start_soon(hub.run)
            server.furnish(face, hub)
            if channel is not None:
                group.start_soon(channel.run, face, hub)
            core.start_scheduler()
            collect_seldom()
            await ended
            _hurry()
            core.begin_drain()
            hub.close()  # waits answer, streams end
            await host.answered(within=_ANSWERED_WITHIN)
            group.cancel_scope.cancel()
        await _given_back(face)


async def _given_back(face: "Face") -> None:
    """What this process's own agent held: nobody else could acknowledge it. A token's items are the token's still."""
    if face.local is None or face.local.token is not None or face.local.principal is None:
        return
    try:
        async with asyncio.timeout(1):
            await face.core.occurrences.give_back_held(face.local.principal.holder)
    except (UnavailableError, TimeoutError):
        return  # each lease lapses by itself


def _hurry() -> None:
    """From here on the process has `_STOP_WITHIN` to end."""
    watchdog = threading.Timer(_STOP_WITHIN, os._exit, (0,))
    watchdog.daemon = True
    watchdog.start()


async def _gone(stdin: int, stdout: int) -> None:
    """Until the host has closed stdin and no longer reads: the end of stdin is then behind requests nobody can answer."""
    if not hasattr(select, "poll"):
        await asyncio.Event().wait()
    loop, told = asyncio.get_running_loop(), asyncio.Event()

    def watch() -> None:
        inward, outward = select.poll(), select.poll()
        inward.register(stdin, getattr(select, "POLLRDHUP", 0))  # and, unasked, POLLHUP: every writer has closed
        outward.register(stdout, select.POLLOUT)
        inward.poll()
        while outward.poll(_UNREAD * 1_000):  # whoever reads what is left has not gone
            time.sleep(_UNREAD)
        with suppress(RuntimeError):  # the loop has ended: so has all
            loop.call_soon_threadsafe(told.set)

    threading.Thread(target=watch, name="gone", daemon=True).start()
    await told.wait()


def _import_the_rest() -> None:
    """In a thread: the handshake is answered between its steps."""
    import qhronos_mcp.mcp_server.completions
    import qhronos_mcp.mcp_server.resources
    import qhronos_mcp.mcp_server.waits  # noqa: F401


async def local_of(core: "Core", token: str | None) -> "Local":
    """Who speaks on this process's stdin.

    Raises:
        StartRefusedError: the token proves nothing, or there is none and the store is not the embedded one.
    """
    from qhronos_mcp.mcp_server.face import Local

    if token is not None:
        local = Local(token=token)
        try:
            await local.look_up(core)
        except UnauthenticatedError:
            raise StartRefusedError("QHRONOS_TOKEN is not a valid token of this server") from None
        except StoreUnavailableError:
            pass  # it is looked up again at each call
        return local
    settings = core.settings
    if not settings.embedded:
        raise StartRefusedError("QHRONOS_TOKEN must be set: with PostgreSQL there is no local owner")
    return Local(Principal.of_local_owner(settings.auth.local_sub, node=str(core.node)))


async def _signalled() -> None:
    """Until the first signal."""
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            _hurry()  # at once: the core may still be opening
            return
