"""The embedded store's disk, at every single call to it: killed, refused, cut from power (F58, F59, F64)."""

import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.rig.disks import DiskMissingError, Zygote, a_zygote, after_a_power_cut, faults_of
from tests.faults.rig.lacking import NotRun
from tests.faults.rig.runs import EMBEDDED, Asked, Found, fault
from tests.faults.test_disk import killed, opened


@contextmanager
def victims() -> Iterator[Zygote]:
    try:
        with a_zygote() as zygote:
            yield zygote
    except DiskMissingError as missing:
        raise NotRun(str(missing)) from missing


def a_place(asked: Asked, name: object) -> Path:
    directory = asked.directory / str(name)
    directory.mkdir()
    return directory


@fault("F59", "killed at every call to the disk", on=[EMBEDDED], holds="no half plan, lost 0, integrity ok (and F64)")
async def _(asked: Asked) -> Found:
    found, rng = Found(), random.Random(asked.seed)
    with victims() as zygote:
        calls = zygote.victim("life", a_place(asked, "whole")).calls
        for dies_at in range(1, calls + 1):
            place = a_place(asked, dies_at)
            for wrong in await killed(zygote, place, dies_at, rng):
                found.must(False, wrong)
            if not found.broken:
                shutil.rmtree(place)
    found.figures = {"kills": calls, "states looked at": 3 * calls}
    found.must(calls >= 500, f"only {calls} kills")
    return found


@fault(
    "F58", "no room, at every call to the disk", on=[EMBEDDED], holds="undone whole, integrity ok, goes on by itself"
)
async def _(asked: Asked) -> Found:
    found, rng = Found(), random.Random(asked.seed)
    with victims() as zygote:
        directory = a_place(asked, "whole")
        await opened(directory / "data")
        calls = zygote.victim("stubborn", directory).calls
        for begins in range(1, calls + 1):
            place = a_place(asked, begins)
            await opened(place / "data")
            left = zygote.victim("stubborn", place, fails=(begins, begins + rng.choice([1, 2, 6])))
            found.must(left.status == 0, f"it ended by itself, refused from call {begins} on")
            await opened(place / "data")
            for wrong in faults_of(place / "data", left.acknowledged):
                found.must(False, f"{wrong} (call {begins})")
            if not found.broken:
                shutil.rmtree(place)
    found.figures = {"refusals": calls}
    return found


@fault("F64", "power cut after a thousand acknowledged writes", on=[EMBEDDED], holds="acknowledged writes lost 0")
async def _(asked: Asked) -> Found:
    found, rng = Found(), random.Random(asked.seed)
    with victims() as zygote:
        left = zygote.victim("many", asked.directory, dies_at=60_000, kept=True)
    for turn in range(20):
        place = asked.directory / f"left-{turn}"
        after_a_power_cut(asked.directory / "data", asked.directory / "kept", place, rng if turn else None)
        await opened(place)
        for wrong in faults_of(place, left.acknowledged):
            found.must(False, wrong)
        shutil.rmtree(place)
    found.figures = {"acknowledged": len(left.acknowledged), "states looked at": 20}
    found.must(len(left.acknowledged) >= 1_000, f"only {len(left.acknowledged)} were acknowledged")
    return found
