"""The one door out, tried with real sockets: where it goes, what it sends, and what a hostile receiver can make of it."""

import asyncio
import gzip
import os
import resource
import ssl
import sys
import time
import warnings
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from random import Random
from typing import Any

import pytest

from qhronos_core.adapters.http.egress import Answer, Egress, EgressFailure, FailureKind
from qhronos_core.adapters.http.http1 import BODY_MOST
from qhronos_core.adapters.http.resolver import Resolve, SystemResolver
from qhronos_core.domain.destination import EgressPolicy
from qhronos_core.domain.errors import DestinationNotAllowedError
from tests.domain.test_destination import SPELLINGS_OF_LOOPBACK

from .receivers import (
    OK,
    Authority,
    Receiver,
    Request,
    Script,
    answering,
    deafness,
    dripping,
    flooding,
    read_request,
    receiving,
    silence,
)

LOCAL = EgressPolicy(allow_loopback=True)
LOOPBACK = ip_network("127.0.0.0/8")


@pytest.fixture
async def egress() -> AsyncIterator[Egress]:
    async with door(LOCAL) as egress:
        yield egress


def door(policy: EgressPolicy, *, tls: ssl.SSLContext | None = None, **options: Any) -> Egress:
    """An Egress that trusts nobody, unless told whom: the system's authorities take a while to load."""
    return Egress(policy, tls=tls or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), **options)


def names(**addresses: str) -> Resolve:
    """A resolver that knows these names (`_` for a dot), each with addresses separated by spaces."""

    async def resolve(name: str) -> tuple[str, ...]:
        if (found := addresses.get(name.replace(".", "_"))) is None:
            raise OSError("no such name")
        return tuple(found.split())

    return resolve


async def get(egress: Egress, url: str, deadline: float = 2.0, **headers: str) -> Answer:
    return await egress.request("GET", url, headers=headers, body=b"", deadline=deadline)


async def failing(
    egress: Egress, url: str, deadline: float = 2.0, method: str = "GET", body: bytes = b""
) -> FailureKind:
    with pytest.raises(EgressFailure) as caught:
        await egress.request(method, url, headers={}, body=body, deadline=deadline)
    return caught.value.kind


# --- what is sent ---------------------------------------------------------------------------------


async def test_the_bytes_on_the_wire_are_what_was_asked_and_little_more(egress: Egress) -> None:
    async with receiving(answering(OK)) as receiver:
        answer = await egress.request(
            "POST",
            receiver.url("/hook?a=b%20c"),
            headers={"X-One": "1", "Content-Type": "text/x"},
            body=b"{}",
            deadline=2,
        )
    (request,) = receiver.requests
    assert (answer.status, answer.body) == (200, b"ok")
    assert request.line == "POST /hook?a=b%20c HTTP/1.1"
    assert request.body == b"{}"
    assert request.headers == {
        "host": f"127.0.0.1:{receiver.port}",
        "accept-encoding": "identity",
        "content-length": "2",
        "content-type": "text/x",
        "x-one": "1",
    }


async def test_an_empty_body_of_a_post_has_a_length_and_of_a_get_has_none(egress: Egress) -> None:
    async with receiving(answering(OK)) as receiver:
        await egress.request("POST", receiver.url(), headers={}, body=b"", deadline=2)
        await egress.request("GET", receiver.url(), headers={}, body=b"", deadline=2)
    assert [request.headers.get("content-length") for request in receiver.requests] == ["0", None]


async def test_what_a_receiver_says_comes_back_as_data(egress: Egress) -> None:
    reply = b"HTTP/1.1 418 Teapot\r\nRetry-After: 7\r\nX-Two: a\r\nX-Two: b\r\nContent-Length: 3\r\n\r\n\x00\xff!"
    async with receiving(answering(reply)) as receiver:
        answer = await get(egress, receiver.url())
    assert (answer.status, answer.headers["retry-after"], answer.headers["x-two"]) == (418, "7", "b")
    assert answer.body == b"\x00\xff!"
    assert 0 < answer.duration < 2


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\no1\r\n3;x=y\r\nabc\r\n0\r\nTrailer: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\no1abc",
        b"HTTP/1.0 200 OK\r\n\r\no1abc",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\no1abc",
    ],
)
async def test_every_framing_of_a_body_is_understood(egress: Egress, reply: bytes) -> None:
    async with receiving(answering(reply, close=True)) as receiver:
        answer = await get(egress, receiver.url())
    assert (answer.status, answer.body) == (200, b"o1abc")


