"""What becomes of an occurrence: when it falls due, when its attempt ends, when somebody acknowledges it.

Pure decisions. Each answers with a Move: the row as it was, as it will be, and all that is
written with it. Stores and the dispatcher carry moves out; they decide nothing.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Protocol

from qhronos_core.domain import planning
from qhronos_core.domain.errors import AlreadySettledError, ConflictError, NotFinishedError
from qhronos_core.domain.event import ActionType, CatchUp, Event, EventStatus, Overlap
from qhronos_core.domain.lifecycle import (
    DISPATCHED,
    DISPATCHING,
    FAILED,
    MISSED,
    PENDING,
    TERMINAL,
    Happening,
    State,
    after,
)
from qhronos_core.domain.occurrence import (
    Attempt,
    AttemptOutcome,
    Cause,
    Entry,
    EntryKind,
    Held,
    Move,
    Occurrence,
    Outcome,
    Reason,
)

QUEUE_LIMIT: Final = 100
CATCH_UP_LIMIT: Final = 100
MISSED_ROWS_LIMIT: Final = 1_000
LEFT_FOR: Final = timedelta(milliseconds=100)  # how long a node leaves a row to the one that has its client
LEFT_SHORTLY: Final = 20  # times; then longer each time: that node has died, or has no slot free
LEFT_AT_MOST: Final = timedelta(seconds=1)


class AckOutcome(StrEnum):
    DONE = "done"
    FAILED = "failed"
    LATER = "later"


@dataclass(frozen=True, slots=True)
class Gap:
    """A time in which no node looked at the store: what came due between its ends may be late."""

    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Due:
    """A due row, locked by the store for this judgement, and what it must be judged by."""

    occurrence: Occurrence
    event: Event
    now: datetime
    node: str
    lease: timedelta
    gap: Gap | None = None
    unfinished: int = 0  # others of this event begun and not finished; counted where its overlap is not `allow`
    queued: int = 0  # others of this event held by overlap; likewise


class Clients(Protocol):
    """Which WebSocket clients are connected, as this node knows."""

    def only_elsewhere(self, client_name: str) -> bool:
        """Whether another node has this client and the one that judges has not."""
        ...


class NoClients:
    """Nobody is connected anywhere."""

    def only_elsewhere(self, client_name: str) -> bool:  # noqa: ARG002
        return False


@dataclass(frozen=True, slots=True)
class Judgement:
    """The Judge every store calls (ports.Judge). `late_grace`: how late a run may be and still simply run."""

    late_grace: timedelta = timedelta(minutes=1)
    clients: Clients = NoClients()

    def judge(self, due: Due) -> Move:
        occurrence, event, now = due.occurrence, due.event, due.now
        if occurrence.state is DISPATCHING:
            return _lease_lost(due)
        if occurrence.state is DISPATCHED:
            return _waited_long_enough(event, occurrence, now)
        if event.status is EventStatus.DELETED:
            return _finished(event, occurrence, Happening.DELETED, now, Reason.DELETED)
        if _stopped_by_pause(event, occurrence):
            return _paused_over(event, occurrence, now)
        if event.action.type is ActionType.WEBSOCKET and self.clients.only_elsewhere(
            str(event.action.params["client_name"])
        ):
            left = occurrence.changed(now, due_at=now + _left_for(occurrence), fence=occurrence.fence + 1)
            return Move(occurrence, left)
        if self._late(due) and (caught_up := _caught_up(due)) is not None:
            return caught_up
        return _advancing(event, _judged_alone(due), now)

    def advance(self, event: Event, past: Occurrence, now: datetime) -> Occurrence | None:
        return planning.successor(event, past, now)

    def _late(self, due: Due) -> bool:
        """Only a planned row never begun, that came due while no node looked; once-only instants run however late."""
        occurrence, gap = due.occurrence, due.gap
        return (
            occurrence.advances
            and gap is not None
            and occurrence.due_at is not None
            and gap.since < occurrence.due_at < gap.until
            and due.now - occurrence.due_at > self.late_grace
            and planning.timetable(due.event).repeats
        )


# --- due ------------------------------------------------------------------------------------------


def _judged_alone(due: Due) -> Move:
    """A pending row that nothing stops: expired, held back by an earlier one, or started."""
    if _expired(due.event, due.occurrence, due.now):
        happening = Happening.EXPIRED if due.occurrence.begun else Happening.EXPIRED_UNBEGUN
        return _finished(due.event, due.occurrence, happening, due.now, Reason.EXPIRED)
    return _overlapping(due) or _started(due)


def _started(due: Due) -> Move:
    """Handed to the inbox, or claimed for one attempt."""
    occurrence, event, now = due.occurrence, due.event, due.now
    entries: tuple[Entry, ...] = ()
    if occurrence.attempts_this_round == 0 and (event.action.type is ActionType.INBOX or not _given_back(occurrence)):
        again = occurrence.fence + 1 if occurrence.begun else 0
        entries = (_entry(occurrence, EntryKind.OCCURRENCE_DUE, now, again=again),)
    if event.action.type is ActionType.INBOX:
        handed = occurrence.changed(
            now,
            state=after(occurrence.state, Happening.HANDED_OVER),
            inbox_at=now,
            due_at=expires_at(event, occurrence),
            advances=False,
            fence=occurrence.fence + 1,
            event_version=event.version,
            lease_until=None,
            holder=None,
        )
        return Move(occurrence, handed, entries=entries)
    return Move(occurrence, _claimed(due, occurrence), entries=entries)


def _given_back(occurrence: Occurrence) -> bool:
    """Whether it was claimed in this round already, and so told as due: it waited for a cap, a breaker or its client."""
    return occurrence.claimed_at is not None and occurrence.claimed_at > occurrence.round_began_at


def _claimed(due: Due, occurrence: Occurrence) -> Occurrence:
    return occurrence.changed(
        due.now,
        state=after(occurrence.state, Happening.CLAIMED),
        fence=occurrence.fence + 1,
        attempts_made=occurrence.attempts_made + 1,
        lease_until=due.now + due.lease,
        claimed_at=due.now,
        node=due.node,
        advances=False,
        event_version=due.event.version,
    )


def _lease_lost(due: Due) -> Move:
    """A worker took it and never told: its attempt is recorded as lost, and another begins if one is left."""
    was, event, now = due.occurrence, due.event, due.now
    lost = Attempt(
        occurrence_id=was.id,
        number=was.attempts_made,
        started_at=was.claimed_at or now,
        finished_at=now,
        outcome=AttemptOutcome.LEASE_LOST,
        error="lease_lost",
        node=was.node,
    )
    if event.status is EventStatus.DELETED:
        return _finished(event, was, Happening.DELETED, now, Reason.DELETED, attempt=lost)
    if event.policies.retry.exhausted(was.attempts_this_round):
        return _finished(event, was, Happening.EXHAUSTED, now, Reason.EXHAUSTED, attempt=lost)
    if _expired(event, was, now):
        return _finished(event, was, Happening.EXPIRED, now, Reason.EXPIRED, attempt=lost)
    pending = was.changed(now, state=after(was.state, Happening.LEASE_LOST), lease_until=None)
    if _stopped_by_pause(event, was):
        return Move(was, pending.changed(now, held=Held.PAUSE, due_at=None, fence=was.fence + 1), attempt=lost)
    return Move(was, _claimed(due, pending), attempt=lost)


def _waited_long_enough(event: Event, was: Occurrence, now: datetime) -> Move:
    """`dispatched`, and its acknowledgement, lease or usefulness has run out."""
    if event.status is EventStatus.DELETED:
        return _finished(event, was, Happening.DELETED, now, Reason.DELETED)
    if _expired(event, was, now):
        return _finished(event, was, Happening.EXPIRED, now, Reason.EXPIRED)
    if was.inbox_at is not None:
        free = was.changed(now, lease_until=None, holder=None, due_at=expires_at(event, was), fence=was.fence + 1)
        return Move(was, free, entries=(_entry(was, EntryKind.OCCURRENCE_DUE, now, again=free.fence),))
    if event.policies.retry.exhausted(was.attempts_this_round):
        return _finished(event, was, Happening.EXHAUSTED, now, Reason.EXHAUSTED)
    again_at = event.policies.retry.next_attempt_at(was.attempts_this_round, now, seed=was.id)
    pending = was.changed(now, state=after(was.state, Happening.UNACKNOWLEDGED), due_at=again_at, fence=was.fence + 1)
    entry = _entry(was, EntryKind.OCCURRENCE_REFUSED, now, error="unacknowledged", retry_at=again_at.isoformat())
    return Move(was, pending, entries=(entry,))


def _stopped_by_pause(event: Event, occurrence: Occurrence) -> bool:
    """A planned row never runs while paused; another runs only if its round began after the pause (trigger, retry)."""
    if event.status is not EventStatus.PAUSED:
        return False
    return occurrence.advances or event.paused_at is None or occurrence.round_began_at <= event.paused_at


def _paused_over(event: Event, occurrence: Occurrence, now: datetime) -> Move:
    if occurrence.advances:
        if event.paused_until is not None and occurrence.due_at is not None and occurrence.due_at >= event.paused_until:
            # It is due after the pause, which is lifted in a moment.
            return Move(occurrence, occurrence.changed(now, due_at=now + LEFT_FOR, fence=occurrence.fence + 1))
        return _finished(event, occurrence, Happening.WITHDRAWN, now, Reason.PAUSED)
    return Move(occurrence, occurrence.changed(now, held=Held.PAUSE, due_at=None, fence=occurrence.fence + 1))


def _overlapping(due: Due) -> Move | None:
    """An earlier occurrence of the event is unfinished, and the event's policy minds."""
    occurrence, event, now = due.occurrence, due.event, due.now
    overlap = event.policies.overlap
    if overlap is Overlap.ALLOW or occurrence.cause is Cause.TRIGGER or occurrence.begun or not due.unfinished:
        return None
    if overlap is Overlap.QUEUE and due.queued < QUEUE_LIMIT:
        held = occurrence.changed(now, held=Held.OVERLAP, due_at=None, advances=False, fence=occurrence.fence + 1)
        return Move(occurrence, held)
    return _finished(event, occurrence, Happening.TOO_LATE, now, Reason.OVERLAP)


