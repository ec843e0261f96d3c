"""access.md §1 and R8: which routes ask for a credential (all but the listed), how a bad one is answered, and in which order."""

from collections.abc import Iterator
from typing import Any, Final
from uuid import uuid4

import jwt
import pytest
from starlette.routing import Route, WebSocketRoute

from qhronos_mcp.rest.operation import Door
from qhronos_mcp.rest.resource import Resource
from qhronos_mcp.rest.routes import OPERATIONS
from qhronos_mcp.web import StaticPage
from tests.faces.rest.house import DAILY, JWT_SECRET, MASTER, METRICS_TOKEN, House

OPEN: Final = {
    ("GET", "/health"),
    ("GET", "/status"),
    ("GET", "/openapi.json"),
    ("GET", "/docs"),
    ("GET", "/"),
    ("GET", "/assets/page.js"),
    ("GET", "/assets/page.css"),
    ("GET", "/assets/icon.svg"),
}
GUARDED_ELSEWHERE: Final = {"/mcp", "/ws"}  # by the SDK's own middleware; by the first frame


def every_call(house: House) -> Iterator[tuple[str, str]]:
    """What the running app answers: (method, path template)."""
    for route in house.app.routes:
        assert isinstance(route, Route | WebSocketRoute), f"a route of a kind this test does not know: {route}"
        if route.path in GUARDED_ELSEWHERE:
            continue
        if isinstance(route.endpoint, Resource):
            for method in route.endpoint.operations:
                yield method, route.path
        else:
            assert isinstance(route.endpoint, StaticPage), route
            yield "GET", route.path


def filled(path: str) -> str:
    return path.replace("{id}", str(uuid4())).replace("{jti}", str(uuid4()))


def forged() -> dict[str, str]:
    """Tokens that prove nothing."""
    claims: dict[str, Any] = {
        "sub": "a",
        "access": "admin",
        "scope": [],
        "iss": "qhronos",
        "aud": "qhronos",
        "jti": str(uuid4()),
        "iat": 1,
        "exp": 2,
    }
    return {
        "garbage": "garbage",
        "three parts": "a.b.c",
        "expired": jwt.encode(claims, JWT_SECRET, "HS256", headers={"kid": "1"}),
        "another key": jwt.encode({**claims, "exp": 9_999_999_999}, "x" * 40, "HS256", headers={"kid": "1"}),
        "unsigned": jwt.encode({**claims, "exp": 9_999_999_999}, "", "none", headers={"kid": "1"}),
        "the master's, cut": MASTER[:-1],
        "the master's, longer": MASTER + "x",
        "metrics": METRICS_TOKEN,
    }


async def test_every_route_is_protected_or_on_the_list(house: House) -> None:
    calls = set(every_call(house))
    assert calls >= OPEN
    for method, path in sorted(calls - OPEN):
        for name, token in {"none": None, **forged()}.items():
            if path == "/metrics" and name == "metrics":
                continue
            answer = await house.client(token).request(method, filled(path))
            assert answer.status_code == 401, f"{method} {path} with {name}"
            assert answer.headers["www-authenticate"] == "Bearer"


async def test_open_routes_answer_without_a_credential(house: House) -> None:
    for method, path in OPEN:
        assert (await house.client().request(method, path)).status_code == 200, path


def test_the_table_says_which_doors_are_open() -> None:
    standing_open = {
        (operation.method, operation.path) for operation in OPERATIONS if operation.door in (Door.OPEN, Door.AJAR)
    }
    assert standing_open < OPEN


@pytest.mark.parametrize(
    "header",
    [
        "",
        "B",
        "Bearer",
        "Bearer ",
        "bearer",
        "Basic dXNlcjpwYXNz",
        f"Token {MASTER}",
        MASTER,
        f"Bearer  {MASTER} x",
        f"Bearer {MASTER},Bearer {MASTER}",
        "Bearer " + "x" * 8000,
        "Bearer \xff\xfe",
        "Bearer null",
        "Bearer undefined",
    ],
)
async def test_a_header_that_is_not_a_bearer_token_is_the_same_401(house: House, header: str) -> None:
    plain = await house.client().get("/events")
    answer = await house.client().get("/events", headers=[(b"authorization", header.encode("latin-1"))])
    assert answer.status_code == 401
    assert answer.json() == plain.json()


async def test_two_authorization_headers_are_none(house: House) -> None:
    header = (b"authorization", f"Bearer {MASTER}".encode())
    assert (await house.client().get("/events", headers=[header, header])).status_code == 401


async def test_the_scheme_is_read_in_any_case(house: House) -> None:
    for scheme in ("Bearer", "bearer", "BEARER"):
        answer = await house.client().get("/events", headers={"Authorization": f"{scheme} {MASTER}"})
        assert answer.status_code == 200


async def test_every_failure_of_authentication_has_one_body(house: House) -> None:
    bodies = set()
    for token in (None, *forged().values()):
        bodies.add((await house.client(token).get("/events")).text)
    assert len(bodies) == 1


async def test_a_token_in_the_query_is_not_looked_at(house: House) -> None:
    assert (await house.client().get(f"/events?token={MASTER}&access_token={MASTER}")).status_code == 401


