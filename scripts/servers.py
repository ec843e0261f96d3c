"""What `db.sh` and `redis.sh` do: a PostgreSQL and a Redis for this clone, by Docker Compose where an engine answers,
else by the machine's own programs; data under `data/`.

Every verb may be said twice. Nothing is stopped or removed but what was started here: a directory of ours holds a
marker, and a running server is known by the process it says it is.
"""

import hashlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg
import redis
from psycopg import sql
from redis.backoff import NoBackoff
from redis.retry import Retry

from qhronos_core.config import DatabaseSettings, RedisSettings, read
from qhronos_core.domain.errors import StartRefusedError
from scripts.binaries import (
    ServerMissing,
    can_enter,
    identity,
    postgres_binaries,
    redis_program,
    unprivileged,
    utf8_locale,
)

ROOT: Final = Path(__file__).resolve().parents[1]
DATA: Final = ROOT / "data"
COMPOSED_DATA: Final = DATA / "compose"
OUTSIDE: Final = Path("/var/lib/qhronos")  # for root in a clone that PostgreSQL's user cannot enter
ADDRESS: Final = "127.0.0.1"
DATABASE_PORT_KEYS: Final = "QHRONOS_DATABASE__PORT or database.port"
REDIS_PORT_KEYS: Final = "QHRONOS_REDIS__PORT or redis.port"
_MARKER: Final = "made-by-qhronos"
_ENGINE_ANSWERS_WITHIN_S: Final = 5.0


class Refused(Exception):
    """One line for the person at the keyboard; exit code 1."""


# --- PostgreSQL by the machine's programs ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NativePostgres:
    settings: DatabaseSettings
    link: Path = DATA / "postgres"

    def start(self) -> str:
        password = self.settings.password.get_secret_value() if self.settings.password else ""
        if not password:
            raise Refused("database.password is empty: give one, since every user of this machine can reach the port")
        if (port := self._running_on()) is not None:
            if port != self.settings.port:
                raise Refused(f"PostgreSQL runs on port {port}, and {self.settings.port} is asked for: say restart")
            self._ensure_database(password)
            return f"PostgreSQL is running already, {self._where()}"
        _require_free(self.settings.port, "PostgreSQL", DATABASE_PORT_KEYS)
        binaries = postgres_binaries()
        home = self._ensure_home()
        if not (home / "cluster" / "PG_VERSION").exists():
            self._initialise(binaries, home, password)
        options = (
            f"-c listen_addresses={ADDRESS} -c port={self.settings.port} -c unix_socket_directories= -c timezone=UTC"
        )
        self._pg_ctl(binaries, "start", "--log", "server.log", "-o", options)
        self._ensure_database(password)
        return f"PostgreSQL is running, {self._where()}"

    def stop(self) -> str:
        if self._running_on() is None:
            return "PostgreSQL is not running"
        self._pg_ctl(postgres_binaries(), "stop", "--mode", "fast")
        return "PostgreSQL is stopped"

    def remove(self) -> str:
        if not self.link.exists():
            self.link.unlink(missing_ok=True)
            return "PostgreSQL has no data here"
        _require_ours(self.link)
        self.stop()
        _remove(self.link)
        return "PostgreSQL and its data are removed"

    def status(self) -> str:
        port = self._running_on()
        if port is not None:
            return f"PostgreSQL is running, {self._where(port)}"
        return f"PostgreSQL is not running{'; its data is kept' if self.link.exists() else ''}"

    def _where(self, port: int | None = None) -> str:
        return f"on {ADDRESS}:{port or self.settings.port}, user {self.settings.user}, database {self.settings.dbname}"

    def _ensure_home(self) -> Path:
        """The directory of ours, owned by whom PostgreSQL runs as: under `data/`, or outside and linked from there."""
        user = unprivileged()
        DATA.mkdir(exist_ok=True)
        if self.link.exists():
            _require_ours(self.link)
            return self.link.resolve()
        self.link.unlink(missing_ok=True)  # a link whose target is gone
        home = self.link
        if not can_enter(user, DATA):
            OUTSIDE.mkdir(mode=0o755, parents=True, exist_ok=True)
            home = OUTSIDE / f"postgres-{hashlib.sha256(os.fsencode(ROOT)).hexdigest()[:12]}"
        home.mkdir(mode=0o700, exist_ok=True)
        (home / _MARKER).touch()
        if user is not None:
            for path in (home, home / _MARKER):
                os.chown(path, user.pw_uid, user.pw_gid)
        if home != self.link:
            self.link.symlink_to(home)
        return home

    def _initialise(self, binaries: Path, home: Path, password: str) -> None:
        """Make the cluster under another name and rename it, so that a half-made one is never started."""
        half = home / "cluster.new"
        shutil.rmtree(half, ignore_errors=True)
        told = home / "password"
        told.unlink(missing_ok=True)
        told.touch(mode=0o600)
        told.write_text(password, encoding="utf-8")
        if (user := unprivileged()) is not None:
            os.chown(told, user.pw_uid, user.pw_gid)
        done = subprocess.run(
            [
                *(str(binaries / "initdb"), "--pgdata", str(half), "--username", self.settings.user),
                *("--auth", "scram-sha-256", "--pwfile", str(told)),
                *("--encoding", "UTF8", "--locale", utf8_locale()),
            ],
            cwd=home,
            capture_output=True,
            text=True,
            check=False,
            **identity(user),
        )
        told.unlink()
        if done.returncode != 0:
            raise Refused(f"initdb failed: {_last_line(done.stderr)}")
        half.rename(home / "cluster")

    def _pg_ctl(self, binaries: Path, verb: str, *options: str) -> None:
        home = self.link.resolve()
        done = subprocess.run(
            [str(binaries / "pg_ctl"), verb, "--wait", "--silent", "--pgdata", "cluster", *options],
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # the server would keep a pipe open
            stderr=subprocess.DEVNULL,
            check=False,
            **identity(unprivileged()),
        )
        if done.returncode != 0:
            told = _last_line((home / "server.log").read_text(errors="replace")) if verb == "start" else ""
            raise Refused(f"PostgreSQL did not {verb} ({home / 'server.log'}){': ' if told else ''}{told}")

    def _running_on(self) -> int | None:
        """The port our server listens on; None when it does not run."""
        cluster = self.link.resolve() / "cluster"
        if not cluster.exists():
            return None
        known = subprocess.run(
            [str(postgres_binaries() / "pg_ctl"), "status", "--pgdata", str(cluster)],
            cwd=self.link.resolve(),
            capture_output=True,
            check=False,
            **identity(unprivileged()),
        )
        if known.returncode != 0:
            return None
        return int((cluster / "postmaster.pid").read_text().splitlines()[3])

    def _ensure_database(self, password: str) -> None:
        try:
            with psycopg.connect(
                host=ADDRESS,
                port=self.settings.port,
                user=self.settings.user,
                password=password,
                dbname="postgres",
                connect_timeout=10,
                autocommit=True,
            ) as connection:
                found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (self.settings.dbname,))
                if found.fetchone() is None:
                    connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(self.settings.dbname)))
        except psycopg.OperationalError:
            raise Refused(
                f"PostgreSQL runs on port {self.settings.port} but does not take database.user and database.password:"
                " its data was made with others; put those back, or say remove and start again"
            ) from None


