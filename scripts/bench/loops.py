"""The event loop a server runs on, and the garbage collector as a server sets it."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from qhronos_mcp.collector import collect_seldom

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """On uvloop where there is one, as `qhronos serve` does."""
    collect_seldom()
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)
    return uvloop.run(main)
