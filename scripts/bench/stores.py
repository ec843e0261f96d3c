"""The two stores, each as a user has it: a file on the disk, a server that waits for the disk at every commit."""

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from qhronos_core.config import Settings
from scripts.bench.figures import CouldNotRun, Figure, Scale
from tests.servers import Postgres, ServerMissing, private_postgres

SQLITE: Final = "SQLite"
POSTGRES: Final = "PostgreSQL"
NAMES: Final = (SQLITE, POSTGRES)

MASTER: Final = "master-token-of-the-benchmark-0123456789"
_DURABLE: Final = {"fsync": "on", "full_page_writes": "on", "shared_buffers": "256MB"}


@dataclass(slots=True)
class Place:
    """Where one store is, and the settings of a server on it. Loopback may be called, and one receiver takes all."""

    name: str
    directory: Path
    server: Postgres | None = None
    url: str | None = None
    _emptied: int = 0

    def emptied(self) -> Settings:
        """The settings, from now on of a store with nothing in it."""
        self._emptied += 1
        if self.server is not None:
            self.url = self.server.new_database()
        return Settings.model_validate(self.given)

    @property
    def data_dir(self) -> Path:
        return self.directory / f"data-{self._emptied}"

    @property
    def given(self) -> Mapping[str, Any]:
        given: dict[str, Any] = {
            "data_dir": self.data_dir,
            "egress": {"allow_loopback": True},
            "delivery": {"per_host": 200},
            "rate_limits": {who: {"per_minute": 0, "burst": 1} for who in ("master", "admin", "read_write")},
            "log": {"level": "error"},
            "auth": {"master_token": MASTER, "jwt_secret": "jwt-secret-of-the-benchmark-0123456789abcdef"},
        }
        return given if self.url is None else {**given, "database": {"url": self.url}}

    @property
    def environ(self) -> dict[str, str]:
        """For a process of its own: the same settings, and nothing of the caller's."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("QHRONOS_")}
        for elsewhere in ("DATABASE_URL", "REDIS_URL"):
            kept.pop(elsewhere, None)
        config = self.directory / "config.yaml"  # so that one in the working directory stays out of it
        config.write_text("server: {}\n")
        told = {"QHRONOS_CONFIG": str(config), "QHRONOS_DATA_DIR": str(self.data_dir)}
        for section, keys in self.given.items():
            if isinstance(keys, Mapping):
                told |= {f"QHRONOS_{section}__{key}".upper(): value for key, value in _flat(keys)}
        return {**kept, **told}

    def server_cpu(self) -> float:
        """CPU seconds the store's server has used so far; 0 where there is none."""
        return 0.0 if self.server is None else _cpu_of_family(self.server.pid)


def _flat(keys: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in keys.items():
        if isinstance(value, Mapping):
            yield from ((f"{key}__{inner}", told) for inner, told in _flat(value))
        else:
            yield key, str(value).lower() if isinstance(value, bool) else str(value)


@contextmanager
def a_place(name: str) -> Iterator[Place]:
    """An empty store.

    Raises:
        CouldNotRun: there is no such server on this machine.
    """
    with tempfile.TemporaryDirectory(prefix="qhronos-bench-") as directory:
        if name == SQLITE:
            yield Place(name, Path(directory))
            return
        try:
            started = private_postgres(_DURABLE)
            server = started.__enter__()
        except ServerMissing as missing:
            raise CouldNotRun(str(missing)) from None
        try:
            yield Place(name, Path(directory), server)
        finally:
            started.__exit__(None, None, None)


def on_each_store(scale: Scale, measure: Callable[[Place], Iterable[Figure]]) -> Iterator[Figure]:
    """The figures of each store asked for, in a place of its own.

    Raises:
        CouldNotRun: names those that could not be had, once the others are measured.
    """
    missing: list[str] = []
    for name in scale.stores:
        try:
            with a_place(name) as place:
                yield from measure(place)
        except CouldNotRun as reason:
            missing.append(f"{name}: {reason}")
    if missing:
        raise CouldNotRun("; ".join(missing))


def _cpu_of_family(pid: int) -> float:
    """User and system time of a process, its living children and its dead ones (Linux)."""
    tick = os.sysconf("SC_CLK_TCK")
    total = 0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            told = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(entry.name) == pid:
            total += sum(map(int, told[11:15]))
        elif int(told[1]) == pid:
            total += sum(map(int, told[11:13]))
    return total / tick
