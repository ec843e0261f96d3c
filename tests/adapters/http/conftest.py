"""What leaves the process is tried on both event loops: asyncio's own, and uvloop, which production runs on where it exists."""

import asyncio
import importlib.util
from collections.abc import Callable, Mapping

import pytest


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]] | None:
    if item.path.name != "test_egress.py" or importlib.util.find_spec("uvloop") is None:
        return None
    import uvloop

    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
