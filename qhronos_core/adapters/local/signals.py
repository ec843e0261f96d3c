"""Signals within one process, and between the processes of one machine that share a data directory.

Each process has a FIFO, `<data_dir>/signals/<name>`, which it alone reads; the others write one short record
into it after they commit. No socket is opened, and a path may be of any length. Where there are no FIFOs
(Windows, some file systems) signals stay in the process, and the others meet what was written at their next poll.
"""

import asyncio
import errno
import os
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import uuid4

import structlog

from qhronos_core.domain.ids import EPOCH, microseconds
from qhronos_core.ports import Stirred

_log = structlog.get_logger(__name__)

# Whether tokens were revoked, and the earliest instant made due. Shorter than PIPE_BUF, so a record is written whole.
_RECORD: Final = struct.Struct(">?q")
_NOTHING_DUE: Final = -(2**63)
_READ_AT_ONCE: Final = _RECORD.size * 4096
_LISTED_EVERY: Final = 0.25  # seconds a list of peers is believed, if the directory does not say otherwise


class LocalSignals:
    """Implements `ports.Signals`. Made with `open_local_signals`, or alone where no other process listens."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[Stirred], None]] = []
        self._pipes: _Pipes | None = None
        self._untold: Stirred | None = None

    async def announce(self, signal: Stirred) -> None:
        """Those here hear it at once; other processes once per turn of the loop, however many were announced in it."""
        self._hear(signal)
        if self._pipes is None:
            return
        if self._untold is None:
            asyncio.get_running_loop().call_soon(self._tell_others)
            self._untold = signal
        else:
            self._untold = _both(self._untold, signal)

    def listen(self, heard: Callable[[Stirred], None]) -> Callable[[], None]:
        self._listeners.append(heard)

        def deaf() -> None:
            with suppress(ValueError):
                self._listeners.remove(heard)

        return deaf

    async def aclose(self) -> None:
        if self._pipes is not None:
            self._pipes.close()
            self._pipes = None

    def join(self, directory: Path) -> None:
        """Hear, and be heard by, the other processes that use this directory."""
        self._pipes = _Pipes.open(directory, self._hear)

    def _hear(self, signal: Stirred) -> None:
        for heard in tuple(self._listeners):
            try:
                heard(signal)
            except Exception:
                _log.exception("listener_failed")

    def _tell_others(self) -> None:
        signal, self._untold = self._untold, None
        if signal is not None and self._pipes is not None:
            self._pipes.tell(signal)


@asynccontextmanager
async def open_local_signals(data_dir: Path) -> AsyncIterator[LocalSignals]:
    signals = LocalSignals()
    signals.join(data_dir / "signals")
    try:
        yield signals
    finally:
        await signals.aclose()


class _Pipes:
    """Our FIFO, and the ends of the others' that we write into."""

    def __init__(self, directory: Path, name: str, inlet: int, heard: Callable[[Stirred], None]) -> None:
        self._directory = directory
        self._name = name
        self._inlet = inlet
        self._heard = heard
        self._loop = asyncio.get_running_loop()
        self._peers: dict[str, int] = {}
        self._listed: tuple[int, float] = (0, 0.0)  # the directory's mtime, and when it was listed
        self._loop.add_reader(inlet, self._read)

    @classmethod
    def open(cls, directory: Path, heard: Callable[[Stirred], None]) -> "_Pipes | None":
        """None where the machine or the file system has no FIFOs, or the event loop cannot watch one."""
        name = f"{os.getpid()}-{uuid4().hex[:8]}"
        unfinished = directory / f".{name}"
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.mkfifo(unfinished, 0o600)
            # Both ends, so that it never reads as ended; and before the others can see it, who take one without a
            # reader for a dead process's.
            inlet = os.open(unfinished, os.O_RDWR | os.O_NONBLOCK)
            unfinished.rename(directory / name)
            return cls(directory, name, inlet, heard)
        except (OSError, AttributeError, NotImplementedError) as error:
            _log.info("signals_stay_in_this_process", reason=type(error).__name__)
            return None

    def tell(self, signal: Stirred) -> None:
        record = _RECORD.pack(signal.revoked, _NOTHING_DUE if signal.due_at is None else microseconds(signal.due_at))
        self._find_peers()
        for name, outlet in list(self._peers.items()):
            try:
                os.write(outlet, record)
            except BlockingIOError:
                continue  # full of signals it has not read yet: it will look anyway
            except OSError:
                self._forget(name, unlink=True)

    def close(self) -> None:
        self._loop.remove_reader(self._inlet)
        (self._directory / self._name).unlink(missing_ok=True)
        os.close(self._inlet)
        for name in list(self._peers):
            self._forget(name)

    def _read(self) -> None:
        try:
            read = os.read(self._inlet, _READ_AT_ONCE)
        except BlockingIOError:
            return
        heard = Stirred()
        for revoked, due in _RECORD.iter_unpack(read[: len(read) // _RECORD.size * _RECORD.size]):
            heard = _both(heard, Stirred(None if due == _NOTHING_DUE else _instant(due), revoked))
        self._heard(heard)

    def _find_peers(self) -> None:
        try:
            changed_at = os.stat(self._directory).st_mtime_ns
            if self._listed[0] == changed_at and time.monotonic() - self._listed[1] < _LISTED_EVERY:
                return
            names = {name for name in os.listdir(self._directory) if not name.startswith(".") and name != self._name}
        except OSError:
            return  # removed with the data directory; the store says so
        self._listed = (changed_at, time.monotonic())
        for name in self._peers.keys() - names:
            self._forget(name)
        for name in names - self._peers.keys():
            try:
                self._peers[name] = os.open(self._directory / name, os.O_WRONLY | os.O_NONBLOCK)
            except OSError as error:
                if error.errno == errno.ENXIO:  # nobody reads it: its process is dead
                    self._forget(name, unlink=True)

    def _forget(self, name: str, *, unlink: bool = False) -> None:
        if (outlet := self._peers.pop(name, None)) is not None:
            os.close(outlet)
        if unlink:
            with suppress(OSError):
                (self._directory / name).unlink()


def _instant(stamp: int) -> datetime:
    return EPOCH + timedelta(microseconds=stamp)


def _both(one: Stirred, other: Stirred) -> Stirred:
    due = [signal.due_at for signal in (one, other) if signal.due_at is not None]
    return Stirred(min(due, default=None), one.revoked or other.revoked)
