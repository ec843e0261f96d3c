"""What an MCP handler needs: the core, and who is asking."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import mcp_types as t
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.shared.exceptions import MCPError

from qhronos_core.domain.access import Access, Principal
from qhronos_core.domain.errors import UnauthenticatedError
from qhronos_core.wiring import Core


@dataclass(frozen=True, slots=True)
class Local:
    """Who speaks on stdio: the local owner, or the bearer of `QHRONOS_TOKEN` (kept, to look it up again at each call)."""

    principal: Principal
    token: str | None = None


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
        if self.local is None:
            raise MCPError(t.INVALID_REQUEST, "This server needs a bearer token.")
        return self.local.principal

    def token(self) -> str | None:
        """The caller's own token, to be looked up again while a stream is open; None for the local owner."""
        if (token := get_access_token()) is not None:
            return token.token
        return None if self.local is None else self.local.token

    async def verify(self) -> None:
        """Where the caller is a process with a token: whether it still holds. (Over HTTP each request has shown it.)

        Raises:
            MCPError: it has expired or was revoked.
        """
        if self.local is None or self.local.token is None:
            return
        try:
            await self.core.tokens.authenticate(self.local.token)
        except UnauthenticatedError as error:
            raise MCPError(t.INVALID_REQUEST, str(error)) from error


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
