"""Hints that something changed: to listen streams, legacy subscriptions and waiting tools.

A notification is a hint, delivered at most once and only while connected: the journal and the inbox
are the truth. One Hub a node tails the journal, and only while somebody watches.
"""

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final
from urllib.parse import quote

import anyio
import anyio.abc
import mcp_types as t
from mcp.server.connection import Connection
from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver import MCPServer
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import SUBSCRIPTION_ID_META_KEY

from qhronos_core.domain import access
from qhronos_core.domain.access import READ, Principal
from qhronos_core.domain.errors import StoreUnavailableError, UnauthenticatedError
from qhronos_core.domain.event import ActionType, Event
from qhronos_core.domain.journal import Cursor, JournalLine, JournalPage
from qhronos_core.domain.occurrence import EntryKind
from qhronos_core.ports import Stirred
from qhronos_core.usecases.subscriptions import TooManySubscriptionsError
from qhronos_core.usecases.waits import WAITS, TooManyWaitsError
from qhronos_core.wiring import Core
from qhronos_mcp.mcp_server import compat
from qhronos_mcp.mcp_server.face import Face

INBOX: Final = "qhronos://inbox"
HINT: Final = "dev.qhronos/hint"
STREAMS: Final = 20  # open listen streams of one principal
URIS: Final = 200  # its watched URIs, over all of them
_STREAMS, _FEEDS, _WAITS = "streams", "feeds", "waits"
_PAGE: Final = 500
_VERIFY_EVERY: Final = 2.5  # seconds; with the two a copy of the revocations may be old, a stream ends within five
_SEND_WITHIN: Final = 5.0  # seconds; a peer that stopped reading holds up only itself

Hints = dict[str, dict[str, Any]]


class Dirty:
    """The watched URIs that changed since the reader last looked.

    Bounded by what was asked: a slow reader sees fewer hints, and nothing overflows.
    """

    def __init__(self, wants: frozenset[str], *, every: bool = False) -> None:
        """`every`: marked by each line of the journal, whatever it tells; for one that reads the journal itself."""
        self.wants = wants
        self.every = every
        self._closed = False
        self._stir = anyio.Event()
        self._hints: Hints = {}

    def mark(self, uri: str, hint: dict[str, Any]) -> None:
        if uri in self.wants:
            self._hints[uri] = hint
            self._stir.set()

    def stir(self) -> None:
        self._stir.set()

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        self._closed = True
        self._stir.set()

    async def changed(self) -> Hints:
        """Wait; then what was marked since the last call. Empty: closed."""
        await self._stir.wait()
        if not self._closed:
            self._stir = anyio.Event()
        hints, self._hints = self._hints, {}
        return hints


@dataclass(frozen=True, slots=True)
class _Watcher:
    """Who watches. `token` is looked up again while the watch lasts; None: the local owner."""

    caller: Principal
    token: str | None
    kind: str

    @property
    def owner(self) -> str:
        return self.caller.holder or self.caller.sub


@dataclass(slots=True)
class _Owned:
    """What one principal has open here."""

    open: Counter[str] = field(default_factory=Counter)
    uris: int = 0


