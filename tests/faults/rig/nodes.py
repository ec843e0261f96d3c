"""Nodes as an operator runs them: processes, that can be killed, stopped, continued and told to end."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tests.canaries import JWT_SECRET, none_in
from tests.canaries import MASTER as MASTER
from tests.faults.rig.forked import Forked

ROOT = Path(__file__).parents[3]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@dataclass
class Cluster:
    """Some nodes on one store. `database_url` None: the embedded store, shared by all of them."""

    directory: Path
    database_url: str | None = None
    redis_url: str | None = None
    lease: str = "2s"
    settings: Mapping[str, str] = field(default_factory=dict)
    forks: bool = False
    """Nodes that ask for nothing else are forked, not launched: for tests that start very many."""
    nodes: "dict[int, Node]" = field(default_factory=dict)

    def environ(self, failpoint: str = "", more: Mapping[str, str] | None = None) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("QHRONOS_")}
        config = self.directory / "config.yaml"
        config.write_text("server: {}\n")
        environ = {
            **kept,
            "QHRONOS_CONFIG": str(config),
            "QHRONOS_DATA_DIR": str(self.directory / "data"),
            "QHRONOS_MASTER_TOKEN": MASTER,
            "QHRONOS_JWT_SECRET": JWT_SECRET,
            "QHRONOS_EGRESS__ALLOW_LOOPBACK": "true",
            "QHRONOS_SCHEDULER__LEASE": self.lease,
            "QHRONOS_SCHEDULER__POLL": "1s",
            "QHRONOS_DELIVERY__PER_HOST": "100",
            "QHRONOS_DELIVERY__DRAIN": "5s",
            "QHRONOS_RATE_LIMITS__MASTER__PER_MINUTE": "0",
            "QHRONOS_LOG__LEVEL": "warning",
            **self.settings,
        }
        environ.pop("DATABASE_URL", None)
        environ.pop("REDIS_URL", None)
        if self.database_url is not None:
            environ["DATABASE_URL"] = self.database_url
        if self.redis_url is not None:
            environ["REDIS_URL"] = self.redis_url
        if failpoint:
            environ["QHRONOS_FAILPOINT"] = failpoint
        return {**environ, **(more or {})}

    def start(
        self,
        number: int = 1,
        *,
        failpoint: str = "",
        planted: str = "",
        environ: Mapping[str, str] | None = None,
        under: Sequence[str] = (),
        logs: IO[bytes] | None = None,
        **how: Any,
    ) -> "Node":
        """Start a node and wait until it answers (or, with a failpoint, until it answers or is dead).

        `environ`: for this node, over all else. `under`: a command the node is run by, as `faketime` or `prlimit`.
        `logs`: elsewhere than in its file. `how` goes to Popen.
        """
        port = free_port()
        log = (self.directory / f"node-{number}.log").open("ab")
        bug = f"from tests.faults.planted import plant; plant({planted!r}); from qhronos_mcp.cli import main; main()"
        program = ["-c", bug] if planted else ["-m", "qhronos_mcp"]
        told = self.environ(failpoint, environ)
        process: subprocess.Popen[bytes] | Forked
        if self.forks and not (planted or under or logs or how or "LD_PRELOAD" in told):
            process = Forked(["serve", "--port", str(port)], environ=told, cwd=ROOT, log=Path(log.name))
        else:
            process = subprocess.Popen(
                [*under, sys.executable, *program, "serve", "--port", str(port)],
                cwd=ROOT,
                env=told,
                stdout=logs or log,
                stderr=logs or log,
                **how,
            )
        log.close()
        node = self.nodes[number] = Node(process, port, self.directory / f"node-{number}.log")
        node.until_it_answers()
        return node

    def end(self) -> None:
        for node in self.nodes.values():
            node.kill()
        for log in self.directory.glob("node-*.log"):
            none_in(log.read_text(errors="replace"))


@dataclass
class Node:
    process: "subprocess.Popen[bytes] | Forked"
    port: int
    log: Path
    answered: bool = False

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def until_it_answers(self, within: float = 120.0) -> None:
        deadline = time.monotonic() + within
        while time.monotonic() < deadline and self.alive:
            with suppress(OSError):
                if self.ask("GET", "/health")[0] == 200:
                    self.answered = True
                    return
            time.sleep(0.05)
        if self.alive:
            raise AssertionError(f"the node did not answer:\n{self.log.read_text()[-2000:]}")

    def ask(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        """As the master. A status and the JSON that came with it."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {MASTER}", **(headers or {})},
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    def text(self, path: str) -> str:
        """As the master: what is not JSON."""
        asked = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", headers={"Authorization": f"Bearer {MASTER}"}
        )
        with urllib.request.urlopen(asked, timeout=20) as answer:
            told: str = answer.read().decode()
            return told

    def create(self, **fields: Any) -> dict[str, Any]:
        status, event = self.ask("POST", "/events", {"name": "n", **fields})
        assert status in (200, 201), event
        created: dict[str, Any] = event
        return created

    def occurrences(self, event_id: str) -> list[dict[str, Any]]:
        status, rows = self.ask("GET", f"/events/{event_id}/occurrences")
        assert status == 200, rows
        found: list[dict[str, Any]] = rows
        return found

    def attempts(self, occurrence_id: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask("GET", f"/occurrences/{occurrence_id}/attempts")[1]
        return found

    def send(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            self.process.send_signal(number)

    def kill(self) -> None:
        self.send(signal.SIGCONT)
        self.send(signal.SIGKILL)
        self.process.wait()

    def stopped_by(self, number: signal.Signals, within: float = 20.0) -> int:
        self.send(number)
        return self.process.wait(within)

    async def until_dead(self, within: float = 30.0) -> int:
        return await asyncio.to_thread(self.process.wait, within)


@contextmanager
def a_cluster(directory: Path, **fields: Any) -> Iterator[Cluster]:
    """Processes are ended by the ids they were started with."""
    cluster = Cluster(directory, **fields)
    try:
        yield cluster
    finally:
        cluster.end()
