"""MCP over streamable HTTP: one route of the one ASGI app, `/mcp`.

The SDK's app is taken apart: mounted whole, it would answer every unknown path of ours with a
plain-text 404. Its route is kept, with its own authentication around it and around nothing else.
"""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final

import anyio
from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser, BearerAuthBackend
from mcp.server.auth.provider import TokenVerifier
from mcp.server.auth.settings import AuthSettings
from mcp.server.extension import Extension
from mcp.server.streamable_http import MCP_SESSION_ID_HEADER
from mcp.server.transport_security import TransportSecuritySettings
from mcp.shared.inbound import MCP_PROTOCOL_VERSION_HEADER
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from pydantic import AnyHttpUrl
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from qhronos_core.config import Settings
from qhronos_core.domain.errors import LimitedError
from qhronos_core.wiring import Core
from qhronos_mcp.mcp_server.face import Face, principal_of
from qhronos_mcp.mcp_server.push import Hub, serve_legacy_subscriptions
from qhronos_mcp.mcp_server.server import QhronosServer
from qhronos_mcp.middleware import (
    FAILED_AUTHENTICATIONS,
    Doors,
    address_bucket,
    allowance,
    facts_of,
    hosts_of,
    origins_of,
)

PATH: Final = "/mcp"


class McpOverHttp:
    """`route` for the app's table, `running()` for its lifespan, `hub.close()` for its end. Once each."""

    def __init__(self, core: Core, verifier: TokenVerifier, *, extensions: Iterable[Extension] = ()) -> None:
        self._face = Face(core)
        self.hub = Hub(self._face)
        # The SDK insists on an issuer beside a verifier. No resource URL: a 401 then carries no discovery hint.
        self._server = QhronosServer(
            token_verifier=verifier,
            auth=AuthSettings(
                issuer_url=AnyHttpUrl(core.settings.server.public_url or "http://localhost/"),
                resource_server_url=None,
                validate_token_resource=False,
            ),
            extensions=extensions,
        )
        self._server.furnish(self._face, self.hub)
        app = self._server.streamable_http_app(
            streamable_http_path=PATH, transport_security=transport_security(core.settings)
        )
        [inner] = [route for route in app.routes if isinstance(route, Route)]
        guarded: ASGIApp = _Known(AuthContextMiddleware(inner.app), core)
        guarded = AuthenticationMiddleware(guarded, backend=BearerAuthBackend(verifier))
        screened = _Screened(guarded, Doors(hosts_of(core.settings), origins_of(core.settings)))
        self.route = Route(PATH, endpoint=CleanHeaders(screened), include_in_schema=False)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Sessions, the hub and legacy subscriptions live in here. A mounted app's own lifespan would never run."""
        async with anyio.create_task_group() as group:
            serve_legacy_subscriptions(self._server, self.hub, group, self._face)
            group.start_soon(self.hub.run)
            async with self._server.session_manager.run():
                yield
            self.hub.close()
            group.cancel_scope.cancel()


def transport_security(settings: Settings) -> TransportSecuritySettings:
    """Each host bare and with any port: the SDK's default admits localhost alone, and an empty list nobody."""
    hosts = [form for host in hosts_of(settings) for form in (host, f"{host}:*")]
    return TransportSecuritySettings(allowed_hosts=hosts, allowed_origins=list(origins_of(settings)))


class _Screened:
    """Host and Origin, before a token is looked at: a stranger's page learns nothing, not even who may come in.

    421 and 403, as the SDK says it. It compares letter by letter, so what was admitted goes on in lower case, and
    without its Origin. `Last-Event-ID` is left behind too: no event of ours has an id to go on from, and the SDK would
    leave the request unanswered. And no answer may be stored: the SDK's streams say otherwise.
    """

    def __init__(self, app: ASGIApp, doors: Doors) -> None:
        self._app = app
        self._doors = doors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        facts_of(scope).route = PATH
        if not self._doors.admit_host(scope):
            await Response("Invalid Host header", status_code=421)(scope, receive, send)
            return
        if not self._doors.admit_origin(scope):
            await Response("Invalid Origin header", status_code=403)(scope, receive, send)
            return

        async def unstored(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message["headers"])
                if "cache-control" in headers:
                    headers["cache-control"] = "no-store, no-transform"
            await send(message)

        headers = [
            (name, value.lower() if name == b"host" else value)
            for name, value in scope["headers"]
            if name not in (b"origin", b"last-event-id")
        ]
        await self._app({**scope, "headers": headers}, receive, unstored)


class _Known:
    """Tells the log and the counters who asks, and counts: by token, and by address who proves nothing, as over REST.

    A call too many is told by the face, in the words of its protocol (`Face.admit`). What no face would answer, a stream
    or a new session, is refused here.
    """

    def __init__(self, app: ASGIApp, core: Core) -> None:
        self._app = app
        self._core = core

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises LimitedError."""
        facts = facts_of(scope)
        user = scope["user"]
        if isinstance(user, AuthenticatedUser):
            facts.caller = principal_of(user.access_token.claims or {})
            verdict = await self._core.limits.take(*allowance(facts.caller, self._core.settings))
            facts.verdict = verdict
            refused = not verdict.allowed and _is_told_by_no_face(scope)
        else:
            verdict = await self._core.limits.take(address_bucket(scope), FAILED_AUTHENTICATIONS)
            refused = not verdict.allowed
        if refused:
            raise LimitedError(verdict.retry_after)
        await self._app(scope, receive, send)


def _is_told_by_no_face(scope: Scope) -> bool:
    """A stream of the older protocol, and what would open a session of it."""
    method: str = scope["method"]
    if method != "POST":
        return method != "DELETE"  # that makes room
    headers = Headers(scope=scope)
    modern = headers.get(MCP_PROTOCOL_VERSION_HEADER) not in (None, *HANDSHAKE_PROTOCOL_VERSIONS)
    return MCP_SESSION_ID_HEADER not in headers and not modern


class CleanHeaders:
    """Headers as they are meant, before the SDK compares them.

    Values lose the spaces around them (RFC 9110 §5.5; the parser leaves those behind). An Origin equal to the
    request's own scheme and Host counts as none: a page of this very server may call.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = [(name, value.strip(b" \t")) for name, value in scope["headers"]]
            own = f"{scope['scheme']}://{dict(headers).get(b'host', b'').decode('latin-1')}".encode("latin-1")
            scope = {**scope, "headers": [header for header in headers if header != (b"origin", own)]}
        await self._app(scope, receive, send)
