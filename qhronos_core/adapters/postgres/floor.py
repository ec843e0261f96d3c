"""From which instant on due rows are looked for, where looking from the first has become slow.

A finished row leaves a dead entry at the head of occurrences_due_idx until vacuum takes it away, and vacuum takes nothing away
that somebody's long transaction may still see: a dump of an hour, a forgotten session. Every look would then read all the
dead entries again. So, only then, looks begin a little before the earliest row there is, which is asked for now and
again. A row that falls due before that (a clock that was set back) is found when it is asked for next.
"""

import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Final

from qhronos_core.adapters.postgres.pool import Connections

SLOW: Final = 0.03  # seconds
_SLOW_LOOKS: Final = 3  # in a row: one may be slow by chance
_ASKED_EVERY: Final = 5.0  # seconds
_BELOW: Final = timedelta(seconds=10)  # what is written now is due no earlier than that, whatever its transaction takes

_EARLIEST: Final = "SELECT least(min(due_at), clock_timestamp() - %(below)s) FROM occurrences WHERE due_at IS NOT NULL"


class Floor:
    """`applies`: under the server's own clock only."""

    def __init__(
        self, connections: Connections, *, applies: bool, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._connections = connections
        self._applies = applies
        self._monotonic = monotonic
        self._slow_looks = 0
        self._from: datetime | None = None
        self._asked_at = 0.0

    async def parameter(self) -> Mapping[str, datetime | None]:
        """For `due_at >= coalesce(%(floor)s, '-infinity')`."""
        if self._applies and self._slow_looks >= _SLOW_LOOKS and self._monotonic() - self._asked_at >= _ASKED_EVERY:
            began = self._monotonic()
            self._from = (await self._connections.rows(_EARLIEST, {"below": _BELOW}))[0][0]
            self._asked_at = self._monotonic()
            if self._asked_at - began < SLOW:
                self._from, self._slow_looks = None, 0
        return {"floor": self._from}

    def looked(self, seconds: float) -> None:
        """How long a look took."""
        if self._from is None:
            self._slow_looks = self._slow_looks + 1 if seconds >= SLOW else 0