@pytest.mark.parametrize(
    "reply", [b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"]
)
async def test_a_status_without_a_body_is_whole_at_once(egress: Egress, reply: bytes) -> None:
    async with receiving(answering(reply)) as receiver:
        for _ in range(2):
            answer = await get(egress, receiver.url(), deadline=1)
            assert answer.body == b""


# --- connections ----------------------------------------------------------------------------------


async def test_a_connection_is_used_again(egress: Egress) -> None:
    async with receiving(answering(OK)) as receiver:
        for _ in range(10):
            await egress.request("POST", receiver.url(), headers={}, body=b"x", deadline=2)
        assert (receiver.connections, len(receiver.requests)) == (1, 10)


async def test_many_at_once_have_a_connection_each_and_share_them_afterwards(egress: Egress) -> None:
    async with receiving(answering(OK)) as receiver:
        for _ in range(3):
            answers = await asyncio.gather(*(get(egress, receiver.url()) for _ in range(150)))
            assert {answer.status for answer in answers} == {200}
        assert receiver.connections <= 150


async def test_a_connection_the_receiver_closed_is_not_used_again(egress: Egress) -> None:
    async with receiving(answering(OK, close=True)) as receiver:
        for _ in range(3):
            assert (await get(egress, receiver.url())).status == 200
            await receiver.all_closed()
            await asyncio.sleep(0.01)
        assert receiver.connections == 3


async def test_bytes_after_an_answer_are_not_taken_for_the_next_one(egress: Egress) -> None:
    smuggled = OK + b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"
    async with receiving(answering(smuggled)) as receiver:
        for _ in range(3):
            assert (await get(egress, receiver.url())).status == 200
            await asyncio.sleep(0.01)


async def test_a_cancelled_request_lets_go_of_its_connection(egress: Egress) -> None:
    async with receiving(silence) as receiver:
        task = asyncio.create_task(get(egress, receiver.url(), deadline=30))
        await receiver.reached()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await receiver.all_closed()


# --- S26: what is not followed, not obeyed, not remembered ------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_an_answer_and_is_never_followed(egress: Egress, status: int) -> None:
    async with receiving(answering(OK)) as canary:
        for target in (canary.url("/stolen"), "/loop", "file:///etc/passwd", "//127.0.0.1/", ""):
            reply = f"HTTP/1.1 {status} Away\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n".encode()
            async with receiving(answering(reply)) as receiver:
                answer = await egress.request("POST", receiver.url("/loop"), headers={}, body=b"secret", deadline=2)
                assert (answer.status, len(receiver.requests)) == (status, 1)
    assert (canary.connections, canary.received) == (0, 0)


async def test_proxies_and_netrc_of_the_environment_have_no_effect(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login someone password s3cret\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    async with receiving(answering(OK)) as canary, receiving(answering(OK)) as receiver:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, canary.url())
            monkeypatch.setenv(name.lower(), canary.url())
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        async with door(LOCAL) as egress:
            await get(egress, receiver.url())
    assert canary.connections == 0
    assert "authorization" not in receiver.requests[0].headers


async def test_cookies_are_not_kept(egress: Egress) -> None:
    reply = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Path=/\r\nContent-Length: 0\r\n\r\n"
    async with receiving(answering(reply)) as receiver:
        for _ in range(2):
            await get(egress, receiver.url())
    assert all("cookie" not in request.headers for request in receiver.requests)


async def test_nothing_is_inflated(egress: Egress) -> None:
    bomb = gzip.compress(b"\0" * 20_000_000)
    for coding in ("gzip", "deflate", "br", "zstd", "gzip, gzip"):
        reply = f"HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: {len(bomb)}\r\n\r\n".encode() + bomb
        async with receiving(answering(reply)) as receiver:
            answer = await get(egress, receiver.url())
        assert answer.body == bomb[:BODY_MOST]


# --- S24, S25, S29: where it goes -------------------------------------------------------------------


async def test_a_name_that_turns_to_loopback_after_it_was_checked_reaches_nothing() -> None:
    async with receiving(silence) as canary:
        answers = iter(["93.184.215.14", "127.0.0.1"])

        async def rebinding(name: str) -> tuple[str, ...]:
            return (next(answers),)

        policy = EgressPolicy(allow_http=True, ports=frozenset({canary.port}))
        async with door(policy, resolve=rebinding) as egress:
            url = canary.url(host="rebind.test")
            await egress.check(url)
            assert await failing(egress, url) is FailureKind.DESTINATION_NOT_ALLOWED
    assert (canary.connections, canary.received) == (0, 0)


@pytest.mark.parametrize(
    "addresses",
    [
        *("127.0.0.1", "93.184.215.14 127.0.0.1", "127.0.0.1 93.184.215.14", "::1", "::ffff:127.0.0.1", "::127.0.0.1"),
        *("64:ff9b::7f00:1", "2002:7f00:1::", "0.0.0.0", "::", "169.254.169.254", "fe80::1%lo", "10.0.0.1"),
        "2606:4700::1 fc00::1",
    ],
)
async def test_one_refused_address_among_a_names_refuses_them_all(addresses: str) -> None:
    async with receiving(silence) as canary:
        policy = EgressPolicy(allow_http=True, ports=frozenset({canary.port}))
        async with door(policy, resolve=names(evil_test=addresses)) as egress:
            url = canary.url(host="evil.test")
            assert await failing(egress, url) is FailureKind.DESTINATION_NOT_ALLOWED
            with pytest.raises(DestinationNotAllowedError):
                await egress.check(url)
    assert (canary.connections, canary.received) == (0, 0)


async def test_no_spelling_of_this_machine_brings_a_byte_to_a_canary() -> None:
    async with receiving(silence) as canary:
        policy = EgressPolicy(allow_http=True, ports=frozenset({canary.port}))
        async with door(policy) as egress:
            for host in SPELLINGS_OF_LOOPBACK:
                assert await failing(egress, canary.url(host=host)) is FailureKind.DESTINATION_NOT_ALLOWED, host
    assert (canary.connections, canary.received) == (0, 0)


async def test_of_thousands_of_answers_of_a_rebinding_resolver_none_brings_a_byte_to_a_canary() -> None:
    dice = Random(7)
    private = ["127.0.0.1", "::1", "::ffff:127.0.0.1", "10.0.0.1", "169.254.169.254", "fe80::1", "64:ff9b::7f00:1"]

    async def rebinding(name: str) -> tuple[str, ...]:
        answer = ["93.184.215.14", "2606:2800:220::1", dice.choice(private)]
        dice.shuffle(answer)
        return tuple(answer[answer.index(next(a for a in answer if a in private)) :] if dice.random() < 0.3 else answer)

    async with receiving(silence) as canary:
        policy = EgressPolicy(allow_http=True, ports=frozenset({canary.port}))
        async with door(policy, resolve=rebinding) as egress:
            url = canary.url(host="rebind.test")
            kinds = {await failing(egress, url) for _ in range(5_000)}
    assert kinds == {FailureKind.DESTINATION_NOT_ALLOWED}
    assert (canary.connections, canary.received) == (0, 0)


async def test_one_private_address_among_a_thousand_refuses_them_all() -> None:
    many = [f"93.184.{high}.{low}" for high in range(4) for low in range(250)] + ["10.0.0.1"]
    async with door(EgressPolicy(), resolve=names(many_test=" ".join(many))) as egress:
        assert await failing(egress, "https://many.test/") is FailureKind.DESTINATION_NOT_ALLOWED


async def test_refused_closed_and_silent_private_ports_look_alike() -> None:
    async with receiving(silence) as silent, receiving(answering(OK)) as open_port:
        closed = 1
        policy = EgressPolicy(allow_http=True, ports=frozenset({silent.port, open_port.port, closed}))
        async with door(policy) as egress:
            for port in (silent.port, open_port.port, closed):
                began = time.perf_counter()
                assert await failing(egress, f"http://127.0.0.1:{port}/") is FailureKind.DESTINATION_NOT_ALLOWED
                assert time.perf_counter() - began < 0.1
        assert silent.connections == open_port.connections == 0


async def test_a_refused_url_never_leaves(egress: Egress) -> None:
    for url in (
        "http://example.com/",
        "ftp://127.0.0.1/",
        "http://10.0.0.1/",
        "http://user@127.0.0.1/",
        "",
        "http://127.1/",
    ):
        assert await failing(egress, url) is FailureKind.DESTINATION_NOT_ALLOWED


async def test_the_host_name_is_kept_while_its_judged_address_is_dialled() -> None:
    async with receiving(answering(OK)) as receiver:
        policy = EgressPolicy(allow_http=True, ports=frozenset({receiver.port}), allow_networks=(LOOPBACK,))
        async with door(policy, resolve=names(hooks_example="127.0.0.1")) as egress:
            await get(egress, receiver.url(host="hooks.example"))
    assert receiver.requests[0].headers["host"] == f"hooks.example:{receiver.port}"


async def test_a_name_is_resolved_once_for_each_dial_and_not_for_a_pooled_connection() -> None:
    asked = []

    async def resolve(name: str) -> tuple[str, ...]:
        asked.append(name)
        return ("127.0.0.1",)

    async with receiving(
        answering(OK, OK, b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", OK)
    ) as receiver:
        policy = EgressPolicy(allow_http=True, ports=frozenset({receiver.port}), allow_networks=(LOOPBACK,))
        async with door(policy, resolve=resolve) as egress:
            for _ in range(4):
                await get(egress, receiver.url(host="hooks.example"))
    assert (receiver.connections, asked) == (2, ["hooks.example"] * 2)


async def test_a_name_admitted_as_loopback_must_lead_there_and_only_there() -> None:
    resolve = names(localhost="127.0.0.1", a_localhost="93.184.215.14")
    async with receiving(answering(OK)) as receiver, door(LOCAL, resolve=resolve) as egress:
        assert (await get(egress, receiver.url(host="localhost"))).status == 200
        assert await failing(egress, receiver.url(host="a.localhost")) is FailureKind.DESTINATION_NOT_ALLOWED


async def test_this_server_itself_is_never_a_destination() -> None:
    async with receiving(answering(OK)) as receiver:
        for own in ("127.0.0.1", "0.0.0.0", "::"):
            policy = EgressPolicy(
                allow_loopback=True,
                allow_networks=(ip_network("0.0.0.0/0"),),
                own_addresses=frozenset({(ip_address(own), receiver.port)}),
            )
            async with door(policy, resolve=names(localhost="127.0.0.1")) as egress:
                for host in ("127.0.0.1", "localhost"):
                    assert await failing(egress, receiver.url(host=host)) is FailureKind.DESTINATION_NOT_ALLOWED
    assert receiver.connections == 0


async def test_an_address_of_this_machine_is_known_by_itself_where_the_server_listens_on_all() -> None:
    here = own_address()
    if here is None:
        pytest.skip("this machine has no address but loopback")
    async with receiving(answering(OK), host="0.0.0.0") as receiver:
        lax = EgressPolicy(allow_http=True, ports=frozenset({receiver.port}), allow_networks=(ip_network("0.0.0.0/0"),))
        async with door(lax) as egress:
            assert (await get(egress, receiver.url(host=here))).status == 200
        own = frozenset({(ip_address("0.0.0.0"), receiver.port)})
        async with door(replace(lax, own_addresses=own)) as egress:
            assert await failing(egress, receiver.url(host=here)) is FailureKind.DESTINATION_NOT_ALLOWED


async def test_a_check_passes_a_name_that_does_not_resolve_and_the_send_decides() -> None:
    async with door(EgressPolicy(), resolve=names()) as egress:
        assert (await egress.check("https://Later.example/x")).text == "https://later.example/x"
        assert await failing(egress, "https://later.example/x") is FailureKind.CONNECTION_FAILED
        with pytest.raises(DestinationNotAllowedError):
            await egress.check("https://10.0.0.1/")


# --- F34: names that do not answer ------------------------------------------------------------------


async def test_a_resolver_that_hangs_ends_by_the_deadline() -> None:
    async def hanging(name: str) -> tuple[str, ...]:
        await asyncio.sleep(30)
        return ()

    async with door(EgressPolicy(), resolve=hanging) as egress:
        began = time.perf_counter()
        assert await failing(egress, "https://slow.example/", deadline=0.1) is FailureKind.TIMEOUT
        assert time.perf_counter() - began < 0.5


async def test_a_resolver_that_answers_rubbish_is_a_failure_and_no_crash() -> None:
    for rubbish in ("", "rubbish", "1.2.3.4.5", "::g"):
        async with door(EgressPolicy(), resolve=names(odd_example=rubbish)) as egress:
            assert await failing(egress, "https://odd.example/") in (
                FailureKind.CONNECTION_FAILED,
                FailureKind.BAD_ANSWER,
            )


async def test_the_system_resolver_shares_a_lookup_and_survives_its_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def getaddrinfo(name: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        asked.append(name)
        time.sleep(0.05)
        if name == "absent.example":
            raise OSError("SERVFAIL")
        if name == "odd.example":
            raise UnicodeError("label too long")
        return [
            (2, 1, 6, "", ("192.0.2.1", 0)),
            (2, 1, 6, "", ("192.0.2.1", 0)),
            (10, 1, 6, "", ("2001:db8::1", 0, 0, 0)),
        ]

    monkeypatch.setattr("socket.getaddrinfo", getaddrinfo)
    resolver = SystemResolver()
    first = asyncio.create_task(resolver("a.example"))
    others = [asyncio.create_task(resolver("a.example")) for _ in range(20)]
    await asyncio.sleep(0)
    first.cancel()
    assert {await other for other in others} == {("192.0.2.1", "2001:db8::1")}
    assert asked == ["a.example"]
    for name in ("absent.example", "odd.example"):
        with pytest.raises(OSError, match=r"SERVFAIL|not a name"):
            await resolver(name)
    abandoned = asyncio.create_task(resolver("absent.example"))
    await asyncio.sleep(0)
    abandoned.cancel()
    assert await resolver("a.example")
    assert asked.count("a.example") == 2


# --- F28, F30: slow and endless ---------------------------------------------------------------------

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(
            dripping(first=b"", then=b"HTTP/1.1 200 OK\r\nX: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy", every=0.02), id="header"
        ),
        pytest.param(dripping(first=HEAD, then=b"x", every=0.02), id="body"),
        pytest.param(
            dripping(first=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", then=b"1\r\nx\r\n", every=0.02),
            id="chunks",
        ),
        pytest.param(dripping(first=b"", then=b"HTTP/1.1 100 Continue\r\n\r\n", every=0.01), id="informational"),
        pytest.param(silence, id="silence"),
        pytest.param(deafness, id="deafness"),
    ],
)
async def test_one_deadline_ends_whatever_is_slow_and_frees_the_connection(egress: Egress, script: Script) -> None:
    async with receiving(script) as receiver:
        began = time.perf_counter()
        kind = await failing(egress, receiver.url(), deadline=0.2, method="POST", body=b"x" * 900_000)
        assert kind is FailureKind.TIMEOUT
        assert time.perf_counter() - began < 0.6
        if script is not deafness:
            await receiver.all_closed()


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(flooding(first=b"HTTP/1.1 200 OK\r\n\r\n", then=b"x" * 65_536), id="until close"),
        pytest.param(
            flooding(first=b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n", then=b"x" * 65_536), id="10 GB"
        ),
        pytest.param(
            flooding(
                first=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                then=b"10000\r\n" + b"x" * 65_536 + b"\r\n",
            ),
            id="chunks",
        ),
    ],
)
async def test_64_kib_of_an_endless_body_are_kept_and_then_it_is_closed(egress: Egress, script: Script) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with receiving(script) as receiver:
        for _ in range(20):
            answer = await get(egress, receiver.url())
            assert (answer.status, len(answer.body)) == (200, BODY_MOST)
        await receiver.all_closed()
        # What the kernels buffers took on the way, not what the receiver would have sent.
        assert receiver.bytes_sent < 20 * 8_000_000
    if sys.platform == "linux":
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(flooding(first=b"HTTP/1.1 200 OK\r\nX: ", then=b"x" * 65_536), id="one header"),
        pytest.param(flooding(first=b"HTTP/1.1 200 OK\r\n", then=b"X: y\r\n" * 1_000), id="headers"),
        pytest.param(flooding(first=b"HTTP/1.1 200 ", then=b"x" * 65_536), id="reason"),
        pytest.param(flooding(first=b"", then=b"HTTP/1.1 100 Continue\r\n\r\n" * 1_000), id="informational"),
        pytest.param(flooding(first=b"", then=b"x" * 65_536), id="no status line"),
        pytest.param(
            flooding(first=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", then=b"1;" + b"x" * 65_536),
            id="chunk extension",
        ),
        pytest.param(
            flooding(first=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", then=b"X: y\r\n" * 1_000),
            id="trailers",
        ),
    ],
)
async def test_an_endless_header_is_no_answer_and_memory_stays_flat(egress: Egress, script: Script) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with receiving(script) as receiver:
        for _ in range(3):
            assert await failing(egress, receiver.url(), deadline=0.3) in (FailureKind.BAD_ANSWER, FailureKind.TIMEOUT)
        await receiver.all_closed()
    if sys.platform == "linux":
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB


# --- F32: malformed ---------------------------------------------------------------------------------

MALFORMED = {
    "nothing": b"",
    "no status line": b"hello\r\n\r\n",
    "half a status line": b"HTTP/1.1 2",
    "half a header": b"HTTP/1.1 200 OK\r\nContent-Le",
    "http/0.9": b"<html>hello</html>",
    "http/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "version 3.1": b"HTTP/3.1 200 OK\r\n\r\n",
    "no number": b"HTTP/1.1 OK\r\n\r\n",
    "status 99": b"HTTP/1.1 99 Low\r\nContent-Length: 0\r\n\r\n",
    "status 999": b"HTTP/1.1 999 High\r\nContent-Length: 0\r\n\r\n",
    "status 0200": b"HTTP/1.1 0200 OK\r\nContent-Length: 0\r\n\r\n",
    "status 2000": b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
    "status -1": b"HTTP/1.1 -1 OK\r\nContent-Length: 0\r\n\r\n",
    "switching protocols": b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nxx",
    "64 KB header": b"HTTP/1.1 200 OK\r\nX: " + b"y" * 65_536 + b"\r\nContent-Length: 0\r\n\r\n",
    "1,000 headers": b"HTTP/1.1 200 OK\r\n" + (b"X: " + b"y" * 80 + b"\r\n") * 1_000 + b"Content-Length: 0\r\n\r\n",
    "no colon": b"HTTP/1.1 200 OK\r\nContent-Length 0\r\n\r\n",
    "blank in a name": b"HTTP/1.1 200 OK\r\nContent Length: 0\r\n\r\n",
    "nul in a value": b"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
    "negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nabc",
    "length in words": b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nab",
    "length beyond 64 bits": b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\nab",
    "body cut short": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
    "bad chunk size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nab\r\n0\r\n\r\n",
    "huge chunk size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffffff\r\nab\r\n0\r\n\r\n",
    "negative chunk size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nab\r\n0\r\n\r\n",
    "chunk without end": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabcd\r\n0\r\n\r\n",
    "chunks cut short": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
    "both framings": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    "only informational": b"HTTP/1.1 100 Continue\r\n\r\n",
    "binary": bytes(range(256)),
    "tls alert": b"\x15\x03\x01\x00\x02\x02\x28",
}


@pytest.mark.parametrize("reply", MALFORMED.values(), ids=MALFORMED)
async def test_a_malformed_reply_is_no_answer_and_the_worker_lives(egress: Egress, reply: bytes) -> None:
    async with receiving(answering(reply, close=True)) as receiver:
        assert await failing(egress, receiver.url(), deadline=1) in (
            FailureKind.BAD_ANSWER,
            FailureKind.CONNECTION_FAILED,
        )
        await receiver.all_closed()
    async with receiving(answering(OK)) as receiver:
        assert (await get(egress, receiver.url())).status == 200


async def test_a_connection_that_cannot_be_made_is_told_apart_from_a_bad_answer(egress: Egress) -> None:
    async with receiving(answering(OK)) as receiver:
        pass
    assert await failing(egress, receiver.url()) is FailureKind.CONNECTION_FAILED


async def test_a_connection_reset_is_a_failure(egress: Egress) -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, receiver: Receiver) -> None:
        import socket
        import struct

        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async with receiving(reset) as receiver:
        assert await failing(egress, receiver.url()) is FailureKind.CONNECTION_FAILED


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
async def test_no_descriptor_is_left_behind(egress: Egress) -> None:
    rubbish = answering(b"rubbish\r\n\r\n")
    async with receiving(silence) as silent, receiving(rubbish) as wrong, receiving(deafness, window=4_096) as deaf:
        before = len(os.listdir("/proc/self/fd"))
        for receiver in (silent, wrong, deaf) * 5:
            await failing(egress, receiver.url(), deadline=0.05, method="POST", body=b"x" * 1_000_000)
        await silent.all_closed()
        await wrong.all_closed()
        await asyncio.sleep(0.02)  # closing takes a turn of the loop
        assert 1 <= deaf.open <= 5  # its own ends; ours are gone, though it never took what was sent
        assert len(os.listdir("/proc/self/fd")) <= before + deaf.open