def _advancing(event: Event, move: Move, now: datetime) -> Move:
    """The same move with the event's next occurrence planned in it, if the row was the planned one."""
    if not move.was.advances or event.status is not EventStatus.ACTIVE:
        return move
    return _with_next(event, move, planning.successor(event, move.was, now), now)


def _with_next(event: Event, move: Move, nxt: Occurrence | None, now: datetime) -> Move:
    """The same move with this row planned in it; without one the event has ended, and the journal says so."""
    if nxt is not None:
        return replace(move, planned=(*move.planned, nxt))
    return replace(move, ends_event=True, entries=(*move.entries, Entry(now, EntryKind.EVENT_ENDED, event.id)))


def _caught_up(due: Due) -> Move | None:
    """`catch_up` decides about every instant up to now; None where there is but this one, and it may run."""
    was, event, now = due.occurrence, due.event, due.now
    policy = event.policies.catch_up
    count = planning.missed_count(event, was, now)
    if count == 1 and policy is not CatchUp.NONE:
        return None
    runs, reason = _CATCH_UP[policy]
    rows = _latest_rows(event, was, now, count, runs + MISSED_ROWS_LIMIT)
    running, missing = (rows[-runs:], rows[:-runs]) if runs else ([], rows)
    missed = count - len(running)
    planned = [
        row.changed(now, state=MISSED, reason=reason, advances=False, due_at=None, finished_at=now)
        for row in missing
        if row.id != was.id
    ]
    for place, row in enumerate(running):
        if row.id == was.id:
            continue
        coalesced = {"missed": missed, "missed_since": was.scheduled_at} if policy is CatchUp.ONE else {}
        due_at = now + timedelta(microseconds=place)  # oldest first, and outside the gap
        planned.append(row.changed(now, due_at=due_at, advances=row is running[-1], **coalesced))
    if running and running[0].id == was.id:
        return replace(_judged_alone(due), planned=tuple(planned))
    entry = _entry(
        was,
        EntryKind.OCCURRENCE_MISSED,
        now,
        reason=reason,
        count=missed,
        count_exact=count < planning.COUNTED_TO or event.max_occurrences is not None,
        first=was.scheduled_at.isoformat(),
        last=(missing[-1] if missing else was).scheduled_at.isoformat(),
    )
    passed = was.changed(
        now,
        state=after(was.state, Happening.TOO_LATE),
        reason=reason,
        advances=False,
        due_at=None,
        fence=was.fence + 1,
        finished_at=now,
    )
    move = Move(was, passed, planned=tuple(planned), entries=(entry,))
    if running:
        return move
    return _with_next(event, move, planning.successor(event, rows[-1], now), now)


