"""The rig's own promises: a server of one's own, a database per test, data that outlives a crash of the server."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest
import redis

from tests.servers import Postgres, free_port

ROOT = Path(__file__).parents[1]


def test_each_test_gets_an_empty_database(postgres_url: str, postgres_server: Postgres) -> None:
    other = postgres_server.new_database()
    with psycopg.connect(postgres_url, autocommit=True) as mine, psycopg.connect(other, autocommit=True) as theirs:
        mine.execute("CREATE TABLE things (id int)")
        (found,) = theirs.execute("SELECT to_regclass('things')").fetchone() or ()
    assert found is None


def test_a_copy_of_a_database_holds_what_it_held(postgres_url: str, postgres_server: Postgres) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as original:
        original.execute("CREATE TABLE things AS SELECT 7 AS id")
    with psycopg.connect(postgres_server.new_database(template=postgres_url)) as copy:
        assert copy.execute("SELECT id FROM things").fetchall() == [(7,)]


def test_a_restarted_postgresql_has_the_same_port_and_data(postgres_url: str, postgres_server: Postgres) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as before:
        before.execute("CREATE TABLE things AS SELECT 7 AS id")
    postgres_server.restart("immediate")
    with psycopg.connect(postgres_url) as after:
        assert after.execute("SELECT id FROM things").fetchall() == [(7,)]


def test_redis_begins_each_test_empty(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("left", "behind")


def test_redis_is_emptied_after_the_test_before(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0


def test_servers_of_a_killed_process_are_ended_and_their_directories_removed() -> None:
    program = """
import time
from tests.servers import private_postgres, private_redis
with private_postgres() as postgres, private_redis() as redis:
    print(postgres.pid, postgres.directory, redis.pid, redis.directory, flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        postgres, postgres_directory, cache, cache_directory = killed.stdout.readline().split()
        killed.send_signal(signal.SIGKILL)

    deadline = time.monotonic() + 10
    while (
        _lives(int(postgres))
        or _lives(int(cache))
        or any(Path(directory).exists() for directory in (postgres_directory, cache_directory))
    ):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _lives(pid: int) -> bool:
    """A zombie does not: where nothing reaps orphans, an ended process keeps its id."""
    shown = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(shown.strip()) and not shown.startswith("Z")


SKIPS = """
import pytest
def test_that_runs(): pass
@pytest.mark.parametrize("n", [1, 2])
def test_that_cannot(n): pytest.skip("Thing: no thingd on the PATH")
"""


@pytest.mark.parametrize(("ci", "workers", "code"), [("", "0", 0), ("true", "0", 1), ("true", "1", 1)])
def test_what_could_not_run_is_named_at_the_end_and_fails_ci(ci: str, workers: str, code: int, tmp_path: Path) -> None:
    file = tmp_path / "test_skips.py"
    file.write_text(SKIPS)
    quick = ("-p", "no:schemathesis", "-p", "no:cacheprovider")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "tests.conftest",
            *quick,
            "-n",
            workers,
            "--rootdir",
            str(ROOT),
            str(file),
        ],
        cwd=ROOT,
        env={**os.environ, "CI": ci},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "2 tests: Thing: no thingd on the PATH" in done.stdout
    assert done.returncode == code
    assert ("nothing may be skipped" in done.stdout) is bool(ci)


def test_no_port_is_given_twice_before_all_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tests that were given one port before either listened would speak to each other's node."""
    monkeypatch.setattr("tests.servers._own_ports", [])
    given = [free_port() for _ in range(1_000)]
    assert len(set(given)) == len(given)
    assert len({port % 8 for port in given}) == 1  # a worker's own
