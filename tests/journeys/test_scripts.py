"""The commands a person types first, on a copy of the project in a directory of its own.

As root, PostgreSQL runs as another user, so both a place that user can enter and one it cannot are tried; and the fresh
clone is used by an ordinary user where there is a Python such a user can run.
"""

import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
import redis
import yaml

from scripts import servers
from scripts.binaries import ServerMissing
from tests.servers import free_port, usable_postgres, usable_redis

ROOT = Path(__file__).parents[2]
AS_ROOT = os.geteuid() == 0
NOT_COPIED = shutil.ignore_patterns(".git", ".venv*", "data", "config.yaml", "*.egg-info", "__pycache__", ".*_cache")


REDIS_CLI = """#!{python}
import os, sys
import redis
_, _, host, _, port, _, number, *command = sys.argv
with redis.Redis(host, int(port), int(number), password=os.environ.get("REDISCLI_AUTH"), decode_responses=True) as client:
    print(client.execute_command(*command))
"""


@pytest.fixture(scope="session")
def programs() -> Iterator[dict[str, str]]:
    """A PATH on which this machine's servers are found, or those carried for tests; and a `redis-cli` that tells all."""
    with tempfile.TemporaryDirectory(prefix="qhronos-programs-") as made:
        directory = Path(made)
        directory.chmod(0o755)
        try:
            postgres = usable_postgres(directory)
            (directory / "redis-server").symlink_to(usable_redis())
        except ServerMissing as missing:
            pytest.skip(str(missing))
        (directory / "redis-cli").write_text(REDIS_CLI.format(python=sys.executable))
        (directory / "redis-cli").chmod(0o755)
        yield {"PATH": f"{directory}:{postgres}:{os.environ['PATH']}"}


