"""Claims what is due, gives each claim its one attempt, and settles the outcome under the claim's fence."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

import structlog

from qhronos_core.domain import judgement
from qhronos_core.domain.errors import UnavailableError
from qhronos_core.domain.event import ActionType, Event
from qhronos_core.domain.ids import OccurrenceId
from qhronos_core.domain.lanes import creator_of
from qhronos_core.domain.lifecycle import PENDING
from qhronos_core.domain.occurrence import AttemptOutcome, Move, Occurrence
from qhronos_core.failpoints import failpoint
from qhronos_core.ports import (
    Claim,
    Claimed,
    Clock,
    Courier,
    Delivery,
    Due,
    EventSecrets,
    Judge,
    KeyMissingError,
    Outcome,
    Signals,
    Stirred,
    Store,
    VaultError,
)
from qhronos_core.tally import Tally

_log = structlog.get_logger(__name__)

SETTLE_BATCH: Final = 100
SETTLE_WAIT: Final = 0.005  # seconds an outcome waits for others to share its transaction
SLOTS_WAIT: Final = 0.003  # seconds a claim waits for more slots to be free
KEY_WAIT: Final = timedelta(seconds=10)  # until what could not be opened here is due again, here or elsewhere
KEPT: Final = 10  # one slot in so many, while several creators send, is for those who hold less than their share
SENDS_HERE: Final = 300.0  # seconds for which who has sent is counted among those who do
OTHERS_TRIES: Final = 3
OTHERS_TRY_AFTER: Final = timedelta(seconds=1)
STAND_BACK: Final = 0.25  # seconds by which a node that no host answers lets others claim before it
FRESH: Final = 1.0  # seconds a claim may be sent without asking the store again (P6)


@dataclass(frozen=True, slots=True)
class CarefulJudge:
    """A row whose judgement crashes is set aside for a while, so that it holds up nobody else."""

    judge_: Judge
    set_aside: timedelta = timedelta(minutes=5)

    def judge(self, due: Due) -> Move:
        try:
            return self.judge_.judge(due)
        except Exception:
            _log.exception("judgement_failed", occurrence_id=str(due.occurrence.id))
            later = due.occurrence.changed(due.now, due_at=due.now + self.set_aside, lease_until=None)
            return Move(due.occurrence, later)

    def advance(self, event: Event, past: Occurrence, now: datetime) -> Occurrence | None:
        return self.judge_.advance(event, past, now)


class Senders:
    """The creators whose sends hold slots, and whether more than one has sent here of late."""

    def __init__(self) -> None:
        self.several = False
        self._slots: Counter[int] = Counter()
        self._of_late: set[int] = set()
        self._before: set[int] = set()
        self._since = 0.0

    def took(self, creator: int, at: float) -> None:
        """A slot, at `at` of the monotonic clock."""
        self._slots[creator] += 1
        if at - self._since >= SENDS_HERE:
            self._before, self._of_late, self._since = self._of_late, set(), at
        self._of_late.add(creator)
        self.several = len(self._of_late) > 1 or len(self._before) > 1 or self._before not in (set(), self._of_late)

    def left(self, creator: int) -> None:
        self._slots[creator] -= 1
        if not self._slots[creator]:
            del self._slots[creator]

    def crowding(self, slots: int) -> frozenset[int]:
        """Those who hold as many of the `slots` as each would, were there one more of them."""
        share = slots // (len(self._slots) + 1)
        return frozenset(creator for creator, held in self._slots.items() if held >= share)


class Hosts(Protocol):
    """Caps and breakers per destination: whether a send may begin now, or not before when."""

    def admit(self, host: str, now: datetime, *, creator: int) -> datetime | None:
        """None: go on, and report. An instant: not now; the claim is given back until then. `creator`: whose send it is."""
        ...

    def report(self, host: str, *, creator: int, answered: bool, now: datetime) -> None: ...

    def withdraw(self, host: str, *, creator: int) -> None:
        """An admitted send that was never made."""
        ...

    def lends(self, host: str) -> bool:
        """Whether its breaker is open (none is answered), and one that it holds back is left to others to try: some are."""
        ...

    def is_cut_off(self, now: datetime) -> bool:
        """Whether no host at all answers this node."""
        ...


@dataclass(frozen=True, slots=True)
class DispatchSettings:
    node: str
    lease: timedelta = timedelta(minutes=1)
    batch: int = 100
    concurrency: int = 200
    drain: timedelta = timedelta(seconds=35)


class Dispatcher:
    """One node's hands. Claims never exceed its free slots, so no lease runs while a claim waits for one."""

    def __init__(
        self,
        *,
        store: Store,
        judge: Judge,
        couriers: Mapping[ActionType, Courier],
        open_secrets: Callable[[Event], EventSecrets],
        hosts: Hosts,
        clock: Clock,
        signals: Signals,
        settings: DispatchSettings,
        other_nodes: Callable[[], bool] = lambda: False,
        synced: Callable[[datetime, datetime], None] = lambda _told, _asked_at: None,
        tally: Tally | None = None,
    ) -> None:
        self._tally = tally or Tally()
        self._store = store
        self._judge = CarefulJudge(judge)
        self._couriers = couriers
        self._open_secrets = open_secrets
        self._hosts = hosts
        self._clock = clock
        self._signals = signals
        self._settings = settings
        self._synced = synced
        self._other_nodes = other_nodes
        self._sending: set[asyncio.Task[None]] = set()  # until settled
        self._settling: set[asyncio.Task[None]] = set()  # of these those whose outcome is being written
        self._occupied = 0  # until sent: what was claimed and has no answer yet
        self._senders = Senders()
        self._outcomes: list[tuple[Move, asyncio.Future[bool]]] = []
        self._outcome_came = asyncio.Event()
        self._slot_freed = asyncio.Event()
        self._settler: asyncio.Task[None] | None = None
        self._doubted: list[Claim] = []
        self._asking: asyncio.Task[frozenset[OccurrenceId]] | None = None

    @property
    def free_slots(self) -> int:
        return self._settings.concurrency - self._occupied

    @property
    def crowded(self) -> bool:
        """Whether what is free is kept for those who hold less than their share: `claim` passes over the others."""
        return 0 < self.free_slots <= self._kept and bool(self._crowding)

    @property
    def _kept(self) -> int:
        return self._settings.concurrency // KEPT if self._senders.several else 0

    @property
    def _crowding(self) -> frozenset[int]:
        return self._senders.crowding(self._settings.concurrency)

    @property
    def in_flight(self) -> int:
        """Attempts claimed and not answered yet."""
        return self._occupied

    @property
    def idle(self) -> bool:
        """Nothing is being sent or settled."""
        return not self._sending

    async def claim(self) -> Claimed:
        """One look at the store: judges what is due, and begins an attempt for each claim. Needs a free slot.

        Raises:
            StoreUnavailableError: nothing was claimed.
        """
        if self._other_nodes() and self._hosts.is_cut_off(self._clock.now()):
            await asyncio.sleep(STAND_BACK)
        settings = self._settings
        free, kept = self.free_slots, self._kept
        without = self._crowding if free <= kept else frozenset()
        limit = min(settings.batch, free if free <= kept else free - kept)
        # Its lease counts from before the store was asked: a node stopped right after is not wrong about it.
        asked_at, taken_at = self._clock.now(), self._clock.monotonic()
        claimed = await self._store.claim_due(
            node=settings.node, lease=settings.lease, limit=limit, judge=self._judge, without=without
        )
        if claimed.claims:
            failpoint("after_claim")
        self._synced(claimed.now, asked_at)
        self._tally.looked(claimed, self._clock.monotonic() - taken_at)
        for claim in claimed.claims:
            self._occupied += 1
            self._senders.took(creator_of(claim.occurrence.lane), taken_at)
            task = asyncio.create_task(self._attempt(claim, taken_at, claimed.held_for))
            self._sending.add(task)
            task.add_done_callback(self._ended)
        if claimed.judged:
            await self._signals.announce(Stirred())
        return claimed

    async def run_once(self) -> Claimed:
        """Claim, wait for every attempt to be made and settled: for tests and for the drain of a one-shot run."""
        claimed = await self.claim()
        while self._sending:
            await asyncio.gather(*self._sending)
        return claimed

    async def slots(self, *, beside_kept: bool = False) -> None:
        """Return when half a batch of slots is free, or fewer and no more for a while: one claim is one transaction.

        `beside_kept`: when there are some for everybody.
        """
        wanted = min(self._settings.batch, self._settings.concurrency) // 2 + self._kept
        while self.free_slots <= 0 or (beside_kept and self.crowded):
            self._slot_freed.clear()
            await self._slot_freed.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(SLOTS_WAIT):
                while self.free_slots < wanted:
                    self._slot_freed.clear()
                    await self._slot_freed.wait()

    async def drain(self) -> None:
        """Let what is under way finish, for at most `drain`; what is left is cut, recorded, and tried again elsewhere."""
        if self._sending:
            await asyncio.wait(self._sending, timeout=self._settings.drain / timedelta(seconds=1))
        for task in self._sending - self._settling:
            task.cancel()
        if self._sending:
            await asyncio.wait(self._sending, timeout=5)
        if self._settler is not None:
            self._settler.cancel()
            await asyncio.wait([self._settler])

    # --- one attempt ----------------------------------------------------------------------------

    async def _attempt(self, claim: Claim, taken_at: float, held_for: float) -> None:
        try:
            move = await self._sent(claim, taken_at, held_for)
        finally:
            self._occupied -= 1
            self._senders.left(creator_of(claim.occurrence.lane))
            self._slot_freed.set()
        if move is not None:
            if await self._settle(move):
                self._tally.moved(move, claim.event)
            failpoint("after_retry_schedule" if move.now.state is PENDING else "after_record")

    async def _sent(self, claim: Claim, taken_at: float, held_for: float) -> Move | None:
        """The attempt's outcome, to be settled; None if the claim is no longer ours."""
        event, occurrence = claim.event, claim.occurrence
        courier = self._couriers.get(event.action.type)
        host = courier.host_of(event) if courier else None
        creator = creator_of(occurrence.lane)
        if host is not None and (not_before := self._hosts.admit(host, self._clock.now(), creator=creator)) is not None:
            now = self._clock.now()
            if self._others_may_try(occurrence) and self._hosts.lends(host):
                not_before = min(not_before, now + OTHERS_TRY_AFTER)
            return judgement.released(occurrence, at=now, due_at=not_before)
        reported = False
        try:
            age = self._clock.monotonic() - taken_at
            if age >= held_for:
                took = round(age * 1000)
                _log.warning("claim_came_too_late", occurrence_id=str(occurrence.id), duration_ms=took)
                return None
            if age >= FRESH and not await self._still_wanted(claim):
                return judgement.released(occurrence, at=self._clock.now())
            try:
                outcome = await self._deliver(courier, claim)
            except KeyMissingError:  # another node may have it: no attempt was made
                _log.error("key_missing_so_given_back", event_id=str(event.id), occurrence_id=str(occurrence.id))
                now = self._clock.now()
                return judgement.released(occurrence, at=now, due_at=now + KEY_WAIT)
            if outcome is None:
                return judgement.left_to_others(occurrence, at=self._clock.now())
            reported = True
            if host is not None:
                self._hosts.report(host, creator=creator, answered=_answered(outcome), now=self._clock.now())
        finally:
            if host is not None and not reported:
                self._hosts.withdraw(host, creator=creator)
        failpoint("after_send_before_record")
        return judgement.settled(event, occurrence, outcome, at=self._clock.now(), node=self._settings.node)

    def _others_may_try(self, occurrence: Occurrence) -> bool:
        """A receiver that is down for this node may be up for another (F18); so they are given some chances before it waits."""
        given_back = (occurrence.fence - occurrence.attempts_made) // 2  # each claim and each return raises the fence
        return given_back < OTHERS_TRIES and self._other_nodes()

    async def _still_wanted(self, claim: Claim) -> bool:
        """Asked once for all who ask in one turn of the loop: where the store is slow, claims come late by the batch."""
        self._doubted.append(claim)
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask())
        return claim.occurrence.id in await asyncio.shield(self._asking)

    async def _ask(self) -> frozenset[OccurrenceId]:
        doubted, self._doubted, self._asking = self._doubted, [], None
        return await self._store.still_wanted(doubted)

    async def _deliver(self, courier: Courier | None, claim: Claim) -> Outcome | None:
        if courier is None:
            return Outcome(AttemptOutcome.REFUSED, error="no_client")
        failpoint("before_send")
        try:
            secrets = self._open_secrets(claim.event)
        except KeyMissingError:
            raise
        except VaultError as error:
            _log.error("secrets_cannot_be_opened", event_id=str(claim.event.id), reason=str(error))
            return Outcome(AttemptOutcome.NO_ANSWER, error="internal")
        delivery = Delivery(claim.event, claim.occurrence, secrets, self._clock.now())
        try:
            return await courier.deliver(delivery)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()  # the drain is over: record what is known, which is nothing
            return Outcome(AttemptOutcome.NO_ANSWER, error="drained")
        except Exception:
            _log.exception("courier_failed", occurrence_id=str(claim.occurrence.id))
            return Outcome(AttemptOutcome.NO_ANSWER, error="internal")

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        self._settling.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("attempt_unrecorded", error_code=type(error).__name__, exc_info=error)

    # --- settling --------------------------------------------------------------------------------

    async def _settle(self, move: Move) -> bool:
        """Write one outcome, together with others that come within a few milliseconds. False: a zombie's, refused."""
        written: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._outcomes.append((move, written))
        self._outcome_came.set()
        if self._settler is None or self._settler.done():
            self._settler = asyncio.create_task(self._settle_all())
        if (task := asyncio.current_task()) is not None:
            self._settling.add(task)
        return await written

    async def _settle_all(self) -> None:
        while True:
            await self._outcome_came.wait()
            if len(self._outcomes) < SETTLE_BATCH and len(self._outcomes) < len(self._sending):
                await asyncio.sleep(SETTLE_WAIT)
            batch, self._outcomes = self._outcomes[:SETTLE_BATCH], self._outcomes[SETTLE_BATCH:]
            if not self._outcomes:
                self._outcome_came.clear()
            if batch:
                await self._write([move for move, _ in batch], [written for _, written in batch])

    async def _write(self, moves: list[Move], futures: list[asyncio.Future[bool]]) -> None:
        """Until it is written: an outcome is known to nobody else. A lapsed lease ends it in another way."""
        wait, began = 0.05, self._clock.monotonic()
        while True:
            try:
                applied = await self._store.settle(moves)
                break
            except UnavailableError:
                _log.warning("settle_waits_for_the_store", count=len(moves))
                await asyncio.sleep(wait)
                wait = min(wait * 2, 2.0)
            except Exception as error:
                if len(moves) > 1:  # one of them cannot be written: the others can
                    for move, future in zip(moves, futures, strict=True):
                        await self._write([move], [future])
                elif not futures[0].done():
                    futures[0].set_exception(error)
                return
        self._tally.wrote(len(moves), len(applied), self._clock.monotonic() - began)
        refused = len(moves) - len(applied)
        if refused:
            _log.warning("late_outcomes_refused_by_the_fence", count=refused)
        for move, future in zip(moves, futures, strict=True):
            if not future.done():
                future.set_result(move.was.id in applied)
        due = [move.now.due_at for move in moves if move.now.due_at is not None and move.was.id in applied]
        await self._signals.announce(Stirred(min(due) if due else None))


def _answered(outcome: Outcome) -> bool:
    """Whether the host is up, for the breaker: any answer but a server's failure."""
    return outcome.status_code is not None and outcome.status_code < 500