# --- F33: TLS ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.new()


async def test_a_good_certificate_for_the_name_is_accepted_and_the_name_is_told(
    authority: Authority, tmp_path: Path
) -> None:
    told = []
    tls = authority.serving(str(tmp_path), "hooks.example")
    tls.sni_callback = lambda _, name, __: told.append(name)
    async with receiving(answering(OK), tls=tls) as receiver:
        policy = EgressPolicy(ports=frozenset({receiver.port}), allow_networks=(LOOPBACK,))
        async with door(policy, resolve=names(hooks_example="127.0.0.1"), tls=authority.trusted()) as egress:
            for _ in range(3):
                assert (await get(egress, receiver.url(scheme="https", host="hooks.example"))).status == 200
    assert (told, receiver.connections) == (["hooks.example"], 1)


@pytest.mark.parametrize(
    "fault", ["wrong name", "self-signed", "expired", "unknown authority", "old version", "no tls at all"]
)
async def test_a_bad_certificate_or_version_is_refused_and_never_downgraded(
    authority: Authority, tmp_path: Path, fault: str
) -> None:
    name = "other.example" if fault == "wrong name" else "hooks.example"
    tls: ssl.SSLContext | None = authority.serving(
        str(tmp_path), name, expired=fault == "expired", self_signed=fault == "self-signed"
    )
    if fault == "old version":
        assert tls is not None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            tls.minimum_version = ssl.TLSVersion.TLSv1
            tls.maximum_version = ssl.TLSVersion.TLSv1_1
        tls.set_ciphers("ALL:@SECLEVEL=0")
    if fault == "no tls at all":
        tls = None
    trusted = Authority.new().trusted() if fault == "unknown authority" else authority.trusted()
    async with receiving(answering(OK), tls=tls) as receiver:
        policy = EgressPolicy(ports=frozenset({receiver.port}), allow_networks=(LOOPBACK,))
        async with door(policy, resolve=names(hooks_example="127.0.0.1"), tls=trusted) as egress:
            kind = await failing(egress, receiver.url(scheme="https", host="hooks.example"), deadline=0.5)
    # A server that speaks no version of ours may close without a word, as plain HTTP waits for one.
    assert kind is FailureKind.TLS_FAILED or fault in ("no tls at all", "old version")
    assert receiver.requests == []


