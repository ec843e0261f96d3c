"""HTTP/1.1 as a client of hostile servers: one request at a time, an answer that cannot grow, no connection left open.

Thin on purpose: framing is httptools' (llhttp, strict); what is here is the bounds. A connection whose answer
was anything but whole, plain and within them is cut, never shut down politely: nothing a receiver does holds it open.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Final, NamedTuple, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

HEADER_MOST: Final = 64 * 1024
HEADERS_MOST: Final = 256
BODY_MOST: Final = 64 * 1024
FRAMING_MOST: Final = 512 * 1024  # everything read of one answer: informational ones, chunk sizes, trailers and all
IDLE_MOST: Final = (
    4.0  # seconds; less than the 5 after which many servers close, so that few requests meet a closing door
)
IDLE_CONNECTIONS_MOST: Final = 1_000
_LENGTH_ALWAYS: Final = frozenset({"POST", "PUT", "PATCH"})


class FailureKind(StrEnum):
    TIMEOUT = "timeout"
    CONNECTION_FAILED = "connection_failed"
    TLS_FAILED = "tls_failed"
    BAD_ANSWER = "bad_answer"
    DESTINATION_NOT_ALLOWED = "destination_not_allowed"


class EgressFailure(Exception):
    """There is no answer. `kind` says why, and no more: a caller must not learn what listens where (S29)."""

    def __init__(self, kind: FailureKind) -> None:
        super().__init__(kind.value)
        self.kind = kind


class Reply(NamedTuple):
    """`headers` by lower-case name (the last of a name); `body` as sent, cut at 64 KiB."""

    status: int
    headers: dict[str, str]
    body: bytes


def request_bytes(
    method: str, target: str, authority: str, headers: Mapping[str, str], body: bytes, *, more: str = ""
) -> bytes:
    """A request as it goes over the wire. `more`: whole field lines of our own.

    Raises:
        ValueError: a line break where it would begin another field.
    """
    lines = [f"{method} {target} HTTP/1.1", f"Host: {authority}", "Accept-Encoding: identity"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body or method in _LENGTH_ALWAYS:
        lines.append(f"Content-Length: {len(body)}")
    head = "\r\n".join(lines)
    if head.count("\n") != len(lines) - 1 or head.count("\r") != len(lines) - 1:
        raise ValueError("a field holds a line break")
    return f"{head}\r\n{more}\r\n".encode() + body


class Connection(asyncio.Protocol):
    """One connection to an address and port, used for one request after another while `reusable`."""

    def __init__(self, address: str, port: int) -> None:
        self.address = address
        self.port = port
        self.where = f"{address} {port}"
        self.on_lost: Callable[[Connection], None] | None = None  # called when it is gone, whoever ended it
        self._transport: asyncio.Transport | None = None
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        self._waiter: asyncio.Future[None] | None = None
        self._reusable = True
        self._tunnel = False
        self._start()

    def _start(self) -> None:
        self._status = 0
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._header_bytes = self._header_count = self._body_bytes = self._bytes = 0
        self._in_body = False

    async def open(self, tls: ssl.SSLContext | None, name: str | None) -> None:
        """Dial; with `tls`, shake hands with `name`."""
        loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            await loop.sock_connect(sock, (self.address, self.port))
        except BaseException:
            sock.close()
            raise
        await loop.create_connection(lambda: self, sock=sock, ssl=tls, server_hostname=name)

    @property
    def reusable(self) -> bool:
        transport = self._transport
        return (
            self._reusable
            and transport is not None
            and not transport.is_closing()
            and not transport.get_write_buffer_size()  # answered before it had read all: the rest must not follow
        )

    @property
    def transport(self) -> asyncio.Transport:
        if self._transport is None:
            raise EgressFailure(FailureKind.CONNECTION_FAILED)
        return self._transport

    async def exchange(self, message: bytes, *, tunnel: bool = False) -> Reply:
        """Send a request and wait for its answer.

        `tunnel`: the answer ends with its header, and what follows is not HTTP.

        Raises:
            EgressFailure: CONNECTION_FAILED before the first byte of an answer, BAD_ANSWER after it.
        """
        if self._transport is None or self._transport.is_closing():
            raise EgressFailure(FailureKind.CONNECTION_FAILED)
        self._start()
        self._tunnel = tunnel
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            self._transport.write(message)
            await self._waiter
        except BaseException:
            self.cut()
            raise
        finally:
            self._waiter = None
        reply = Reply(self._status, self._headers, b"".join(self._body))
        self._start()
        return reply

    def cut(self) -> None:
        """Close at once, whatever is still to be sent or said."""
        self._reusable = False
        if self._transport is not None:
            self._transport.abort()

    def _finish(self, failure: FailureKind | None = None) -> None:
        if failure is not None:
            self.cut()
        if self._waiter is None or self._waiter.done():
            return
        if failure is None:
            self._waiter.set_result(None)
        else:
            self._waiter.set_exception(EgressFailure(failure))

    # --- asyncio.Protocol ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._waiter is None or self._waiter.done() or self._parser is None:
            self.cut()  # an answer to nothing: what follows could be taken for the next one's
            return
        self._bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            self._reusable = False
            self._finish(None if self._waiter.done() else FailureKind.BAD_ANSWER)
        if self._bytes > (FRAMING_MOST if self._in_body else HEADER_MOST) and not self._waiter.done():
            self._finish(FailureKind.BAD_ANSWER)

    def connection_lost(self, exc: Exception | None) -> None:
        self._reusable = False
        self._transport = self._parser = None  # the parser holds this object in turn
        if self.on_lost is not None:
            self.on_lost(self)
        if self._in_body and exc is None and self._ends_with_the_connection():
            self._finish()
        else:
            self._finish(FailureKind.BAD_ANSWER if self._bytes else FailureKind.CONNECTION_FAILED)

    def _ends_with_the_connection(self) -> bool:
        return "content-length" not in self._headers and "transfer-encoding" not in self._headers

    # --- httptools ----------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._status >= 200:  # a second answer to one request
            self._reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_count += 1
        self._header_bytes += len(name) + len(value) + 4
        if self._header_count > HEADERS_MOST or self._header_bytes > HEADER_MOST:
            raise HttpParserError("too much")
        if not self._in_body:  # trailers are counted, not kept
            self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        parser = cast("HttpResponseParser", self._parser)  # it is what calls
        status = parser.get_status_code()
        if not 100 <= status <= 599 or status == 101 or parser.get_http_version() not in ("1.1", "1.0"):
            raise HttpParserError("no answer to an HTTP/1.1 request")
        if status < 200:
            self._headers.clear()  # informational: the answer is still to come
            return
        if self._status >= 200:
            return
        self._status = status
        self._in_body = True
        if self._tunnel:
            self._finish()

    def on_body(self, body: bytes) -> None:
        if self._waiter is None or self._waiter.done():
            return
        room = BODY_MOST - self._body_bytes
        self._body.append(body[:room])
        self._body_bytes += len(body)
        if len(body) > room:
            self._finish()
            self.cut()

    def on_message_complete(self) -> None:
        if self._status >= 200 and self._parser is not None:
            self._reusable = self._reusable and self._parser.should_keep_alive()
            self._finish()
