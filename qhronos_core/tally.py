"""What this node has done since it began: plain numbers, counted where it happens, for a face to show as it likes.

One event loop writes them, so counting is an addition; and what they are counted by are closed sets, never an id or a tag.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Final

from qhronos_core.domain.event import ActionType, Event
from qhronos_core.domain.lifecycle import DISPATCHED, DISPATCHING, PENDING, State
from qhronos_core.domain.occurrence import AttemptOutcome, Entry, EntryKind, Move
from qhronos_core.ports import Changes, Claimed

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
ROWS: Final = (0, 1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000)
_SECOND: Final = timedelta(seconds=1)

_BEGUN: Final = (DISPATCHING, DISPATCHED)
_ENDS: Final = {
    EntryKind.OCCURRENCE_COMPLETED: State.COMPLETED,
    EntryKind.OCCURRENCE_FAILED: State.FAILED,
    EntryKind.OCCURRENCE_MISSED: State.MISSED,
    EntryKind.OCCURRENCE_CANCELLED: State.CANCELLED,
}


class CallbackOutcome(StrEnum):
    """What became of one delivery to a subscription of MCP Events."""

    ACCEPTED = "accepted"
    TRIED_AGAIN = "tried_again"  # later
    GIVEN_UP = "given_up"


class Spread:
    """How amounts were spread: how many were at most each bound, how many above the last, and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, amount: float) -> None:
        self.counts[bisect_left(self.bounds, amount)] += 1
        self.total += amount


def _seconds() -> Spread:
    return Spread(SECONDS)


def _rows() -> Spread:
    return Spread(ROWS)


@dataclass(slots=True)
class Tally:
    """`lateness`: from the instant a row was due at to the look that began its attempt, or offered it in the inbox."""

    attempts: Counter[tuple[ActionType, AttemptOutcome]] = field(default_factory=Counter)
    finished: Counter[State] = field(default_factory=Counter)
    lateness: Spread = field(default_factory=_seconds)
    claimed: Spread = field(default_factory=_rows)
    claim_took: Spread = field(default_factory=_seconds)
    settled: Spread = field(default_factory=_rows)
    settle_took: Spread = field(default_factory=_seconds)
    late_outcomes: int = 0  # a zombie's, refused by the fence
    journal_delay: Spread = field(default_factory=_seconds)  # from an entry to its reading, while anybody listens
    callbacks: Counter[CallbackOutcome] = field(default_factory=Counter)

    def looked(self, found: Claimed, seconds: float) -> None:
        """One look at what is due has committed; `seconds`: how long it took."""
        self.claimed.add(len(found.claims))
        self.claim_took.add(seconds)
        for move, event in found.moves:
            was = move.was
            if was.state is PENDING and was.due_at is not None and move.now.state in _BEGUN:
                self.lateness.add((found.now - was.due_at) / _SECOND)
            self.moved(move, event)

    def wrote(self, outcomes: int, applied: int, seconds: float) -> None:
        """Outcomes were settled in one transaction, `applied` of them still wanted."""
        self.settled.add(outcomes)
        self.settle_took.add(seconds)
        self.late_outcomes += outcomes - applied

    def moved(self, move: Move, event: Event) -> None:
        """A move was written."""
        if move.attempt is not None:
            self.attempts[event.action.type, move.attempt.outcome] += 1
        self.told(move.entries)

    def committed(self, changes: Changes, cancelled: int) -> None:
        """A caller's decision about an event was written; `cancelled`: how many occurrences ended with it."""
        for move in changes.moves:
            self.told(move.entries)
        self.told(changes.entries)
        self.finished[State.CANCELLED] += cancelled

    def told(self, entries: Iterable[Entry]) -> None:
        """Entries were written. One of many missed occurrences stands for as many as it says."""
        for entry in entries:
            if (state := _ENDS.get(entry.kind)) is not None:
                self.finished[state] += entry.detail.get("count", 1)