class Hub:
    """Tells every watcher, of what it may read, which of its URIs changed.

    Reads the journal from the moment somebody watches, page by page, at each signal and at least
    every `poll`: a lost signal costs a poll.
    """

    def __init__(self, face: Face) -> None:
        self._face = face
        self.watching: dict[Dirty, _Watcher] = {}
        self._wanting: dict[str, set[Dirty]] = {}  # by URI: what nobody wants costs nothing, however many watch
        self._owned: dict[str, _Owned] = {}
        self._cursor: Cursor | None = None
        self._stir = anyio.Event()
        self._revoked = anyio.Event()
        self.closing = False

    @property
    def _core(self) -> Core:
        return self._face.core

    # --- watching -------------------------------------------------------------------------------

    def listening(self, wants: frozenset[str], caller: Principal) -> AbstractAsyncContextManager[Dirty]:
        """Watch for a stream. Raises MCPError over a principal's limits."""
        return self._watch(wants, caller, _STREAMS, STREAMS)

    def following(self, caller: Principal) -> AbstractAsyncContextManager[Dirty]:
        """Watch the journal grow, for a stream that reads it by its own cursor. Each is one subscription of MCP Events, of
        which a host may have many, so they take no room from listen streams.

        Raises TooManySubscriptionsError over a principal's limit.
        """
        return self._watch(frozenset(), caller, _FEEDS, self._core.settings.events.max_subscriptions, every=True)

    def waiting(self, wants: frozenset[str], caller: Principal) -> AbstractAsyncContextManager[Dirty]:
        """Watch for a waiting call. Raises TooManyWaitsError over a principal's limit."""
        return self._watch(wants, caller, _WAITS, WAITS)

    def widen(self, dirty: Dirty, uri: str) -> None:
        """Watch one URI more. Raises MCPError over the principal's limit."""
        if uri not in dirty.wants:
            self._take(self.watching[dirty], 1)
            dirty.wants |= {uri}
            self._wanting.setdefault(uri, set()).add(dirty)

    def narrow(self, dirty: Dirty, uri: str) -> None:
        if uri in dirty.wants:
            self._take(self.watching[dirty], -1)
            dirty.wants -= {uri}
            self._unwanted(dirty, uri)

    @asynccontextmanager
    async def _watch(
        self, wants: frozenset[str], caller: Principal, kind: str, most: int, *, every: bool = False
    ) -> AsyncIterator[Dirty]:
        """From before this is entered to its end, no change of what is wanted goes unmarked.

        Raises:
            StoreUnavailableError: the journal cannot be read now, so nothing could be promised.
        """
        watcher = _Watcher(caller, self._face.token(), kind)
        owned = self._owned.setdefault(watcher.owner, _Owned())
        if owned.open[kind] >= most:
            raise _too_many(kind, most)
        self._take(watcher, len(wants))
        owned.open[kind] += 1
        dirty = Dirty(wants, every=every)
        self.watching[dirty] = watcher
        for uri in wants:
            self._wanting.setdefault(uri, set()).add(dirty)
        try:
            if self.closing:
                dirty.close()
            elif self._cursor is None:
                begin = await self._core.journal.end()
                if self._cursor is None:  # another watcher may have begun meanwhile, from earlier on
                    self._cursor = begin
            self._stir.set()
            yield dirty
        finally:
            del self.watching[dirty]
            for uri in dirty.wants:
                self._unwanted(dirty, uri)
            owned.open[kind] -= 1
            self._take(watcher, -len(dirty.wants))
            if not owned.open.total():
                self._owned.pop(watcher.owner, None)

    def _unwanted(self, dirty: Dirty, uri: str) -> None:
        self._wanting[uri].discard(dirty)
        if not self._wanting[uri]:
            del self._wanting[uri]

    def _take(self, watcher: _Watcher, uris: int) -> None:
        owned = self._owned.setdefault(watcher.owner, _Owned())
        if uris > 0 and owned.uris + uris > URIS:
            raise _over("watched URIs", URIS)
        owned.uris += uris

    def open(self) -> Mapping[str, int]:
        """How many streams and waits are open."""
        kinds = Counter(watcher.kind for watcher in self.watching.values())
        return {_STREAMS: kinds[_STREAMS] + kinds[_FEEDS], _WAITS: kinds[_WAITS]}

    # --- telling --------------------------------------------------------------------------------

    async def run(self) -> None:
        """Tell watchers until cancelled."""
        stop = self._core.signals.listen(self._heard)
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._verify)
                group.start_soon(self._tail)
        finally:
            stop()

    def close(self) -> None:
        """Streams end with a result and waits answer; whoever comes now is told at once."""
        self.closing = True
        for dirty in list(self.watching):
            dirty.close()

    def _heard(self, signal: Stirred) -> None:
        self._stir.set()
        if signal.revoked:
            self._revoked.set()

    async def _tail(self) -> None:
        poll = self._core.settings.scheduler.poll.total_seconds()
        while True:
            if not self.watching:
                self._cursor = None
            if self._cursor is None:
                await self._sleep(None)
            elif not await self._read():
                await self._sleep(poll)

    async def _sleep(self, seconds: float | None) -> None:
        with anyio.move_on_after(seconds):
            await self._stir.wait()
        self._stir = anyio.Event()

    async def _read(self) -> bool:
        """Read one page; whether there may be more at once."""
        assert self._cursor is not None  # noqa: S101 - only _tail and _watch set it
        try:
            page = await self._core.journal.after(self._cursor, limit=_PAGE)
        except StoreUnavailableError:
            return False
        if page.truncated or page.lines:
            for dirty in self.watching:
                if dirty.every:
                    dirty.stir()
        if page.truncated:
            for dirty in self.watching:
                for uri in dirty.wants:
                    dirty.mark(uri, {"what": "look"})
        if page.lines:
            waited = self._core.clock.now() - page.lines[-1].entry.at
            self._core.tally.journal_delay.add(max(0.0, waited.total_seconds()))
        self._tell(page)
        self._cursor = page.cursor
        return bool(page.lines)

    def _tell(self, page: JournalPage) -> None:
        """The latest line first: of many about one URI a watcher is told of the last it may hear of, and judged once."""
        told: set[tuple[str, Dirty]] = set()
        for line in reversed(page.lines):
            for uri in _uris(line):
                for dirty in self._wanting.get(uri, ()):
                    if (uri, dirty) not in told and _may_hear(self.watching[dirty].caller, line.event):
                        told.add((uri, dirty))
                        dirty.mark(uri, _hint(line, page.cursor))

    async def _verify(self) -> None:
        """A watch ends with its token: expired, or revoked."""
        while True:
            with anyio.move_on_after(_VERIFY_EVERY):
                await self._revoked.wait()
            self._revoked = anyio.Event()
            tokens = {watcher.token for watcher in self.watching.values()} - {None}
            ended = {token for token in tokens if token is not None and await self._ended(token)}
            for dirty, watcher in list(self.watching.items()):
                if watcher.token in ended:
                    dirty.close()

    async def _ended(self, token: str) -> bool:
        try:
            await self._core.tokens.authenticate(token)
        except UnauthenticatedError:
            return True
        except StoreUnavailableError:
            return False  # nothing is told either while the journal cannot be read
        return False


