"""The head of a request is bounded in bytes and in time, whatever the connection did before."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from qhronos_mcp import bounded_http
from qhronos_mcp.bounded_http import BoundedHttp
from tests.world import NOON


async def hello(scope: Any, receive: Any, send: Any) -> None:
    if scope["path"] == "/endless":
        await endless(send)
        return
    while (await receive()).get("more_body", False):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


ended = asyncio.Event()


async def endless(send: Any) -> None:
    """As a stream that nobody reads: each piece waits until those before it were taken."""
    ended.clear()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(1_000):
        await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})
    ended.set()


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    monkeypatch.setattr(bounded_http, "HEAD_WITHIN", 0.3)
    monkeypatch.setattr(bounded_http, "TAKEN_WITHIN", 0.3)
    server = uvicorn.Server(
        uvicorn.Config(hello, port=0, http=BoundedHttp.by(lambda: NOON), lifespan="off", log_config=None)
    )
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    await server.startup()
    yield server.servers[0].sockets[0].getsockname()[1]
    await server.shutdown()


async def answered(port: int, *pieces: bytes, pause: float = 0.0) -> bytes:
    """All that comes back, read while it is written: a connection closed before all was sent is reset."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = bytearray()

    async def read() -> None:
        with suppress(ConnectionResetError):
            while part := await reader.read(65_536):
                answer.extend(part)

    reading = asyncio.create_task(read())
    for piece in pieces:
        writer.write(piece)
        with suppress(ConnectionResetError):
            await writer.drain()
        await asyncio.sleep(pause)
    await asyncio.wait_for(reading, 5)
    writer.close()
    return bytes(answer)


def told(answer: bytes) -> dict[str, Any]:
    """The problem in an answer that is nothing else."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/json" in head
    problem: dict[str, Any] = json.loads(body)
    assert problem["error"] == problem["detail"]
    assert (problem["type"], problem["now"]) == (f"urn:qhronos:problem:{problem['code']}", "2027-03-01T12:00:00Z")
    return problem


@pytest.mark.parametrize(
    "request_line",
    [b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n", b"nonsense\r\n\r\n"],
)
async def test_what_is_no_request_is_told_so_as_any_error_is(port: int, request_line: bytes) -> None:
    answer = await answered(port, request_line)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert told(answer)["code"] == "malformed_request"


async def test_a_head_that_is_cut_off_is_told_why(port: int) -> None:
    assert told(await answered(port, b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000))["code"] == "head_too_large"
    assert told(await answered(port))["code"] == "head_too_slow"


async def test_a_reader_that_does_not_read_is_cut_off_and_its_stream_ends(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1_024)
    writer.write(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
    async with asyncio.timeout(10):
        await ended.wait()
        with suppress(ConnectionResetError):
            taken = len(await reader.read())
            assert taken < 1_000 * 65_536
    writer.close()


async def test_a_connection_that_says_nothing_is_closed(port: int) -> None:
    assert (await answered(port)).startswith(b"HTTP/1.1 408 ")


async def test_a_head_that_dribbles_is_closed(port: int) -> None:
    assert (await answered(port, b"GET / HTTP/1.1\r\n", b"Host:", pause=0.1)).startswith(b"HTTP/1.1 408 ")


async def test_the_second_head_of_a_connection_is_bounded_too(port: int) -> None:
    first = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    answer = await answered(port, first, b"GET / HTTP/1.1\r\nHost: ", pause=0.1)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 408 " in answer
    answer = await answered(port, first, b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000, pause=0.1)
    assert b"HTTP/1.1 431 " in answer


async def test_a_slow_body_is_not_a_slow_head(port: int) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 4\r\n\r\n"
    assert (await answered(port, head, b"ab", b"cd", pause=0.25)).startswith(b"HTTP/1.1 200 ")


async def test_a_large_body_in_the_first_piece_is_not_a_large_head(port: int) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 200000\r\n\r\n"
    assert (await answered(port, head + b"x" * 200_000)).startswith(b"HTTP/1.1 200 ")


class Wire(asyncio.Transport):
    """Of a protocol fed by hand: how a stream is cut into pieces is otherwise the kernel's affair."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


@pytest.mark.parametrize("length", [65_536, 200_000])
async def test_a_large_request_that_comes_whole_in_one_piece_is_answered(length: int) -> None:
    config, wire = uvicorn.Config(hello, log_config=None), Wire()
    protocol = BoundedHttp(config, ServerState(), {})
    protocol.connection_made(wire)
    request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % length + b"x" * length

    for _ in range(2):  # the second head of a connection begins at nothing
        protocol.data_received(request)
        assert not wire.closed
        await asyncio.gather(*protocol.tasks)
    assert bytes(wire.written).count(b"HTTP/1.1 200 ") == 2
    protocol.connection_lost(None)


async def test_an_idle_connection_after_an_answer_is_left_to_keep_alive(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(2):
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 ")
        await asyncio.sleep(0.5)
    writer.close()
