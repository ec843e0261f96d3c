"""The real core on a throw-away SQLite file, a clock that moves when told, and a scripted courier."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from inspect import isawaitable
from pathlib import Path
from typing import Any

from qhronos_core.adapters.local.signals import LocalSignals
from qhronos_core.adapters.postgres import open_postgres_store
from qhronos_core.adapters.sqlite import open_sqlite_store
from qhronos_core.domain.access import Access, Principal, Reach
from qhronos_core.domain.event import Action, ActionType, Event
from qhronos_core.domain.ids import OccurrenceId
from qhronos_core.domain.judgement import Judgement
from qhronos_core.domain.lifecycle import State
from qhronos_core.domain.occurrence import Attempt, AttemptOutcome, Occurrence
from qhronos_core.ports import Delivery, EventSecrets, OccurrenceQuery, Outcome, Page, SecretKeeper, Store
from qhronos_core.scheduler.dispatcher import Dispatcher, DispatchSettings
from qhronos_core.tally import Tally
from qhronos_core.usecases.events import EventAnswer, EventCases, EventRules
from qhronos_core.usecases.occurrences import OccurrenceCases
from tests.clock import FakeClock

NOON = datetime(2027, 3, 1, 12, tzinfo=UTC)  # a Monday
ACCEPT = Outcome(AttemptOutcome.ACCEPTED, status_code=200)
REFUSE = Outcome(AttemptOutcome.REFUSED, status_code=500, error="http_500")
NO_ANSWER = Outcome(AttemptOutcome.NO_ANSWER, error="timeout")
GONE = Outcome(AttemptOutcome.REFUSED, status_code=410, error="http_410", gone=True)
OWNER = Principal("owner", Access.ADMIN, frozenset({"user:owner"}), holder="owner")
EVERYTHING = Reach(everything=True)
HOOK = {"type": "webhook", "params": {"url": "https://receiver.example/hook"}}


class ScriptedCourier:
    """Answers as told, in order; then accepts. Keeps every delivery it was given."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []
        self._script: list[Outcome | Callable[[Delivery], Any]] = []

    def will(self, *outcomes: Outcome | Callable[[Delivery], Any]) -> None:
        self._script += outcomes

    async def deliver(self, delivery: Delivery) -> Outcome:
        self.deliveries.append(delivery)
        step = self._script.pop(0) if self._script else ACCEPT
        if isinstance(step, Outcome):
            return step
        answer: Outcome = await given if isawaitable(given := step(delivery)) else given
        return answer

    def host_of(self, event: Event) -> str | None:
        return None


class OpenHosts:
    """No caps, no breaker."""

    def admit(self, host: str, now: datetime, *, creator: int) -> datetime | None:
        return None

    def report(self, host: str, *, creator: int, answered: bool, now: datetime) -> None: ...

    def withdraw(self, host: str, *, creator: int) -> None: ...

    def lends(self, host: str) -> bool:
        return False

    def is_cut_off(self, now: datetime) -> bool:
        return False


