"""The store's own clock: the server's, or in tests one that moves when told."""

from datetime import datetime
from typing import Final, LiteralString

from qhronos_core.ports import Clock

NOW: Final[LiteralString] = "coalesce(%(now)s::timestamptz, clock_timestamp())"
"""To be written as `(SELECT {NOW})` in a condition: a volatile call in its place cannot be an index condition."""


class StoreTime:
    """`clock` None: the server's."""

    def __init__(self, clock: Clock | None) -> None:
        self._clock = clock

    def parameter(self) -> dict[str, datetime | None]:
        """For `NOW`."""
        return {"now": None if self._clock is None else self._clock.now()}