_CATCH_UP: Final = {
    CatchUp.ONE: (1, Reason.COALESCED),
    CatchUp.ALL: (CATCH_UP_LIMIT, Reason.TOO_MANY),
    CatchUp.NONE: (0, Reason.CATCH_UP_NONE),
}


def _latest_rows(event: Event, was: Occurrence, now: datetime, count: int, keep: int) -> list[Occurrence]:
    """Rows for the latest `keep` of the `count` instants that begin with `was`, earliest first."""
    if event.max_occurrences == was.ordinal + count - 1:  # the last is among them, and more may follow it in time
        instants = planning.next_instants(event, was.scheduled_at, now, count - 1)[-keep:]
    else:
        instants = planning.timetable(event).latest(was.scheduled_at, now, keep)
    if len(instants) < keep:
        instants = [was.scheduled_at, *instants]
    begins = was.ordinal + max(0, count - len(instants))
    return [
        was if instant == was.scheduled_at else planning.at_instant(event, instant, begins + place, now)
        for place, instant in enumerate(instants)
    ]


# --- the attempt's end ------------------------------------------------------------------------------


def settled(event: Event, claimed: Occurrence, outcome: Outcome, *, at: datetime, node: str) -> Move:
    """What an attempt's outcome makes of the claimed row. `event` as it was claimed."""
    retry = event.policies.retry

    def attempt(retry_at: datetime | None = None) -> Attempt:
        return Attempt(
            occurrence_id=claimed.id,
            number=claimed.attempts_made,
            started_at=at - outcome.duration,
            finished_at=at,
            outcome=outcome.outcome,
            status_code=outcome.status_code,
            error=outcome.error,
            duration_ms=round(outcome.duration / timedelta(milliseconds=1)),
            retry_at=retry_at,
            destination=outcome.destination,
            response=outcome.response,
            node=node,
        )

    if outcome.outcome is AttemptOutcome.ACCEPTED:
        if outcome.awaits_ack or event.asks_ack:
            waits_until = at + event.policies.ack_timeout
            expiry = expires_at(event, claimed)
            now = claimed.changed(
                at,
                state=after(claimed.state, Happening.AWAITS_ACK),
                due_at=min(waits_until, expiry) if expiry else waits_until,
                lease_until=None,
            )
            entry = _entry(claimed, EntryKind.OCCURRENCE_DISPATCHED, at)
            return Move(claimed, now, attempt=attempt(), entries=(entry,))
        return _finished(event, claimed, Happening.ACCEPTED, at, None, attempt=attempt())
    if outcome.gone:
        move = _finished(event, claimed, Happening.GONE, at, Reason.GONE, attempt=attempt())
        return replace(move, pauses_event=Reason.GONE.value)
    if retry.exhausted(claimed.attempts_this_round):
        reason = Reason.NO_CLIENT if outcome.error == Reason.NO_CLIENT else Reason.EXHAUSTED
        return _finished(event, claimed, Happening.EXHAUSTED, at, reason, attempt=attempt())
    retry_at = retry.next_attempt_at(claimed.attempts_this_round, at, seed=claimed.id, retry_after=outcome.retry_after)
    now = claimed.changed(at, state=after(claimed.state, Happening.REFUSED), due_at=retry_at, lease_until=None)
    entry = _entry(claimed, EntryKind.OCCURRENCE_REFUSED, at, error=outcome.error, retry_at=retry_at.isoformat())
    return Move(claimed, now, attempt=attempt(retry_at), entries=(entry,))


