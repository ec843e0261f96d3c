"""The one verifier of REST, `/ws` and MCP: what a header proves, and that nothing is told of one that proves nothing."""

import logging
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest
from mcp.server.auth.provider import principal_components

from qhronos_core.domain.access import Access, Principal
from qhronos_core.domain.errors import StoreUnavailableError, UnauthenticatedError
from qhronos_core.wiring import Core
from qhronos_mcp.mcp_server.face import principal_of
from qhronos_mcp.verifier import Verifier

TOKEN = "good.token_of-these~tests+/=!"
CALLER = Principal(
    "someone",
    Access.WRITE,
    frozenset({"user:a", "system:t"}),
    jti=UUID("01953c2e-7a00-7000-8000-000000000001"),
    holder="01953c2e-7a00-7000-8000-000000000001",
    expires_at=1_900_000_000,
)


class Tokens:
    """Knows one token; keeps what it was asked."""

    def __init__(self, caller: Principal = CALLER) -> None:
        self.caller = caller
        self.asked: list[str] = []
        self.away = False

    async def authenticate(self, token: str) -> Principal:
        self.asked.append(token)
        if self.away:
            raise StoreUnavailableError()
        if token != TOKEN:
            raise UnauthenticatedError()
        return self.caller


def verifier(tokens: Tokens | None = None) -> Verifier:
    return Verifier(cast("Core", SimpleNamespace(tokens=tokens or Tokens())))


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR"])
async def test_a_bearer_is_known_by_its_token(scheme: str) -> None:
    assert await verifier().principal(f"{scheme} {TOKEN}") == CALLER


@pytest.mark.parametrize(
    "header",
    [
        *(None, "", " ", "Bearer", "Bearer ", f"Bearer{TOKEN}", TOKEN, f" Bearer {TOKEN}", f"Bearer {TOKEN} "),
        *(
            f"Bearer  {TOKEN}",
            f"Bearer\t{TOKEN}",
            f"Bearer {TOKEN}\n",
            f"Bearer {TOKEN}, Bearer {TOKEN}",
            f"Basic {TOKEN}",
        ),
        *(
            f"Token {TOKEN}",
            f"Bearer {TOKEN} x",
            f"Bearer \x00{TOKEN}",
            f"Bearer {TOKEN}é",
            f"Ｂearer {TOKEN}",
            f"Bearer\u00a0{TOKEN}",
        ),
        *(f'Bearer "{TOKEN}"', f"Bearer token={TOKEN}", f"{TOKEN} Bearer", "Bearer canary"),
    ],
    ids=lambda header: ascii(header)[:40],
)
async def test_anything_else_proves_nothing_after_the_same_work(
    header: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    tokens = Tokens()
    caplog.set_level(logging.DEBUG)
    with pytest.raises(UnauthenticatedError) as refused:
        await verifier(tokens).principal(header)
    assert str(refused.value) == str(UnauthenticatedError())
    assert len(tokens.asked) == 1
    assert TOKEN not in tokens.asked
    assert "canary" not in caplog.text
    assert TOKEN not in caplog.text


async def test_the_sdk_is_told_who_and_binds_sessions_to_token_and_sub() -> None:
    told = await verifier().verify_token(TOKEN)
    assert told is not None
    assert (told.client_id, told.subject, told.expires_at) == (str(CALLER.jti), "someone", 1_900_000_000)
    assert principal_components(told) == (str(CALLER.jti), None, "someone")
    assert told.scopes == []


@pytest.mark.parametrize(
    "caller",
    [CALLER, Principal.of_master(), Principal.of_master(confined=True)],
    ids=["a token", "the master", "a confined master"],
)
async def test_a_handler_of_mcp_meets_the_very_principal_that_rest_does(caller: Principal) -> None:
    told = await verifier(Tokens(caller)).verify_token(TOKEN)
    assert told is not None
    claims: dict[str, Any] = told.claims or {}
    assert principal_of(claims) == caller
    assert (claims["principal"] == "master") is caller.master


async def test_the_sdk_is_told_nothing_of_what_proves_nothing() -> None:
    for token in ("", "canary", TOKEN + " "):
        assert await verifier().verify_token(token) is None


async def test_a_store_that_is_away_is_no_refusal() -> None:
    tokens = Tokens()
    tokens.away = True
    with pytest.raises(StoreUnavailableError):
        await verifier(tokens).principal(f"Bearer {TOKEN}")
    with pytest.raises(StoreUnavailableError):
        await verifier(tokens).verify_token(TOKEN)
