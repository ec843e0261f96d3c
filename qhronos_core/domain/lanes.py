"""In which lane a row waits while more is due than is taken at once: one for each creator and destination (F39, F35).

A lane is a number of 31 bits, of which the upper 21 stand for the creator and the lower 10 for the destination, so both stores can
tell whose it is without reading the event. Two may share a number by chance; they wait together then, and nothing else
comes of it. That there are at most 1,024 lanes of a creator bounds what looking through them costs.
"""

from functools import lru_cache
from typing import Final
from zlib import crc32

from qhronos_core.domain.destination import origin_of
from qhronos_core.domain.event import Event

_DESTINATION_BITS: Final = 10
_DESTINATIONS: Final = 2**_DESTINATION_BITS
_CREATORS: Final = 2 ** (31 - _DESTINATION_BITS)


def lane_of(event: Event) -> int:
    """One lane for all that a `sub` sends to one host, port and scheme, to one client, or to the inbox."""
    params = event.action.params
    return _lane(event.created_by, str(params.get("url") or params.get("client_name") or ""))


def creator_of(lane: int) -> int:
    """The part of a lane that stands for its creator."""
    return lane >> _DESTINATION_BITS


@lru_cache(maxsize=10_000)
def _lane(creator: str, destination: str) -> int:
    place = crc32(origin_of(destination).encode()) % _DESTINATIONS
    return crc32(creator.encode()) % _CREATORS * _DESTINATIONS + place