def released(claimed: Occurrence, *, at: datetime, due_at: datetime | None = None) -> Move:
    """A claim given back without a send: its attempt is given back too. `due_at`: not before then."""
    now = claimed.changed(
        at,
        state=after(claimed.state, Happening.RELEASED),
        fence=claimed.fence + 1,
        attempts_made=claimed.attempts_made - 1,
        lease_until=None,
        due_at=due_at or claimed.due_at or at,
    )
    return Move(claimed, now)


def left_to_others(claimed: Occurrence, *, at: datetime) -> Move:
    """A claim given back to the node that has its client."""
    return released(claimed, at=at, due_at=at + _left_for(claimed))


def _left_for(row: Occurrence) -> timedelta:
    """Leaving a row raises its fence and makes no attempt: the two tell, nearly, how often it was left."""
    longer = max(0, row.fence - row.attempts_made - LEFT_SHORTLY)
    return min(LEFT_AT_MOST, LEFT_FOR * 1.25 ** min(longer, 20))


# --- somebody's word --------------------------------------------------------------------------------


def acknowledged(
    event: Event,
    was: Occurrence,
    outcome: AckOutcome,
    *,
    at: datetime,
    actor: str,
    delay: timedelta = timedelta(minutes=5),
    note: str | None = None,
) -> Move | None:
    """An agent's word about one occurrence; None where the same was said before.

    Raises:
        AlreadySettledError: it ended with another outcome.
        ConflictError: it is not due yet, or no acknowledgement was ever asked.
    """
    if was.state in TERMINAL:
        said = {
            AckOutcome.DONE: was.state is State.COMPLETED,
            AckOutcome.FAILED: was.state is FAILED and was.reason is Reason.ACK_FAILED,
        }
        if said.get(outcome, False):
            return None
        raise AlreadySettledError(was.state)
    if was.state is PENDING and not (was.begun and event.asks_ack):
        raise ConflictError("This occurrence has not been handed over yet; there is nothing to acknowledge.")
    if (
        outcome is AckOutcome.LATER
        and was.state is PENDING
        and was.due_at == was.updated_at + delay
        and was.due_at > at
    ):
        return None  # put off by as much, and not offered again since: the same word, sent twice
    attempt = None
    if was.state is DISPATCHING:
        attempt = Attempt(
            occurrence_id=was.id,
            number=was.attempts_made,
            started_at=was.claimed_at or at,
            finished_at=at,
            outcome=AttemptOutcome.ACCEPTED,
            node=was.node,
        )
    if outcome is AckOutcome.LATER:
        now = was.changed(
            at,
            state=after(was.state, Happening.ACK_LATER),
            due_at=at + delay,
            note=note if note is not None else was.note,
            **_new_round(was, at),
        )
        entry = _entry(was, EntryKind.OCCURRENCE_LATER, at, actor=actor, due_at=(at + delay).isoformat())
        return Move(was, now, attempt=attempt, entries=(entry,))
    happening = Happening.ACK_DONE if outcome is AckOutcome.DONE else Happening.ACK_FAILED
    reason = Reason.ACK_FAILED if outcome is AckOutcome.FAILED else None
    move = _finished(event, was, happening, at, reason, attempt=attempt, actor=actor)
    done = move.now.changed(at, acknowledged_at=at, note=note if note is not None else was.note)
    return replace(move, now=done)


