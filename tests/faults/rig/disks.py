"""Disks that fill, fail and lose what was not synced; and a process that forks victims on such a disk.

The faults are made by `disk.c`, preloaded into one process. Without a C compiler, or elsewhere than on Linux, they
are reported as not run.
"""

import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final
from uuid import UUID

ROOT: Final = Path(__file__).parents[3]
PAGE: Final = 4_096


class DiskMissingError(Exception):
    """What this machine lacks for a fault of the disk."""


@cache
def shim() -> Path:
    """The library to preload, compiled once for this process."""
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        raise DiskMissingError("no C compiler (cc) for the failing disk, which is Linux's")
    directory = Path(tempfile.mkdtemp(prefix="qhronos-disk-"))
    directory.chmod(0o755)
    library = directory / "disk.so"
    source = Path(__file__).with_name("disk.c")
    subprocess.run([compiler, "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, source], check=True)
    return library


@dataclass(frozen=True)
class Switch:
    """Turns the faults of one process's disk on and off while it runs, and moves its clock."""

    data_dir: Path
    place: Path

    def environ(self) -> dict[str, str]:
        self.place.mkdir(exist_ok=True)
        self.place.chmod(0o755)
        return {
            "LD_PRELOAD": str(shim()),
            "QHRONOS_DISK_UNDER": str(self.data_dir),
            "QHRONOS_DISK_SWITCH": str(self.place / "disk"),
            "QHRONOS_CLOCK": str(self.place / "clock"),
        }

    @contextmanager
    def full(self) -> Iterator[None]:
        """No file grows."""
        with self._on("full"):
            yield

    @contextmanager
    def unsynced(self) -> Iterator[None]:
        """No sync succeeds."""
        with self._on("fsync"):
            yield

    def move_clock(self, seconds: int) -> None:
        """The wall clock alone, as after a sleep of the machine."""
        new = self.place / "clock.new"
        new.write_text(str(seconds))
        new.rename(self.place / "clock")

    @contextmanager
    def _on(self, fault: str) -> Iterator[None]:
        flag = self.place / f"disk.{fault}"
        flag.touch()
        try:
            yield
        finally:
            flag.unlink()


@dataclass(frozen=True)
class Left:
    """What a victim left: how it ended (a signal is negative), what it had been told was written, its calls to the disk."""

    status: int
    acknowledged: Sequence[Any]
    calls: int


class Zygote:
    """One process that has imported everything; each victim is a fork of it, which costs milliseconds."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def victim(
        self,
        work: str,
        directory: Path,
        *,
        dies_at: int = 0,
        fails: tuple[int, int] = (0, 0),
        kept: bool = False,
    ) -> Left:
        """Run `work` of `scribe.py` on `directory/data`; the nth call to its disk kills it, or some of them fail.

        `kept`: what is synced is kept in `directory/kept`.
        """
        told = {"work": work, "directory": str(directory), "dies_at": dies_at, "fails": fails, "kept": kept}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(told) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        acknowledged = (directory / "acknowledged").read_text().splitlines()
        return Left(answer["status"], [json.loads(line) for line in acknowledged], answer["calls"])


@contextmanager
def a_zygote(**environ: str) -> Iterator[Zygote]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.rig.scribe", str(shim())],
        cwd=ROOT,
        env={**os.environ, "LD_PRELOAD": str(shim()), **environ},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Zygote(process)
    finally:
        process.kill()
        process.communicate()


def faults_of(data: Path, acknowledged: Sequence[Any]) -> list[str]:
    """What is wrong with a store that was left behind: its pages, its plans, and what it had acknowledged.

    Reads the file with plain SQL of its own, once the product has opened it and closed it again.
    """
    with closing(sqlite3.connect(data / "qhronos.db")) as connection:
        pages = [row[0] for row in connection.execute("PRAGMA integrity_check")]
        faults = [] if pages == ["ok"] else pages
        faults += [
            f"{name}: {count}" for name, sql in _HALF.items() if (count := connection.execute(sql).fetchone()[0])
        ]
        for what, *ids in acknowledged:
            for each in ids:
                if not connection.execute(_KEPT[what], (UUID(each).bytes,)).fetchone()[0]:
                    faults.append(f"lost: {what} {each}")
    return faults


_HALF: Final = {
    "active events without exactly one planned row": """
        SELECT count(*) FROM events WHERE status = 'active' AND 1 <> (
            SELECT count(*) FROM occurrences WHERE event_id = events.id AND state = 'pending' AND advances)
    """,
    "planned rows without their event": "SELECT count(*) FROM occurrences WHERE event_id NOT IN (SELECT id FROM events)",
    "planned rows of deleted events": """
        SELECT count(*) FROM occurrences JOIN events ON events.id = event_id
         WHERE status = 'deleted' AND state = 'pending'
    """,
    "completed without an accepted attempt": """
        SELECT count(*) FROM occurrences AS o WHERE state = 'completed' AND NOT EXISTS (
            SELECT 1 FROM attempts WHERE occurrence_id = o.id AND outcome = 'accepted')
    """,
    "ended without a word in the journal": """
        SELECT count(*) FROM occurrences AS o WHERE state = 'completed' AND NOT EXISTS (
            SELECT 1 FROM journal WHERE occurrence_id = o.id AND kind = 'occurrence.completed')
    """,
}
_KEPT: Final = {
    "created": "SELECT count(*) FROM events WHERE id = ?",
    "changed": "SELECT count(*) FROM events WHERE id = ? AND name = 'changed'",
    "deleted": "SELECT count(*) FROM events WHERE id = ? AND status = 'deleted'",
    "completed": "SELECT count(*) FROM occurrences WHERE id = ? AND state = 'completed'",
}


def after_a_power_cut(data: Path, kept: Path, left: Path, rng: random.Random | None = None) -> None:
    """Lay out in `left` what the disk holds: what was synced and, of what was not, `rng`'s choice of pages (or none)."""
    left.mkdir(mode=0o700)
    for synced in kept.iterdir():
        found = synced.read_bytes()
        if rng is not None and (data / synced.name).exists():
            found = _mixed(found, (data / synced.name).read_bytes(), rng)
        (left / synced.name).write_bytes(found)
        (left / synced.name).chmod(0o600)


def _mixed(synced: bytes, written: bytes, rng: random.Random) -> bytes:
    size = rng.choice([len(synced), len(written)])
    pages = range(0, size, PAGE)
    one, other = synced.ljust(size, b"\0"), written.ljust(size, b"\0")
    return b"".join((one if rng.random() < 0.5 else other)[at : at + PAGE] for at in pages)[:size]
