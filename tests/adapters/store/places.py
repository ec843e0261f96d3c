"""Where a store under test is kept. A place can be sent to another process and opened there again."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from qhronos_core.adapters.postgres import open_postgres_store
from qhronos_core.adapters.sqlite import open_sqlite_store
from qhronos_core.ports import Clock, Store

Opens = Callable[[str, Clock], AbstractAsyncContextManager[Store]]


def _sqlite(where: str, clock: Clock) -> Any:
    return open_sqlite_store(Path(where), clock=clock)


def _postgres(where: str, clock: Clock) -> Any:
    return open_postgres_store(where, clock=clock)


OPENS: Final[Mapping[str, Opens]] = {"postgres": _postgres, "sqlite": _sqlite}


@dataclass(frozen=True)
class Place:
    """`open` may be called any number of times, also at once: each store is another node on the same data."""

    kind: str
    where: str

    def open(self, clock: Clock) -> AbstractAsyncContextManager[Store]:
        return OPENS[self.kind](self.where, clock)
