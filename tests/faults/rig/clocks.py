"""Clocks that are wrong: `libfaketime` before a process, its offset in a file that may be rewritten while it runs.

Monotonic time is left true, as it is on a machine whose clock is set.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import time
from typing import Final

from tests.faults.rig.lacking import NotRun

_WHERE: Final = ("/usr/lib", "/usr/local/lib", "/opt/homebrew/lib")


def libfaketime() -> Path:
    """The library for programs with threads."""
    for root in _WHERE:
        for found in sorted(Path(root).glob("**/faketime/libfaketimeMT.so.1")):
            return found
    raise NotRun("libfaketime is not there (Debian: apt-get install faketime)")


@dataclass
class WrongClock:
    """One clock, of every process started with its `environ`."""

    file: Path
    shifts: list[tuple[float, float]] = field(default_factory=list)  # since when, by how much; true wall clock

    def __post_init__(self) -> None:
        self.set(0.0)

    def set(self, seconds: float) -> None:
        """From now on the true time and `seconds`, for every process at once."""
        new = self.file.with_suffix(".new")
        new.write_text(f"{seconds:+.0f}\n")
        new.chmod(0o644)
        new.replace(self.file)
        self.shifts.append((time(), seconds))

    @property
    def environ(self) -> Mapping[str, str]:
        return {
            "LD_PRELOAD": str(libfaketime()),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_RESET": "1",
        }

    def told_at(self, at: float) -> float:
        """What it told at the true time `at`; of a second in which it was set, the later of both."""
        offsets = [seconds for since, seconds in self.shifts if since <= at + 0.05]
        since, last = [shift for shift in self.shifts if shift[0] <= at + 0.05][-1]
        return at + (max(offsets[-2:]) if at - since < 1 else last)


@contextmanager
def environ(more: Mapping[str, str]) -> Iterator[None]:
    """Of the processes started meanwhile, which inherit ours."""
    before = {name: os.environ.get(name) for name in more}
    os.environ.update(more)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