def _too_many(kind: str, most: int) -> Exception:
    if kind == _WAITS:
        return TooManyWaitsError()
    return TooManySubscriptionsError(most) if kind == _FEEDS else _over("open streams", most)


def _over(what: str, most: int) -> MCPError:
    return MCPError(t.INVALID_REQUEST, f"At most {most} {what} for one token on this node.", {"limit": most})


def _hint(line: JournalLine, cursor: Cursor) -> dict[str, Any]:
    hint = {
        "what": str(line.entry.kind),
        "event_id": None if line.entry.event_id is None else str(line.entry.event_id),
        "occurrence_id": None if line.entry.occurrence_id is None else str(line.entry.occurrence_id),
        "cursor": str(Cursor(cursor.epoch, line.position)),
    }
    return {name: value for name, value in hint.items() if value is not None}


def _may_hear(caller: Principal, event: Event | None) -> bool:
    """By the event's labels now; of a deleted or forgotten event only admin and master hear."""
    if event is None or not event.live:
        return caller.sees_all
    return access.may(caller, READ, event.labels)


_INBOX_KINDS: Final = frozenset({EntryKind.OCCURRENCE_DUE, EntryKind.OCCURRENCE_LATER})


def _uris(line: JournalLine) -> Sequence[str]:
    """What a line makes worth reading again: the occurrence, its event, and the inbox if it went there."""
    entry, event = line.entry, line.event
    uris = []
    if entry.occurrence_id is not None:
        uris.append(f"qhronos://occurrences/{entry.occurrence_id}")
    if entry.event_id is not None:
        uris.append(f"qhronos://events/{entry.event_id}")
        if event is not None and event.key is not None:
            uris += [f"qhronos://events/{written}" for written in _written(event.key)]
    if event is not None and event.action.type is ActionType.INBOX and entry.kind in _INBOX_KINDS:
        uris.append(INBOX)
    return uris


def _written(key: str) -> Sequence[str]:
    """The ways to write a key in an address: as the template's expansion (RFC 6570) has it, and with what may stay."""
    return list(dict.fromkeys((quote(key, safe=""), quote(key, safe=":"), key)))


