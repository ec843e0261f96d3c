"""`/ws` (rest.md §8): deliveries to connected clients by name, and copies of what is due to those who listen by tag.

`Sockets` is the courier of `websocket` events. Writing a frame is not acceptance: an occurrence handed to
a socket waits for its acknowledgement, and if that socket ends, its time is up at once. Who may have what is decided at
each send, by the event's labels as they are then.
"""

import asyncio
import json
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import structlog
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from qhronos_core.domain import access
from qhronos_core.domain.access import READ, WRITE, Principal
from qhronos_core.domain.errors import (
    ConflictError,
    ForbiddenError,
    InvalidInputError,
    LimitedError,
    QhronosError,
    UnauthenticatedError,
    UnavailableError,
)
from qhronos_core.domain.event import ActionType, Event
from qhronos_core.domain.fields import is_client_name
from qhronos_core.domain.ids import OccurrenceId
from qhronos_core.domain.journal import Cursor
from qhronos_core.domain.occurrence import AttemptOutcome, EntryKind, Occurrence, Outcome, Reason
from qhronos_core.domain.payload import payload
from qhronos_core.ports import PRESENT_FOR, Delivery, Stirred
from qhronos_core.wiring import Core
from qhronos_mcp.middleware import FAILED_AUTHENTICATIONS, address_bucket, allowance
from qhronos_mcp.problems import describe
from qhronos_mcp.strict_json import read_object
from qhronos_mcp.verifier import Verifier

_log = structlog.get_logger("qhronos.sockets")

FRAME_MOST: Final = 64 * 1024
FIRST_FRAME_WITHIN: Final = 10.0
WRITE_WITHIN: Final = 5.0
WAITING_MOST: Final = 256  # frames; a client that falls further behind is cut off, and harms nobody else
BAD_FRAMES_MOST: Final = 3
LOOK_EVERY: Final = 5.0  # seconds between looks at a socket's token, and between words about who is connected
TAIL_EVERY: Final = 1.0
PAGE: Final = 500  # entries of the journal read at once
SOCKETS_MOST: Final = 100  # of one principal
TAGS_MOST: Final = 200  # that one socket listens for
GOODBYE_WITHIN: Final = 1.0  # seconds, where the node is stopping
GIVE_BACK_AFTER: Final = (0.0, 0.05, 0.2, 0.5, 1.0, 2.0)  # seconds before each try
LEFT_MOST: Final = 10_000

BAD_FRAMES, TOKEN_BAD, NOT_ALLOWED, TOO_SLOW, TOO_MANY = 4400, 4401, 4403, 4408, 4429
GOING_AWAY, FAILED, TRY_AGAIN_LATER = 1001, 1011, 1013


