"""S10: one audience, looked at by one verifier for REST, `/ws` and MCP alike."""

import json
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import jwt
import pytest
from websockets.asyncio.client import connect

from tests.faces.mcp_events.asking import headers as rpc_headers
from tests.faces.mcp_events.asking import request as rpc
from tests.faces.test_sockets import Served, closed_with, said
from tests.faces.test_sockets import served as served

FORBIDDEN_SOCKET = 4401


def token(secret: str, **claims: Any) -> str:
    now = int(time.time())
    good = {
        "sub": "ann",
        "access": "admin",
        "scope": ["user:ann"],
        "iss": "qhronos",
        "aud": "qhronos",
        "jti": str(uuid4()),
        "iat": now,
        "exp": now + 600,
    }
    return jwt.encode({**good, **claims}, secret, "HS256", headers={"kid": "1"})


@pytest.mark.parametrize(
    ("audience", "opens"), [("qhronos", True), ("another", False), (["qhronos", "another"], False)]
)
async def test_a_token_for_another_opens_none_of_the_three(
    served: Served, tmp_path: Path, audience: object, *, opens: bool
) -> None:
    made = token((tmp_path / "data" / "secrets" / "jwt_secret").read_text().strip(), aud=audience)
    http = served.url.replace("ws://", "http://").removesuffix("/ws")
    bearer = {"Authorization": f"Bearer {made}"}
    async with httpx2.AsyncClient(base_url=http, headers=bearer, trust_env=False) as client:
        rest = await client.get("/events")
        asked = rpc("tools/list")
        mcp = await client.post("/mcp", json=asked, headers=rpc_headers("tools/list"))
    async with connect(served.url) as socket:
        if opens:
            frame = await said(socket, type="tag-listener", tags=["user:ann"], token=made)
            assert frame["type"] != "error"
            assert (rest.status_code, mcp.status_code) == (200, 200)
            return
        await socket.send(json.dumps({"type": "tag-listener", "tags": ["user:ann"], "token": made}))
        assert await closed_with(socket) == FORBIDDEN_SOCKET
    for answer in (rest, mcp):
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