@pytest.mark.parametrize(
    ("script", "kinds"), [(silence, "timeout"), (answering(OK, close=True), "tls_failed connection_failed timeout")]
)
async def test_a_handshake_that_stalls_or_is_cut_ends_by_the_deadline(
    authority: Authority, script: Script, kinds: str
) -> None:
    async with receiving(script) as receiver:
        policy = EgressPolicy(ports=frozenset({receiver.port}), allow_networks=(LOOPBACK,))
        async with door(policy, resolve=names(hooks_example="127.0.0.1"), tls=authority.trusted()) as egress:
            began = time.perf_counter()
            assert (
                await failing(egress, receiver.url(scheme="https", host="hooks.example"), deadline=0.2) in kinds.split()
            )
            assert time.perf_counter() - began < 0.6
        await receiver.all_closed()


async def test_the_dial_has_its_own_bound_within_the_deadline(authority: Authority) -> None:
    async with receiving(silence) as receiver:
        policy = EgressPolicy(ports=frozenset({receiver.port}), allow_networks=(LOOPBACK,))
        resolve = names(hooks_example="127.0.0.1")
        async with door(policy, resolve=resolve, tls=authority.trusted(), connect_within=0.1) as egress:
            began = time.perf_counter()
            assert (
                await failing(egress, receiver.url(scheme="https", host="hooks.example"), deadline=5)
                is FailureKind.TIMEOUT
            )
            assert time.perf_counter() - began < 0.6


