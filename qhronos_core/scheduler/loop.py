"""The node's heartbeat: claim, sleep precisely until the next due instant, wake early when something earlier is written."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime, timedelta

import structlog

from qhronos_core.domain.errors import UnavailableError
from qhronos_core.ports import Clock, Signals, Stirred, Store
from qhronos_core.scheduler.dispatcher import Dispatcher

_log = structlog.get_logger(__name__)

OTHERS_EVERY = 0.1  # seconds between looks for what others have due, while some hold nearly all slots
BACKOFF_MOST = 5.0  # seconds between tries while the store is away
LOOK_ENDS_WITHIN = 5.0  # seconds that a look under way has once the node is told to stop; then it is cut
LIFTED_EVERY = 1.0  # seconds between looks for pauses that are over, while there is always more due


class Loop:
    """Runs until stopped. A lost signal costs at most one `poll`; a lost store costs nothing but time."""

    def __init__(
        self,
        *,
        store: Store,
        dispatcher: Dispatcher,
        resume_due: Callable[[], Awaitable[datetime | None]],
        clock: Clock,
        signals: Signals,
        poll: timedelta,
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._resume_due = resume_due
        self._clock = clock
        self._signals = signals
        self._poll = poll / timedelta(seconds=1)
        self._stirred = asyncio.Event()
        self._asleep_until: datetime | None = None
        self._next_resume: datetime | None = None
        self._lifted_at = -math.inf
        self._others_at = -math.inf  # when to look again for what others have due, while some hold nearly all slots
        self._behind = True  # the last look left something
        self._stopping = False
        self._looking: asyncio.Task[None] | None = None
        self._cut: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Claim and sleep until `stop`; then let the dispatcher drain."""
        self._looking = asyncio.current_task()
        deaf = self._signals.listen(self._heard)
        backoff = 0.1
        try:
            while not self._stopping:
                try:
                    more = await self._look()
                    backoff = 0.1
                except UnavailableError:
                    _log.warning("store_away", retry_in_seconds=backoff)
                    await self._sleep(backoff)
                    backoff = min(backoff * 2, BACKOFF_MOST)
                    continue
                except Exception:
                    _log.exception("look_failed")
                    await self._sleep(backoff)
                    backoff = min(backoff * 2, BACKOFF_MOST)
                    continue
                if more:
                    await asyncio.sleep(0)
        finally:
            self._looking = None
            if self._cut is not None:
                self._cut.cancel()
            deaf()
            await self._dispatcher.drain()

    def stop(self) -> None:
        """No new claim is made after this. A store that does not answer holds up nobody for long."""
        self._stopping = True
        self._stirred.set()
        if self._looking is not None and self._cut is None:
            self._cut = asyncio.get_running_loop().call_later(LOOK_ENDS_WITHIN, self._looking.cancel)

    async def _look(self) -> bool:
        """One look; True if there may be more at once. Else sleeps until there is a reason to look again."""
        self._stirred.clear()
        lifted = self._must_lift()
        if lifted:  # first: what is due after a pause's end is not judged as paused
            await self._lift_pauses()
        if self._dispatcher.free_slots <= 0:
            self._behind = True
            await self._store.look()  # what falls due meanwhile waits for a slot: it is not late
            await self._until_slot_or_stop()
            return True
        crowded = self._dispatcher.crowded
        if crowded and self._clock.monotonic() < self._others_at:
            await self._until_room()
            return True
        claimed = await self._dispatcher.claim()
        self._behind = claimed.more
        if crowded and not claimed.more:
            self._others_at = self._clock.monotonic() + OTHERS_EVERY
        if claimed.more:
            return True
        if self._dispatcher.crowded:
            self._behind = True  # there may be more due of those that crowd
            await self._until_room()
            return True
        if not lifted:
            await self._lift_pauses()  # what it makes due stirs this loop
        due = await self._store.occurrences.next_due()
        instants = [instant for instant in (due, self._next_resume) if instant is not None]
        self._asleep_until = min(instants) if instants else None
        wait = self._poll
        if self._asleep_until is not None:
            # uvloop resolves to 1 ms and may fire early: round up; the store refuses to be early in any case
            ahead = (self._asleep_until - self._clock.now()) / timedelta(seconds=1)
            wait = min(wait, math.ceil(max(ahead, 0) * 1000 + 0.5) / 1000)
        await self._sleep(wait)
        self._asleep_until = None
        return False

    def _must_lift(self) -> bool:
        if self._next_resume is not None and self._next_resume <= self._clock.now():
            return True
        return self._behind and self._clock.monotonic() - self._lifted_at >= LIFTED_EVERY

    async def _lift_pauses(self) -> None:
        self._lifted_at = self._clock.monotonic()
        self._next_resume = await self._resume_due()

    async def _until_slot_or_stop(self) -> None:
        slot = asyncio.ensure_future(self._dispatcher.slots())
        try:
            await asyncio.wait([slot], timeout=self._poll)
        finally:
            slot.cancel()

    async def _until_room(self) -> None:
        """Until those that crowd may claim again, or it is time to look for the others."""
        wait = max(0.0, self._others_at - self._clock.monotonic())
        with suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await self._dispatcher.slots(beside_kept=True)

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stirred.wait()
        except TimeoutError:
            pass

    def _heard(self, signal: Stirred) -> None:
        """Wake only for something earlier than what is slept for."""
        if signal.due_at is None:
            return
        if self._asleep_until is None or signal.due_at < self._asleep_until:
            self._stirred.set()