@dataclass(frozen=True)
class Place:
    """What `db.sh` and `redis.sh` need of the project, and what they find on the PATH."""

    root: Path
    environ: Mapping[str, str]

    def said(self, program: str, *verb: str, **environ: str) -> tuple[int, str]:
        """What `<program>.sh <verb>` answers once `.venv` is there: its exit code, and what it printed."""
        ours = ("QHRONOS_", "DATABASE_", "REDIS")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        done = subprocess.run(
            [sys.executable, "-P", "-m", "scripts.servers", program, *verb],
            cwd="/",
            env={**kept, "PYTHONPATH": str(self.root), **self.environ, **environ},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr


@contextmanager
def copied(mode: int, environ: Mapping[str, str]) -> Iterator[Place]:
    """A copy in a directory of `mode`; what was started there is removed."""
    with tempfile.TemporaryDirectory(prefix="qhronos-scripts-") as made:
        root = Path(made) / "a clone"
        shutil.copytree(ROOT / "scripts", root / "scripts", ignore=NOT_COPIED)
        shutil.copytree(ROOT / "qhronos_core", root / "qhronos_core", ignore=NOT_COPIED)
        Path(made).chmod(mode)
        place = Place(root, environ)
        yield place
        for program, name in (("db", "postgres"), ("redis", "redis")):
            if os.path.lexists(root / "data" / name):
                place.said(program, "remove")
        assert list((root / "data").glob("*")) == []


@pytest.fixture
def place(programs: Mapping[str, str]) -> Iterator[Place]:
    with copied(0o755, programs) as place:
        yield place


@pytest.fixture(params=["open", "closed"] if AS_ROOT else ["open"])
def open_or_closed(request: pytest.FixtureRequest, programs: Mapping[str, str]) -> Iterator[Place]:
    """A place PostgreSQL's user can enter, and one it cannot."""
    with copied(0o755 if request.param == "open" else 0o700, programs) as place:
        yield place


# --- PostgreSQL ----------------------------------------------------------------------------------------


def connect(
    port: int, password: str = "postgres", database: str = "qhronos"
) -> "psycopg.Connection[tuple[object, ...]]":
    return psycopg.connect(
        host="127.0.0.1", port=port, user="postgres", password=password, dbname=database, autocommit=True
    )


def test_every_verb_of_db_may_be_said_twice_and_data_outlives_all_but_remove(open_or_closed: Place) -> None:
    place = open_or_closed
    port = free_port()
    environ = {"QHRONOS_DATABASE__PORT": str(port)}

    def db(verb: str) -> str:
        code, text = place.said("db", verb, **environ)
        assert (code, len(text.splitlines())) == (0, 1), text
        return text.strip()

    running = f"on 127.0.0.1:{port}, user postgres, database qhronos"
    assert db("status") == "PostgreSQL is not running"
    assert db("stop") == "PostgreSQL is not running"
    assert db("remove") == "PostgreSQL has no data here"
    assert db("start") == f"PostgreSQL is running, {running}"
    assert db("start") == f"PostgreSQL is running already, {running}"
    assert db("status") == f"PostgreSQL is running, {running}"
    with connect(port) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS id")
    assert db("restart") == f"PostgreSQL is running, {running}"
    assert db("stop") == "PostgreSQL is stopped"
    assert db("stop") == "PostgreSQL is not running"
    assert db("status") == "PostgreSQL is not running; its data is kept"
    assert db("restart") == f"PostgreSQL is running, {running}"
    with connect(port) as connection:
        assert connection.execute("SELECT id FROM kept").fetchall() == [(7,)]
    home = (place.root / "data" / "postgres").resolve()
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert db("remove") == "PostgreSQL and its data are removed"
    assert not home.exists()
    assert not os.path.lexists(place.root / "data" / "postgres")
    assert db("start") == f"PostgreSQL is running, {running}"
    with connect(port) as connection:
        assert connection.execute("SELECT to_regclass('kept')").fetchall() == [(None,)]


def test_db_takes_user_password_and_name_from_config_yaml_and_the_port_of_the_environment_first(place: Place) -> None:
    port = free_port()
    password = "p '\"\\%$ü"
    file = place.root / "config.yaml"
    file.write_text(yaml.safe_dump({"database": {"port": 1, "password": password, "dbname": "Other name"}}))
    environ = {"QHRONOS_DATABASE__PORT": str(port), "QHRONOS_CONFIG": str(file)}
    code, text = place.said("db", "start", **environ)
    assert code == 0, text
    assert password not in text
    with connect(port, password, "Other name") as connection:
        assert connection.execute("SELECT lower('ÄÖ')").fetchone() == ("äö",)
    with pytest.raises(psycopg.OperationalError):
        connect(port, "postgres", "Other name")
    code, text = place.said("db", "start", **{**environ, "QHRONOS_DATABASE__PASSWORD": "another"})
    assert (code, len(text.splitlines())) == (1, 1)
    assert "put those back" in text


def test_a_taken_port_is_one_line_and_exit_code_1_and_makes_nothing(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        environ = {"QHRONOS_DATABASE__PORT": port, "QHRONOS_REDIS__PORT": port}
        for program, key in (("db", "QHRONOS_DATABASE__PORT"), ("redis", "QHRONOS_REDIS__PORT")):
            code, text = place.said(program, "start", **environ)
            assert (code, len(text.splitlines())) == (1, 1)
            assert f"port {port} is taken by another program" in text
            assert key in text
    assert not (place.root / "data").exists()


def test_what_is_not_ours_is_neither_used_nor_removed(place: Place) -> None:
    for name in ("postgres", "redis"):
        (place.root / "data" / name).mkdir(parents=True)
        (place.root / "data" / name / "theirs").write_text("precious")
    environ = {"QHRONOS_DATABASE__PORT": str(free_port()), "QHRONOS_REDIS__PORT": str(free_port())}
    for program in ("db", "redis"):
        for verb in ("start", "remove"):
            code, text = place.said(program, verb, **environ)
            assert (code, len(text.splitlines())) == (1, 1)
            assert "not ours" in text
    for name in ("postgres", "redis"):
        assert (place.root / "data" / name / "theirs").read_text() == "precious"
        shutil.rmtree(place.root / "data" / name)


# --- Redis -----------------------------------------------------------------------------------------------


def test_every_verb_of_redis_may_be_said_twice_and_data_outlives_all_but_remove(place: Place) -> None:
    port = free_port()
    password = 'a"b\\c d'
    environ = {"QHRONOS_REDIS__PORT": str(port), "QHRONOS_REDIS__PASSWORD": password}

    def cache(*verb: str) -> str:
        code, text = place.said("redis", *verb, **environ)
        assert code == 0, text
        return text.strip()

    running = f"on 127.0.0.1:{port}, database 0"
    assert cache("status") == "Redis is not running"
    assert cache("stop") == "Redis is not running"
    assert cache("remove") == "Redis has no data here"
    assert cache("start") == f"Redis is running, {running}"
    assert cache("start") == f"Redis is running already, {running}"
    assert cache("status") == f"Redis is running, {running}"
    with redis.Redis(port=port, password=password) as client:
        client.set("kept", "7")
    with redis.Redis(port=port) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
    assert cache("restart") == f"Redis is running, {running}"
    assert cache("cli", "get", "kept") == "7"
    assert cache("stop") == "Redis is stopped"
    assert cache("stop") == "Redis is not running"
    assert cache("status") == "Redis is not running; its data is kept"
    code, text = place.said("redis", "cli", "ping", **environ)
    assert (code, text) == (1, "redis.sh: Redis is not running: say start first\n")
    assert cache("start") == f"Redis is running, {running}"
    assert cache("remove") == "Redis and its data are removed"
    assert not (place.root / "data" / "redis").exists()
    assert cache("start") == f"Redis is running, {running}"
    assert cache("cli", "exists", "kept") == "0"


def test_another_port_is_taken_at_a_restart(place: Place) -> None:
    first, second = str(free_port()), str(free_port())
    assert place.said("redis", "start", QHRONOS_REDIS__PORT=first)[0] == 0
    moved = {"QHRONOS_REDIS__PORT": second}
    code, text = place.said("redis", "start", **moved)
    assert (code, text) == (1, f"redis.sh: Redis runs on port {first}, and {second} is asked for: say restart\n")
    assert place.said("redis", "restart", **moved)[0] == 0
    assert f":{second}," in place.said("redis", "status", **moved)[1]


# --- which ports, and which way -----------------------------------------------------------------------------


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No settings, no engine, and a project directory of one's own."""
    for name in os.environ:
        if name.startswith(("QHRONOS_", "DATABASE_", "REDIS")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(servers, "DATA", tmp_path / "data")
    monkeypatch.setattr(servers, "COMPOSED_DATA", tmp_path / "data" / "compose")
    return tmp_path


def ports() -> tuple[int, int]:
    database, cache = servers.database(), servers.cache()
    return (
        database.settings.port if isinstance(database, servers.NativePostgres) else database.port,
        cache.settings.port if isinstance(cache, servers.NativeRedis) else cache.port,
    )


def test_ports_come_from_the_environment_else_config_yaml_else_5433_and_6379(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ports() == (5433, 6379)
    (bare / "config.yaml").write_text("database: {port: 7001}\nredis: {port: 7002}\n")
    assert ports() == (7001, 7002)
    monkeypatch.setenv("QHRONOS_DATABASE__PORT", "7003")
    monkeypatch.setenv("QHRONOS_REDIS__PORT", "7004")
    assert ports() == (7003, 7004)


def test_a_wrong_configuration_is_one_line(place: Place) -> None:
    code, text = place.said("db", "start", QHRONOS_DATABASE__PROT="1")
    nearest = "there is no such key; the nearest is QHRONOS_DATABASE__PORT"
    assert (code, text) == (1, f"db.sh: QHRONOS_DATABASE__PROT: {nearest}\n")


@pytest.mark.parametrize("verb", [(), ("begin",), ("start", "now")])
def test_another_verb_is_told_the_ones_there_are(verb: Sequence[str], place: Place) -> None:
    code, text = place.said("db", *verb)
    assert (code, text) == (1, "usage: db.sh start|stop|restart|remove|status\n")


FAKE_DOCKER = """#!/bin/sh
echo "$@" >>"$(dirname "$0")/asked"
[ "$1" = version ] && exit {engine}
case "$*" in *" ps "*) [ -f "$(dirname "$0")/running" ] && echo 0123abcd ;; *" up "*) : >"$(dirname "$0")/running" ;; esac
exit 0
"""


@pytest.fixture
def docker(bare: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `docker` that notes what it is asked. It stands for the client; `engine` is whether one answers."""
    program = bare / "bin" / "docker"
    program.parent.mkdir()
    program.write_text(FAKE_DOCKER.format(engine=0))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return program


def test_where_an_engine_answers_compose_does_it(docker: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    os.environ["QHRONOS_DATABASE__PORT"] = str(port)
    try:
        assert servers.main(["db", "start"]) == 0
        assert servers.main(["db", "status"]) == 0
        assert servers.main(["db", "stop"]) == 0
    finally:
        del os.environ["QHRONOS_DATABASE__PORT"]
    asked = (docker.parent / "asked").read_text()
    assert f"--file {servers.ROOT / 'docker-compose.yml'} up --detach --wait postgres" in asked
    assert "stop postgres" in asked
    assert f"PostgreSQL is running by Docker Compose, on 127.0.0.1:{port}" in capsys.readouterr().out


def test_a_client_without_an_engine_is_no_docker(docker: Path) -> None:
    docker.write_text(FAKE_DOCKER.format(engine=1))
    assert isinstance(servers.database(), servers.NativePostgres)
    assert isinstance(servers.cache(), servers.NativeRedis)


def test_where_data_was_made_by_one_way_that_way_goes_on(docker: Path, bare: Path) -> None:
    (bare / "data" / "postgres").mkdir(parents=True)
    assert isinstance(servers.database(), servers.NativePostgres)
    (bare / "data" / "compose" / "redis").mkdir(parents=True)
    docker.write_text(FAKE_DOCKER.format(engine=1))
    with pytest.raises(servers.Refused, match="no Docker engine answers"):
        servers.cache()


def test_the_compose_file_keeps_servers_on_this_machine_and_data_under_data() -> None:
    composed = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    assert composed["postgres"]["ports"] == ["127.0.0.1:${QHRONOS_DATABASE__PORT:-5433}:5432"]
    assert composed["redis"]["ports"] == ["127.0.0.1:${QHRONOS_REDIS__PORT:-6379}:6379"]
    for name, service in composed.items():
        assert [volume.split(":")[0] for volume in service["volumes"]] == [f"./data/compose/{name}"]


# --- setting up ------------------------------------------------------------------------------------------------


def with_python(directory: Path, answers: str) -> dict[str, str]:
    """An environment whose only Python is a script that runs `answers`."""
    directory.mkdir()
    for tool in ("bash", "sh", "cat", "cmp", "dirname", "flock", "pwd", "rm", "tail"):
        if found := shutil.which(tool):
            (directory / tool).symlink_to(found)
    (directory / "python3").write_text(f"#!/bin/sh\n{answers}\n")
    (directory / "python3").chmod(0o755)
    return {"PATH": str(directory), "HOME": str(directory)}


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ("exit 1", "Python 3.11 or later is needed"),
        ('case "$*" in *ensurepip*) exit 1 ;; *) exit 0 ;; esac', "apt install python3-venv"),
    ],
)
def test_a_python_that_will_not_do_is_one_line_with_what_to_install(answers: str, told: str, tmp_path: Path) -> None:
    root = tmp_path / "clone"
    shutil.copytree(ROOT / "scripts", root / "scripts", ignore=NOT_COPIED)
    for name in ("pyproject.toml", "requirements.lock", "requirements-test.lock"):
        shutil.copy(ROOT / name, root)
    environ = with_python(tmp_path / "bin", answers)
    done = subprocess.run([root / "scripts" / "run.sh"], env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert told in done.stderr
    assert not (root / ".venv").exists()


def test_every_script_can_be_run_and_needs_no_argument_to_say_what_it_is() -> None:
    scripts = [*sorted((ROOT / "scripts").glob("*.sh")), ROOT / ".ci" / "run"]
    assert {path.name for path in scripts} >= {"run.sh", "test.sh", "check.sh", "db.sh", "redis.sh", "run"}
    for path in scripts:
        lines = path.read_text().splitlines()
        assert os.access(path, os.X_OK), path
        assert lines[0] == "#!/usr/bin/env bash"
        assert lines[1].startswith("# ")
        assert subprocess.run(["bash", "-n", path], check=False).returncode == 0