# --- Redis by the machine's programs -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NativeRedis:
    settings: RedisSettings
    home: Path = DATA / "redis"

    def start(self) -> str:
        if (port := self._running_on()) is not None:
            if port != self.settings.port:
                raise Refused(f"Redis runs on port {port}, and {self.settings.port} is asked for: say restart")
            return f"Redis is running already, {self._where()}"
        _require_free(self.settings.port, "Redis", REDIS_PORT_KEYS)
        program = redis_program()
        self._write_configuration()
        done = subprocess.run(
            [program, "redis.conf"],
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode != 0 or not self._answers_soon():
            raise Refused(f"Redis did not start: {_last_line((self.home / 'server.log').read_text(errors='replace'))}")
        return f"Redis is running, {self._where()}"

    def stop(self) -> str:
        if self._running_on() is None:
            return "Redis is not running"
        with self._client() as client:
            client.shutdown()  # saves, then ends; returns when the connection is gone
        return "Redis is stopped"

    def remove(self) -> str:
        if not self.home.exists():
            return "Redis has no data here"
        _require_ours(self.home)
        self.stop()
        _remove(self.home)
        return "Redis and its data are removed"

    def status(self) -> str:
        port = self._running_on()
        if port is not None:
            return f"Redis is running, {self._where(port)}"
        return f"Redis is not running{'; its data is kept' if self.home.exists() else ''}"

    def cli(self, arguments: Sequence[str]) -> None:
        """Become `redis-cli`, connected to ours."""
        if (port := self._running_on()) is None:
            raise Refused("Redis is not running: say start first")
        program = redis_program("cli")
        options = [program, "-h", ADDRESS, "-p", str(port), "-n", str(self.settings.db), *arguments]
        os.execve(program, options, {**os.environ, **_password_of(self._configured())})

    def _where(self, port: int | None = None) -> str:
        return f"on {ADDRESS}:{port or self.settings.port}, database {self.settings.db}"

    def _write_configuration(self) -> None:
        DATA.mkdir(exist_ok=True)
        if self.home.exists():
            _require_ours(self.home)
        self.home.mkdir(mode=0o700, exist_ok=True)
        (self.home / _MARKER).touch()
        lines = {
            "bind": ADDRESS,
            "port": str(self.settings.port),
            "daemonize": "yes",
            "pidfile": "redis.pid",
            "logfile": "server.log",
            "dir": ".",
        }
        if self.settings.password:
            lines["requirepass"] = _quoted(self.settings.password.get_secret_value())
        file = self.home / "redis.conf"
        file.touch(mode=0o600)
        file.write_text("".join(f"{name} {value}\n" for name, value in lines.items()), encoding="utf-8")

    def _configured(self) -> Mapping[str, str]:
        """What the last start was configured with, which is what a running server has."""
        try:
            lines = (self.home / "redis.conf").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return {}
        return dict(line.split(" ", 1) for line in lines)

    def _client(self) -> redis.Redis:
        configured = self._configured()
        password = configured.get("requirepass")
        return redis.Redis(
            host=ADDRESS,
            port=int(configured["port"]),
            password=_unquoted(password) if password else None,
            socket_connect_timeout=5,
            socket_timeout=60,
            retry=Retry(NoBackoff(), 0),
        )

    def _running_on(self) -> int | None:
        """The port our server listens on; None when it does not run. Whoever answers there is asked for its process."""
        try:
            pid = int((self.home / "redis.pid").read_text())
        except (FileNotFoundError, ValueError):
            return None
        try:
            with self._client() as client:
                told = client.info("server")
        except redis.RedisError:
            return None
        return int(told["tcp_port"]) if told["process_id"] == pid else None

    def _answers_soon(self) -> bool:
        """Whether it comes up: the parent returns when the child is forked, which then opens its port."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if self._running_on() is not None:
                return True
            time.sleep(0.02)
        return False


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _unquoted(text: str) -> str:
    return text[1:-1].replace('\\"', '"').replace("\\\\", "\\")


def _password_of(configured: Mapping[str, str]) -> dict[str, str]:
    """In the environment: a command line can be read by every user of the machine."""
    password = configured.get("requirepass")
    return {"REDISCLI_AUTH": _unquoted(password)} if password else {}


# --- either, by Docker Compose --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Composed:
    """A service of docker-compose.yml, whose settings reach it through `environment`."""

    compose: Sequence[str]
    service: str
    title: str
    port: int
    port_keys: str
    environment: Mapping[str, str]

    def start(self) -> str:
        if not self._is_running():
            _require_free(self.port, self.title, self.port_keys)
        self._run("up", "--detach", "--wait", self.service)
        return f"{self.title} is running by Docker Compose, on {ADDRESS}:{self.port}"

    def stop(self) -> str:
        self._run("stop", self.service)
        return f"{self.title} is stopped"

    def remove(self) -> str:
        self._run("rm", "--stop", "--force", self.service)
        data = COMPOSED_DATA / self.service
        if data.exists():  # its files belong to a user of the image, so the image removes them
            volume = f"{data}:/qhronos-data"
            as_root = ("--rm", "--no-deps", "--user", "0", "--volume", volume, "--entrypoint", "find")
            self._run("run", *as_root, self.service, "/qhronos-data", "-mindepth", "1", "-delete")
            data.rmdir()
        return f"{self.title} and its data are removed"

    def status(self) -> str:
        if self._is_running():
            return f"{self.title} is running by Docker Compose, on {ADDRESS}:{self.port}"
        return f"{self.title} is not running{'; its data is kept' if (COMPOSED_DATA / self.service).exists() else ''}"

    def cli(self, arguments: Sequence[str]) -> None:
        """Become `redis-cli` inside the container, which knows the password."""
        if not self._is_running():
            raise Refused(f"{self.title} is not running: say start first")
        terminal = () if sys.stdin.isatty() else ("--no-TTY",)
        command = [*self._command("exec"), *terminal, self.service, "redis-cli", *arguments]
        os.execvpe(command[0], command, {**os.environ, **self.environment})

    def _is_running(self) -> bool:
        return bool(self._run("ps", "--quiet", "--status", "running", self.service).strip())

    def _command(self, *arguments: str) -> list[str]:
        project = f"qhronos-{hashlib.sha256(os.fsencode(ROOT)).hexdigest()[:12]}"  # two clones are two projects
        file = str(ROOT / "docker-compose.yml")
        return [*self.compose, "--project-name", project, "--project-directory", str(ROOT), "--file", file, *arguments]

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(
            self._command(*arguments),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **self.environment},
        )
        if done.returncode != 0:
            raise Refused(f"Docker Compose failed: {_last_line(done.stderr)}")
        return done.stdout


def compose_command() -> Sequence[str] | None:
    """How to call Docker Compose, if an engine answers: a client alone runs nothing."""
    engine = ("docker", "version", "--format", "{{.Server.Version}}")
    if not shutil.which("docker") or not _succeeds(engine):
        return None
    return next((call for call in (("docker", "compose"), ("docker-compose",)) if _succeeds((*call, "version"))), None)


def _succeeds(command: Sequence[str]) -> bool:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=_ENGINE_ANSWERS_WITHIN_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


# --- what both need ---------------------------------------------------------------------------------------


def _require_free(port: int, title: str, keys: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # the ends of old connections do not count
        try:
            probe.bind((ADDRESS, port))
        except PermissionError:
            raise Refused(f"port {port} may not be used by this user: choose another with {keys}") from None
        except OSError:
            raise Refused(
                f"port {port} is taken by another program: stop that, or choose another for {title} with {keys}"
            ) from None


def _require_ours(directory: Path) -> None:
    if not (directory / _MARKER).exists() and any(directory.iterdir()):
        raise Refused(f"{directory} holds files that are not ours (no {_MARKER} in it): move them away")


def _remove(directory: Path) -> None:
    target = directory.resolve()
    shutil.rmtree(target)
    if directory.is_symlink():
        directory.unlink()


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "it said nothing")


# --- the commands -------------------------------------------------------------------------------------------


def database() -> NativePostgres | Composed:
    settings = read(None, os.environ).database or DatabaseSettings()
    password = settings.password.get_secret_value() if settings.password else ""
    if compose := _composed("postgres"):
        environment = {
            "QHRONOS_DATABASE__PORT": str(settings.port),
            "QHRONOS_DATABASE__USER": settings.user,
            "QHRONOS_DATABASE__PASSWORD": password,
            "QHRONOS_DATABASE__DBNAME": settings.dbname,
        }
        return Composed(compose, "postgres", "PostgreSQL", settings.port, DATABASE_PORT_KEYS, environment)
    return NativePostgres(settings)


def cache() -> NativeRedis | Composed:
    settings = read(None, os.environ).redis or RedisSettings()
    password = settings.password.get_secret_value() if settings.password else ""
    if compose := _composed("redis"):
        environment = {"QHRONOS_REDIS__PORT": str(settings.port), "QHRONOS_REDIS__PASSWORD": password}
        return Composed(compose, "redis", "Redis", settings.port, REDIS_PORT_KEYS, environment)
    return NativeRedis(settings)


def _composed(service: str) -> Sequence[str] | None:
    """How to call Compose if it is to be used: where data was made by one way, that way goes on."""
    composed = (COMPOSED_DATA / service).exists()
    if not composed and os.path.lexists(DATA / service):
        return None
    compose = compose_command()
    if composed and compose is None:
        raise Refused(f"{COMPOSED_DATA / service} was made by Docker Compose, and no Docker engine answers: start it")
    return compose


def main(arguments: Sequence[str]) -> int:
    program, *told = arguments
    verbs = ["start", "stop", "restart", "remove", "status", *(["cli"] if program == "redis" else [])]
    if not told or told[0] not in verbs or (len(told) > 1 and told[0] != "cli"):
        print(f"usage: {program}.sh {'|'.join(verbs)}", file=sys.stderr)
        return 1
    try:
        server = database() if program == "db" else cache()
        match told[0]:
            case "start":
                print(server.start())
            case "stop":
                print(server.stop())
            case "restart":
                server.stop()
                print(server.start())
            case "remove":
                print(server.remove())
            case "status":
                print(server.status())
            case "cli" if not isinstance(server, NativePostgres):
                server.cli(told[1:])
    except ServerMissing as missing:
        print(f"{program}.sh: {missing}, and no Docker engine answers: install one of them", file=sys.stderr)
        return 1
    except (Refused, StartRefusedError) as refused:
        print(f"{program}.sh: {refused}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{program}.sh: {error.filename or program}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
