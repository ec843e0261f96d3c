"""The other end of every send: a process of its own, so that it takes no time of ours.

Made from `receiver.c` where there is a C compiler; else this very file is run, on uvloop where there is one. Both
answer every POST with 200 and remember when it came and which `scheduled_at` its body names.
"""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from http.client import HTTPConnection
from pathlib import Path
from typing import Final, cast

_SOURCE: Final = Path(__file__).with_name("receiver.c")
_EPOCH_US: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Receiver:
    port: int
    kind: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def count(self) -> int:
        return int(self._ask("/count"))

    def reset(self) -> None:
        self._ask("/reset")

    def lateness(self) -> list[float]:
        """Of everything that came since the last reset: milliseconds from its instant, earliest arrival first."""
        late = []
        for line in self._ask("/arrivals").decode().splitlines():
            arrived, _, instant = line.partition(" ")
            if instant:
                due = datetime.fromisoformat(instant).timestamp()
                late.append((int(arrived) / _EPOCH_US - due) * 1000)
        return late

    def _ask(self, path: str) -> bytes:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path)
            return connection.getresponse().read()
        finally:
            connection.close()


@contextmanager
def a_receiver() -> Iterator[Receiver]:
    with tempfile.TemporaryDirectory(prefix="qhronos-bench-") as directory:
        program = _compiled(Path(directory))
        command = [str(program)] if program else [sys.executable, __file__]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            if process.stdout is None:
                raise RuntimeError("the receiver has no output")
            yield Receiver(int(process.stdout.readline()), "C" if program else "Python")
        finally:
            process.kill()
            process.communicate()


def _compiled(directory: Path) -> Path | None:
    """None: no compiler here, or not a system it knows (epoll)."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    program = directory / "receiver"
    done = subprocess.run([compiler, "-O2", "-o", program, _SOURCE], capture_output=True, check=False)
    return program if done.returncode == 0 else None


# --- without a compiler -------------------------------------------------------------------------------


class _Protocol(asyncio.Protocol):
    arrivals: Final[list[tuple[int, bytes]]] = []

    def __init__(self) -> None:
        self._held = b""
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        self._held += data
        while (end := self._held.find(b"\r\n\r\n")) >= 0:
            head = self._held[:end].lower()
            _, said, after = head.partition(b"content-length:")
            length = int(after.split(b"\r\n")[0]) if said else 0
            if len(self._held) < end + 4 + length:
                return
            body, self._held = self._held[end + 4 : end + 4 + length], self._held[end + 4 + length :]
            self._answer(head.split(b" ", 2), body)

    def _answer(self, request: list[bytes], body: bytes) -> None:
        told = b""
        if request[0] == b"post":
            instant = body.partition(b'"scheduled_at":"')[2].partition(b'"')[0]
            self.arrivals.append((time.time_ns() // 1000, instant))
        elif request[1] == b"/count":
            told = b"%d" % len(self.arrivals)
        elif request[1] == b"/arrivals":
            told = b"".join(b"%d %s\n" % arrival for arrival in self.arrivals)
        elif request[1] == b"/reset":
            self.arrivals.clear()
        if self._transport is not None:
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(told) + told)


def _end_with_the_caller() -> None:
    sys.stdin.buffer.read()  # it holds the other end
    os._exit(0)


async def _serve() -> None:
    threading.Thread(target=_end_with_the_caller, daemon=True).start()
    server = await asyncio.get_running_loop().create_server(_Protocol, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    try:
        import uvloop

        uvloop.run(_serve())
    except ImportError:
        asyncio.run(_serve())
