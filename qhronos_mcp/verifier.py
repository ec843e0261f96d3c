"""One verifier for REST, `/ws` and MCP: a header or a token in, a Principal out.

A header that is not `Bearer <token>` is neither logged nor cut up: it may be a secret that was put in the wrong place.
"""

import re
from typing import Final

from mcp.server.auth.provider import AccessToken

from qhronos_core.domain.access import Principal
from qhronos_core.domain.errors import UnauthenticatedError
from qhronos_core.wiring import Core

_BEARER: Final = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] ([!-~]+)")
_NO_TOKEN: Final = ""  # goes the whole way, so that its refusal takes as long as any


class Verifier:
    """Implements the SDK's `TokenVerifier`. What a principal may do is decided in the use cases, not here."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def principal(self, authorization_header: str | None) -> Principal:
        """Who sends this `Authorization` header.

        Raises:
            UnauthenticatedError: absent, malformed, unknown, expired or revoked: one answer for all.
            StoreUnavailableError: whether it was revoked cannot be known now.
        """
        found = _BEARER.fullmatch(authorization_header) if authorization_header is not None else None
        return await self._core.tokens.authenticate(found[1] if found else _NO_TOKEN)

    async def verify_token(self, token: str) -> AccessToken | None:
        """As the SDK's middleware asks. `client_id` and `subject` are what it binds sessions to."""
        try:
            caller = await self._core.tokens.authenticate(token)
        except UnauthenticatedError:
            return None
        name = "master" if caller.master else str(caller.jti)
        return AccessToken(
            token=token,
            client_id=name,
            scopes=[],
            expires_at=caller.expires_at,
            subject=caller.sub,
            claims={
                "principal": "master" if caller.master else "jwt",
                "sub": caller.sub,
                "access": caller.access.value,
                "scope": sorted(caller.scope),
                "jti": None if caller.jti is None else str(caller.jti),
                "exp": caller.expires_at,
                "confined": caller.confined,
            },
        )
