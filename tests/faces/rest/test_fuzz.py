"""S52: whatever is sent, no server error, no unlisted status, no answer that breaks its schema, nothing without a token.

schemathesis with all its checks against a server of our own; more cases by QHRONOS_FUZZ_EXAMPLES.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.faces.rest.house import MASTER
from tests.faces.rest.test_process import Running, serving

EXAMPLES: Final = os.environ.get("QHRONOS_FUZZ_EXAMPLES", "6")
SEED: Final = os.environ.get("QHRONOS_FUZZ_SEED", "1")  # one seed per run: what is found is found again
CONFIGURATION: Final = Path(__file__).with_name("schemathesis.toml")


def something_to_find(server: Running) -> None:
    with server.client() as client:
        for schedule in ("every 15m", "0 9 * * *", "in 2 hours"):
            made = client.post("/events", json={"name": "x", "schedule": schedule, "tags": ["user:a"]}).json()
            client.post(f"/events/{made['id']}/trigger")
        client.post("/tokens", json={"sub": "a", "access": "read", "scope": ["user:a"]})


def test_whatever_is_sent_the_document_is_kept(tmp_path: Path) -> None:
    unlimited = {f"QHRONOS_RATE_LIMITS__{who}__PER_MINUTE": "0" for who in ("MASTER", "ADMIN", "READ_WRITE")}
    with serving(tmp_path, **unlimited) as server:
        something_to_find(server)
        told = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIGURATION)),
                *("run", f"{server.url}/openapi.json", "--checks", "all", "--max-examples", EXAMPLES, "--seed", SEED),
                *("--phases", "examples,coverage,fuzzing,stateful", "--continue-on-failure", "--no-color"),
                *("--header", f"Authorization: Bearer {MASTER}"),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        server.end()
    assert told.returncode == 0, told.stdout[-20000:]
    assert "0 generated" not in told.stdout
