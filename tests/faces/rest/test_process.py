"""The server as a process, over real sockets: its first line, its limits, its end."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from tests.canaries import AT_REST_KEY, JWT_SECRET, MASTER, none_in

ROOT: Final = Path(__file__).parents[3]


@dataclass
class Running:
    """A server, its address and what it has logged so far."""

    process: subprocess.Popen[str]
    url: str
    log: list[str]
    reader: threading.Thread

    def client(self) -> httpx2.Client:
        return httpx2.Client(base_url=self.url, headers={"Authorization": f"Bearer {MASTER}"}, trust_env=False)

    def raw(self, request: bytes) -> bytes:
        """Bytes in, bytes out, until the server closes."""
        host, port = self.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            answer = b""
            try:
                connection.sendall(request)
                while piece := connection.recv(65_536):
                    answer += piece
            except ConnectionError:  # it closed before all was sent: what it said is still to be read
                with suppress(ConnectionError):
                    answer += connection.recv(65_536)
        return answer

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
        began = time.monotonic()
        self.process.send_signal(number)
        status = self.process.wait(timeout=20)
        took = time.monotonic() - began
        self.reader.join(timeout=5)
        return status, took


def environment(data_dir: Path, more: Mapping[str, str]) -> dict[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("QHRONOS_")},
        "QHRONOS_DATA_DIR": str(data_dir),
        "QHRONOS_SERVER__PORT": "0",
        "QHRONOS_MASTER_TOKEN": MASTER,
        "QHRONOS_JWT_SECRET": JWT_SECRET,
        "QHRONOS_AUTH__AT_REST_KEY": urlsafe_b64encode(AT_REST_KEY).decode(),
        "PYTHONPATH": str(ROOT),
        **more,
    }


@contextmanager
def serving(data_dir: Path, **more: str) -> Iterator[Running]:
    command = [sys.executable, "-m", "qhronos_mcp", "serve"]
    with subprocess.Popen(
        command, env=environment(data_dir, more), stderr=subprocess.PIPE, text=True, cwd=data_dir
    ) as process:
        try:
            assert process.stderr is not None
            log = [process.stderr.readline()]
            while (first := json.loads(log[-1]))["event"] != "serving":  # what is lifted is said before
                log.append(process.stderr.readline())
            reader = threading.Thread(target=log.extend, args=(process.stderr,))  # a full pipe would stop the server
            reader.start()
            yield Running(process, first["url"], log, reader)
        finally:
            process.kill()
            process.wait()
    reader.join(timeout=5)
    none_in("".join(log))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("served"), QHRONOS_SERVER__ALLOWED_HOSTS="localhost,127.0.0.1") as server:
        yield server


def test_the_contract_over_a_socket(running: Running) -> None:
    with running.client() as client:
        made = client.post("/events", json={"name": "a", "schedule": "0 9 * * *"})
        assert made.status_code == 201
        assert client.get(f"/events/{made.json()['id']}").json()["name"] == "a"
        assert client.delete(f"/events/{made.json()['id']}").json()["status"] == "deleted"
        assert "server" not in made.headers


def test_a_chunked_body_is_cut_off_at_the_limit_and_the_connection_lives_on(running: Running) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(40):
            yield b" " * 65_536

    with running.client() as client:
        assert client.post("/events", content=endless()).status_code == 413
        assert client.get("/health").status_code == 200


def test_a_declared_length_is_refused_before_it_is_sent(running: Running) -> None:
    head = (
        f"POST /events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {MASTER}\r\n"
        "Connection: close\r\nContent-Length: 9999999999\r\n\r\n"
    )
    assert running.raw(head.encode()).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "request_line",
    [
        b"GET /events HTTP/1.1\r\nHost: localhost\r\nHost: evil.test\r\nConnection: close\r\n\r\n",
        b"GET http://evil.test/events HTTP/1.1\r\nHost: evil.test\r\nConnection: close\r\n\r\n",
        b"GET /events HTTP/1.0\r\n\r\n",
        b"GET /events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer \xff\xfe\r\nConnection: close\r\n\r\n",
        b"GET /ev\xffents HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET /events/%00 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET /events/%ff%fe HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET /events?tags=%ff HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET //etc/passwd HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET /assets/../views.py HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"BREW /events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
        b"POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\nConnection: close\r\n\r\n",
        b"nonsense\r\n\r\n",
    ],
)
def test_hostile_requests_are_refused_and_never_a_server_error(running: Running, request_line: bytes) -> None:
    status = int(running.raw(request_line).split(b" ", 2)[1])
    assert 400 <= status < 500
    with running.client() as client:
        assert client.get("/health").status_code == 200


def test_a_head_without_end_is_cut_off(running: Running) -> None:
    endless = b"GET /events HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * 20_000_000
    assert running.raw(endless).startswith(b"HTTP/1.1 431 ")
    many = b"GET /events HTTP/1.1\r\nHost: localhost\r\n" + b"X-A: b\r\n" * 2_000_000
    assert running.raw(many).startswith(b"HTTP/1.1 431 ")
    with running.client() as client:
        assert client.get("/health", headers={"X-Long": "x" * 30_000}).status_code == 200
        big = client.post("/events?dry_run=true", content=b'{"name": "a", "schedule": "@daily"}' + b" " * 1_000_000)
        assert big.status_code == 200


def test_sigterm_ends_it_within_two_seconds_with_an_idle_connection_open(tmp_path: Path) -> None:
    with serving(tmp_path) as server, server.client() as client:
        client.post("/events", json={"name": "a", "schedule": "every 1h"})
        status, took = server.end()
    assert status == -signal.SIGTERM
    assert took < 2
    with serving(tmp_path) as server, server.client() as client:
        assert [event["name"] for event in client.get("/events").json()] == ["a"]
        assert server.end(signal.SIGINT)[0] == -signal.SIGINT


def test_a_proxy_is_believed_only_where_it_is_trusted(tmp_path: Path, running: Running) -> None:
    """An Origin of https is our own only if TLS was in front, which only a trusted proxy can say."""
    told = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.9"}
    with running.client() as client:
        assert client.get("/events", headers={**told, "Origin": running.url}).status_code == 200
        assert client.get("/events", headers={**told, "Origin": f"https{running.url[4:]}"}).status_code == 403
    with serving(tmp_path, QHRONOS_SERVER__TRUSTED_PROXIES="127.0.0.0/8") as server, server.client() as client:
        assert client.get("/events", headers={**told, "Origin": f"https{server.url[4:]}"}).status_code == 200
        assert client.get("/events", headers={**told, "Origin": server.url}).status_code == 403


def refused_to_serve(directory: Path, env: Mapping[str, str], *flags: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "qhronos_mcp", "serve", *flags],
        env=env,
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_taken_port_is_one_clear_line_and_nothing_half_made(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        data_dir = tmp_path / "data"
        told = refused_to_serve(tmp_path, environment(data_dir, {"QHRONOS_SERVER__PORT": port}))
    assert told.returncode == 2
    assert len(told.stderr.splitlines()) == 1
    assert f"server.port {port}: cannot listen there (Address already in use); choose another" in told.stderr
    assert not data_dir.exists()


@pytest.mark.parametrize("host", ["no.such.host.invalid", "a..b", "ä" * 80])
def test_a_host_that_cannot_be_bound_is_one_clear_line(tmp_path: Path, host: str) -> None:
    env = environment(tmp_path / "data", {"QHRONOS_SERVER__ALLOWED_HOSTS": "a.example"})
    told = refused_to_serve(tmp_path, env, "--host", host, "--insecure-http")
    assert told.returncode == 2
    assert len(told.stderr.splitlines()) == 1
    assert "cannot listen there (this machine has no such address); choose another" in told.stderr
    assert not (tmp_path / "data").exists()


def test_on_a_port_it_was_given_by_the_system_it_does_not_call_itself(tmp_path: Path) -> None:
    """S47."""
    with serving(tmp_path, QHRONOS_EGRESS__ALLOW_LOOPBACK="true") as server, server.client() as client:
        hook = {"type": "webhook", "params": {"url": f"{server.url}/events"}}
        answer = client.post("/events", json={"name": "a", "schedule": "@daily", "action": hook})
        assert (answer.status_code, answer.json()["code"]) == (400, "destination_not_allowed")


def test_told_twice_by_the_keyboard_it_ends_without_a_word_of_its_insides(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        server.process.send_signal(signal.SIGINT)
        time.sleep(0.02)
        assert server.end(signal.SIGINT)[0] == -signal.SIGINT
        assert [line for line in server.log if "Traceback" in line] == []


def test_a_public_address_needs_tls_in_front_or_a_word_aloud(tmp_path: Path) -> None:
    def told(*flags: str, **more: str) -> Any:
        return refused_to_serve(tmp_path, environment(tmp_path, {"QHRONOS_SERVER__HOST": "0.0.0.0", **more}), *flags)

    refused = told()
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
    assert "server.public_url" in refused.stderr
    nameless = told("--insecure-http")
    assert (nameless.returncode, len(nameless.stderr.splitlines())) == (2, 1)
    assert "server.allowed_hosts" in nameless.stderr


def test_the_log_is_one_json_line_per_request_and_holds_nothing_a_caller_wrote(tmp_path: Path) -> None:
    """S35: canaries in every place a caller can write, control characters, malformed credentials."""
    canary = "canary-5f2a"
    with serving(tmp_path, QHRONOS_LOG__LEVEL="debug") as server:
        with server.client() as client:
            client.post(
                "/events",
                json={"name": canary, "schedule": "every 1h", "description": canary, "metadata": {canary: canary}},
                headers={"Idempotency-Key": canary, "User-Agent": canary, "Referer": canary},
            )
            client.get(f"/events?q={canary}&tags={canary}")
            client.get(f"/{canary}/%0d%0aFAKE%20line%1b[31m")
            for malformed in (
                canary,
                f"Bearer {canary}",
                f"Basic {canary}",
                f"Bearer {canary} x",
                f"{canary},{canary}",
            ):
                httpx2.get(f"{server.url}/events", headers={"Authorization": malformed}, trust_env=False)
            server.raw(f"{canary} /events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            server.raw(f"GET /events HTTP/1.1\r\nHost: {canary}\r\nConnection: close\r\n\r\n".encode())
        server.end()
        lines = list(server.log)
    entries = [json.loads(line) for line in lines]
    requests = [entry for entry in entries if entry["event"] == "request"]
    assert len(requests) >= 9
    assert all({"request_id", "method", "route", "status", "duration_ms"} <= entry.keys() for entry in requests)
    assert canary not in "\n".join(lines)
    assert "FAKE" not in "\n".join(lines)
    assert MASTER not in "\n".join(lines)