# --- the configured proxy ---------------------------------------------------------------------------


def own_address() -> str | None:
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        address = str(probe.getsockname()[0])
        return None if address.startswith("127.") else address


async def test_a_configured_proxy_is_given_everything_and_judges_the_addresses() -> None:
    async with receiving(answering(OK)) as proxy:
        policy = EgressPolicy(allow_http=True)
        async with door(policy, proxy_url=proxy.url(), resolve=names()) as egress:
            answer = await get(egress, "http://internal.example/x?y")
            await egress.check("http://internal.example/x?y")
            assert await failing(egress, "http://user@internal.example/") is FailureKind.DESTINATION_NOT_ALLOWED
    assert answer.status == 200
    assert [request.line for request in proxy.requests] == ["GET http://internal.example/x?y HTTP/1.1"]
    assert proxy.requests[0].headers["host"] == "internal.example"


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_through_a_proxy_tls_is_still_with_the_receiver_itself(
    authority: Authority, tmp_path: Path, scheme: str
) -> None:
    async with receiving(answering(OK), tls=authority.serving(str(tmp_path), "hooks.example")) as receiver:

        async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Receiver) -> None:
            seen.requests.append(Request(await reader.readuntil(b"\r\n\r\n"), b""))
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", receiver.port)

            async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
                while data := await source.read(65_536):
                    sink.write(data)
                sink.close()

            try:
                await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))
            finally:
                far_writer.transport.abort()

        to_proxy = authority.serving(str(tmp_path), "proxy.example") if scheme == "https" else None
        async with receiving(tunnel, tls=to_proxy) as proxy:
            url = f"{scheme}://user:p%40ss@proxy.example:{proxy.port}"
            resolve, tls = names(proxy_example="127.0.0.1"), authority.trusted()
            async with door(EgressPolicy(), proxy_url=url, resolve=resolve, tls=tls) as egress:
                for _ in range(2):
                    assert (await get(egress, "https://hooks.example/x")).status == 200
            assert proxy.connections == 1
            assert proxy.requests[0].line == "CONNECT hooks.example:443 HTTP/1.1"
            assert proxy.requests[0].headers["proxy-authorization"] == "Basic dXNlcjpwQHNz"
    assert [request.line for request in receiver.requests] == ["GET /x HTTP/1.1"] * 2
    assert "proxy-authorization" not in receiver.requests[0].headers


