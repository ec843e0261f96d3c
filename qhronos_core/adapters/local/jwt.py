"""Tokens as JWT (access.md §2): HS256, a closed header, a closed set of typed claims, a ring of keys by `kid`.

PyJWT's defaults are lax, so its options are set here, once. It does not judge time: its clock is the machine's.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from qhronos_core.domain.access import SCOPES_MOST, Access, is_scope
from qhronos_core.domain.errors import UnauthenticatedError
from qhronos_core.domain.ids import TokenId
from qhronos_core.ports import Claims

LEEWAY: Final = timedelta(seconds=30)
"""By how much the clock of who made a token may differ from ours."""

SUB: Final = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,128}")

_HEADER: Final = frozenset({"alg", "typ", "kid"})
_CLAIMS: Final = frozenset({"sub", "access", "scope", "exp", "iat", "iss", "aud", "jti"})
_COMPACT: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")  # RFC 7515 §7.1: no padding
_LONGEST: Final = 32_768  # a hundred of the longest scopes fit
# {"alg":"HS256","kid":"1","typ":"JWT"}, claims of the usual size, and a signature no key makes.
_DECOY: Final = f"eyJhbGciOiJIUzI1NiIsImtpZCI6IjEiLCJ0eXAiOiJKV1QifQ.{'QUFB' * 70}.{'A' * 43}"


class Jwt:
    """Implements `ports.TokenSigner`. `key_id` with `secret` signs; each of `previous_secrets` still verifies."""

    def __init__(
        self,
        *,
        key_id: str,
        secret: str,
        previous_secrets: Mapping[str, str],
        issuer: str,
        audience: str,
        max_life: timedelta,
    ) -> None:
        self._key_id = key_id
        self._ring = {**previous_secrets, key_id: secret}
        self._issuer = issuer
        self._audience = audience
        self._max_life = max_life // timedelta(seconds=1)

    def sign(self, claims: Claims) -> str:
        import jwt

        payload = {
            "sub": claims.sub,
            "access": claims.access.value,
            "scope": list(claims.scope),
            "exp": int(claims.expires_at.timestamp()),
            "iat": int(claims.issued_at.timestamp()),
            "iss": self._issuer,
            "aud": self._audience,
            "jti": str(claims.jti),
        }
        return jwt.encode(payload, self._ring[self._key_id], algorithm="HS256", headers={"kid": self._key_id})

    def read(self, token: str, *, now: datetime) -> Claims:
        try:
            key = self._key_for(token)
        except _NotOursError:
            key, token = self._ring[self._key_id], _DECOY  # a refusal costs what a verification costs
        try:
            return self._claims(self._verified(token, key), now)
        except _NotOursError:
            raise UnauthenticatedError() from None

    def _key_for(self, token: str) -> str:
        """The key its header names. What else a header may ask for is refused before anything is done about it."""
        import jwt

        if len(token) > _LONGEST or not _COMPACT.fullmatch(token):
            raise _NotOursError
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            header = {}
        kid = header.get("kid")
        key = self._ring.get(kid) if isinstance(kid, str) else None
        if key is None or header.keys() != _HEADER or header["alg"] != "HS256" or header["typ"] != "JWT":
            raise _NotOursError
        return key

    def _verified(self, token: str, key: str) -> dict[str, Any]:
        import jwt

        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=["HS256"],
                issuer=self._issuer,
                audience=self._audience,
                options={
                    "require": ["sub", "access", "scope", "exp", "iat", "iss", "aud", "jti"],
                    "strict_aud": True,
                    "enforce_minimum_key_length": True,
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                },
            )
        except jwt.PyJWTError:
            raise _NotOursError from None
        return claims

    def _claims(self, given: Mapping[str, Any], now: datetime) -> Claims:
        """Each of its own type or nothing: no default, no coercion, no claim we do not know."""
        if given.keys() != _CLAIMS:
            raise _NotOursError
        issued, expires = _seconds(given["iat"]), _seconds(given["exp"])
        if not 0 < expires - issued <= self._max_life:
            raise _NotOursError
        present, leeway = now.timestamp(), LEEWAY.total_seconds()
        if issued > present + leeway or expires <= present - leeway:
            raise _NotOursError
        access = _access(given["access"])
        return Claims(
            jti=_jti(given["jti"]),
            sub=_sub(given["sub"]),
            access=access,
            scope=_scope(given["scope"], access),
            issued_at=datetime.fromtimestamp(issued, UTC),
            expires_at=datetime.fromtimestamp(expires, UTC),
        )


class _NotOursError(Exception):
    """Within this module only: the reason stays here."""


def _seconds(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**40:
        raise _NotOursError
    return value


def _sub(value: object) -> str:
    if not isinstance(value, str) or not SUB.fullmatch(value):
        raise _NotOursError
    return value


def _access(value: object) -> Access:
    if not isinstance(value, str) or value not in ("read", "write", "admin"):
        raise _NotOursError
    return Access(value)


def _scope(value: object, access: Access) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(scope, str) and is_scope(scope) for scope in value):
        raise _NotOursError
    if len(value) > SCOPES_MOST or len(set(value)) < len(value) or (not value and access is not Access.ADMIN):
        raise _NotOursError
    return tuple(value)


def _jti(value: object) -> TokenId:
    try:
        jti = UUID(value) if isinstance(value, str) else None
    except ValueError:
        jti = None
    if jti is None or str(jti) != value:
        raise _NotOursError
    return TokenId(jti)
