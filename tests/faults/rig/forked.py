"""Nodes forked from a process that has imported the program already: what a start costs is then a fifth of it.

Each is a process with an environment, a directory, output and an end of its own; what it does is `qhronos_mcp.cli`, as ever.
"""

import importlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

_FORKS: Final = multiprocessing.get_context("forkserver")
_IMPORTED: Final = (
    "qhronos_core.adapters.http.webhook",
    "qhronos_core.adapters.postgres",
    "qhronos_core.adapters.redis.signals",
    "qhronos_core.adapters.sqlite",
    "qhronos_core.wiring",
    "qhronos_mcp.app",
    "qhronos_mcp.bounded_http",
    "qhronos_mcp.cli",
    "tests.faults.rig.forked",
)


class Forked:
    """As much of a Popen as nodes need. May be asked by several threads at once."""

    def __init__(self, arguments: Sequence[str], *, environ: Mapping[str, str], cwd: Path, log: Path) -> None:
        _FORKS.set_forkserver_preload(list(_IMPORTED))
        self._process = _FORKS.Process(
            target=_be, args=(list(arguments), dict(environ), str(cwd), str(log)), daemon=True
        )
        self._lock = threading.Lock()
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        with self._lock:
            return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """As Popen's: minus the signal's number, where one ended it."""
        multiprocessing.connection.wait([self._process.sentinel], timeout)
        if (status := self.poll()) is None:
            raise subprocess.TimeoutExpired(f"node {self.pid}", timeout or 0)
        return status

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


def _be(arguments: list[str], environ: dict[str, str], cwd: str, log: str) -> None:
    """The child's whole life."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environ)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    sys.argv = ["qhronos", *arguments]
    from qhronos_core import failpoints
    from qhronos_mcp.cli import main

    importlib.reload(failpoints)  # it read the environment of another
    main()
