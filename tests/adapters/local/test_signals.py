"""Signals between listeners here, and between processes that share a data directory."""

import asyncio
import multiprocessing
import os
import stat
from collections.abc import AsyncIterator
from datetime import timedelta
from multiprocessing.synchronize import Event as ProcessEvent
from pathlib import Path

import pytest

from qhronos_core.adapters.local.signals import LocalSignals, open_local_signals
from qhronos_core.ports import Stirred
from tests.clock import NOON

SOON = NOON + timedelta(seconds=5)
LATER = NOON + timedelta(hours=1)


class Ear:
    def __init__(self, signals: LocalSignals) -> None:
        self.heard: list[Stirred] = []
        self._came = asyncio.Event()
        self.deaf = signals.listen(self._hear)

    def _hear(self, signal: Stirred) -> None:
        self.heard.append(signal)
        self._came.set()

    async def next(self) -> Stirred:
        await asyncio.wait_for(self._came.wait(), 5)
        self._came.clear()
        return self.heard[-1]


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[tuple[LocalSignals, LocalSignals]]:
    async with open_local_signals(tmp_path) as one, open_local_signals(tmp_path) as other:
        yield one, other


async def test_every_listener_here_hears_at_once_until_it_stops_listening() -> None:
    signals = LocalSignals()
    first, second = Ear(signals), Ear(signals)

    await signals.announce(Stirred(SOON))
    first.deaf()
    first.deaf()
    await signals.announce(Stirred(LATER))

    assert first.heard == [Stirred(SOON)]
    assert second.heard == [Stirred(SOON), Stirred(LATER)]


async def test_a_listener_that_fails_keeps_nobody_else_from_hearing() -> None:
    signals = LocalSignals()
    signals.listen(lambda _: 1 / 0)  # type: ignore[arg-type]
    ear = Ear(signals)

    await signals.announce(Stirred())

    assert ear.heard == [Stirred()]


async def test_another_process_hears_the_instant_and_the_revocation(pair: tuple[LocalSignals, LocalSignals]) -> None:
    one, other = pair
    ear = Ear(other)

    await one.announce(Stirred(SOON, revoked=True))

    assert await ear.next() == Stirred(SOON, revoked=True)


async def test_signals_of_one_turn_reach_the_others_as_one_with_the_earliest_instant(
    pair: tuple[LocalSignals, LocalSignals],
) -> None:
    one, other = pair
    ear = Ear(other)

    for signal in (Stirred(LATER), Stirred(), Stirred(SOON), Stirred(revoked=True)):
        await one.announce(signal)

    assert await ear.next() == Stirred(SOON, revoked=True)
    assert len(ear.heard) == 1


async def test_nobody_hears_their_own_signal_twice(pair: tuple[LocalSignals, LocalSignals]) -> None:
    one, other = pair
    here, there = Ear(one), Ear(other)

    await one.announce(Stirred(SOON))
    await there.next()

    assert here.heard == [Stirred(SOON)]


async def test_a_peer_that_does_not_read_is_waited_for_by_nobody(
    tmp_path: Path, pair: tuple[LocalSignals, LocalSignals]
) -> None:
    one, _ = pair
    asleep = tmp_path / "signals" / "asleep"
    os.mkfifo(asleep)
    reader = os.open(asleep, os.O_RDWR | os.O_NONBLOCK)

    for _turn in range(10_000):
        await one.announce(Stirred(SOON))
        await asyncio.sleep(0)

    os.close(reader)


async def test_the_pipe_of_a_killed_process_is_removed(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=_listen_for_ever, args=(tmp_path, ready))
    process.start()
    assert await asyncio.to_thread(ready.wait, 30)
    process.kill()
    await asyncio.to_thread(process.join)
    assert len(os.listdir(tmp_path / "signals")) == 1

    async with open_local_signals(tmp_path) as signals:
        await signals.announce(Stirred())
        await asyncio.sleep(0)
        assert len(os.listdir(tmp_path / "signals")) == 1  # ours

    assert os.listdir(tmp_path / "signals") == []


async def test_only_the_owner_may_write_into_a_pipe(tmp_path: Path) -> None:
    async with open_local_signals(tmp_path):
        directory = tmp_path / "signals"
        (pipe,) = directory.iterdir()
        assert stat.S_IMODE(directory.stat().st_mode) & 0o077 == 0
        assert stat.S_IMODE(pipe.stat().st_mode) & 0o077 == 0


async def test_where_there_are_no_pipes_signals_stay_in_the_process(tmp_path: Path) -> None:
    (tmp_path / "signals").write_text("not a directory")

    async with open_local_signals(tmp_path) as signals:
        ear = Ear(signals)
        await signals.announce(Stirred(SOON))

    assert ear.heard == [Stirred(SOON)]


async def test_a_removed_directory_costs_only_the_signal(
    tmp_path: Path, pair: tuple[LocalSignals, LocalSignals]
) -> None:
    one, _ = pair
    for pipe in (tmp_path / "signals").iterdir():
        pipe.unlink()
    (tmp_path / "signals").rmdir()

    await one.announce(Stirred(SOON))
    await asyncio.sleep(0)


def _listen_for_ever(data_dir: Path, ready: ProcessEvent) -> None:
    async def listen() -> None:
        async with open_local_signals(data_dir):
            ready.set()
            await asyncio.Event().wait()

    asyncio.run(listen())
