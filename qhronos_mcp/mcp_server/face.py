"""What an MCP handler needs: the core, and who is asking."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import mcp_types as t
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.shared.exceptions import MCPError
from starlette.requests import Request

from qhronos_core.domain.access import Access, Principal
from qhronos_core.domain.errors import LimitedError, UnauthenticatedError
from qhronos_core.wiring import Core
from qhronos_mcp.middleware import allowance, facts_of


@dataclass(slots=True)
class Local:
    """Who speaks on stdio: the local owner, or the bearer of `QHRONOS_TOKEN`, who is looked up again at each call."""

    principal: Principal | None = None
    token: str | None = None

    async def look_up(self, core: Core) -> None:
        """Raises UnauthenticatedError, or StoreUnavailableError while it cannot be known."""
        if self.token is not None:
            self.principal = await core.tokens.authenticate(self.token)


@dataclass(frozen=True, slots=True)
class Face:
    """Built once and used by closures, since a static resource is given no Context.

    `text_line`: results carry their `says` line alone as text (for a host that shows the model both).
    """

    core: Core
    local: Local | None = None
    text_line: bool = False

    def caller(self) -> Principal:
        """Who asks: the bearer of this request, else the local owner. Right in every handler of both generations.

        Raises:
            MCPError: neither; over HTTP the middleware has answered 401 before.
        """
        if (token := get_access_token()) is not None:
            return principal_of(token.claims or {})
        if self.local is None or self.local.principal is None:
            raise MCPError(t.INVALID_REQUEST, "This server needs a bearer token.")
        return self.local.principal

    def token(self) -> str | None:
        """The caller's own token, to be looked up again while a stream is open; None for the local owner."""
        if (token := get_access_token()) is not None:
            return token.token
        return None if self.local is None else self.local.token

    async def admit(self, request: Request | None) -> None:
        """What every request passes.

        Raises:
            MCPError: on stdio, `QHRONOS_TOKEN` has expired or was revoked (over HTTP each request has shown its own).
            StoreUnavailableError: whether it was revoked cannot be known now.
            LimitedError: one request too many.
        """
        if self.local is not None:
            if self.local.token is None:
                return  # the owner of the process
            try:
                await self.local.look_up(self.core)
            except UnauthenticatedError as error:
                raise MCPError(t.INVALID_REQUEST, str(error)) from error
        verdict = None if request is None else facts_of(request.scope).verdict  # over HTTP it is counted already
        if verdict is None:
            verdict = await self.core.limits.take(*allowance(self.caller(), self.core.settings))
        if not verdict.allowed:
            raise LimitedError(verdict.retry_after)


def principal_of(claims: Mapping[str, Any]) -> Principal:
    """The principal the verifier wrote into an access token's claims."""
    if claims["principal"] == "master":
        return Principal.of_master(confined=claims["confined"])
    return Principal(
        sub=claims["sub"],
        access=Access(claims["access"]),
        scope=frozenset(claims["scope"]),
        jti=UUID(claims["jti"]),
        holder=claims["jti"],
        expires_at=claims["exp"],
    )
