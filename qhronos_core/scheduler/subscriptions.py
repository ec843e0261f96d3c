"""Delivers announcements to webhook subscriptions: in order, one at a time for each, on one node at a time.

A subscription's position moves only past what its endpoint accepted or what was given up, and it is written before the
next is sent; so a node that dies costs a repetition, under the same id.
"""

import asyncio
import secrets as randomness
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

import structlog

from qhronos_core.domain.access import Principal
from qhronos_core.domain.announcement import Announcement, Batch, Wanted
from qhronos_core.domain.errors import UnavailableError
from qhronos_core.domain.journal import Cursor, JournalPage
from qhronos_core.domain.subscription import (
    ATTEMPTS,
    NEVER_AGAIN,
    RETRY_AFTER,
    Subscription,
    SubscriptionSecrets,
    json_of,
    message_id,
    signed_headers,
)
from qhronos_core.ports import Callbacks, Called, Journal, Signals, Store, VaultError
from qhronos_core.tally import CallbackOutcome, Tally

_log = structlog.get_logger(__name__)

LEASE: Final = timedelta(seconds=60)
DELIVER_WITHIN: Final = 8.0  # seconds of one attempt
HELD_FOR: Final = 20.0  # seconds a node keeps one subscription while there is more to deliver
AT_ONCE: Final = 50
LOOKED_AT: Final = 10_000
WRITTEN_EVERY: Final = 1_000  # entries that were not for a quiet subscription; after so many its position is written
KEY_WAIT: Final = timedelta(seconds=10)
LOOK_ENDS_WITHIN: Final = 5.0  # seconds that a look under way has once the node is told to stop; then it is cut
_SWEEP_EVERY: Final = timedelta(seconds=30)


class Reads(Protocol):
    def __call__(
        self, cursor: Cursor, asked: Wanted, *, caller: Principal, limit: int, journal: "Pages | None" = None
    ) -> Awaitable[Batch]: ...


class Holds(Protocol):
    def __call__(self, principal: Principal, *, shown_at: datetime) -> Awaitable[bool]:
        """Whether the token that was shown then is still good."""
        ...


