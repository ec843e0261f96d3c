"""`scripts/conformance.sh`: runs the suite against the fixture server, and counts.

Failed is what the suite calls FAILURE; warnings (of a SHOULD) and what it skips by itself are counted and named.
"""

import json
import re
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.conformance.node import NodeMissing, Programs, programs
from tests.servers import free_port

ROOT: Final = Path(__file__).parents[2]
OUT: Final = ROOT / "out" / "conformance"
SUITE: Final = "@modelcontextprotocol/conformance/dist/index.js"
SCENARIOS: Final = {"2025-06-18": 27, "2025-11-25": 33, "2026-07-28": 40}
"""How many the suite has for each version: with fewer, something was not run."""
TASKS: Final = (
    "lifecycle",
    "capability-negotiation",
    "wire-fields",
    "request-state-removal",
    "dispatch-and-envelope",
    "request-headers",
    "mrtr-input",
    "mrtr-composition",
    "required-task-error",
)

_STAMP: Final = re.compile(r"-\d{4}-\d\d-\d\dT.*")  # of when it was run


@contextmanager
def serving() -> Iterator[str]:
    """The server with the suite's fixtures, on a free port; its URL. `localhost` by name: that is what the suite expects."""
    port = free_port()
    with (OUT / "server.log").open("w") as log:
        command = [sys.executable, "-m", "tests.faces.mcp.fixtures", str(port)]
        server = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        try:
            while not _answers(port):
                if server.poll() is not None:
                    raise SystemExit(f"the fixture server did not start: {(OUT / 'server.log').read_text()[-2000:]}")
                time.sleep(0.05)
            yield f"http://localhost:{port}/mcp"
        finally:
            server.terminate()
            server.wait()


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("localhost", port), timeout=1).close()
    except OSError:
        return False
    return True


def ran(node: Programs, name: str, words: Sequence[str]) -> bool:
    """Run the suite once; whether it is content. What it printed is kept beside its results."""
    out = OUT / name
    out.mkdir(parents=True, exist_ok=True)
    with (out / "suite.log").open("a") as log:
        command = [*node.script(SUITE), "server", *words, "-o", str(out)]
        return subprocess.run(command, env=node.environ, stdout=log, stderr=log, check=False).returncode == 0


def counted(name: str, scenarios: int) -> bool:
    """Print the counts of one run, and each check that is not simply passed; whether all is well."""
    files = sorted((OUT / name).glob("*/checks.json"))
    checks = [(file.parent.name, check) for file in files for check in json.loads(file.read_text())]
    tally = Counter(check["status"] for _, check in checks)
    print(
        f"{name}: {len(files)} of {scenarios} scenarios; {tally['SUCCESS']} checks passed, {tally['FAILURE']} failed, "
        f"{tally['WARNING']} warnings, {tally['SKIPPED']} skipped by the suite"
    )
    for scenario, check in checks:
        if check["status"] in ("FAILURE", "WARNING", "SKIPPED"):
            why = check.get("errorMessage") or check.get("details")
            print(f"  {check['status'].lower()}: {_STAMP.sub('', scenario)}: {check['id']}: {why}")
    return not tally["FAILURE"] and len(files) == scenarios


def main() -> int:
    try:
        node = programs()
    except NodeMissing as missing:
        print(f"The conformance suite was not run: {missing}.")
        return 0
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    content = True
    with serving() as url:
        for version, scenarios in SCENARIOS.items():
            content &= ran(node, version, ["--url", url, "--suite", "all", "--spec-version", version])
            content &= counted(version, scenarios)
        for task in TASKS:
            content &= ran(node, "tasks", ["--url", url, "--scenario", f"tasks-{task}"])
        content &= counted("tasks", len(TASKS))
    return 0 if content else 1


if __name__ == "__main__":
    sys.exit(main())
