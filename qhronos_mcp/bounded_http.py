"""uvicorn's HTTP protocol on httptools, with an end to what it waits for.

Without it a stranger may send a request's head for ever, byte by byte or by the gigabyte, or read an answer never, each
such connection is kept, and enough of them leave the process no descriptor to send with. The body is not limited here:
who may send one is known only once the head is read (`rest/asked.py`). What is refused here, before any route is
known, is told in the words of every other error.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any, ClassVar, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from qhronos_mcp.middleware import CROWDED, CrowdedError
from qhronos_mcp.problems import Problem, describe

OWN_DESCRIPTORS: Final = 40  # of the process itself: the store's files, signals, logs, what it begins with
HEAD_MOST: Final = 65_536  # bytes of request line and headers
HEAD_WITHIN: Final = 30.0  # seconds from the first byte of a request, and from a connection, to the end of its head
CROWDED_WITHIN: Final = 2.0  # likewise, of a connection that is one too many
TAKEN_WITHIN: Final = 30.0  # seconds that a full buffer may wait for its reader
STOPPED_WITHIN: Final = 1.0  # likewise, when the server stops
_TOO_LARGE: Final = Problem(431, "head_too_large", "The request line and headers are more than 64 KiB.")
_TOO_SLOW: Final = Problem(408, "head_too_slow", "The request line and headers did not come within 30 s.")
_MALFORMED: Final = Problem(400, "malformed_request", "This is not a request of HTTP/1.1.")
_CROWDED: Final = describe(CrowdedError())


@dataclass(frozen=True, slots=True)
class Room:
    """How the process's descriptors are shared out, so that callers leave sends and the store some (F26)."""

    connections: int  # of callers; those beyond are told so
    beyond: int  # how many at once are told so in words; those beyond that are turned away unheard
    sends: int

    @classmethod
    def within(cls, descriptors: int, *, sends: int) -> "Room":
        left = max(8, descriptors - OWN_DESCRIPTORS)
        sends = min(sends, left // 2)
        beyond = max(2, min(64, (left - sends) // 3))
        return cls(left - sends - beyond, beyond, sends)


class BoundedHttp(HttpToolsProtocol):
    """A head over 64 KiB is 431, one that takes longer than 30 s is 408; then the connection is closed.

    A reader that takes nothing for 30 s is cut off: its stream ends, and nothing else waits for it.
    """

    now: ClassVar[Callable[[], datetime]]

    room: ClassVar[Room | None] = None  # None: as many connections as come

    @classmethod
    def by(cls, now: Callable[[], datetime], room: Room | None = None) -> "type[BoundedHttp]":
        """This protocol, telling the time by `now`, within this room."""
        return type(cls.__name__, (cls,), {"now": staticmethod(now), "room": room})

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._crowded = False
        self._in_head = True  # and between requests, where the next head is awaited
        self._all_head = True  # of what is being read
        self._head = 0
        self._hurry: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        room = self.room
        self._crowded = room is not None and len(self.connections) > room.connections
        if room is not None and len(self.connections) > room.connections + room.beyond:
            self._refuse(_CROWDED)
            return
        within = CROWDED_WITHIN if self._crowded else HEAD_WITHIN
        self._hurry = self.loop.call_later(within, self._refuse, _TOO_SLOW)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_hurrying()
        self._wait_for_the_reader(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._all_head = self._in_head
        if self._all_head and self._hurry is None:
            self._hurry = self.loop.call_later(HEAD_WITHIN, self._refuse, _TOO_SLOW)
        super().data_received(data)
        if self._all_head:  # no head ended in it, not even that of a request which came whole
            self._head += len(data)
            if self._head > HEAD_MOST:
                self._refuse(_TOO_LARGE)

    def on_headers_complete(self) -> None:
        self._in_head = self._all_head = False
        self._stop_hurrying()
        if self._crowded:
            self.scope[CROWDED] = True  # type: ignore[typeddict-unknown-key]
        super().on_headers_complete()
        if self._crowded and self.cycle is not None:
            self.cycle.keep_alive = False

    def _should_upgrade(self) -> bool:
        return not self._crowded and super()._should_upgrade()

    def on_message_complete(self) -> None:
        self._in_head, self._head = True, 0
        super().on_message_complete()

    def _stop_hurrying(self) -> None:
        if self._hurry is not None:
            self._hurry.cancel()
            self._hurry = None

    # --- a reader that does not read --------------------------------------------------------------

    def pause_writing(self) -> None:
        super().pause_writing()
        self._wait_for_the_reader(TAKEN_WITHIN)

    def resume_writing(self) -> None:
        self._wait_for_the_reader(None)
        super().resume_writing()

    def shutdown(self) -> None:
        super().shutdown()
        if self.flow.write_paused:
            self._wait_for_the_reader(STOPPED_WITHIN)

    def _wait_for_the_reader(self, seconds: float | None) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
        self._stalled = None if seconds is None else self.loop.call_later(seconds, self.transport.abort)

    # --- refusing ---------------------------------------------------------------------------------

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - the parser's words are not for strangers
        self._refuse(_MALFORMED)

    def _refuse(self, problem: Problem) -> None:
        """Only said where nothing else is being answered on this connection; closed in any case."""
        self._stop_hurrying()
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(_answer(problem, type(self).now()))
        self.transport.close()


def _answer(problem: Problem, now: datetime) -> bytes:
    body = json.dumps(problem.document(now)).encode()
    later = "" if problem.retry_after is None else f"retry-after: {problem.retry_after}\r\n"
    head = (
        f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}\r\n{later}"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
        "x-content-type-options: nosniff\r\ncache-control: no-store\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body
