"""Whose turn it is, while more is due than is taken at once: the lanes are served one after another (F39).

The same in both stores. A look that leaves nothing behind takes the earliest due, whoever's they are; only when one was
filled are the lanes asked for, in which something is due, and each given an equal share of the next. So one who has a million
due delays others by a share, not by a million.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

_OF_THE_TIME: Final = 20  # at most one part in so many goes into asking which lanes there are


@dataclass(slots=True)
class Turns:
    """One node's memory of whom it served last."""

    monotonic: Callable[[], float] = time.monotonic
    behind: bool = False
    _lanes: tuple[int, ...] = ()
    _last: int = -1
    _ask_again_at: float = 0.0

    @property
    def must_ask(self) -> bool:
        """Whether to look which lanes have something due; what was found before is too old."""
        return self.behind and self.monotonic() >= self._ask_again_at

    def found(self, lanes: Sequence[int], *, since: float) -> None:
        """The lanes with something due, asked for at `since` of the monotonic clock."""
        now = self.monotonic()
        self._lanes = tuple(sorted(lanes))
        self._ask_again_at = now + _OF_THE_TIME * (now - since)

    def next(self, limit: int) -> tuple[tuple[int, ...], int]:
        """The lanes to take from now, and how many from each; none where all is one lane's, or nothing is left behind."""
        if not self.behind or len(self._lanes) < 2:
            return (), limit
        begin = next((place for place, lane in enumerate(self._lanes) if lane > self._last), 0)
        chosen = (self._lanes[begin:] + self._lanes[:begin])[:limit]
        self._last = chosen[-1]
        return chosen, limit // len(chosen)

    def took(self, lanes: Sequence[int], *, shared: Sequence[int], share: int) -> bool:
        """The lane of each row taken: whether there may be more at once. `shared`: the lanes it was taken from, if by lane."""
        taken = Counter(lanes)
        self.behind = any(taken[lane] >= share for lane in shared) if shared else len(lanes) >= share
        return self.behind
