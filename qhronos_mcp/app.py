"""One ASGI app: REST, MCP at `/mcp`, the page. And the process that serves it until it is told to stop."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.routing import BaseRoute

from qhronos_core.config import ServerSettings, Settings
from qhronos_core.domain.errors import StartRefusedError
from qhronos_core.wiring import Core, open_core
from qhronos_mcp.bounded_websocket import BoundedWebSocket
from qhronos_mcp.collector import collect_seldom
from qhronos_mcp.mcp_server import compat
from qhronos_mcp.mcp_server.http import McpOverHttp
from qhronos_mcp.metrics import CoreMetrics, HttpMetrics
from qhronos_mcp.middleware import Envelope, Guard, hosts_of, origins_of
from qhronos_mcp.rest.answers import answer_problem
from qhronos_mcp.rest.routes import openapi_document, rest_routes
from qhronos_mcp.sockets import FRAME_MOST, Sockets
from qhronos_mcp.verifier import Verifier
from qhronos_mcp.web import web_routes
from qhronos_mcp.welcome import welcome

if TYPE_CHECKING:
    from qhronos_mcp.bounded_http import Room

_LOG: Final = structlog.get_logger("qhronos.serve")
ANSWERED_WITHIN: Final = (
    0.5  # seconds that calls of the older protocol have for their answers, before their streams end
)
GRACEFUL: Final = 5  # seconds that requests under way have, once the node is told to stop
DESCRIPTORS_MOST: Final = 65_536  # asked of a system that allows more
KEEP_ALIVE: Final = 75  # longer than what balancers keep, so that they close first


def build_app(core: Core, settings: Settings) -> Starlette:
    """The whole face over one core. Its lifespan starts the scheduler and, at the end, drains and closes the core."""
    verifier = Verifier(core)
    document = openapi_document()
    mcp = McpOverHttp(core, verifier)
    sockets = Sockets(core, verifier)
    routes: Sequence[BaseRoute] = [
        *rest_routes(core, verifier),
        *web_routes(document),
        *sockets.routes(),
        mcp.route,
    ]

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        told = asyncio.create_task(sockets.run(), name="sockets")
        try:
            async with mcp.running():
                core.start_scheduler()
                yield
        finally:
            sockets.close()
            told.cancel()
            await asyncio.wait([told])
            await core.aclose()

    metrics = HttpMetrics()
    metrics.registry.register(CoreMetrics(core, lambda: {**mcp.hub.open(), "sockets": sockets.open}))
    app = Starlette(
        routes=routes,
        lifespan=lifespan,
        middleware=[
            Middleware(Envelope, metrics=metrics, tls=(settings.server.public_url or "").startswith("https://")),
            Middleware(ExceptionMiddleware, handlers={Exception: answer_problem}),
            Middleware(Guard, hosts=hosts_of(settings), origins=origins_of(settings)),
        ],
        exception_handlers={HTTPException: answer_problem},
    )
    app.router.redirect_slashes = False  # an unknown path is a JSON 404, not a guess
    app.state.core, app.state.metrics, app.state.openapi, app.state.mcp = core, metrics, document, mcp
    app.state.sockets = sockets
    return app


def begin_stop(app: Starlette) -> None:
    """No new work, and whoever keeps a request open is let go: listen streams end with a result, waits answer."""
    app.state.core.begin_drain()
    app.state.mcp.hub.close()
    app.state.sockets.close()
    asyncio.get_running_loop().call_later(ANSWERED_WITHIN, compat.end_streams)


class Server(uvicorn.Server):
    """Told to stop, it first says so to whoever keeps a request open: those end, and only then does uvicorn wait."""

    def __init__(self, config: uvicorn.Config, *, on_start: Callable[[], None], on_exit: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_start = on_start
        self._on_exit = on_exit

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        if self.force_exit:  # told twice, uvicorn waits for no request; the app closes all the same
            await self.lifespan.shutdown()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._on_exit()
        super().handle_exit(sig, frame)


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then drain and close, then end by that same signal (status 143 or 130).

    Raises:
        StartRefusedError: the port is taken or may not be used; nothing was begun.
    """
    room = _room(settings.delivery.concurrency)
    if room is not None:
        delivery = settings.delivery.model_copy(update={"concurrency": room.sends})
        settings = settings.model_copy(update={"delivery": delivery})
    with _listening(settings.server) as listener, _Signals.remembered() as signals:
        server = settings.server.model_copy(update={"port": listener.getsockname()[1]})  # it may have been 0
        settings = settings.model_copy(update={"server": server})
        _run(_served(settings, listener, signals, room))
    if signals.received is not None:
        signal.signal(signals.received, signal.SIG_DFL)
        signal.raise_signal(signals.received)