@dataclass
class World:
    store: Store
    clock: FakeClock
    courier: ScriptedCourier
    events: EventCases
    occurrences: OccurrenceCases
    signals: LocalSignals
    judge: Judgement = field(default_factory=Judgement)
    node: str = "node-1"
    tally: Tally = field(default_factory=Tally)
    _dispatchers: list[Dispatcher] = field(default_factory=list)

    @property
    def dispatcher(self) -> Dispatcher:
        return self.dispatcher_of(self.node)

    def dispatcher_of(self, node: str, *, concurrency: int = 200) -> Dispatcher:
        dispatcher = Dispatcher(
            store=self.store,
            judge=self.judge,
            couriers=dict.fromkeys((ActionType.WEBHOOK, ActionType.APICALL, ActionType.WEBSOCKET), self.courier),
            open_secrets=lambda _: EventSecrets(),
            hosts=OpenHosts(),
            clock=self.clock,
            signals=self.signals,
            settings=DispatchSettings(node=node, concurrency=concurrency),
            tally=self.tally,
        )
        return self.drained_at_the_end(dispatcher)

    def drained_at_the_end(self, dispatcher: Dispatcher) -> Dispatcher:
        self._dispatchers.append(dispatcher)
        return dispatcher

    async def end(self) -> None:
        """What a test has left under way is cut, and recorded as at a drain."""
        for dispatcher in self._dispatchers:
            for sending in dispatcher._sending:
                sending.cancel()
            await dispatcher.drain()

    async def event(self, caller: Principal = OWNER, **fields: Any) -> EventAnswer:
        """A webhook event, due in an hour unless said otherwise."""
        given = {"name": "an event", "schedule": "in 1 hour", "action": HOOK, **fields}
        return await self.events.create(given, caller=caller)

    async def occurrence(self, *, scheduled_at: datetime = NOON, **fields: Any) -> Occurrence:
        """The occurrence of a once-only webhook event at this instant; the clock stands there."""
        self.clock.set(scheduled_at - timedelta(hours=1))
        answer = await self.event(schedule=scheduled_at.isoformat(), **fields)
        self.clock.set(scheduled_at)
        return (await self.occurrences_of(answer.event))[0]

    async def run(self) -> int:
        """Look once, and carry out what is due; how many rows were judged."""
        dispatcher = self.dispatcher
        claimed = await dispatcher.run_once()
        await dispatcher.drain()
        self._dispatchers.remove(dispatcher)
        return claimed.judged

    async def settle_down(self, rounds: int = 50) -> None:
        """Look until nothing more is due at this instant."""
        for _ in range(rounds):
            if not await self.run():
                return

    async def occurrences_of(self, event: Event) -> list[Occurrence]:
        """All its rows, earliest first."""
        query = OccurrenceQuery(event_id=event.id, earliest_first=True)
        return list((await self.store.occurrences.list(query, EVERYTHING, Page(limit=100_000))).items)

    async def state_of(self, occurrence: Occurrence | OccurrenceId) -> State:
        return (await self.read(occurrence)).state

    async def read(self, occurrence: Occurrence | OccurrenceId) -> Occurrence:
        return await self.store.occurrences.get(occurrence.id if isinstance(occurrence, Occurrence) else occurrence)

    async def attempts(self, occurrence: Occurrence) -> list[Attempt]:
        return list(await self.store.occurrences.attempts(occurrence.id))

    async def attempt_times(self, occurrence: Occurrence) -> list[datetime]:
        return [attempt.started_at for attempt in await self.attempts(occurrence)]

    async def journal(self) -> list[str]:
        """The kinds of every entry, in order."""
        return [line.entry.kind async for line in self._lines()]

    async def _lines(self) -> AsyncIterator[Any]:
        end = await self.store.journal.end()
        cursor = type(end)(end.epoch, 0)
        while lines := (page := await self.store.journal.after(cursor, limit=500)).lines:
            for line in lines:
                yield line
            cursor = page.cursor


async def anywhere(_: Action) -> None:
    """No destination is refused."""


PLAIN_KEEPER = SecretKeeper(seal=lambda _id, secrets: b"sealed", open=lambda _: EventSecrets())


@asynccontextmanager
async def a_world(
    data_dir: Path,
    *,
    at: datetime = NOON - timedelta(hours=3),
    postgres_url: str | None = None,
    clock: Any = None,
) -> AsyncIterator[World]:
    """On SQLite in `data_dir`, or on PostgreSQL. With a clock that stands at `at`, or another."""
    clock = clock or FakeClock(at)
    opens = (
        open_sqlite_store(data_dir, clock=clock)
        if postgres_url is None
        else open_postgres_store(postgres_url, clock=clock)
    )
    async with opens as store:
        signals, tally = LocalSignals(), Tally()
        world = World(
            tally=tally,
            store=store,
            clock=clock,
            courier=ScriptedCourier(),
            events=EventCases(
                store, signals, keeper=PLAIN_KEEPER, check_destination=anywhere, rules=EventRules(), tally=tally
            ),
            occurrences=OccurrenceCases(store, signals, tally=tally),
            signals=signals,
        )
        try:
            yield world
        finally:
            await world.end()
