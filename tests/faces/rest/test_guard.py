"""S37, S41, S43, S51: a stranger's page gets nothing, nothing is cached that depends on the caller, no header tells too much."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from qhronos_mcp.middleware import hosts_of, origins_of
from tests.faces.rest.house import MASTER, House, a_house, settings_for


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:8080", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:8080", "LOCALHOST", "LocalHost:80"],
)
async def test_names_of_this_machine_are_answered_on_any_port(house: House, host: str) -> None:
    assert (await house.client(MASTER, Host=host).get("/events")).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.test",
        "evil.test:8080",
        "localhost.evil.test",
        "evil.test@localhost",
        "localhost@evil.test",
        "localhost:80:80",
        "localhost:port",
        "localhost.",
        "127.0.0.2",
        "0.0.0.0",
        "[::2]",
        "localhost,evil.test",
        "localhost/",
        " ",
        "",
    ],
)
async def test_any_other_host_is_403_everywhere(house: House, host: str) -> None:
    for path in ("/", "/events", "/health", "/openapi.json", "/docs", "/status", "/nothing"):
        answer = await house.client(MASTER).get(path, headers=[(b"host", host.encode())])
        assert answer.status_code == 403, path
        assert "error" in answer.json()
        assert host.strip() == "" or host not in answer.text


async def test_two_hosts_or_none_are_403(house: House) -> None:
    twice = [(b"host", b"localhost"), (b"host", b"evil.test")]
    assert (await house.client(MASTER).get("/events", headers=twice)).status_code == 403


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.test",
        "null",
        "http://localhost:9999",
        "https://localhost",
        "http://localhost.evil.test",
        "http://127.0.0.1",
        "file://",
        "",
        "http://localhost/",
    ],
)
async def test_a_foreign_origin_is_403(house: House, origin: str) -> None:
    answer = await house.client(MASTER).get("/events", headers=[(b"origin", origin.encode())])
    assert answer.status_code == 403


async def test_our_own_origin_is_answered_and_no_cors_header_is_ever_sent(house: House) -> None:
    answer = await house.client(MASTER, Origin="http://localhost").get("/events")
    assert answer.status_code == 200
    preflight = await house.client(Origin="http://localhost").options(
        "/events", headers={"Access-Control-Request-Method": "POST"}
    )
    assert preflight.status_code == 405
    for each in (answer, preflight):
        assert not [name for name in each.headers if name.startswith("access-control")]


@pytest.fixture
async def public(tmp_path: Path) -> AsyncIterator[House]:
    server = {
        "public_url": "https://time.example.org",
        "allowed_hosts": ["time.internal", "node-1:8080"],
        "allowed_origins": ["https://console.example.org"],
    }
    async with a_house(tmp_path, server=server) as made:
        yield made


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("time.example.org", 200),
        ("time.internal", 200),
        ("time.internal:9", 200),
        ("node-1:8080", 200),
        ("node-1:8081", 403),
        ("localhost", 403),
    ],
)
async def test_configured_names_replace_those_of_this_machine(public: House, host: str, status: int) -> None:
    assert (await public.client(MASTER, Host=host).get("/events")).status_code == status


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://console.example.org", 200),
        ("https://time.example.org", 200),
        ("https://console.example.org:444", 403),
        ("http://console.example.org", 403),
    ],
)
async def test_configured_origins_are_exact(public: House, origin: str, status: int) -> None:
    answer = await public.client(MASTER, Host="time.internal", Origin=origin).get("/events")
    assert answer.status_code == status


def test_the_lists_that_are_handed_to_the_sdk(tmp_path: Path) -> None:
    assert hosts_of(settings_for(tmp_path)) == ("localhost", "127.0.0.1", "[::1]")
    assert origins_of(settings_for(tmp_path)) == ()
    told = settings_for(tmp_path, server={"public_url": "https://T.example:8443", "allowed_hosts": ["A:*"]})
    assert hosts_of(told) == ("a", "t.example:8443")
    assert origins_of(told) == ("https://t.example:8443",)


@pytest.mark.parametrize("url", ["https://T.example:443", "http://t.example:80"])
def test_a_public_address_is_known_without_the_port_that_nobody_sends(url: str, tmp_path: Path) -> None:
    told = settings_for(tmp_path, server={"public_url": url})
    assert hosts_of(told)[-1] == "t.example"
    assert origins_of(told) == (f"{url.partition(':')[0]}://t.example",)


@pytest.mark.parametrize(("host", "name"), [("127.0.0.2", "127.0.0.2"), ("[::1]", "[::1]"), ("localhost", "localhost")])
def test_the_loopback_address_that_is_bound_is_a_name_of_this_server(host: str, name: str, tmp_path: Path) -> None:
    told = settings_for(tmp_path, server={"host": host})
    assert name in hosts_of(told)
    assert len(hosts_of(told)) == len({*hosts_of(told)})
    assert hosts_of(settings_for(tmp_path, server={"host": host, "allowed_hosts": ["a"]})) == ("a",)


async def test_every_answer_carries_the_guarding_headers(house: House) -> None:
    for client, path in (
        (house.master, "/events"),
        (house.client(), "/events"),
        (house.client(), "/health"),
        (house.client(), "/"),
        (house.client(), "/docs"),
        (house.client(), "/nothing"),
        (house.client(Host="evil.test"), "/events"),
    ):
        headers = (await client.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-request-id"]
        assert "server" not in headers


async def test_what_depends_on_the_caller_is_stored_nowhere(house: House) -> None:
    for client, path in ((house.master, "/events"), (house.master, "/status"), (house.client(), "/events")):
        assert (await client.get(path)).headers["cache-control"] == "no-store"


async def test_a_request_keeps_its_own_id_if_it_is_plain_and_gets_one_if_not(house: House) -> None:
    assert (await house.master.get("/health", headers={"X-Request-Id": "abc-1"})).headers["x-request-id"] == "abc-1"
    for odd in (b"a b", b"x" * 65, b"\xff", b"a%0d%0aFAKE"):
        answer = await house.master.get("/health", headers=[(b"x-request-id", odd)])
        assert answer.headers["x-request-id"].encode() != odd
        assert len(answer.headers["x-request-id"]) == 32


async def test_tls_in_front_is_asked_to_stay(public: House, house: House) -> None:
    answer = await public.client(Host="time.example.org").get("/health")
    assert "max-age" in answer.headers["strict-transport-security"]
    assert "strict-transport-security" not in (await house.client().get("/health")).headers


async def test_a_crash_is_a_500_that_tells_nothing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def crash(*_: object, **__: object) -> None:
        raise RuntimeError("SELECT canary FROM secrets at /var/lib/qhronos")

    monkeypatch.setattr(house.world.store.events, "list", crash)
    answer = await house.master.get("/events")
    assert answer.status_code == 500
    assert answer.json()["code"] == "internal"
    assert "canary" not in answer.text
    assert answer.headers["x-request-id"]
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_a_store_that_is_away_is_503_with_retry_after(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    from qhronos_core.domain.errors import StoreUnavailableError

    async def away(*_: object, **__: object) -> None:
        raise StoreUnavailableError()

    monkeypatch.setattr(house.world.store.events, "list", away)
    answer = await house.master.get("/events")
    assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
    assert int(answer.headers["retry-after"]) >= 1


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("application/problem+json, */*", "application/problem+json"),
        ("application/json;q=0.5,Application/Problem+JSON;q=0.1", "application/problem+json"),
        ("application/json, application/problem+json;q=0", "application/json"),
        ("application/problem+jsonx", "application/json"),
        ("*/*", "application/json"),
    ],
)
async def test_a_problem_is_problem_json_if_asked_for(house: House, accept: str, media: str) -> None:
    answer = await house.master.get("/events/x", headers={"Accept": accept})
    assert answer.headers["content-type"] == media
    assert answer.json()["type"] == "urn:qhronos:problem:invalid_id"
