"""Any sequence of planning, looking, settling, stopping and waiting leaves the store as a small model says."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from qhronos_core.domain.errors import StaleError
from qhronos_core.domain.event import Event, EventStatus, Overlap, Policies
from qhronos_core.domain.ids import EventId, OccurrenceId
from qhronos_core.domain.lifecycle import CANCELLED, DISPATCHED, DISPATCHING, FAILED, MISSED, PENDING, UNFINISHED
from qhronos_core.domain.occurrence import EntryKind, Held, Move, Occurrence, Reason
from qhronos_core.ports import Changes, Claim, Due, EventSave, Store
from tests.adapters.store.places import Place
from tests.adapters.store.scenes import LEASE, an_event, an_occurrence, claimed, completed, ended, journal
from tests.clock import FakeClock

T = TypeVar("T")

STEP = timedelta(seconds=20)  # between two instants of an event's rule
LAST = 6  # instants of a rule


# Which of those there are: how many there are is the store's affair (rows due at one instant are taken in any order),
# so nothing that is drawn may depend on it.
PICK = st.integers(0, 99)


def picked(among: Sequence[T], pick: int) -> T | None:
    return among[pick % len(among)] if among else None


def due_now(row: Occurrence, now: datetime) -> bool:
    return row.due_at is not None and row.due_at <= now and (row.lease_until is None or row.lease_until <= now)


def begun(row: Occurrence) -> bool:
    return row.held is not Held.OVERLAP and row.state in UNFINISHED and row.begun


class Decides:
    """A judge whose decisions follow from the row alone, so that the model can take them too."""

    def __init__(self) -> None:
        self.asked: list[Due] = []

    def judge(self, due: Due) -> Move:
        self.asked.append(due)
        return decide(due)

    def advance(self, event: Event, past: Occurrence, now: datetime) -> Occurrence | None:
        return successor(event, past)


def successor(event: Event, past: Occurrence) -> Occurrence | None:
    nxt = past.scheduled_at + STEP
    if nxt > event.anchor_at + LAST * STEP:
        return None
    return an_occurrence(event, nxt, ordinal=past.ordinal + 1)


def decide(due: Due) -> Move:
    was, event = due.occurrence, due.event
    if was.state is DISPATCHED:
        return Move(was, ended(was, due.now, FAILED, reason=Reason.EXPIRED), frees_queue=True)
    if was.state is PENDING and event.status is EventStatus.PAUSED:
        return Move(was, was.changed(due.now, held=Held.PAUSE, due_at=None, fence=was.fence + 1))
    if was.state is PENDING and not was.begun and due.unfinished:
        if event.policies.overlap is Overlap.QUEUE and due.queued < 2:
            now = was.changed(due.now, held=Held.OVERLAP, due_at=None, advances=False, fence=was.fence + 1)
        else:
            now = ended(was, due.now, MISSED, reason=Reason.OVERLAP)
        return planning(due, Move(was, now))
    return planning(due, Move(was, claimed(due)))


def planning(due: Due, move: Move) -> Move:
    if not move.was.advances or due.event.status is not EventStatus.ACTIVE:
        return move
    nxt = successor(due.event, move.was)
    return replace(move, planned=(nxt,) if nxt else (), ends_event=nxt is None)


class Model(RuleBasedStateMachine):
    """Its own events in a store it shares with the examples before it, which it leaves with nothing due."""

    def __init__(self, store: Store, clock: FakeClock, run: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        super().__init__()
        self.store, self.clock, self._run = store, clock, run
        self.events: dict[EventId, Event] = {}
        self.rows: dict[OccurrenceId, Occurrence] = {}
        self.claims: list[Claim] = []

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        result: T = self._run(work)
        return result

    @property
    def now(self) -> datetime:
        return self.clock.now()

    # --- rules ----------------------------------------------------------------------------------

    @initialize(overlaps=st.lists(st.sampled_from(Overlap), min_size=1, max_size=3))
    def begin(self, overlaps: list[Overlap]) -> None:
        for overlap in overlaps:
            event = an_event(policies=Policies(overlap=overlap), anchor_at=self.now)
            first = an_occurrence(event, self.now + STEP)
            self.run(self.store.commit(Changes(saves=[EventSave(event)], planned=[first])))
            self.events[event.id] = event
            self.rows[first.id] = first

    @rule(seconds=st.sampled_from([1, 20, 60, 90]))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds=seconds)

    @rule(limit=st.integers(1, 4))
    def look(self, limit: int) -> None:
        judge = Decides()
        looked = self.run(self.store.claim_due(node="n", lease=LEASE, limit=limit, judge=judge))
        due = sorted(
            (row for row in self.rows.values() if due_now(row, self.now)), key=lambda row: row.due_at or self.now
        )
        assert looked.judged == len(judge.asked) == min(limit, len(due))
        assert looked.more == (looked.judged == limit)
        assert [each.occurrence.due_at for each in judge.asked] == [row.due_at for row in due[:limit]]
        for asked in judge.asked:
            self._judged(asked)
        claims = [claim for asked in judge.asked if (claim := self._claim_of(asked)) is not None]
        assert sorted(looked.claims, key=lambda each: each.occurrence.id) == sorted(
            claims, key=lambda each: each.occurrence.id
        )
        self.claims += looked.claims

    def _judged(self, asked: Due) -> None:
        """Was it asked what is true at its turn? Then what it decided happens."""
        was, event = self.rows[asked.occurrence.id], self.events[asked.event.id]
        assert asked.occurrence == was
        if event.status is EventStatus.INACTIVE and asked.event.status is EventStatus.ACTIVE:
            # Ended by a row before it in the same look, when no free instant was left: nothing is judged by that.
            event = replace(event, status=EventStatus.ACTIVE)
        assert asked.event == event
        if event.policies.overlap is not Overlap.ALLOW:
            others = [row for row in self.rows.values() if row.event_id == event.id and row.id != was.id]
            assert asked.unfinished == sum(begun(row) for row in others)
            assert asked.queued == sum(row.held is Held.OVERLAP and row.state is PENDING for row in others)
        self._apply(decide(asked))

    def _claim_of(self, asked: Due) -> Claim | None:
        move = decide(asked)
        return Claim(move.now, asked.event) if move.now.state is DISPATCHING else None

    @rule(picks=st.lists(PICK, min_size=1, max_size=3), accepted=st.booleans())
    def settle(self, picks: list[int], accepted: bool) -> None:
        some = {each.occurrence.id: each for pick in picks if (each := picked(self.claims, pick))}.values()
        moves = [self._outcome(each.occurrence, accepted) for each in some]
        expected = {move.was.id for move in moves if self._stands(move.was)}
        assert self.run(self.store.settle(moves)) == expected
        for move in moves:
            if move.was.id in expected:
                self._apply(move)

    def _outcome(self, was: Occurrence, accepted: bool) -> Move:
        if accepted:
            frees = self.events[was.event_id].policies.overlap is Overlap.QUEUE
            return replace(completed(was, self.now), attempt=None, frees_queue=frees)
        return Move(was, was.changed(self.now, state=PENDING, lease_until=None, due_at=self.now + timedelta(seconds=5)))

    @rule(pick=PICK)
    def acknowledge(self, pick: int) -> None:
        claim = picked(self.claims, pick)
        if claim is None:
            return
        was = claim.occurrence
        move = Move(was, ended(was, self.now, FAILED, reason=Reason.ACK_FAILED, note="no"))
        self._commit(Changes(moves=[move]), valid=self._stands(was))
        if self._stands(was):
            self._apply(move)

    @rule(pick=PICK, places=st.lists(st.integers(1, LAST + 2), min_size=1, max_size=2, unique=True))
    def trigger(self, pick: int, places: list[int]) -> None:
        """Rows at instants of the rule, which planning must step over later; one that is taken undoes both."""
        event = self._event(pick)
        rows = [
            an_occurrence(event, event.anchor_at + place * STEP, due_at=self.now, advances=False) for place in places
        ]
        free = not any(row.id in self.rows for row in rows)
        self._commit(Changes(planned=rows), valid=free)
        if free:
            self.rows |= {row.id: row for row in rows}

    @rule(pick=PICK, stale=st.booleans())
    def pause_or_resume(self, pick: int, stale: bool) -> None:
        was = self._event(pick)
        resumes = was.status is EventStatus.PAUSED
        event = was.changed(self.now, status=EventStatus.ACTIVE if resumes else EventStatus.PAUSED)
        decided_on = replace(was, version=was.version - 1) if stale else was
        changes = Changes(saves=[EventSave(event, decided_on)], let_go=[was.id] if resumes else [], at=self.now)
        self._commit(changes, valid=not stale)
        if stale:
            return
        self.events[event.id] = event
        for row in self.rows.values() if resumes else ():
            if row.event_id == event.id and row.held is Held.PAUSE and row.state is PENDING:
                due_at = max(row.scheduled_at, self.now)
                self._moved_without_us(row, held=None, due_at=due_at)

    @rule(pick=PICK)
    def cancel(self, pick: int) -> None:
        event = self._event(pick)
        self.run(self.store.commit(Changes(cancel_unfinished=[(event.id, Reason.DELETED)], at=self.now)))
        for row in [row for row in self.rows.values() if row.event_id == event.id]:
            if row.state in (PENDING, DISPATCHED):
                self.rows[row.id] = ended(row, self.now, CANCELLED, reason=Reason.DELETED)

    # --- the model --------------------------------------------------------------------------------

    def _event(self, pick: int) -> Event:
        event = picked(list(self.events.values()), pick)
        assert event is not None
        return event

    def _stands(self, was: Occurrence) -> bool:
        row = self.rows[was.id]
        return (row.fence, row.state) == (was.fence, was.state)

    def _commit(self, changes: Changes, *, valid: bool) -> None:
        try:
            self.run(self.store.commit(changes))
        except StaleError:
            assert not valid
        else:
            assert valid

    def _apply(self, move: Move) -> None:
        event = self.events[move.was.event_id]
        self.rows[move.was.id] = move.now
        ends = move.ends_event
        for planned in move.planned:
            row: Occurrence | None = planned
            while row is not None and row.id in self.rows:
                row = successor(event, row)
            if row is None:
                ends = True
            else:
                self.rows[row.id] = row
        if ends and event.status is EventStatus.ACTIVE:
            self.events[event.id] = replace(event, status=EventStatus.INACTIVE)
        if move.frees_queue:
            held = [row for row in self.rows.values() if row.event_id == event.id and row.held is Held.OVERLAP]
            held = [row for row in held if row.state is PENDING]
            if held:
                self._moved_without_us(min(held, key=lambda row: row.scheduled_at), held=None, due_at=self.now)

    def _moved_without_us(self, row: Occurrence, **fields: Any) -> None:
        """A step the store took by itself. Whether it raised the fence is its own affair."""
        fence = self.run(self.store.occurrences.get(row.id)).fence
        self.rows[row.id] = row.changed(self.now, fence=fence, **fields)

    @invariant()
    def the_store_is_as_the_model_says(self) -> None:
        assert self.run(self.store.occurrences.many(list(self.rows))) == self.rows
        assert self.run(self.store.events.many(list(self.events))) == self.events

    @invariant()
    def the_next_look_is_at_the_earliest_row(self) -> None:
        instants = [
            row.lease_until if row.lease_until is not None and row.lease_until > self.now else row.due_at
            for row in self.rows.values()
            if row.due_at is not None
        ]
        wanted = min((instant for instant in instants if instant is not None), default=None)
        assert self.run(self.store.occurrences.next_due()) == wanted

    @invariant()
    def an_event_has_at_most_one_planned_row(self) -> None:
        for event_id in self.events:
            assert sum(row.advances for row in self.rows.values() if row.event_id == event_id) <= 1

    def teardown(self) -> None:
        """Nothing of ours is due when the next example begins."""
        for event_id in self.events:
            self.run(self.store.commit(Changes(cancel_unfinished=[(event_id, Reason.DELETED)])))
        rows = self.run(self.store.occurrences.many(list(self.rows)))
        self.run(self.store.settle([completed(row, self.now) for row in rows.values() if row.state is DISPATCHING]))


def test_the_store_and_the_model_agree_whatever_happens(place: Place) -> None:
    clock = FakeClock()
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        store = runner.run(stack.enter_async_context(place.open(clock)))
        try:
            run_state_machine_as_test(
                lambda: Model(store, clock, runner.run),  # type: ignore[arg-type]  # a factory will do
                settings=settings(
                    max_examples=40,
                    stateful_step_count=30,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )
            told = runner.run(journal(store))
            cancelled = [entry.occurrence_id for entry in told if entry.kind is EntryKind.OCCURRENCE_CANCELLED]
            assert len(cancelled) == len(set(cancelled))
        finally:
            runner.run(stack.aclose())
