"""The life of an event, from an agent's request to the last word about each of its instants.

An agent schedules an EVENT: what to say, to whom, when           usecases/events.py
Its next instant is written down: one planned OCCURRENCE          domain/planning.py
A due occurrence is judged and claimed, its successor planned     domain/judgement.py, scheduler/dispatcher.py
The claimed occurrence is given one ATTEMPT                       adapters/http, or the inbox
Its outcome is settled under the claim's fence                    scheduler/dispatcher.py
An agent's acknowledgement has the last word                      usecases/occurrences.py

A move not in MOVES cannot happen: a state changes only through `after(state, happening)`.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class State(StrEnum):
    PENDING = "pending"
    DISPATCHING = "dispatching"
    DISPATCHED = "dispatched"
    COMPLETED = "completed"
    FAILED = "failed"
    MISSED = "missed"
    CANCELLED = "cancelled"


class Happening(StrEnum):
    CLAIMED = "claimed"
    HANDED_OVER = "handed_over"  # to the inbox: no attempt is made
    ACCEPTED = "accepted"
    AWAITS_ACK = "awaits_ack"  # accepted, and an acknowledgement is asked
    REFUSED = "refused"
    LEASE_LOST = "lease_lost"
    RELEASED = "released"  # claimed, and given back without a send
    EXHAUSTED = "exhausted"
    GONE = "gone"  # the receiver answered 410
    EXPIRED_UNBEGUN = "expired_unbegun"
    EXPIRED = "expired"
    TOO_LATE = "too_late"  # the policy says no: catch_up, overlap
    WITHDRAWN = "withdrawn"  # skipped, paused over, replanned
    DELETED = "deleted"
    ACK_DONE = "ack_done"
    ACK_FAILED = "ack_failed"
    ACK_LATER = "ack_later"
    UNACKNOWLEDGED = "unacknowledged"
    RETRIED = "retried"


PENDING, DISPATCHING, DISPATCHED, COMPLETED, FAILED, MISSED, CANCELLED = State

MOVES: Final[Mapping[tuple[State, Happening], State]] = {
    (PENDING, Happening.CLAIMED): DISPATCHING,
    (PENDING, Happening.HANDED_OVER): DISPATCHED,
    (PENDING, Happening.EXPIRED_UNBEGUN): MISSED,
    (PENDING, Happening.EXPIRED): FAILED,
    (PENDING, Happening.TOO_LATE): MISSED,
    (PENDING, Happening.WITHDRAWN): CANCELLED,
    (PENDING, Happening.DELETED): CANCELLED,
    (PENDING, Happening.ACK_DONE): COMPLETED,
    (PENDING, Happening.ACK_FAILED): FAILED,
    (PENDING, Happening.ACK_LATER): PENDING,
    (DISPATCHING, Happening.ACCEPTED): COMPLETED,
    (DISPATCHING, Happening.AWAITS_ACK): DISPATCHED,
    (DISPATCHING, Happening.REFUSED): PENDING,
    (DISPATCHING, Happening.LEASE_LOST): PENDING,
    (DISPATCHING, Happening.RELEASED): PENDING,
    (DISPATCHING, Happening.EXHAUSTED): FAILED,
    (DISPATCHING, Happening.GONE): FAILED,
    (DISPATCHING, Happening.EXPIRED): FAILED,
    (DISPATCHING, Happening.DELETED): CANCELLED,
    (DISPATCHING, Happening.ACK_DONE): COMPLETED,
    (DISPATCHING, Happening.ACK_FAILED): FAILED,
    (DISPATCHING, Happening.ACK_LATER): PENDING,
    (DISPATCHED, Happening.ACK_DONE): COMPLETED,
    (DISPATCHED, Happening.ACK_FAILED): FAILED,
    (DISPATCHED, Happening.ACK_LATER): PENDING,
    (DISPATCHED, Happening.UNACKNOWLEDGED): PENDING,
    (DISPATCHED, Happening.EXHAUSTED): FAILED,
    (DISPATCHED, Happening.EXPIRED): FAILED,
    (DISPATCHED, Happening.DELETED): CANCELLED,
    (FAILED, Happening.RETRIED): PENDING,
    (MISSED, Happening.RETRIED): PENDING,
}

TERMINAL: Final = frozenset({COMPLETED, FAILED, MISSED, CANCELLED})
UNFINISHED: Final = frozenset({PENDING, DISPATCHING, DISPATCHED})


class ImpossibleMoveError(Exception):
    """A bug of ours: a move that is not in MOVES was tried."""


def after(state: State, happening: Happening) -> State:
    """The state that follows. Raises ImpossibleMoveError for a move not in MOVES."""
    try:
        return MOVES[state, happening]
    except KeyError:
        raise ImpossibleMoveError(f"{state} cannot be {happening}") from None
