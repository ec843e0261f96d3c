"""Two commands on a fresh machine: a clone nobody has used, in a directory with a space and a letter of its own, run from
elsewhere, by an ordinary user where there is one with a Python (as root: `nobody`), else by whoever runs the tests.
"""

import json
import os
import pwd
import re
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from scripts.binaries import ServerMissing, identity
from tests.servers import free_port, usable_postgres, usable_redis

pytestmark = pytest.mark.alone  # installs, and measures how fast a start is

ROOT = Path(__file__).parents[2]
NOT_CLONED = shutil.ignore_patterns(".git", ".venv*", "data", "config.yaml", "*.egg-info", "__pycache__", ".*_cache")
HAS_A_PYTHON = """
for python in python3.13 python3.12 python3.11 python3; do
  "$python" -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && exit 0
done
exit 1
"""
FIRST_ANSWER_WITHIN_S = 300.0  # of the first start, which installs
SECOND_START_WITHIN_S = 2.0


@dataclass(frozen=True)
class Clone:
    root: Path
    home: Path
    user: pwd.struct_passwd | None

    def environ(self, told: Mapping[str, str]) -> dict[str, str]:
        ours = ("QHRONOS_", "DATABASE_", "REDIS", "VIRTUAL_ENV", "PYTHON", "XDG_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return {**kept, "HOME": str(self.home), **told}

    def run(self, script: str, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """A script to its end, from a directory that is not the clone's."""
        return subprocess.run(
            [self.root / "scripts" / script, *arguments],
            cwd=self.home,
            env=self.environ(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            **identity(self.user),
        )

    @contextmanager
    def serving(self, port: int, **environ: str) -> Iterator["Serving"]:
        """`run.sh` until it has answered; at the end it is told to stop, and must."""
        output = self.home / f"output-{time.monotonic_ns()}"
        with output.open("wb") as sink:
            began = time.monotonic()
            process = subprocess.Popen(
                [self.root / "scripts" / "run.sh"],
                cwd=self.home,
                env=self.environ({"QHRONOS_SERVER__PORT": str(port), **environ}),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                **identity(self.user),
            )
        try:
            while True:
                try:
                    status, _ = ask(port, "GET", "/health")
                except OSError:
                    assert process.poll() is None, output.read_text()
                    assert time.monotonic() - began < FIRST_ANSWER_WITHIN_S, output.read_text()
                    time.sleep(0.01)
                else:
                    assert status == 200
                    break
            yield Serving(port, output, time.monotonic() - began)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


@dataclass(frozen=True)
class Serving:
    port: int
    output: Path
    first_answer_after: float

    def ask(self, method: str, path: str, token: str, body: object = None) -> tuple[int, Any]:
        return ask(self.port, method, path, token, body)


def ask(port: int, method: str, path: str, token: str | None = None, body: object = None) -> tuple[int, Any]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    if body is not None:
        request.data = json.dumps(body).encode()
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, json.load(refused)


@pytest.fixture(scope="module")
def clone() -> Iterator[Clone]:
    user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    if subprocess.run(["sh", "-c", HAS_A_PYTHON], check=False, **identity(user)).returncode != 0:
        user = None
    with tempfile.TemporaryDirectory(prefix="qhronos-clone-") as made:
        Path(made).chmod(0o755)
        root = Path(made) / "my clöne"
        home = Path(made) / "home"
        shutil.copytree(ROOT, root, ignore=NOT_CLONED)
        home.mkdir()
        if user is not None:
            for path in (home, root, *root.rglob("*")):
                os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
        yield Clone(root, home, user)


def mint(server: Serving, master: str) -> str:
    body = {"sub": "ann", "access": "write", "scope": ["user:ann"]}
    status, minted = server.ask("POST", "/tokens", master, body)
    assert status == 201, minted
    return str(minted["token"])


def test_one_command_serves_and_a_second_start_keeps_everything(clone: Clone) -> None:
    port = free_port()
    with clone.serving(port) as first:
        secrets = clone.home / (
            "Library/Application Support/qhronos/secrets"
            if sys.platform == "darwin"
            else ".local/share/qhronos/secrets"
        )
        files = {name: secrets / name for name in ("master_token", "jwt_secret", "at_rest_key")}
        values = {name: file.read_text().strip() for name, file in files.items()}
        assert {stat.S_IMODE(file.stat().st_mode) for file in files.values()} == {0o600}
        assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
        said = first.output.read_text()
        assert all(str(file) in said for file in files.values())
        assert not any(value in said for value in values.values())
        assert "mcpServers" in said

        token = mint(first, values["master_token"])
        status, event = first.ask("POST", "/events", token, {"name": "Kept", "schedule": "0 9 * * *"})
        assert status == 201, event

    with clone.serving(port) as second:
        status, found = second.ask("GET", f"/events/{event['id']}", token)
        assert (status, found["name"]) == (200, "Kept")
        assert {name: file.read_text().strip() for name, file in files.items()} == values

        taken = clone.run("run.sh", "--port", str(port))
        assert taken.returncode != 0
        assert taken.stdout == ""
        assert len(taken.stderr.splitlines()) == 1
        assert str(port) in taken.stderr


def test_a_second_start_answers_within_two_seconds(clone: Clone) -> None:
    """The best of three. On a machine that others keep busy, by its processor's time instead of the wall's."""
    clone.run("setup.sh")
    took: list[float] = []
    computed: list[float] = []
    while not took or (min(took) >= SECOND_START_WITHIN_S and len(took) < 3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        with clone.serving(free_port()) as server:
            took.append(server.first_answer_after)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        computed.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    busy = os.getloadavg()[0] > (os.cpu_count() or 1)
    assert min(computed if busy else took) < SECOND_START_WITHIN_S, (took, computed)


def test_the_seeds_way_postgresql_redis_and_a_configuration_file(clone: Clone) -> None:
    try:
        postgres, cache = usable_postgres(clone.home), usable_redis()
    except ServerMissing as missing:
        pytest.skip(str(missing))
    path = f"{postgres}:{Path(cache).parent}:{os.environ['PATH']}"
    ports = {"QHRONOS_DATABASE__PORT": str(free_port()), "QHRONOS_REDIS__PORT": str(free_port()), "PATH": path}
    config = clone.root / "config.yaml"
    shutil.copy(clone.root / "config.example.yaml", config)
    config.chmod(0o644)

    refused = clone.run("run.sh", **ports)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "auth.master_token is a sample" in refused.stderr
    assert "secrets.token_urlsafe(32)" in refused.stderr

    text = config.read_text()
    master, secret = (
        subprocess.run(
            [sys.executable, "-c", "import secrets; print(secrets.token_urlsafe(32))"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for _ in range(2)
    )
    config.write_text(re.sub("your-secure-jwt-secret", secret, re.sub("your-secure-master-token", master, text)))
    try:
        for script in ("db.sh", "redis.sh"):
            started = clone.run(script, "start", **ports)
            assert started.returncode == 0, started.stderr
        with clone.serving(free_port(), **ports) as server:
            token = mint(server, master)
            status, event = server.ask("POST", "/events", token, {"name": "Backup", "schedule": "0 9 * * *"})
            assert status == 201, event
            status, found = server.ask("GET", "/events", token)
            assert (status, [each["id"] for each in found]) == (200, [event["id"]])
    finally:
        config.unlink()
        for script in ("db.sh", "redis.sh"):
            removed = clone.run(script, "remove", **ports)
            assert removed.returncode == 0, removed.stderr
    assert list((clone.root / "data").iterdir()) == []
