"""Whose turn it is, while more is due than is taken at once: creators are served one after another, and so are the
destinations of each (F39, F35).

The same in both stores. A look that leaves nothing behind takes the earliest due, whoever's they are; only when one was
filled are the lanes asked for, in which something is due, and each given its share of the next: an equal one for each creator, and
of that for each of their destinations. So one who has a million due delays others by a share, not by a million; and a receiver
that holds up ten thousand delays what goes elsewhere no more than that.
"""

import time
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Final

from qhronos_core.domain.lanes import creator_of

_OF_THE_TIME: Final = 20  # at most one part in so many goes into asking which lanes there are
_SEEN_FOR: Final = 60.0  # seconds for which a lane is looked at again
_SEEN_MOST: Final = 256
_FOR_DRY: Final = 10  # at most one place in so many is for lanes that had nothing more due


@dataclass(slots=True)
class Turns:
    """One node's memory of whom it served last."""

    monotonic: Callable[[], float] = time.monotonic
    behind: bool = False
    _full: set[int] = field(default_factory=set)  # lanes with more due than their share
    _dry: set[int] = field(default_factory=set)  # that had no more a moment ago, but may again
    _seen: OrderedDict[int, float] = field(default_factory=OrderedDict)  # when something was last taken from each
    _last_creator: int = -1
    _last_dry: int = -1
    _last_lane: dict[int, int] = field(default_factory=dict)  # by creator
    _ask_again_at: float = 0.0

    def must_ask(self, *, without: Set[int] = frozenset()) -> bool:
        """Whether to look which lanes have something due; what was found before is too old."""
        return (self.behind or bool(without)) and self.monotonic() >= self._ask_again_at

    def found(self, lanes: Sequence[int], *, since: float) -> None:
        """The lanes with something due, asked for at `since` of the monotonic clock."""
        now = self.monotonic()
        while self._seen and next(iter(self._seen.values())) < now - _SEEN_FOR:
            self._seen.popitem(last=False)
        self._full, self._dry = set(lanes), self._seen.keys() - set(lanes)
        creators = {creator_of(lane) for lane in lanes}
        self._last_lane = {creator: lane for creator, lane in self._last_lane.items() if creator in creators}
        self._ask_again_at = now + _OF_THE_TIME * (now - since)

    def next(self, limit: int, *, without: Set[int] = frozenset()) -> dict[int, int]:
        """How many to take from which lane now; nothing where all is one lane's, or nothing is left behind.

        `without`: creators who are passed over. Then nothing means that nobody else has anything due.
        """
        if not without and (not self.behind or len(self._full) + len(self._dry) < 2):
            return {}
        dry = _in_turn(_not_of(without, self._dry), after=self._last_dry)[: limit // _FOR_DRY]
        if dry:
            self._last_dry = dry[-1]
        lanes_of: dict[int, list[int]] = defaultdict(list)
        for lane in _not_of(without, self._full):
            lanes_of[creator_of(lane)].append(lane)
        shares: dict[int, int] = {}
        left = limit - len(dry)
        creators = _in_turn(lanes_of, after=self._last_creator)[:left]
        for creator in creators:
            share = left // len(creators)
            lanes = _in_turn(lanes_of[creator], after=self._last_lane.get(creator, -1))[:share]
            shares |= dict.fromkeys(lanes, share // len(lanes))
            self._last_creator, self._last_lane[creator] = creator, lanes[-1]
        return shares | dict.fromkeys(dry, 1)

    def took(
        self, lanes: Sequence[int], *, limit: int, shares: Mapping[int, int], without: Set[int] = frozenset()
    ) -> bool:
        """The lane of each row taken: whether there may be more at once. `shares`: how many were asked for from which lane, if any.

        A lane that has not filled its share is left but one place, so that what falls due there meanwhile is
        met; the others' shares grow. So is one that was met of late, flood or not.
        """
        now = self.monotonic()
        for lane in set(lanes):
            self._seen[lane] = now
            self._seen.move_to_end(lane)
        while len(self._seen) > _SEEN_MOST:
            self._seen.popitem(last=False)
        if shares:
            taken = Counter(lanes)
            full = {lane for lane, share in shares.items() if taken[lane] >= share}
            self._full = (self._full - shares.keys()) | full
            self._dry = (self._dry | shares.keys()) - full
            self.behind = bool(self._full)
        elif not without:
            self.behind = len(lanes) >= limit
        return bool(_not_of(without, self._full)) if without else self.behind


def _not_of(creators: Set[int], lanes: Set[int]) -> Set[int]:
    return {lane for lane in lanes if creator_of(lane) not in creators} if creators else lanes


def _in_turn(numbers: Iterable[int], *, after: int) -> list[int]:
    """In order, from the one that follows `after`."""
    return sorted(numbers, key=lambda number: (number <= after, number))
