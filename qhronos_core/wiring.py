"""The one place that knows every adapter: settings in, a running core out.

`open_core` closes what it opened, in the reverse order, also when something in between failed.
Imports of drivers are inside the functions, so that a process answers its first request quickly.
"""

import asyncio
import os
import secrets as randomness
import socket
from collections.abc import AsyncIterator, Mapping, MutableMapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import structlog

from qhronos_core.adapters.clock import SystemClock
from qhronos_core.config import Settings
from qhronos_core.domain.errors import StoreUnavailableError
from qhronos_core.domain.event import Action, ActionType
from qhronos_core.domain.judgement import Judgement
from qhronos_core.domain.schedule import tzdata_version
from qhronos_core.ports import Clock, Courier, Journal, Limits, Signals, Store, Vault
from qhronos_core.scheduler.dispatcher import Dispatcher, DispatchSettings
from qhronos_core.scheduler.loop import Loop
from qhronos_core.scheduler.retention import Kept, Retention
from qhronos_core.usecases.events import EventCases, EventRules
from qhronos_core.usecases.occurrences import OccurrenceCases
from qhronos_core.usecases.secrets import keeper_of
from qhronos_core.usecases.tokens import TokenCases

_log = structlog.get_logger(__name__)

START_PATIENCE: Final = 10.0  # seconds a start waits for a store before it goes on without


@dataclass(slots=True)
class Core:
    """What a face gets. Nothing in it is an adapter's own type."""

    settings: Settings
    node: str
    events: EventCases
    occurrences: OccurrenceCases
    tokens: TokenCases
    journal: Journal
    signals: Signals
    limits: Limits
    clock: Clock
    store: Store
    couriers: MutableMapping[ActionType, Courier]
    started_at: datetime
    _loop: Loop | None = None
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _draining: bool = False
    _closed: bool = False

    async def now(self) -> datetime:
        """The store's clock."""
        return await self.store.now()

    @property
    def draining(self) -> bool:
        return self._draining

    async def ready(self) -> bool:
        """Whether this node takes new work: not while draining, not without a store."""
        if self._draining:
            return False
        try:
            async with asyncio.timeout(2):
                await self.store.now()
        except (StoreUnavailableError, TimeoutError):
            return False
        return True

    async def status(self) -> Mapping[str, Any]:
        """For `/status` with a token, and `qhronos doctor`. Raises StoreUnavailableError."""
        due, oldest = await self.store.occurrences.backlog()
        now = await self.store.now()
        return {
            "now": now,
            "node": self.node,
            "store": dict(await self.store.status()),
            "due": due,
            "oldest_due_seconds": max(0.0, (now - oldest).total_seconds()) if oldest else 0.0,
            "tzdata": tzdata_version(),
            "uptime_seconds": (self.clock.now() - self.started_at).total_seconds(),
        }

    def start_scheduler(self) -> None:
        """Begin to claim and send; call it once the faces have added their couriers."""
        if self._loop is not None and not self._tasks:
            self._tasks.append(asyncio.create_task(self._loop.run(), name="scheduler"))

    def begin_drain(self) -> None:
        """No new claim, and `ready` answers no. What is under way goes on."""
        self._draining = True
        if self._loop is not None:
            self._loop.stop()

    async def aclose(self) -> None:
        """Drain: what is under way finishes or is cut at `delivery.drain`. Safe to call twice."""
        self.begin_drain()
        if self._closed:
            return
        self._closed = True
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task


@asynccontextmanager
async def open_core(settings: Settings, *, run_scheduler: bool | None = None) -> AsyncIterator[Core]:
    """A core on the configured store. The scheduler starts with `start_scheduler`.

    Returns before a remote store answers (calls then raise StoreUnavailableError); an embedded
    store is open and migrated.

    Raises:
        StartRefusedError: the data directory or a secret will not do; one line for the operator.
    """
    async with AsyncExitStack() as stack:
        clock = SystemClock()
        keys = _keys(settings)
        store = await stack.enter_async_context(_open_store(settings, clock))
        signals = _signals(settings)
        stack.push_async_callback(signals.aclose)
        limits = _limits(settings)
        vault = keys.vault()
        couriers, check_destination = await _couriers(settings, stack)
        keeper = keeper_of(vault)
        events = EventCases(
            store,
            signals,
            keeper=keeper,
            check_destination=check_destination,
            rules=EventRules(
                min_interval=settings.scheduler.min_interval,
                quota_events=settings.quotas.events,
                quota_runs_per_day=settings.quotas.runs_per_day,
            ),
        )
        node = f"{socket.gethostname()[:40]}-{os.getpid()}-{randomness.token_hex(3)}"
        dispatcher = Dispatcher(
            store=store,
            judge=Judgement(settings.scheduler.late_grace),
            couriers=couriers,
            open_secrets=keeper.open,
            hosts=_hosts(settings),
            clock=clock,
            signals=signals,
            settings=DispatchSettings(
                node=node,
                lease=settings.scheduler.lease,
                batch=settings.scheduler.batch,
                concurrency=settings.delivery.concurrency,
                drain=settings.delivery.drain,
            ),
            synced=clock.adjust,
        )
        enabled = settings.scheduler.enabled if run_scheduler is None else run_scheduler
        core = Core(
            settings=settings,
            node=node,
            events=events,
            occurrences=OccurrenceCases(store, signals),
            tokens=keys.tokens(store, clock, signals),
            journal=store.journal,
            signals=signals,
            limits=limits,
            clock=clock,
            store=store,
            couriers=couriers,
            started_at=clock.now(),
            _loop=Loop(
                store=store,
                dispatcher=dispatcher,
                resume_due=events.resume_due,
                clock=clock,
                signals=signals,
                poll=settings.scheduler.poll,
            )
            if enabled
            else None,
        )
        stack.push_async_callback(core.aclose)
        if enabled:
            kept = settings.retention
            retention = Retention(store, Kept(kept.occurrences, kept.attempts, kept.journal, kept.deleted_events))
            task = asyncio.create_task(retention.run(), name="retention")
            stack.push_async_callback(_cancelled, task)
        yield core


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
