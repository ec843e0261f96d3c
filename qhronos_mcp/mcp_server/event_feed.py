"""`events/list`, `poll` and `stream` over the journal; `subscribe` and `unsubscribe` in the words of the wire."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final

import anyio
from mcp.server.context import ServerRequestContext
from mcp.shared.subscriptions import SUBSCRIPTION_ID_META_KEY
from starlette.requests import Request

from qhronos_core.domain.access import Principal
from qhronos_core.domain.announcement import Batch, Wanted
from qhronos_core.domain.errors import QhronosError, StoreUnavailableError
from qhronos_core.domain.journal import Cursor
from qhronos_core.usecases.announcements import Announcements
from qhronos_core.usecases.subscriptions import Asked, SubscriptionCases
from qhronos_mcp.mcp_server import compat
from qhronos_mcp.mcp_server.event_types import EventErrors, descriptors
from qhronos_mcp.mcp_server.events import MODERN
from qhronos_mcp.mcp_server.face import Face
from qhronos_mcp.mcp_server.push import Dirty, Hub
from qhronos_mcp.views import instant, optional_instant

HEARTBEAT: Final = 25.0  # seconds of silence at most; a client may give up after twice 30
NEXT_POLL: Final = timedelta(seconds=5)
EVENTS_MOST: Final = 200  # of one poll
_AT_ONCE: Final = 100  # read at once for a stream
_AGE_MOST: Final = 10**12  # milliseconds, some 31 years


class EventFeed:
    def __init__(self, face: Face, hub: Hub) -> None:
        self._face = face
        self._hub = hub
        self._errors = EventErrors(face.core.settings.events)
        self._announcements = Announcements(face.core.store)

    # --- list -----------------------------------------------------------------------------------

    async def list(self, ctx: ServerRequestContext[Any, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        """All on one page; a cursor is of no list of ours."""
        self._face.caller()
        if given.get("cursor") is not None:
            raise self._errors.invalid("There is one page only; send no cursor.", field="cursor")
        delivery = ["poll"]
        if not _is_legacy_http(ctx):
            delivery.append("push")
        if self._subscriptions(ctx) is not None:
            delivery.append("webhook")
        return {"events": descriptors(tuple(delivery))}

    # --- poll -----------------------------------------------------------------------------------

    async def poll(self, given: Mapping[str, Any]) -> dict[str, Any]:
        async with self._told():
            caller = self._face.caller()
            asked = await self._asked(given, caller)
            most = self._whole(given, "maxEvents", EVENTS_MOST) or EVENTS_MOST
            begin, truncated = await self._begin(given)
            if given.get("cursor") is None:
                batch = Batch((), begin)
            else:
                batch = await self._announcements.after(
                    begin, asked, caller=caller, limit=min(most, EVENTS_MOST), max_age=self._max_age(given)
                )
            return {
                "events": [told.body(cursor=False) for told in batch.announcements],
                "cursor": str(batch.cursor),
                "truncated": truncated or batch.truncated or batch.skipped,
                "hasMore": batch.more,
                "nextPollMs": NEXT_POLL // timedelta(milliseconds=1),
            }

    # --- stream ---------------------------------------------------------------------------------

    async def stream(self, ctx: ServerRequestContext[Any, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        """Everything is judged before the first notification, which turns the answer into a stream."""
        if _is_legacy_http(ctx):
            # There a client that left is not noticed, and its stream would run on.
            raise self._errors.unsupported("deliveryMode", "push")
        async with self._told():
            caller = self._face.caller()
            asked = await self._asked(given, caller)
            max_age = self._max_age(given)
            async with self._hub.following(caller) as dirty:
                begin, truncated = await self._begin(given)
                return await _Stream(self, ctx, caller, asked, dirty).run(begin, truncated, max_age)

    @property
    def heartbeat(self) -> float:
        return HEARTBEAT

    @property
    def announcements(self) -> Announcements:
        return self._announcements

    @property
    def errors(self) -> EventErrors:
        return self._errors

    @property
    def stopping(self) -> bool:
        return self._hub.closing

    # --- subscribe ------------------------------------------------------------------------------

    async def subscribe(self, ctx: ServerRequestContext[Any, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        async with self._told():
            cases, caller = self._offered(ctx), self._face.caller()
            delivery = self._delivery(given)
            if (mode := delivery.get("mode")) not in (None, "webhook"):
                raise self._errors.unsupported("deliveryMode", mode)
            name, arguments = self._subject(given)
            granted = await cases.subscribe(
                Asked(
                    name,
                    arguments,
                    delivery["url"],
                    delivery.get("secret"),
                    self._cursor(given),
                    self._max_age(given),
                    self._ttl(given),
                ),
                caller=caller,
            )
            subscription = granted.subscription
            answer: dict[str, Any] = {
                "id": subscription.id,
                "refreshBefore": instant(subscription.expires_at),
                "cursor": str(subscription.cursor),
                "truncated": granted.truncated,
            }
            if granted.refreshed:
                answer["deliveryStatus"] = {
                    "active": True,
                    "lastDeliveryAt": optional_instant(subscription.last_delivery_at),
                    "lastError": subscription.last_error,
                }
                if subscription.failed_since is not None:
                    answer["deliveryStatus"]["failedSince"] = instant(subscription.failed_since)
            return answer

    async def unsubscribe(self, ctx: ServerRequestContext[Any, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        async with self._told():
            cases, caller = self._offered(ctx), self._face.caller()
            name, arguments = self._subject(given)
            await cases.unsubscribe(name, arguments, self._delivery(given)["url"], caller=caller)
            return {}

    def _subscriptions(self, ctx: ServerRequestContext[Any, Any]) -> SubscriptionCases | None:
        """Over HTTP alone: a process that its host launches may end at any time, and its grants with it."""
        return self._face.core.subscriptions if isinstance(ctx.request, Request) else None

    def _offered(self, ctx: ServerRequestContext[Any, Any]) -> SubscriptionCases:
        if (cases := self._subscriptions(ctx)) is None:
            raise self._errors.unsupported("deliveryMode", "webhook")
        return cases

    def _delivery(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        delivery = given.get("delivery")
        if not isinstance(delivery, dict) or not isinstance(delivery.get("url"), str):
            raise self._errors.invalid("`delivery` is an object with a `url`.", field="delivery")
        return delivery

    # --- what is given --------------------------------------------------------------------------

    @asynccontextmanager
    async def _told(self) -> AsyncIterator[None]:
        try:
            yield
        except QhronosError as error:
            raise self._errors.of(error) from error

    async def _asked(self, given: Mapping[str, Any], caller: Principal) -> Wanted:
        name, arguments = self._subject(given)
        return await self._announcements.admit(name, arguments, caller=caller)

    def _subject(self, given: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
        name, arguments = given.get("name"), given.get("arguments")
        if not isinstance(name, str):
            raise self._errors.invalid("`name` is the name of an event type.", field="name")
        if arguments is not None and not isinstance(arguments, dict):
            raise self._errors.invalid("`arguments` is an object.", field="arguments")
        return name, arguments or {}

    async def _begin(self, given: Mapping[str, Any]) -> tuple[Cursor, bool]:
        return await self._announcements.begin(self._cursor(given))

    def _cursor(self, given: Mapping[str, Any]) -> str | None:
        cursor = given.get("cursor")
        if cursor is not None and not isinstance(cursor, str):
            raise self._errors.invalid("`cursor` is a text or null.", field="cursor")
        return cursor

    def _max_age(self, given: Mapping[str, Any]) -> timedelta | None:
        if given.get("cursor") is None:
            return None
        age = self._whole(given, "maxAgeMs", _AGE_MOST, least=0)
        return None if age is None else timedelta(milliseconds=age)

    def _ttl(self, given: Mapping[str, Any]) -> timedelta | None:
        """Any number: what is too long or too short is granted within bounds, never refused."""
        ttl = given.get("ttlMs")
        if ttl is None:
            return None
        if isinstance(ttl, bool) or not isinstance(ttl, int | float):
            raise self._errors.invalid("`ttlMs` is a number or null.", field="ttlMs")
        return timedelta(milliseconds=max(0, min(ttl, _AGE_MOST)))

    def _whole(self, given: Mapping[str, Any], name: str, most: int, *, least: int = 1) -> int | None:
        number = given.get(name)
        if number is None:
            return None
        if isinstance(number, bool) or not isinstance(number, int) or number < least:
            raise self._errors.invalid(f"`{name}` is a whole number of at least {least}.", field=name)
        return min(number, most)


class _Stream:
    """One `events/stream`: reads the journal by its own cursor, so a slow reader holds up nothing but itself."""

    def __init__(
        self, feed: EventFeed, ctx: ServerRequestContext[Any, Any], caller: Principal, asked: Wanted, dirty: Dirty
    ) -> None:
        self._feed = feed
        self._ctx = ctx
        self._caller = caller
        self._asked = asked
        self._dirty = dirty
        self._meta = {SUBSCRIPTION_ID_META_KEY: ctx.request_id}

    async def run(self, cursor: Cursor, truncated: bool, max_age: timedelta | None) -> dict[str, Any]:
        batch = await self._read(cursor, max_age)
        later = batch.truncated or batch.skipped
        await self._send("active", cursor=str(_before(batch) if later else cursor), truncated=truncated or later)
        while True:
            for told in batch.announcements:
                if self._dirty.closed:
                    break
                await self._send("event", **told.body(cursor=True))
            cursor = batch.cursor
            if batch.lost:
                return await self._terminated()
            if not batch.more and not self._dirty.closed:
                with anyio.move_on_after(self._feed.heartbeat) as quiet:
                    await self._dirty.changed()
                if quiet.cancelled_caught:
                    await self._send("heartbeat", cursor=str(cursor))
            if self._dirty.closed:
                if self._feed.stopping:
                    return {"_meta": self._meta}
                return await self._terminated()
            try:
                batch = await self._read(cursor, None)
            except StoreUnavailableError as error:
                await self._send("error", error={"code": -32603, "message": str(error)})
                await anyio.sleep(1)
                batch = Batch((), cursor, more=True)
            if batch.truncated:
                await self._send("active", cursor=str(_before(batch)), truncated=True)

    async def _read(self, cursor: Cursor, max_age: timedelta | None) -> Batch:
        return await self._feed.announcements.after(
            cursor, self._asked, caller=self._caller, limit=_AT_ONCE, max_age=max_age
        )

    async def _terminated(self) -> dict[str, Any]:
        await self._send("terminated", error=self._feed.errors.body("Forbidden", reason="access_lost"))
        return {"_meta": self._meta}

    async def _send(self, kind: str, **body: Any) -> None:
        await compat.notify(self._ctx, f"notifications/events/{kind}", {**body, "_meta": self._meta})


def _before(batch: Batch) -> Cursor:
    """Where a batch begins: a client that keeps this and leaves misses none of it."""
    return batch.announcements[0].before if batch.announcements else batch.cursor


def _is_legacy_http(ctx: ServerRequestContext[Any, Any]) -> bool:
    return isinstance(ctx.request, Request) and ctx.protocol_version not in MODERN
