"""Removes ended history, in short batches; never anything active, new or in the future."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import structlog

from qhronos_core.domain.errors import UnavailableError
from qhronos_core.ports import Store

_log = structlog.get_logger(__name__)

BATCH: Final = 500
PAUSE: Final = 0.2  # seconds between batches, so that claims are not held up
EVERY: Final = 600.0  # seconds between passes


@dataclass(frozen=True, slots=True)
class Kept:
    """How long each kind of ended history is kept."""

    occurrences: timedelta
    attempts: timedelta
    journal: timedelta
    deleted_events: timedelta


class Retention:
    """Any number of nodes may do this at once: a row can only go once."""

    def __init__(self, store: Store, kept: Kept) -> None:
        self._store = store
        self._kept = kept

    async def run(self) -> None:
        while True:
            try:
                await self.pass_once()
            except UnavailableError:
                _log.warning("retention_waits_for_the_store")
            except Exception:
                _log.exception("retention_failed")
            await asyncio.sleep(EVERY)

    async def pass_once(self) -> int:
        """One pass to the end; how many rows went."""
        gone = 0
        while True:
            now = await self._store.now()
            removed = await self._store.retire(
                occurrences_before=now - self._kept.occurrences,
                attempts_before=now - self._kept.attempts,
                journal_before=now - self._kept.journal,
                deleted_before=now - self._kept.deleted_events,
                limit=BATCH,
            )
            gone += removed
            if removed < BATCH:
                return gone
            await asyncio.sleep(PAUSE)