async def test_who_asks_comes_before_what_is_asked(house: House) -> None:
    """401 before 404, 405's own path, a bad id, a bad body; then 403 or 404 before the body."""
    nobody, reader = house.client(), await house.as_("read", "user:a")
    assert (await nobody.get("/events/not-a-uuid")).status_code == 401
    assert (await nobody.post("/events", content=b"{")).status_code == 401
    assert (await nobody.post("/events", content=b"x" * 2_000_000)).status_code == 401

    seen = await house.event(tags=["user:a"])
    unseen = await house.event(tags=["user:b"])
    for body in (b"{", b"", b'{"unknown": 1}', b"[]", b"x" * 2_000_000):
        assert (await reader.post("/events", content=body)).status_code == 403
        assert (await reader.put(f"/events/{seen['id']}", content=body)).status_code == 403
        assert (await reader.put(f"/events/{unseen['id']}", content=body)).status_code == 404
        assert (await reader.post(f"/events/{seen['id']}/trigger", content=body)).status_code == 403
        assert (await reader.post(f"/events/{unseen['id']}/trigger", content=body)).status_code == 404


async def test_the_order_holds_for_what_is_done_to_an_occurrence(house: House) -> None:
    reader = await house.as_("read", "user:a")
    seen = await house.inbox_occurrence(tags=["user:a"])
    unseen = await house.inbox_occurrence(tags=["user:b"])
    for body in (b"{", b'{"outcome": "done"}', b'{"outcome": 1}', b""):
        for verb in ("ack", "retry"):
            assert (await reader.post(f"/occurrences/{seen['id']}/{verb}", content=body)).status_code == 403
            assert (await reader.post(f"/occurrences/{unseen['id']}/{verb}", content=body)).status_code == 404


async def test_only_the_master_mints_lists_and_revokes(house: House) -> None:
    jti = str(uuid4())
    for access in ("read", "write", "admin"):
        client = await house.as_(access, "user:a")
        for method, path in (("POST", "/tokens"), ("GET", "/tokens"), ("DELETE", f"/tokens/{jti}")):
            for body in (b"{", b'{"sub": "a", "access": "read", "scope": ["user:a"]}'):
                answer = await client.request(method, path, content=body)
                assert answer.status_code == 403, (access, method, path)


async def test_metrics_and_audit_are_for_admins_the_master_and_their_own_token(house: House) -> None:
    for path in ("/metrics", "/audit"):
        assert (await house.master.get(path)).status_code == 200
        assert (await (await house.as_("admin", "user:a")).get(path)).status_code == 200
        for access in ("read", "write"):
            assert (await (await house.as_(access, "user:a")).get(path)).status_code == 403
    assert (await house.client(METRICS_TOKEN).get("/metrics")).status_code == 200
    assert (await house.client(METRICS_TOKEN).get("/events")).status_code == 401


async def test_a_refusal_by_access_says_insufficient_scope(house: House) -> None:
    answer = await (await house.as_("read", "user:a")).post("/events", json=dict(DAILY))
    assert answer.status_code == 403
    assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]


async def test_a_path_that_is_none_is_a_json_404_and_a_method_that_is_none_a_json_405(house: House) -> None:
    for path in ("/nothing", "/events/", "/events/x/y/z", "/Events", "/admin", "/mcp2"):
        answer = await house.master.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/json"), path
        assert "error" in answer.json()
    allowed = {"/events": "GET, HEAD, POST", "/tokens": "GET, HEAD, POST", "/occurrences/retry": "POST"}
    for path, methods in allowed.items():
        answer = await house.master.request("PATCH", path)
        assert (answer.status_code, answer.headers["allow"]) == (405, methods)
        assert answer.json()["code"] == "method_not_allowed"


async def test_head_answers_as_get_does(house: House) -> None:
    assert (await house.master.head("/events")).status_code == 200
    assert (await house.client().head("/events")).status_code == 401


async def test_status_tells_little_without_a_token_and_no_secret_with_one(house: House) -> None:
    little = (await house.client().get("/status")).json()
    assert little.keys() == {"status", "version", "uptime_seconds"}
    token = await house.token("read", ["user:a"], sub="reader")
    more = (await house.client(token).get("/status")).json()
    assert {"now", "store", "nodes", "due", "oldest_due_seconds", "token_info"} <= more.keys()
    assert (more["token_info"]["sub"], more["token_info"]["access"]) == ("reader", "read")
    for secret in (MASTER, JWT_SECRET, METRICS_TOKEN, token, str(house.settings.data_dir)):
        assert secret not in str(more)


async def test_health_is_ready_until_the_node_drains(house: House) -> None:
    assert (await house.client().get("/health")).json() == {"status": "ok"}
    assert (await house.client().get("/health?ready=true")).status_code == 200
    house.core.begin_drain()
    answer = await house.client().get("/health?ready=true")
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert (await house.client().get("/health")).status_code == 200


async def test_the_masters_api_can_be_switched_off(tmp_path: Any) -> None:
    from tests.faces.rest.house import a_house

    async with a_house(tmp_path, auth={"master_may_use_api": False}) as house:
        token = await house.token("admin", [])
        assert (await house.master.get("/tokens")).status_code == 200
        for method, path in (("GET", "/events"), ("POST", "/events"), ("GET", "/occurrences"), ("GET", "/audit")):
            assert (await house.master.request(method, path, json=dict(DAILY))).status_code == 403, path
        assert (await house.client(token).get("/events")).status_code == 200