class _Closing(Exception):
    """The socket ends, with this code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@dataclass(eq=False, slots=True)
class _Proof:
    """A token, and whose it is, as it was looked at last."""

    token: str
    caller: Principal


@dataclass(eq=False, slots=True)
class _Socket:
    """One connection. Frames wait in a bounded queue, so that a stalled reader holds up nobody.

    A registration goes by the token it came with, an acknowledgement by that of the client-hook; what comes without
    either, by the token named last.
    """

    websocket: WebSocket
    proof: _Proof | None = None  # the last
    client_name: str | None = None
    hook: _Proof | None = None
    tags: dict[str, _Proof] = field(default_factory=dict)
    bad_frames: int = 0
    frames: "asyncio.Queue[str | None]" = field(default_factory=lambda: asyncio.Queue(WAITING_MOST))  # None: the last
    unacknowledged: dict[OccurrenceId, int] = field(default_factory=dict)  # and the fence each was handed over under
    ended: "asyncio.Future[_Closing]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def proofs(self) -> set[_Proof]:
        """All it goes by."""
        return {proof for proof in (self.proof, self.hook, *self.tags.values()) if proof is not None}

    def hears_of(self, event: Event) -> bool:
        """Whether it listens for a tag of this event, by a token that may read it."""
        return any(_may_read(self.tags[tag].caller, event) for tag in event.tags if tag in self.tags)

    def send(self, frame: dict[str, Any]) -> bool:
        """Queue a frame; False if the socket has ended, as it does if too many wait already."""
        if self.ended.done():
            return False
        try:
            self.frames.put_nowait(json.dumps(frame, ensure_ascii=False))
        except asyncio.QueueFull:
            self.end(_Closing(TOO_SLOW, "too many frames wait for this client"))
            return False
        return True

    def end(self, closing: _Closing) -> None:
        if not self.ended.done():
            self.ended.set_result(closing)


class Sockets:
    """Every `/ws` connection of this node; the courier of its `websocket` occurrences."""

    def __init__(self, core: Core, verifier: Verifier) -> None:
        self._core = core
        self._verifier = verifier
        self._open: set[_Socket] = set()
        self._clients: defaultdict[str, deque[_Socket]] = defaultdict(deque)
        self._listeners: set[_Socket] = set()
        self._stirred = asyncio.Event()  # the journal may have grown
        self._cursor: Cursor | None = None  # how far it was read for listeners; None: there are none
        self._present = asyncio.Event()  # who is connected has changed
        self._told: frozenset[str] | None = None  # what the others were told last
        self._telling = asyncio.Lock()
        self._looking = asyncio.Lock()
        self._looked_at = float("-inf")
        self._left: dict[tuple[OccurrenceId, int], float] = {}  # attempts left to another node, and since when
        self._closing = False
        core.couriers[ActionType.WEBSOCKET] = self

    def routes(self) -> list[WebSocketRoute]:
        return [WebSocketRoute("/ws", self._serve)]

    @property
    def open(self) -> int:
        """How many there are."""
        return len(self._open)

    # --- the courier ----------------------------------------------------------------------------

    def host_of(self, event: Event) -> str | None:  # noqa: ARG002
        return None

    async def deliver(self, delivery: Delivery) -> Outcome | None:
        """Hand it to one socket of the name, taking turns. None: left to a node that has the name.

        With the name on no node it is refused, `no_client`; so it is where those who have it may not have this, for long.
        """
        name = str(delivery.event.action.params["client_name"])
        attempt = (delivery.occurrence.id, delivery.attempt)
        if self._handed_over(name, delivery):
            self._left.pop(attempt, None)
            return Outcome(AttemptOutcome.ACCEPTED, awaits_ack=True, destination=f"q:{name}")
        if await self._left_to_others(name, attempt):
            return None
        return Outcome(AttemptOutcome.REFUSED, error=Reason.NO_CLIENT.value, destination=f"q:{name}")

    def _handed_over(self, name: str, delivery: Delivery) -> bool:
        line = self._clients.get(name, deque())
        for _ in range(len(line)):
            socket = line[0]
            line.rotate(-1)
            if socket.hook is None or not access.may(socket.hook.caller, WRITE, delivery.event.labels):
                continue
            if socket.send(_frame(delivery.event, delivery.occurrence, attempt=delivery.attempt)):
                socket.unacknowledged[delivery.occurrence.id] = delivery.occurrence.fence
                return True
        return False

    async def _left_to_others(self, name: str, attempt: tuple[OccurrenceId, int]) -> bool:
        """Whether another node says now, not a while ago, that it has this client. What is left too long is left no more."""
        now = self._core.clock.monotonic()
        while len(self._left) >= LEFT_MOST:
            del self._left[next(iter(self._left))]
        since = self._left.setdefault(attempt, now)
        try:
            if now - since < PRESENT_FOR / timedelta(seconds=1) and name in await self._elsewhere_now():
                return True
        except UnavailableError:
            return True  # nobody knows; it could not be recorded either
        del self._left[attempt]
        return False

    async def _elsewhere_now(self) -> frozenset[str]:
        """The names other nodes have. Those that ask before a look begins share it."""
        asked = self._core.clock.monotonic()
        async with self._looking:
            if self._looked_at <= asked:
                began = self._core.clock.monotonic()
                self._core.clients.elsewhere = await self._core.store.presence.elsewhere(self._core.node)
                self._looked_at = began
        return self._core.clients.elsewhere

    # --- the life of the node -------------------------------------------------------------------

    async def run(self) -> None:
        """Tell the store who is connected, look at tokens again, and tail the journal for tag listeners."""
        deaf = self._core.signals.listen(self._heard)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._say_who_is_here())
                group.create_task(self._look_at_tokens())
                group.create_task(self._tail())
        finally:
            deaf()

    def close(self) -> None:
        """The node stops: every socket ends, and its clients connect to another."""
        self._closing = True
        for socket in tuple(self._open):
            socket.end(_Closing(GOING_AWAY, "the node is stopping"))

    def _heard(self, _: Stirred) -> None:
        self._stirred.set()

    async def _say_who_is_here(self) -> None:
        told = True
        while True:
            self._present.clear()
            try:
                await self._tell_who_is_here(again=True)
                await self._elsewhere_now()
                self._core.clients.other_nodes = bool(await self._core.store.presence.nodes() - {self._core.node})
                told = True
            except QhronosError as error:
                if told:  # once for each absence
                    _log.warning("presence_not_told", code=error.code)
                told = False
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY if self._clients else TAIL_EVERY):
                    await self._present.wait()

    async def _tell_who_is_here(self, *, again: bool = False) -> None:
        """`again`: even if nothing has changed, since what was said ages out."""
        async with self._telling:
            names = frozenset(self._clients)
            if again or names != self._told:
                await self._core.store.presence.hold(self._core.node, names)
                self._told = names

    async def _look_at_tokens(self) -> None:
        """A revoked or expired token's sockets end within 5 s."""
        while True:
            await asyncio.sleep(LOOK_EVERY / 2)
            for socket in tuple(self._open):
                for proof in socket.proofs:
                    try:
                        proof.caller = await self._core.tokens.authenticate(proof.token)
                    except UnauthenticatedError:
                        socket.end(_Closing(TOKEN_BAD, "the token is no longer good"))
                    except QhronosError as error:
                        _log.warning("token_not_looked_at", code=error.code)

    async def _tail(self) -> None:
        """Copies of what falls due, to those who listen by tag and may read it: hints, nothing to acknowledge."""
        while True:
            self._stirred.clear()
            more = False
            try:
                if not self._listeners:
                    self._cursor = None
                elif self._cursor is not None:
                    self._cursor, more = await self._copied(self._cursor)
            except QhronosError as error:
                _log.warning("journal_not_read", code=error.code)
            if more:
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(TAIL_EVERY):
                    await self._stirred.wait()

    async def _copied(self, cursor: Cursor) -> tuple[Cursor, bool]:
        page = await self._core.journal.after(cursor, limit=PAGE)
        due = [
            (line.event, line.entry.occurrence_id)
            for line in page.lines
            if line.entry.kind is EntryKind.OCCURRENCE_DUE and line.event is not None and line.entry.occurrence_id
        ]
        wanted = [(event, row_id) for event, row_id in due if any(s.hears_of(event) for s in self._listeners)]
        rows = await self._core.store.occurrences.many([row_id for _, row_id in wanted]) if wanted else {}
        for event, row_id in wanted:
            row = rows.get(row_id)
            for socket in tuple(self._listeners):
                if row is not None and socket.hears_of(event):
                    socket.send(_frame(event, row, attempt=_attempt_of(event, row)))
        return page.cursor, len(page.lines) == PAGE

    # --- one connection -------------------------------------------------------------------------

    async def _serve(self, websocket: WebSocket) -> None:
        await websocket.accept()
        socket = _Socket(websocket)
        if self._closing:
            await websocket.close(GOING_AWAY, "the node is stopping")
            return
        self._open.add(socket)
        reader, writer = asyncio.create_task(self._read(socket)), asyncio.create_task(self._write(socket))
        try:
            closing = await socket.ended
            reader.cancel()
            self._forget(socket)
            await asyncio.gather(self._give_back(socket.unacknowledged), self._say_goodbye(socket, writer, closing))
        finally:
            reader.cancel()
            writer.cancel()
            await asyncio.gather(reader, writer, return_exceptions=True)
            self._forget(socket)

    async def _say_goodbye(self, socket: _Socket, writer: "asyncio.Task[None]", closing: _Closing) -> None:
        """What waits to be written, unless that is what it ends for; then why it ends."""
        with suppress(RuntimeError, WebSocketDisconnect, TimeoutError):
            async with asyncio.timeout(GOODBYE_WITHIN if self._closing else WRITE_WITHIN):
                if closing.code != TOO_SLOW:
                    with suppress(asyncio.QueueFull):
                        socket.frames.put_nowait(None)
                        await asyncio.wait([writer])
                writer.cancel()
                if socket.websocket.application_state is WebSocketState.CONNECTED:
                    await socket.websocket.close(closing.code, closing.reason)

    async def _give_back(self, handed: Mapping[OccurrenceId, int]) -> None:
        """A hand-over may not be on record yet, or the store be away for a moment; what is left lapses by itself."""
        for wait in GIVE_BACK_AFTER:
            if not handed:
                return
            await asyncio.sleep(wait)
            try:
                handed = await self._core.occurrences.give_back(handed)
            except UnavailableError as error:
                _log.warning("not_given_back_yet", code=error.code, count=len(handed))

    def _forget(self, socket: _Socket) -> None:
        self._open.discard(socket)
        self._listeners.discard(socket)
        name = socket.client_name
        if name is not None and name in self._clients:
            with suppress(ValueError):
                self._clients[name].remove(socket)
            if not self._clients[name]:
                del self._clients[name]
                self._core.clients.here.discard(name)
        self._present.set()

    async def _write(self, socket: _Socket) -> None:
        try:
            while True:
                frame = await socket.frames.get()
                if frame is None:
                    return
                async with asyncio.timeout(WRITE_WITHIN):
                    await socket.websocket.send_text(frame)
        except TimeoutError:
            socket.end(_Closing(TOO_SLOW, "a frame was not taken in time"))
        except (RuntimeError, WebSocketDisconnect):
            socket.end(_Closing(GOING_AWAY, "the client has gone"))

    async def _read(self, socket: _Socket) -> None:
        try:
            header = socket.websocket.headers.get("authorization")
            if header is not None:
                caller = await self._verifier.principal(header)
                socket.proof = _Proof(header.partition(" ")[2], caller)
            async with asyncio.timeout(FIRST_FRAME_WITHIN):
                first = await socket.websocket.receive()
            await self._heard_frame(socket, first)
            while True:
                await self._heard_frame(socket, await socket.websocket.receive())
        except _Closing as closing:
            socket.end(closing)
        except UnauthenticatedError:
            verdict = await self._core.limits.take(address_bucket(socket.websocket.scope), FAILED_AUTHENTICATIONS)
            socket.end(
                _Closing(TOKEN_BAD, "a valid token is needed")
                if verdict.allowed
                else _Closing(TOO_MANY, "too many bad tokens from this address")
            )
        except UnavailableError:
            socket.end(_Closing(TRY_AGAIN_LATER, "the store does not answer"))
        except TimeoutError:
            socket.end(_Closing(TOO_SLOW, "the first frame did not come within 10 s"))
        except (RuntimeError, WebSocketDisconnect):
            socket.end(_Closing(GOING_AWAY, "the client has gone"))
        except Exception:
            _log.exception("socket_failed")
            socket.end(_Closing(FAILED, "something failed on our side"))

    async def _heard_frame(self, socket: _Socket, message: Any) -> None:
        """One frame: an answer, or an error frame; three errors in a row end the socket."""
        if message["type"] == "websocket.disconnect":
            raise _Closing(GOING_AWAY, "the client has gone")
        try:
            frame = _object_in(message)
            handler = self._handler_of(frame)
            answer = await handler(socket, frame)
        except (UnauthenticatedError, _Closing):
            raise
        except QhronosError as error:
            if socket.proof is None and isinstance(error, UnavailableError):
                raise
            problem = describe(error)
            socket.send({"type": "error", "code": problem.code, "message": problem.message})
            if socket.proof is None:
                raise _Closing(TOKEN_BAD, "the first frame must prove a token") from None
            if isinstance(error, ForbiddenError) and socket.client_name is None and not socket.tags:
                raise _Closing(NOT_ALLOWED, "this token may not do that") from None
            socket.bad_frames = socket.bad_frames + 1 if isinstance(error, InvalidInputError) else 0
            if socket.bad_frames >= BAD_FRAMES_MOST:
                raise _Closing(BAD_FRAMES, "three bad frames in a row") from None
            return
        socket.bad_frames = 0
        socket.send(answer)

    def _handler_of(self, frame: dict[str, Any]) -> Callable[[_Socket, dict[str, Any]], Any]:
        handlers = {"client-hook": self._hook, "tag-listener": self._listen, "ack": self._acknowledge}
        kind = frame.get("type")
        if not isinstance(kind, str) or kind not in handlers:
            raise InvalidInputError.of("type", "One of client-hook, tag-listener, ack.", got=kind)
        return handlers[kind]

    async def _proved(self, socket: _Socket, frame: dict[str, Any]) -> _Proof:
        """Who speaks: by the token in the frame, else by the one before it or the header. A frame costs what a request does."""
        token = frame.get("token")
        if token is not None:
            if not isinstance(token, str):
                raise UnauthenticatedError
            socket.proof = _Proof(token, await self._core.tokens.authenticate(token))
        if socket.proof is None:
            raise UnauthenticatedError
        access.require_unconfined(socket.proof.caller)
        holder = socket.proof.caller.holder
        same = sum(other.proof is not None and other.proof.caller.holder == holder for other in self._open)
        if same > SOCKETS_MOST:
            raise _Closing(TOO_MANY, "too many sockets of one token")
        verdict = await self._core.limits.take(*allowance(socket.proof.caller, self._core.settings))
        if not verdict.allowed:
            raise LimitedError(verdict.retry_after)
        return socket.proof

    async def _hook(self, socket: _Socket, frame: dict[str, Any]) -> dict[str, Any]:
        proof = await self._proved(socket, frame)
        name = frame.get("client_name")
        if not isinstance(name, str) or not is_client_name(name):
            raise InvalidInputError.of("client_name", "1 to 128 of A-Z a-z 0-9 . _ -", got=name)
        access.require_writer(proof.caller)
        if not self._core.delivers:
            raise ConflictError("This node only serves and delivers nothing. Connect to one that delivers.")
        if socket.client_name != name:
            if socket.client_name is not None:
                raise InvalidInputError.of("client_name", "This socket has a name already; open another for another.")
            socket.client_name = name
            self._clients[name].append(socket)
            self._core.clients.here.add(name)
        socket.hook = proof
        try:
            await self._tell_who_is_here()  # before the answer: from then on no node takes this client for absent
        except UnavailableError as error:
            _log.warning("presence_not_told", code=error.code)
        return {"type": "ack", "message": "subscription registered"}

    async def _listen(self, socket: _Socket, frame: dict[str, Any]) -> dict[str, Any]:
        proof = await self._proved(socket, frame)
        tags = frame.get("tags")
        if not isinstance(tags, list) or not tags or not all(isinstance(tag, str) for tag in tags):
            raise InvalidInputError.of("tags", "A list of one or more tags.")
        if len(socket.tags.keys() | set(tags)) > TAGS_MOST:
            raise InvalidInputError.of("tags", f"At most {TAGS_MOST} tags on one socket.")
        if self._cursor is None:
            begin = await self._core.journal.end()
            self._cursor = self._cursor or begin  # another may have begun meanwhile, from earlier on
        socket.tags |= dict.fromkeys(tags, proof)
        self._listeners.add(socket)
        return {"type": "ack", "message": "subscription registered"}

    async def _acknowledge(self, socket: _Socket, frame: dict[str, Any]) -> dict[str, Any]:
        proof = await self._proved(socket, frame)
        caller = (proof if frame.get("token") else socket.hook or proof).caller
        occurrence_id = _id_in(frame, "occurrence_id")
        found = await self._core.occurrences.get(occurrence_id, caller=caller)
        if frame.get("event_id") is not None and _id_in(frame, "event_id") != found.event.id:
            raise InvalidInputError.of("event_id", "This occurrence belongs to another event.")
        said = {name: frame.get(name) for name in ("delay", "note")}
        for name, value in {**said, "outcome": frame.get("outcome")}.items():
            if value is not None and not isinstance(value, str):
                raise InvalidInputError.of(name, "This must be text.")
        answer = await self._core.occurrences.acknowledge(
            occurrence_id, frame.get("outcome") or "done", caller=caller, **said
        )
        socket.unacknowledged.pop(OccurrenceId(occurrence_id), None)
        return {"type": "ack", "occurrence_id": str(occurrence_id), "status": str(answer.occurrence.state)}


def _frame(event: Event, occurrence: Occurrence, *, attempt: int) -> dict[str, Any]:
    return {"type": "event", **payload(event, occurrence), "attempt": attempt}


def _attempt_of(event: Event, row: Occurrence) -> int:
    """The attempt under way; that of a row given back meanwhile is the first, to come. An inbox makes none."""
    return row.attempts_made if event.action.type is ActionType.INBOX else max(1, row.attempts_made)


def _may_read(caller: Principal, event: Event) -> bool:
    """Of a deleted event only admin and master hear."""
    return access.may(caller, READ, event.labels) if event.live else caller.sees_all


def _object_in(message: Any) -> dict[str, Any]:
    text = message.get("text")
    if text is None:
        raise InvalidInputError("Text frames only.")
    if len(text.encode()) > FRAME_MOST:
        raise _Closing(BAD_FRAMES, "a frame has at most 64 KiB")
    return dict(read_object(text.encode()))


def _id_in(frame: dict[str, Any], name: str) -> UUID:
    try:
        return UUID(frame.get(name))
    except (TypeError, ValueError, AttributeError):
        raise InvalidInputError.of(name, "This must be a UUID.") from None