# --- modern: one stream, one request ------------------------------------------------------------------


class Listen:
    """`subscriptions/listen`. Of the kinds a client may ask for, resource URIs are honoured; our lists never change.

    Unknown and unreadable URIs are accepted and stay silent: they must not tell what exists.
    """

    def __init__(self, hub: Hub, face: Face) -> None:
        self._hub = hub
        self._face = face

    async def __call__(
        self, ctx: ServerRequestContext[Core, Any], params: t.SubscriptionsListenRequestParams
    ) -> t.SubscriptionsListenResult:
        if ctx.request_id is None:
            raise MCPError(t.INVALID_REQUEST, "subscriptions/listen needs a request id.")
        meta: dict[str, Any] = {SUBSCRIPTION_ID_META_KEY: ctx.request_id}
        tell = partial(ctx.session.send_notification, related_request_id=ctx.request_id)
        wants = frozenset(params.notifications.resource_subscriptions or ())
        async with self._hub.listening(wants, self._face.caller()) as dirty:
            honoured = t.SubscriptionFilter(resource_subscriptions=sorted(wants) or None)
            await tell(
                t.SubscriptionsAcknowledgedNotification(
                    params=t.SubscriptionsAcknowledgedNotificationParams(notifications=honoured, _meta=meta)
                )
            )
            while hints := await dirty.changed():
                for uri, hint in hints.items():
                    await tell(
                        t.ResourceUpdatedNotification(
                            params=t.ResourceUpdatedNotificationParams(uri=uri, _meta={**meta, HINT: hint})
                        )
                    )
        return t.SubscriptionsListenResult(_meta=meta)  # a graceful end; a client listens again elsewhere


# --- legacy: one set of URIs a connection ---------------------------------------------------------------


class LegacySubscriptions:
    """`resources/subscribe` and `unsubscribe`: one Dirty a connection, and one task that sends for it."""

    def __init__(self, hub: Hub, face: Face, tasks: anyio.abc.TaskGroup) -> None:
        self._hub = hub
        self._face = face
        self._tasks = tasks

    async def subscribe(self, ctx: ServerRequestContext[Core, Any], params: t.SubscribeRequestParams) -> t.EmptyResult:
        peer = compat.connection(ctx)
        if (dirty := peer.state.get("dirty")) is None:
            watch = self._hub.listening(frozenset(), self._face.caller())
            dirty = peer.state["dirty"] = await peer.exit_stack.enter_async_context(watch)
            peer.exit_stack.callback(dirty.close)
            self._tasks.start_soon(self._send, peer, dirty)
        self._hub.widen(dirty, str(params.uri))
        return t.EmptyResult()

    async def unsubscribe(
        self, ctx: ServerRequestContext[Core, Any], params: t.UnsubscribeRequestParams
    ) -> t.EmptyResult:
        if (dirty := compat.connection(ctx).state.get("dirty")) is not None:
            self._hub.narrow(dirty, str(params.uri))
        return t.EmptyResult()

    async def _send(self, peer: Connection, dirty: Dirty) -> None:
        while hints := await dirty.changed():
            for uri, hint in hints.items():
                with anyio.move_on_after(_SEND_WITHIN):
                    await peer.send_resource_updated(uri, meta={HINT: hint})


def serve_listen(server: MCPServer[Core], hub: Hub, face: Face) -> None:
    """Answer `subscriptions/listen` ourselves: the SDK's own handler would serve any URI to any caller."""
    compat.lowlevel(server).add_request_handler(
        "subscriptions/listen", t.SubscriptionsListenRequestParams, Listen(hub, face)
    )


def serve_legacy_subscriptions(server: MCPServer[Core], hub: Hub, tasks: anyio.abc.TaskGroup, face: Face) -> None:
    """Once a task group is there to send from. The handler's presence advertises `resources.subscribe`."""
    legacy = LegacySubscriptions(hub, face, tasks)
    low = compat.lowlevel(server)
    low.add_request_handler("resources/subscribe", t.SubscribeRequestParams, legacy.subscribe)
    low.add_request_handler("resources/unsubscribe", t.UnsubscribeRequestParams, legacy.unsubscribe)