async def test_a_certificate_for_another_name_is_refused_through_a_proxy_too(
    authority: Authority, tmp_path: Path
) -> None:
    async def impostor(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Receiver) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 Yes\r\n\r\n")
        with suppress(ssl.SSLError, ConnectionError):
            await writer.start_tls(authority.serving(str(tmp_path), "other.example"))
            seen.requests.append(Request(await reader.readuntil(b"\r\n\r\n"), b""))

    async with receiving(impostor) as proxy:
        resolve, tls = names(), authority.trusted()
        async with door(EgressPolicy(), proxy_url=proxy.url(), resolve=resolve, tls=tls) as egress:
            assert await failing(egress, "https://hooks.example/x") is FailureKind.TLS_FAILED
    assert proxy.requests == []


@pytest.mark.parametrize("reply", [b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", b"rubbish\r\n\r\n", b""])
async def test_a_proxy_that_refuses_is_a_failed_connection(authority: Authority, reply: bytes) -> None:
    tls, resolve = authority.trusted(), names()
    async with receiving(answering(reply, close=True)) as proxy:
        async with door(EgressPolicy(), proxy_url=proxy.url(), resolve=resolve, tls=tls) as egress:
            kind = await failing(egress, "https://hooks.example/x")
        assert proxy.connections
    assert kind in (FailureKind.CONNECTION_FAILED, FailureKind.DESTINATION_NOT_ALLOWED, FailureKind.BAD_ANSWER)


# --- the pool and the gates -------------------------------------------------------------------------


async def test_many_names_of_one_address_are_never_above_its_cap_and_all_get_through() -> None:
    at_once: list[int] = []

    async def slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, receiver: Receiver) -> None:
        while True:
            await read_request(reader, receiver)
            at_once.append(receiver.under_way)
            await asyncio.sleep(0.01)
            receiver.under_way -= 1
            writer.write(OK)

    async def resolve(name: str) -> tuple[str, ...]:
        return ("127.0.0.1",)

    async with receiving(slowly) as receiver:
        policy = EgressPolicy(allow_http=True, ports=frozenset({receiver.port}), allow_networks=(LOOPBACK,))
        async with door(policy, resolve=resolve, per_address=3) as egress:
            hosts = [f"n{number}.example" for number in range(30)]
            answers = await asyncio.gather(*(get(egress, receiver.url(host=host)) for host in hosts * 2))
            assert egress.address_of(f"n1.example:{receiver.port}") == f"127.0.0.1 {receiver.port}"
    assert {answer.status for answer in answers} == {200}
    assert max(at_once) <= 3


async def test_who_waits_at_the_gate_of_an_address_does_so_within_the_deadline() -> None:
    async with receiving(silence) as receiver, door(LOCAL, per_address=1) as egress:
        first = asyncio.create_task(failing(egress, receiver.url(), deadline=0.3))
        await receiver.reached()
        assert await failing(egress, receiver.url(), deadline=0.05) is FailureKind.TIMEOUT
        assert receiver.connections == 1
        assert await first is FailureKind.TIMEOUT
        assert await failing(egress, receiver.url(), deadline=0.05) is FailureKind.TIMEOUT  # its place was freed
        assert egress._pool._gates._users == {}


async def test_the_next_address_is_tried_where_one_refuses_and_what_answered_is_tried_first_then() -> None:
    close = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    async with receiving(answering(close, close=True)) as receiver:
        policy = EgressPolicy(allow_http=True, ports=frozenset({receiver.port}), allow_networks=(LOOPBACK,))
        async with door(policy, resolve=names(two_example="127.0.0.9 127.0.0.1")) as egress:
            for _ in range(2):
                assert (await get(egress, receiver.url(host="two.example"))).status == 200
            destination = await egress.check(receiver.url(host="two.example"))
            assert egress.address_of(destination.authority) == f"127.0.0.1 {receiver.port}"


async def test_after_the_door_is_closed_nothing_leaves_and_what_was_under_way_fails() -> None:
    async with receiving(silence) as receiver:
        egress = door(LOCAL)
        task = asyncio.create_task(failing(egress, receiver.url(), deadline=5))
        await receiver.reached()
        await egress.aclose()
        assert await task is FailureKind.CONNECTION_FAILED
        await receiver.all_closed()
        assert await failing(egress, receiver.url()) is FailureKind.CONNECTION_FAILED
        assert receiver.connections == 1


async def test_an_idle_connection_is_closed_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qhronos_core.adapters.http.pool.IDLE_MOST", 0.05)
    async with receiving(answering(OK)) as receiver, door(LOCAL) as egress:
        await get(egress, receiver.url())
        assert receiver.open == 1
        await receiver.all_closed()
        assert egress._pool._resting == {}
        assert (await get(egress, receiver.url())).status == 200


async def test_what_is_said_while_nobody_asked_ends_the_connection(egress: Egress) -> None:
    async def chatty(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, receiver: Receiver) -> None:
        await read_request(reader, receiver)
        writer.write(OK)
        await asyncio.sleep(0.02)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged")
        await reader.read()

    async with receiving(chatty) as receiver:
        for _ in range(2):
            assert (await get(egress, receiver.url())).body == b"ok"
            await receiver.all_closed()


async def test_an_answer_before_the_whole_request_was_taken_ends_the_connection(egress: Egress) -> None:
    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, receiver: Receiver) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await deafness(reader, writer, receiver)

    async with receiving(early, window=4_096) as receiver:
        for _ in range(2):
            answer = await egress.request("POST", receiver.url(), headers={}, body=b"x" * 8_000_000, deadline=1)
            assert answer.status == 413
        assert receiver.connections == 2


@pytest.mark.parametrize("field", [("X\r\nHost", "a"), ("X", "a\r\nHost: b"), ("X", "a\nb"), ("X", "a\rb")])
async def test_no_line_break_leaves_the_door(egress: Egress, field: tuple[str, str]) -> None:
    async with receiving(answering(OK)) as receiver:
        with pytest.raises(EgressFailure):
            await egress.request("POST", receiver.url(), headers=dict([field]), body=b"", deadline=1)
    assert receiver.connections == 0


async def test_an_ipv6_literal_is_dialled_and_named_in_brackets(egress: Egress) -> None:
    try:
        async with receiving(answering(OK), host="::1") as receiver:
            assert (await get(egress, receiver.url(host="[::1]"))).status == 200
    except OSError:
        pytest.skip("this machine has no IPv6")
    assert receiver.requests[0].headers["host"] == f"[::1]:{receiver.port}"