def retried(event: Event, was: Occurrence, *, at: datetime, actor: str) -> Move:
    """A failed or missed occurrence is sent again: a new round, the same id. Raises NotFinishedError, ConflictError."""
    if event.status is EventStatus.DELETED:
        raise ConflictError("The event of this occurrence was deleted; nothing of it is sent any more.")
    if was.state not in (FAILED, MISSED):
        raise NotFinishedError(was.state)
    now = was.changed(
        at,
        state=after(was.state, Happening.RETRIED),
        due_at=at,
        reason=None,
        finished_at=None,
        acknowledged_at=None,
        **_new_round(was, at),
    )
    return Move(was, now, entries=(_entry(was, EntryKind.OCCURRENCE_RETRIED, at, actor=actor),))


def _new_round(was: Occurrence, at: datetime) -> dict[str, Any]:
    return {
        "round": was.round + 1,
        "attempts_before": was.attempts_made,
        "round_began_at": at,
        "fence": was.fence + 1,
        "advances": False,
        "inbox_at": None,
        "lease_until": None,
        "holder": None,
        "held": None,
    }


def withdrawn(event: Event, was: Occurrence, reason: Reason, *, at: datetime, actor: str | None = None) -> Move:
    """A pending row that will not run: skipped, replanned, paused over."""
    return _finished(event, was, Happening.WITHDRAWN, at, reason, actor=actor)


