"""uvicorn's HTTP protocol on httptools, with an end to what it waits for.

Without it a stranger may send a request's head for ever, byte by byte or by the gigabyte, and each such connection is
kept. The body is not limited here: who may send one is known only once the head is read (`rest/asked.py`).
"""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_MOST: Final = 65_536  # bytes of request line and headers
HEAD_WITHIN: Final = 30.0  # seconds from the first byte of a request, and from a connection, to the end of its head
_TOO_LARGE: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_TOO_SLOW: Final = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class BoundedHttp(HttpToolsProtocol):
    """A head over 64 KiB is 431, one that takes longer than 30 s is 408; then the connection is closed."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._in_head = True  # and between requests, where the next head is awaited
        self._head = 0
        self._hurry: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._hurry = self.loop.call_later(HEAD_WITHIN, self._refuse, _TOO_SLOW)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_hurrying()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        in_head = self._in_head
        if in_head and self._hurry is None:
            self._hurry = self.loop.call_later(HEAD_WITHIN, self._refuse, _TOO_SLOW)
        super().data_received(data)
        if in_head and self._in_head:  # all of it was head
            self._head += len(data)
            if self._head > HEAD_MOST:
                self._refuse(_TOO_LARGE)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_hurrying()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head, self._head = True, 0
        super().on_message_complete()

    def _stop_hurrying(self) -> None:
        if self._hurry is not None:
            self._hurry.cancel()
            self._hurry = None

    def _refuse(self, answer: bytes) -> None:
        """Only said where nothing else is being answered on this connection; closed in any case."""
        self._stop_hurrying()
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(answer)
        self.transport.close()