async def _served(settings: Settings, listener: socket.socket, signals: "_Signals", room: "Room | None") -> None:
    compat.keep_streams_open()
    async with open_core(settings) as core:
        app = build_app(core, settings)
        config = uvicorn_config(app, settings, room)
        server = Server(config, on_start=lambda: _started(core, _address(listener)), on_exit=lambda: begin_stop(app))
        signals.reach(server)
        await server.serve(sockets=[listener])


def uvicorn_config(app: Starlette, settings: Settings, room: "Room | None" = None) -> uvicorn.Config:
    """How the app is served: every limit of the wire stands here."""
    return uvicorn.Config(
        app,
        http=_http_protocol(app, room),
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        ws=BoundedWebSocket,
        ws_max_size=4 * FRAME_MOST,  # beyond it the protocol hangs up; up to it the socket says why
        ws_ping_interval=20,
        ws_ping_timeout=20,
        proxy_headers=bool(settings.server.trusted_proxies),
        forwarded_allow_ips=[str(network) for network in settings.server.trusted_proxies],
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=GRACEFUL,
    )


def _started(core: Core, url: str) -> None:
    collect_seldom()
    _LOG.info("serving", url=url, node=core.node)
    if core.secrets_made:
        with suppress(OSError):  # where it goes there may be no room, and that stops nobody
            sys.stderr.write(welcome(url, core.secrets_made))


@contextmanager
def _listening(server: ServerSettings) -> Iterator[socket.socket]:
    """The port, taken before anything is opened: a second server on it is one clear line, and nothing half made."""
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    try:
        listener = socket.create_server((server.host, server.port), family=family, backlog=2048)
    except (OSError, UnicodeError, TypeError, ValueError) as error:
        where = f"server.host {server.host}, server.port {server.port}"
        number = error.errno if isinstance(error, OSError) else None
        if isinstance(error.__context__ or error, socket.gaierror):
            number = None  # its number is of another list
        why = os.strerror(number) if number else "this machine has no such address"  # the error's own words repeat it
        raise StartRefusedError(f"{where}: cannot listen there ({why}); choose another") from None
    # With its protocol named: asyncio turns Nagle's algorithm off only on a socket that says it is TCP.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=listener.detach()) as named:
        yield named


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Signals:
    """SIGTERM and SIGINT, from the first line to the last.

    While uvicorn serves it takes them itself, and raises them again once it has served: were that to end the
    process, the store would never be closed. Before that they are only remembered, and told to the server.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._server: Server | None = None

    def reach(self, server: Server) -> None:
        self._server = server
        if self.received is not None:
            server.handle_exit(self.received, None)

    def _take(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        if self._server is not None:
            self._server.handle_exit(number, frame)

    @classmethod
    @contextmanager
    def remembered(cls) -> "Iterator[_Signals]":
        signals = cls()
        before = {number: signal.signal(number, signals._take) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield signals
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _run(main: Any) -> None:
    """On uvloop where there is one: its timers and sockets cost half."""
    if sys.platform != "win32" and _has("uvloop"):
        import uvloop

        uvloop.run(main)
    else:
        asyncio.run(main)


def _room(sends: int) -> "Room | None":
    """All the descriptors the system allows, shared out. None where it does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    from qhronos_mcp.bounded_http import Room

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS_MOST if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS_MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    return Room.within(min(soft, DESCRIPTORS_MOST) if soft > 0 else DESCRIPTORS_MOST, sends=sends)


def _http_protocol(app: Starlette, room: "Room | None") -> Any:
    """On httptools where there is one: it parses an order of magnitude faster, but bounds nothing by itself."""
    if not _has("httptools"):
        return "h11"
    from qhronos_mcp.bounded_http import BoundedHttp

    return BoundedHttp.by(app.state.core.clock.now, room)


def _has(module: str) -> bool:
    from importlib.util import find_spec

    return find_spec(module) is not None