# --- the last word ----------------------------------------------------------------------------------


def expires_at(event: Event, occurrence: Occurrence) -> datetime | None:
    """When it stops being useful: `expires_after` its instant, or after a new round began."""
    if event.policies.expires_after is None:
        return None
    base = occurrence.round_began_at if occurrence.round > 1 else occurrence.scheduled_at
    if occurrence.advances and occurrence.due_at is not None:
        base = max(base, occurrence.due_at)  # snoozed
    return base + event.policies.expires_after


def _expired(event: Event, occurrence: Occurrence, now: datetime) -> bool:
    at = expires_at(event, occurrence)
    return at is not None and at <= now


_KIND_OF: Final = {
    State.COMPLETED: EntryKind.OCCURRENCE_COMPLETED,
    State.FAILED: EntryKind.OCCURRENCE_FAILED,
    State.MISSED: EntryKind.OCCURRENCE_MISSED,
    State.CANCELLED: EntryKind.OCCURRENCE_CANCELLED,
}


def _finished(
    event: Event,
    was: Occurrence,
    happening: Happening,
    at: datetime,
    reason: Reason | None,
    *,
    attempt: Attempt | None = None,
    actor: str | None = None,
) -> Move:
    """A terminal record, with its reason: nobody looks at the row again unless it is retried."""
    state = after(was.state, happening)
    now = was.changed(
        at,
        state=state,
        reason=reason,
        due_at=None,
        inbox_at=None,
        lease_until=None,
        held=None,
        advances=False,
        fence=was.fence + 1,
        finished_at=at,
    )
    entry = _entry(was, _KIND_OF[state], at, actor=actor, reason=reason)
    return Move(was, now, attempt=attempt, entries=(entry,), frees_queue=event.policies.overlap is Overlap.QUEUE)


def _entry(occurrence: Occurrence, kind: EntryKind, at: datetime, *, actor: str | None = None, **detail: Any) -> Entry:
    told = {name: value for name, value in detail.items() if value is not None}
    return Entry(at, kind, occurrence.event_id, occurrence.id, actor, told)
