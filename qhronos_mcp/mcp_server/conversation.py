"""What one host asks over its pipe, and what it was answered.

A host, or a script, may close its end right after its last request, and is answered all the same: the end of the pipe is
kept from the server, which would drop what it is working on, until nothing is unanswered or it is let go.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol

import anyio
import mcp_types as t
from anyio.abc import ObjectReceiveStream, ObjectSendStream
from mcp.shared.message import SessionMessage

Heard = SessionMessage | Exception


class Hearing(Protocol):
    def __aiter__(self) -> AsyncIterator[Heard]: ...


class Saying(Protocol):
    async def send(self, item: SessionMessage, /) -> None: ...


class Conversation:
    def __init__(self) -> None:
        self._unanswered: set[Any] = set()
        self._idle = asyncio.Event()  # nothing is unanswered
        self._idle.set()
        self._over = asyncio.Event()  # the host has closed its end
        self._let_go = asyncio.Event()

    async def over(self) -> None:
        """Return when the host has closed its end."""
        await self._over.wait()

    async def answered(self, *, within: float) -> None:
        """Return when nothing is unanswered, or after so many seconds."""
        with anyio.move_on_after(within):
            await self._idle.wait()

    def let_go(self) -> None:
        """What is unanswered by now stays so."""
        self._let_go.set()

    @asynccontextmanager
    async def between(
        self, host: Hearing, to_host: Saying
    ) -> AsyncIterator[tuple[ObjectReceiveStream[Heard], ObjectSendStream[SessionMessage]]]:
        """The streams for a server. It closes both when it has done."""
        to_server, heard = anyio.create_memory_object_stream[Heard]()
        said, from_server = anyio.create_memory_object_stream[SessionMessage]()
        async with anyio.create_task_group() as group:
            group.start_soon(self._hear, host, to_server)
            group.start_soon(self._say, from_server, to_host)
            yield heard, said

    async def _hear(self, host: Hearing, to_server: ObjectSendStream[Heard]) -> None:
        async with to_server:
            async for heard in host:
                self._note(heard)
                await to_server.send(heard)
            self._over.set()
            self._look()
            await self._let_go.wait()

    async def _say(self, from_server: ObjectReceiveStream[SessionMessage], to_host: Saying) -> None:
        async with from_server:
            async for said in from_server:
                await to_host.send(said)
                if isinstance(said.message, t.JSONRPCResponse | t.JSONRPCError):
                    self._unanswered.discard(said.message.id)
                    self._look()

    def _note(self, heard: Heard) -> None:
        if isinstance(heard, Exception):
            return
        message = heard.message
        if isinstance(message, t.JSONRPCRequest):
            self._unanswered.add(message.id)
            self._idle.clear()
        elif isinstance(message, t.JSONRPCNotification) and message.method == "notifications/cancelled":
            self._unanswered.discard((message.params or {}).get("requestId"))  # there is no answer to these
            self._look()

    def _look(self) -> None:
        if self._unanswered:
            return
        self._idle.set()
        if self._over.is_set():
            self._let_go.set()
