"""S34: the search of every test's log and output finds what it is there for."""

import subprocess
import sys
from pathlib import Path

import pytest
import structlog

from tests.canaries import AT_REST_KEY, MASTER, met_in, none_in
from tests.telltales import telltales_in

ROOT = Path(__file__).parents[1]
LEAKS = (
    "print(MASTER)",
    "import sys; print('Bearer ' + MASTER, file=sys.stderr)",
    "import logging; logging.getLogger('driver').debug('connecting with %s', MASTER)",
    "import structlog; structlog.get_logger().debug('request', reason=MASTER)",
    "import os; os.write(2, MASTER.encode())",
)


def test_a_test_that_lets_one_out_fails_and_a_sound_one_does_not(tmp_path: Path) -> None:
    leaking = [f"def test_leak_{n}():\n    {leak}" for n, leak in enumerate(LEAKS)]
    file = tmp_path / "test_leaks.py"
    file.write_text("\n".join(["from tests.canaries import MASTER", *leaking, "def test_sound():\n    print(1)"]))
    quick = ("-p", "no:schemathesis", "-p", "no:cacheprovider", "-q", "-c", str(ROOT / "pyproject.toml"))
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", *quick, str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert f"{len(LEAKS)} failed, 1 passed" in done.stdout, done.stdout.replace(MASTER, "***")
    assert done.stdout.count("A secret was logged or printed: the master token in Captured") >= len(LEAKS)


def test_a_field_that_is_not_on_the_list_of_logs_fails_the_test_that_logs_it() -> None:
    with pytest.raises(AssertionError, match="not on the list: \\['authorization'\\]"):
        structlog.get_logger().debug("request", authorization="x")


def test_each_form_is_known() -> None:
    assert len(met_in(f"x {AT_REST_KEY!r} {AT_REST_KEY.hex()}")) == 2
    with pytest.raises(AssertionError, match="the master token"):
        none_in(f"Authorization: {MASTER}")
    none_in("nothing")


def test_what_gives_the_machinery_away_is_known() -> None:
    """S54. Every in-process answer of the REST tests passes through this."""
    for text in (
        "psycopg.errors.UniqueViolation: duplicate key",
        "sqlite3.OperationalError: no such table",
        "SELECT id FROM events WHERE key = $1",
        f'File "{ROOT}/qhronos_core/wiring.py", line 3',
        "1 validation error for Draft [type=missing, url=https://errors.pydantic.dev/2/v/missing]",
    ):
        assert telltales_in(text) != [], text
    assert telltales_in('{"error": "Every day from 9 to 5: select one of the events."}') == []