class Pages:
    """The journal within one look: subscriptions that stand at one place share one reading."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._pages: dict[tuple[Cursor, int], JournalPage] = {}

    async def after(self, cursor: Cursor, *, limit: int) -> JournalPage:
        if (cursor, limit) not in self._pages:
            self._pages[cursor, limit] = await self._journal.after(cursor, limit=limit)
        return self._pages[cursor, limit]


@dataclass(frozen=True, slots=True)
class DeliveriesSettings:
    poll: timedelta
    per_message: bool  # `webhook-id` is of the message, not of the event
    forbidden: int  # the number of the error Forbidden
    drain: timedelta = timedelta(seconds=35)  # what is being sent when the node stops has so long


class Deliveries:
    def __init__(
        self,
        *,
        store: Store,
        read: Reads,
        still_holds: Holds,
        open_secrets: Callable[[Subscription], SubscriptionSecrets],
        callbacks: Callbacks,
        signals: Signals,
        settings: DeliveriesSettings,
        tally: Tally | None = None,
    ) -> None:
        self._tally = tally or Tally()
        self._store = store
        self._read = read
        self._still_holds = still_holds
        self._open = open_secrets
        self._callbacks = callbacks
        self._signals = signals
        self._settings = settings
        self._stirred = asyncio.Event()
        self._stopping = False
        self._looking: asyncio.Task[None] | None = None
        self._cut: asyncio.TimerHandle | None = None
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._quiet: dict[str, tuple[Cursor, Cursor]] = {}  # where it stands, and up to where there is nothing for it
        self._swept_at: datetime | None = None

    async def run(self) -> None:
        """Look and deliver until `stop`; what is being sent then is finished, or cut and sent again by another node."""
        self._looking = asyncio.current_task()
        deaf = self._signals.listen(lambda _: self._stirred.set())
        waits = False
        try:
            while not self._stopping:
                self._stirred.clear()
                try:
                    await self.look()
                    waits = False
                except UnavailableError:
                    if not waits:  # once for each absence
                        _log.warning("subscriptions_wait_for_the_store")
                    waits = True
                except Exception:
                    _log.exception("subscriptions_look_failed")
                try:
                    async with asyncio.timeout(self._settings.poll.total_seconds()):
                        await self._stirred.wait()
                except TimeoutError:
                    pass
        finally:
            self._looking = None
            if self._cut is not None:
                self._cut.cancel()
            deaf()
            if self._busy:
                _, cut = await asyncio.wait(self._busy.values(), timeout=self._settings.drain.total_seconds())
                for task in cut:
                    task.cancel()
                if cut:
                    await asyncio.wait(cut)

    def stop(self) -> None:
        self._stopping = True
        self._stirred.set()
        if self._looking is not None and self._cut is None:  # a store that does not answer holds up nobody for long
            self._cut = asyncio.get_running_loop().call_later(LOOK_ENDS_WITHIN, self._looking.cancel)

    async def idle(self) -> None:
        """Wait until nothing is being delivered."""
        while self._busy:
            await asyncio.wait(list(self._busy.values()))

    async def look(self) -> None:
        """Begin to deliver wherever there is something to."""
        now = await self._store.now()
        if self._swept_at is None or now - self._swept_at >= _SWEEP_EVERY:
            await self._store.subscriptions.sweep()
            self._swept_at = now
        waiting = await self._store.subscriptions.due(LOOKED_AT)
        if not waiting:
            return
        end, pages = await self._store.journal.end(), Pages(self._store.journal)
        self._quiet = {each.id: self._quiet[each.id] for each in waiting if each.id in self._quiet}
        for subscription in waiting:
            if len(self._busy) >= AT_ONCE or self._stopping:
                return
            if subscription.id not in self._busy and await self._has_news(subscription, end, pages):
                task = asyncio.create_task(self._serve(subscription), name=subscription.id)
                self._busy[subscription.id] = task
                task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._busy.pop(task.get_name(), None)
        self._stirred.set()

    async def _has_news(self, subscription: Subscription, end: Cursor, pages: Pages) -> bool:
        """Whether there is anything to send, if only that it is over. What is quiet is remembered, not written."""
        if not await self._still_holds(subscription.principal, shown_at=subscription.confirmed_at):
            return True
        stands, begin = self._quiet.get(subscription.id, (subscription.cursor, subscription.cursor))
        if stands != subscription.cursor:
            begin = subscription.cursor
        if begin.epoch == end.epoch and begin.position >= end.position:
            return False
        batch = await self._read(begin, subscription.wanted, caller=subscription.principal, limit=1, journal=pages)
        if batch.announcements or batch.truncated or batch.lost or batch.more:
            return True
        self._quiet[subscription.id] = (subscription.cursor, batch.cursor)
        if batch.cursor.position - subscription.cursor.position >= WRITTEN_EVERY:
            await self._store.subscriptions.advance(subscription, batch.cursor)
        return False

    # --- one subscription -----------------------------------------------------------------------

    async def _serve(self, seen: Subscription) -> None:
        try:
            held = await self._store.subscriptions.claim(seen, LEASE)
            if held is None:
                return
            try:
                await self._deliver_all(held)
            except VaultError as error:  # another node may have the key
                _log.error("subscription_cannot_be_opened", subscription_id=seen.id, reason=str(error))
                await self._give_back(held)
        except UnavailableError:
            _log.warning("subscription_waits_for_the_store", subscription_id=seen.id)
        except Exception:
            _log.exception("subscription_failed", subscription_id=seen.id)

    async def _give_back(self, held: Subscription) -> None:
        """As it stands in the store by now, for any node to try a little later."""
        stands = await self._store.subscriptions.get(held.id)
        if stands is not None and stands.fence == held.fence:
            later = await self._store.now() + KEY_WAIT
            await self._store.subscriptions.settle(replace(stands, next_at=later, lease_until=None))

    async def _deliver_all(self, held: Subscription) -> None:
        """Deliver in order until there is no more, something must wait, or the lease is better given back."""
        until = asyncio.get_running_loop().time() + HELD_FOR
        while not self._stopping and asyncio.get_running_loop().time() < until:
            now = await self._store.now()
            fresh = await self._store.subscriptions.get(held.id)  # its secret and grant may be new, or it may be over
            if fresh is None or not fresh.live(now) or fresh.fence != held.fence:
                return
            held = replace(fresh, cursor=held.cursor)
            if not await self._still_holds(held.principal, shown_at=held.confirmed_at):
                await self._terminate(held, now, "token_revoked")
                return
            batch = await self._read(held.cursor, held.wanted, caller=held.principal, limit=1)
            if batch.truncated:
                fresh_cursor = batch.announcements[0].before if batch.announcements else batch.cursor
                held = replace(held, cursor=fresh_cursor)
                await self._tell(held, now, {"type": "gap", "cursor": str(fresh_cursor)})
            if batch.announcements:
                settled = await self._deliver(held, batch.announcements[0], now)
                if not await self._store.subscriptions.settle(settled):
                    return
                if settled.lease_until is None:
                    return
                held = settled
                continue
            held = replace(held, cursor=batch.cursor)
            if batch.lost:
                await self._terminate(held, now, "access_lost")
                return
            if not batch.more:
                break
        await self._store.subscriptions.settle(replace(held, lease_until=None))

    async def _deliver(self, held: Subscription, told: Announcement, now: datetime) -> Subscription:
        """One attempt; the row as it is after it. Under no lease: to be tried again, later."""
        message = message_id(held.id, told, per_message=self._settings.per_message)
        try:
            called = await self._post(held, json_of(told.body(cursor=True)), message, now)
        except asyncio.CancelledError:
            await self._store.subscriptions.settle(replace(held, lease_until=None))
            raise
        now = await self._store.now()
        passed = replace(held, cursor=told.cursor, attempts=0, lease_until=now + LEASE)
        if called.status is not None and 200 <= called.status <= 299:
            self._tally.callbacks[CallbackOutcome.ACCEPTED] += 1
            return replace(passed, last_delivery_at=now, last_error=None, failed_since=None)
        failed: dict[str, Any] = {"last_error": _class_of(called), "failed_since": held.failed_since or now}
        attempts = held.attempts + 1
        if called.status in NEVER_AGAIN or attempts >= ATTEMPTS:
            self._tally.callbacks[CallbackOutcome.GIVEN_UP] += 1
            _log.warning(
                "announcement_given_up", subscription_id=held.id, event_id=told.event_id, reason=failed["last_error"]
            )
            return replace(passed, **failed)
        self._tally.callbacks[CallbackOutcome.TRIED_AGAIN] += 1
        next_at = now + RETRY_AFTER[attempts - 1]
        return replace(held, attempts=attempts, next_at=next_at, lease_until=None, **failed)

    async def _terminate(self, held: Subscription, now: datetime, reason: str) -> None:
        """Say so once, and end it whatever comes back."""
        error = {"code": self._settings.forbidden, "message": "Forbidden", "data": {"reason": reason}}
        await self._tell(held, now, {"type": "terminated", "error": error})
        await self._store.subscriptions.end(held.id)

    async def _tell(self, held: Subscription, now: datetime, envelope: dict[str, Any]) -> None:
        message = f"msg_{envelope['type']}_{randomness.token_urlsafe(12)}"
        await self._post(held, json_of(envelope), message, now)

    async def _post(self, held: Subscription, body: bytes, message: str, now: datetime) -> Called:
        headers = signed_headers(body, message=message, subscription=held.id, keys=self._open(held).keys(now), now=now)
        return await self._callbacks.post(held.url, headers=headers, body=body, deadline=DELIVER_WITHIN)


def _class_of(called: Called) -> str:
    if called.error is not None:
        return called.error
    return "http_5xx" if called.status is not None and called.status >= 500 else "http_4xx"
