"""One connection fed by hand: however its bytes are cut, and whatever they are, it ends in a reply or in one kind of failure."""

import asyncio

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qhronos_core.adapters.http.http1 import (
    BODY_MOST,
    FRAMING_MOST,
    HEADER_MOST,
    Connection,
    EgressFailure,
    FailureKind,
    Reply,
    request_bytes,
)


class Wire(asyncio.Transport):
    """Takes what is written; `abort` closes it as the event loop would, a turn later."""

    def __init__(self, protocol: Connection) -> None:
        super().__init__()
        self.protocol = protocol
        self.written = b""
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        if not self.closed:
            self.closed = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def feed(self, data: bytes) -> None:
        if not self.closed:
            self.protocol.data_received(data)

    def end(self) -> None:
        self.abort()


def heard(pieces: list[bytes]) -> Reply | FailureKind:
    """What comes of an answer that arrives in these pieces and then ends."""

    async def exchange() -> Reply | FailureKind:
        connection = Connection("192.0.2.1", 443)
        wire = Wire(connection)
        connection.connection_made(wire)
        asked = asyncio.ensure_future(connection.exchange(b"GET / HTTP/1.1\r\n\r\n"))
        await asyncio.sleep(0)
        for piece in pieces:
            wire.feed(piece)
            await asyncio.sleep(0)
        wire.end()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert asked.done()
        assert not connection.reusable
        try:
            return asked.result()
        except EgressFailure as failure:
            return failure.kind

    return asyncio.run(exchange())


CHUNKED = b"HTTP/1.1 201 Made\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nhel\r\n2\r\nlo\r\n0\r\nT: u\r\n\r\n"
ANSWERS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\r\n\r\nhello",
    b"HTTP/1.1 103 Early\r\nLink: a\r\n\r\n" + CHUNKED,
    b"HTTP/1.0 404 Not Found\r\nServer: x\r\n\r\nhello",
    b"HTTP/1.1 204 No Content\r\n\r\n",
]


@pytest.mark.parametrize("answer", ANSWERS)
def test_cut_at_any_byte_an_answer_is_the_same(answer: bytes) -> None:
    whole = heard([answer])
    assert isinstance(whole, Reply)
    for position in range(1, len(answer)):
        assert heard([answer[:position], answer[position:]]) == whole
    assert heard([bytes([byte]) for byte in answer]) == whole
    assert "t" not in whole.headers
    assert "link" not in whole.headers


@pytest.mark.parametrize("answer", ANSWERS[:2])
def test_an_answer_that_ends_early_is_none(answer: bytes) -> None:
    assert heard([]) is FailureKind.CONNECTION_FAILED
    for position in range(1, len(answer)):
        assert heard([answer[:position]]) is FailureKind.BAD_ANSWER


pieces = st.lists(
    st.binary(max_size=40)
    | st.sampled_from(
        [
            *(
                b"HTTP/1.1 200 OK\r\n",
                b"HTTP/1.1 100 Continue\r\n\r\n",
                b"HTTP/1.1 101 Switch\r\n",
                b"HTTP/1.1 204 x\r\n",
            ),
            *(
                b"Content-Length: 3\r\n",
                b"Content-Length: -1\r\n",
                b"Transfer-Encoding: chunked\r\n",
                b"Upgrade: x\r\n",
            ),
            *(
                b"Connection: upgrade\r\n",
                b"Connection: close\r\n",
                b"\r\n",
                b"\r\n\r\n",
                b"3\r\nabc\r\n",
                b"0\r\n\r\n",
                b"abc",
            ),
            *(
                b"X: y\r\n",
                b"X: " + b"y" * 9_000,
                b"\n",
                b"\x00",
                b"fffffffff\r\n",
                b" folded\r\n",
                b"Proxy-Connection: x\r\n",
            ),
        ]
    ),
    max_size=12,
)


@given(pieces)
@example([b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\n\r\nx"])
@settings(max_examples=250, deadline=None)
def test_whatever_arrives_is_a_reply_within_bounds_or_one_kind_of_failure(arriving: list[bytes]) -> None:
    got = heard(arriving)
    if isinstance(got, Reply):
        assert 200 <= got.status <= 599
        assert len(got.body) <= BODY_MOST
        assert sum(len(name) + len(value) for name, value in got.headers.items()) <= HEADER_MOST
    else:
        assert got in (FailureKind.BAD_ANSWER, FailureKind.CONNECTION_FAILED)


@given(st.integers(BODY_MOST - 2, BODY_MOST + 2), st.integers(1, 70_000))
@settings(max_examples=30, deadline=None)
def test_a_body_at_the_limit_is_whole_and_beyond_it_is_cut(size: int, piece: int) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size
    got = heard([answer[at : at + piece] for at in range(0, len(answer), piece)] if piece > 500 else [answer])
    assert isinstance(got, Reply)
    assert len(got.body) == min(size, BODY_MOST)


def test_framing_without_a_body_does_not_go_on_for_ever() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    tiny = b"1;" + b"e" * 1_000 + b"\r\nx\r\n"
    assert heard([head, *([tiny] * (FRAMING_MOST // len(tiny) + 2)), b"0\r\n\r\n"]) is FailureKind.BAD_ANSWER
    assert isinstance(heard([head, *([tiny] * 50), b"0\r\n\r\n"]), Reply)


def test_a_request_is_one_message_with_its_length() -> None:
    sent = request_bytes("PUT", "/x?y", "a.example", {"X-Grüße": "ü"}, b"body", more="Proxy-Authorization: z\r\n")
    assert (
        sent
        == (
            "PUT /x?y HTTP/1.1\r\nHost: a.example\r\nAccept-Encoding: identity\r\nX-Grüße: ü\r\nContent-Length: 4\r\n"
            "Proxy-Authorization: z\r\n\r\nbody"
        ).encode()
    )
