"""uvicorn's WebSocket protocol, with an end to closing and a second chance to answer a ping.

Without the first a client that stopped reading keeps its connection, and what waits in its buffer, for as long as it likes
after the socket was closed here: the close frame waits behind what is not taken. Without the second one ping that is missed
closes, as when a laptop changes its network.
"""

import asyncio
from typing import Any, Final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

GONE_WITHIN: Final = 5.0  # seconds from the end of a socket here to the end of its connection
STOPPED_WITHIN: Final = 1.0  # likewise, when the server stops
PINGS_MISSED: Final = 2  # in a row: then the socket closes
TOO_SLOW: Final = 4408


class BoundedWebSocket(WebSocketsSansIOProtocol):
    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._cut: asyncio.TimerHandle | None = None
        self._missed = 0

    def handle_pong(self, event: Frame) -> None:
        self._missed = 0
        super().handle_pong(event)

    def keepalive_timeout(self) -> None:
        self._missed += 1
        if self._missed < PINGS_MISSED:
            self.send_keepalive_ping()
        elif not self.close_sent and not self.transport.is_closing():
            self.conn.fail(TOO_SLOW, "two pings in a row went unanswered")
            super().keepalive_timeout()

    def on_task_complete(self, task: "asyncio.Task[None]") -> None:
        super().on_task_complete(task)
        self._cut_in(GONE_WITHIN)

    def shutdown(self) -> None:
        super().shutdown()
        self._cut_in(STOPPED_WITHIN)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._cut is not None:
            self._cut.cancel()
        self.disconnected = True
        super().connection_lost(exc)

    def _cut_in(self, seconds: float) -> None:
        if self._cut is not None:
            self._cut.cancel()
        if not self.disconnected:
            self._cut = self.loop.call_later(seconds, self.transport.abort)
