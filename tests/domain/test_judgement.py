"""Every planned instant ends in exactly one record, whatever happens between: judged without a store."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from qhronos_core.domain import judgement, planning
from qhronos_core.domain.event import Action, ActionType, CatchUp, Event, EventStatus, Overlap, Policies
from qhronos_core.domain.ids import EventId
from qhronos_core.domain.judgement import Due, Gap, Judgement
from qhronos_core.domain.lifecycle import DISPATCHED, DISPATCHING, MISSED, MOVES, PENDING, TERMINAL, State
from qhronos_core.domain.occurrence import AttemptOutcome, EntryKind, Held, Move, Occurrence, Outcome, Reason
from qhronos_core.domain.retry import RetryPolicy
from qhronos_core.ports import PRESENT_FOR

START = datetime(2027, 1, 1, tzinfo=UTC)
LEASE = timedelta(minutes=1)
OUTCOMES = {
    "accepted": Outcome(AttemptOutcome.ACCEPTED, status_code=200),
    "refused": Outcome(AttemptOutcome.REFUSED, status_code=500),
    "no_answer": Outcome(AttemptOutcome.NO_ANSWER, error="timeout"),
}


def an_event(**fields: object) -> Event:
    given: dict[str, object] = {
        "id": EventId(UUID(int=7)),
        "created_by": "owner",
        "name": "n",
        "schedule": "*/10 * * * *",
        "anchor_at": START,
        "created_at": START,
        "updated_at": START,
        "action": Action(ActionType.WEBHOOK, {"url": "https://receiver.example/"}),
    }
    return Event(**{**given, **fields})  # type: ignore[arg-type]


class Elsewhere:
    """Another node has every client."""

    def only_elsewhere(self, client_name: str) -> bool:
        return True


@dataclass
class Ledger:
    """A store in miniature: one dictionary, and the rules for writing a Move."""

    event: Event
    now: datetime = START
    looked_at: datetime = START
    gap: Gap | None = None
    rows: dict[datetime, Occurrence] = field(default_factory=dict)
    judge: Judgement = field(default_factory=Judgement)

    def __post_init__(self) -> None:
        first = planning.first(self.event, self.now)
        assert first is not None
        self.rows[first.scheduled_at] = first

    def look(self) -> list[Occurrence]:
        """Judge all that is due once; the claims."""
        if self.now - self.looked_at > timedelta(seconds=5):
            self.gap = Gap(self.looked_at, self.now)
        self.looked_at = self.now
        claims = []
        for row in sorted(self.rows.values(), key=lambda row: row.due_at or row.scheduled_at):
            leased = row.lease_until is not None and row.lease_until > self.now
            if row.due_at is None or row.due_at > self.now or leased:
                continue
            others = [other for other in self.rows.values() if other.id != row.id]
            due = Due(
                row,
                self.event,
                self.now,
                "node",
                LEASE,
                self.gap,
                unfinished=sum(other.begun and other.state not in TERMINAL and not other.held for other in others),
                queued=sum(other.held is Held.OVERLAP for other in others),
            )
            move = self.judge.judge(due)
            self.write(move)
            if move.now.state is DISPATCHING:
                claims.append(move.now)
        return claims

    def write(self, move: Move) -> None:
        row = self.rows[move.was.scheduled_at]
        assert (row.fence, row.state) == (move.was.fence, move.was.state)
        assert move.now.fence >= row.fence
        if move.now.state is not row.state:
            assert move.now.state in {after for (state, _), after in MOVES.items() if state is row.state} | (
                {DISPATCHING} if row.state is DISPATCHING else set()
            )
        self.rows[row.scheduled_at] = move.now
        for planned in move.planned:
            assert planned.scheduled_at not in self.rows
            self.rows[planned.scheduled_at] = planned
        if move.ends_event and self.event.status is EventStatus.ACTIVE:
            self.event = replace(self.event, status=EventStatus.INACTIVE)
        if move.frees_queue:
            held = sorted((r for r in self.rows.values() if r.held is Held.OVERLAP), key=lambda r: r.scheduled_at)
            if held:
                self.rows[held[0].scheduled_at] = replace(held[0], held=None, due_at=self.now)


@given(
    catch_up=st.sampled_from(CatchUp),
    overlap=st.sampled_from(Overlap),
    expires=st.sampled_from([None, timedelta(minutes=3), timedelta(hours=2)]),
    steps=st.lists(
        st.tuples(
            st.sampled_from([1, 59, 61, 600, 1_800, 10_000, 300_000]),  # seconds away
            st.sampled_from(["accepted", "refused", "no_answer", "dies"]),
        ),
        min_size=1,
        max_size=12,
    ),
)
@settings(max_examples=150, deadline=None)
def test_every_instant_that_came_due_has_exactly_one_record_and_one_row_is_planned(
    catch_up: CatchUp, overlap: Overlap, expires: timedelta | None, steps: list[tuple[int, str]]
) -> None:
    policies = Policies(
        catch_up=catch_up,
        overlap=overlap,
        expires_after=expires,
        retry=RetryPolicy(max_attempts=3, delays=(timedelta(seconds=30),)),
    )
    ledger = Ledger(an_event(policies=policies))
    for seconds, becomes in steps:
        ledger.now += timedelta(seconds=seconds)
        for _ in range(5):
            for claim in ledger.look():
                if becomes != "dies":
                    ledger.write(judgement.settled(ledger.event, claim, OUTCOMES[becomes], at=ledger.now, node="node"))
    instants = set(planning.next_instants(ledger.event, START, ledger.now, 100_000))
    behind = {at for at, row in ledger.rows.items() if at <= ledger.now}
    ahead = [row for at, row in ledger.rows.items() if at > ledger.now]
    assert behind <= instants
    assert len(instants - behind) == 0 or len(behind) >= judgement.MISSED_ROWS_LIMIT
    assert sum(row.advances for row in ledger.rows.values()) == 1
    assert all(row.advances and row.state is PENDING for row in ahead)
    for row in ledger.rows.values():
        assert (row.finished_at is not None) == (row.state in TERMINAL)
        assert row.reason is not None or row.state not in TERMINAL - {State.COMPLETED}
        assert row.attempts_made <= 3
        if row.state is MISSED:
            assert row.attempts_made == 0


@given(st.integers(1, 30), st.sampled_from(CatchUp), st.integers(0, 5_000))
@settings(max_examples=60, deadline=None)
def test_max_occurrences_is_never_exceeded_and_never_short(limit: int, catch_up: CatchUp, minutes: int) -> None:
    ledger = Ledger(an_event(max_occurrences=limit, policies=Policies(catch_up=catch_up)))
    ledger.now += timedelta(minutes=minutes)
    for _ in range(120):
        for claim in ledger.look():
            ledger.write(judgement.settled(ledger.event, claim, OUTCOMES["accepted"], at=ledger.now, node="node"))
        ledger.now += timedelta(microseconds=1)
    due = min(limit, minutes // 10)
    assert len(ledger.rows) == min(limit, due + 1)
    assert sorted(row.ordinal for row in ledger.rows.values()) == list(range(1, len(ledger.rows) + 1))
    assert (ledger.event.status is EventStatus.INACTIVE) == (due == limit)


def test_a_lease_that_was_lost_goes_straight_into_the_next_attempt() -> None:
    ledger = Ledger(an_event())
    ledger.now = START + timedelta(minutes=10)
    (claim,) = ledger.look()
    ledger.now += LEASE
    (again,) = ledger.look()
    assert (again.id, again.fence, again.attempts_made) == (claim.id, claim.fence + 1, 2)


def test_a_claim_given_back_gives_its_attempt_back() -> None:
    ledger = Ledger(an_event())
    ledger.now = START + timedelta(minutes=10)
    (claim,) = ledger.look()
    ledger.write(judgement.released(claim, at=ledger.now))
    row = ledger.rows[claim.scheduled_at]
    assert (row.state, row.attempts_made, row.fence) == (PENDING, 0, claim.fence + 1)
    (again,) = ledger.look()
    assert again.attempts_made == 1
    assert sum(row.advances for row in ledger.rows.values()) == 1


def test_what_was_given_back_unsent_is_told_as_due_once_in_a_round() -> None:
    event = an_event(policies=Policies(retry=RetryPolicy(max_attempts=1)))
    row = planning.first(event, START)
    told: list[list[EntryKind]] = []
    for outcome in (None, None, OUTCOMES["refused"], None, None):
        assert row is not None
        assert row.due_at is not None
        at = row.due_at + timedelta(milliseconds=1)
        claim = Judgement().judge(Due(row, event, at, "node", LEASE))
        told.append([entry.kind for entry in claim.entries])
        if outcome is None:
            row = judgement.released(claim.now, at=at, due_at=at).now
        else:
            failed = judgement.settled(event, claim.now, outcome, at=at, node="node").now
            row = judgement.retried(event, failed, at=at + timedelta(seconds=1), actor="owner").now
    assert told == [[EntryKind.OCCURRENCE_DUE], [], [], [EntryKind.OCCURRENCE_DUE], []]


def test_an_inbox_item_is_handed_over_without_an_attempt() -> None:
    ledger = Ledger(an_event(action=Action()))
    ledger.now = START + timedelta(minutes=10)
    assert ledger.look() == []
    row = ledger.rows[ledger.now]
    assert (row.state, row.attempts_made, row.inbox_at, row.due_at) == (DISPATCHED, 0, ledger.now, None)


def test_reasons_are_the_published_ones() -> None:
    published = (
        "exhausted gone expired ack_failed overlap coalesced too_many catch_up_none skipped paused replanned deleted "
        "no_client"
    )
    assert {str(reason) for reason in Reason} == set(published.split())


def test_a_row_is_left_to_the_node_that_has_its_client_and_looked_at_less_often_if_that_does_not_take_it() -> None:
    event = an_event(action=Action(ActionType.WEBSOCKET, {"client_name": "laptop"}))
    row = planning.first(event, START)
    assert row is not None
    waits: list[timedelta] = []
    while sum(waits, timedelta(0)) < PRESENT_FOR:  # as long as a node that died is believed to have it
        assert row.due_at is not None
        move = Judgement(clients=Elsewhere()).judge(Due(row, event, row.due_at, "node", LEASE))
        assert (move.now.state, move.now.attempts_made, move.entries) == (PENDING, 0, ())
        assert move.now.due_at is not None
        waits.append(move.now.due_at - row.due_at)
        row = move.now
    assert set(waits[:20]) == {timedelta(milliseconds=100)}  # of several nodes each may look first
    assert waits == sorted(waits)
    assert waits[-1] == timedelta(seconds=1)
    assert len(waits) < 60


def test_a_claim_given_back_for_want_of_its_client_is_left_longer_each_time_too() -> None:
    event = an_event(action=Action(ActionType.WEBSOCKET, {"client_name": "laptop"}))
    row = planning.first(event, START)
    waits: list[timedelta] = []
    for _ in range(40):
        assert row is not None
        assert row.due_at is not None
        claimed = Judgement().judge(Due(row, event, row.due_at, "node", LEASE)).now
        row = judgement.left_to_others(claimed, at=row.due_at).now
        assert (row.state, row.attempts_made) == (PENDING, 0)
        assert row.due_at is not None
        waits.append(row.due_at - row.updated_at)
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (timedelta(milliseconds=100), timedelta(seconds=1))
