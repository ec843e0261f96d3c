"""The embedded store on a disk that fails: at any write, truncation or sync of the whole way (F25, F58, F59, F64).

The long run kills at every one of them (`./scripts/faults.sh`); here at a few dozen.
"""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from qhronos_core.adapters.sqlite import open_sqlite_store
from tests.adapters.store.scenes import an_event, an_occurrence, kept
from tests.clock import FakeClock
from tests.faults.rig.disks import DiskMissingError, Left, Zygote, a_zygote, after_a_power_cut, faults_of
from tests.faults.rig.scribe import BEGIN


@pytest.fixture(scope="module")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    try:
        with a_zygote() as made:
            yield made
    except DiskMissingError as missing:
        pytest.skip(str(missing))


@pytest.fixture
def rng() -> random.Random:
    return random.Random(59)


async def opened(data: Path) -> None:
    """The next start finds it well, and goes on."""
    async with open_sqlite_store(data, clock=FakeClock(BEGIN)) as store:
        event = an_event()
        await kept(store, event, an_occurrence(event))


def a_place(tmp_path: Path, name: object) -> Path:
    directory = tmp_path / str(name)
    directory.mkdir()
    return directory


@pytest.fixture(scope="module")
def whole_life(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Left:
    """What the whole way takes where nothing fails."""
    left = zygote.victim("life", tmp_path_factory.mktemp("life"))
    assert left.status == 0
    assert len(left.acknowledged) == 14
    return left


async def killed(zygote: Zygote, directory: Path, dies_at: int, rng: random.Random) -> list[str]:
    """What is wrong after a death at this call, or had the power been cut there."""
    left = zygote.victim("life", directory, dies_at=dies_at, kept=True)
    assert left.status == -9
    cut = [directory / "nothing unsynced", directory / "some unsynced"]
    for place, chance in zip(cut, [None, rng], strict=True):
        after_a_power_cut(directory / "data", directory / "kept", place, chance)
    faults = []
    for place in (directory / "data", *cut):
        await opened(place)
        faults += [f"{fault} ({place.name}, call {dies_at})" for fault in faults_of(place, left.acknowledged)]
    return faults


async def test_killed_anywhere_between_the_first_creation_and_the_close_nothing_is_half(
    zygote: Zygote, tmp_path: Path, whole_life: Left, rng: random.Random
) -> None:
    """F59, F64."""
    first = whole_life.calls // 3  # where the store is made
    for dies_at in rng.sample(range(1, first), 10) + rng.sample(range(first, whole_life.calls + 1), 14):
        assert await killed(zygote, a_place(tmp_path, dies_at), dies_at, rng) == []


async def test_refused_by_the_disk_at_any_call_a_transaction_is_undone_whole_and_the_next_one_goes(
    zygote: Zygote, tmp_path: Path, rng: random.Random
) -> None:
    """F25, F58: from some call on, for a few calls, no write has room and no sync succeeds."""
    directory = a_place(tmp_path, "well")
    await opened(directory / "data")
    calls = zygote.victim("stubborn", directory).calls
    for begins in rng.sample(range(1, calls + 1), 16):
        directory = a_place(tmp_path, begins)
        await opened(directory / "data")
        left = zygote.victim("stubborn", directory, fails=(begins, begins + rng.choice([1, 2, 6])))
        assert left.status == 0
        assert len(left.acknowledged) == 4
        await opened(directory / "data")
        assert faults_of(directory / "data", left.acknowledged) == [], f"refused from call {begins} on"


@pytest.mark.parametrize("work", ["many", "careless"])
async def test_what_was_acknowledged_is_there_after_the_power_is_cut(
    zygote: Zygote, tmp_path: Path, rng: random.Random, work: str
) -> None:
    """F64: of what was not synced nothing is left, or some pages and not others. A store that does not wait is found out."""
    left = zygote.victim(work, tmp_path, dies_at=9_000, kept=True)
    assert left.status == -9
    assert len(left.acknowledged) > 100
    faults = []
    for turn, chance in enumerate([None, *(random.Random(rng.random()) for _ in range(4))]):
        place = tmp_path / f"left-{turn}"
        after_a_power_cut(tmp_path / "data", tmp_path / "kept", place, chance)
        await opened(place)
        faults += faults_of(place, left.acknowledged)
    assert any(fault.startswith("lost: ") for fault in faults) == (work == "careless"), faults[:3]
