"""What a node does beside claiming and serving may fail; it does not stop silently, nor take the drain with it."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from qhronos_core import config, wiring
from qhronos_core.scheduler import retention
from qhronos_core.wiring import open_core


@pytest.fixture
def settings(tmp_path: Path) -> config.Settings:
    given = {name: value for name, value in os.environ.items() if not name.startswith(("QHRONOS_", "DATABASE_URL"))}
    return config.load(None, {**given, "QHRONOS_DATA_DIR": str(tmp_path)})


async def test_retention_goes_on_after_a_pass_that_crashed(
    settings: config.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes, second = 0, asyncio.Event()

    async def crashes(_: Any) -> int:
        nonlocal passes
        passes += 1
        if passes == 1:
            raise RuntimeError("a bug")
        second.set()
        return 0

    monkeypatch.setattr(retention, "EVERY", 0.01)
    monkeypatch.setattr(retention.Retention, "pass_once", crashes)
    async with open_core(settings, run_scheduler=True), asyncio.timeout(5):
        await second.wait()


async def test_a_node_whose_zones_could_not_be_followed_drains_all_the_same(
    settings: config.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crashes(*_: Any) -> int:
        raise RuntimeError("a bug")

    monkeypatch.setattr(wiring, "follow_zones", crashes)
    async with open_core(settings, run_scheduler=True) as core:
        core.start_scheduler()
        await asyncio.sleep(0)
        scheduler = core._tasks[0]
    assert scheduler.done()
