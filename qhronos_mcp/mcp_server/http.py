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
from mcp.server.transport_security import TransportSecuritySettings
from pydantic import AnyHttpUrl
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from qhronos_core.config import Settings
from qhronos_core.domain.errors import LimitedError
from qhronos_core.wiring import Core
from qhronos_mcp.mcp_server.face import Face, principal_of
from qhronos_mcp.mcp_server.push import Hub, serve_legacy_subscriptions
from qhronos_mcp.mcp_server.server import QhronosServer
from qhronos_mcp.middleware import FAILED_AUTHENTICATIONS, address_bucket, facts_of, hosts_of, origins_of

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
        self.route = Route(PATH, endpoint=CleanHeaders(guarded), include_in_schema=False)

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


class _Known:
    """Tells the log and the counters who asks; who proves nothing is counted by address, as over REST."""

    def __init__(self, app: ASGIApp, core: Core) -> None:
        self._app = app
        self._limits = core.limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises LimitedError for an address that has proved nothing too often."""
        facts = facts_of(scope)
        facts.route = PATH
        user = scope["user"]
        if isinstance(user, AuthenticatedUser):
            facts.caller = principal_of(user.access_token.claims or {})
        else:
            verdict = await self._limits.take(address_bucket(scope), FAILED_AUTHENTICATIONS)
            if not verdict.allowed:
                raise LimitedError(verdict.retry_after)
        await self._app(scope, receive, send)


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
