"""Waiting for what is due: the long poll, for every client."""

from collections.abc import Awaitable, Sequence
from typing import Final, Protocol

import anyio

from qhronos_core.domain.access import Principal
from qhronos_core.ports import InboxQuery
from qhronos_core.usecases.occurrences import OccurrenceAnswer
from qhronos_mcp.mcp_server.face import Face
from qhronos_mcp.mcp_server.push import INBOX, Hub

LOOK_EVERY: Final = 5.0  # seconds between looks without a hint, and between reports of progress


class Report(Protocol):
    def __call__(self, progress: float, total: float | None = None, message: str | None = None) -> Awaitable[None]: ...


class LongPoll:
    """Watch the inbox first, then look, then sleep: nothing falls between. A sleeping wait holds no store connection."""

    def __init__(self, face: Face, hub: Hub) -> None:
        self._face = face
        self._hub = hub

    async def wait(
        self, query: InboxQuery, seconds: float, caller: Principal, report: Report
    ) -> Sequence[OccurrenceAnswer]:
        """What could be claimed within `seconds`; empty after that, or when this node is stopping.

        Raises:
            TooManyWaitsError: the caller has as many waits open as one principal may.
        """
        occurrences = self._face.core.occurrences
        if seconds == 0:
            return await occurrences.claim_inbox(query, caller=caller)
        began = anyio.current_time()
        async with self._hub.waiting(frozenset({INBOX}), caller) as dirty:
            while not (claimed := await occurrences.claim_inbox(query, caller=caller)):
                passed = anyio.current_time() - began
                if passed >= seconds or self._hub.closing:
                    break
                await report(passed, seconds)
                with anyio.move_on_after(min(seconds - passed, LOOK_EVERY)):
                    await dirty.changed()
            return claimed
