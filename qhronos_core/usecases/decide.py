"""Load, decide, commit; and decide again if what it was decided on has moved."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from qhronos_core.domain.errors import StaleError

TRIES: Final = 8
T = TypeVar("T")


async def decided(attempt: Callable[[], Awaitable[T]]) -> T:
    """`attempt`, at most TRIES times, with a little jitter. Raises StaleError if others were always faster."""
    for number in range(TRIES):
        try:
            return await attempt()
        except StaleError:
            if number == TRIES - 1:
                raise
            await asyncio.sleep(random.uniform(0, 0.01 * (number + 1)))  # noqa: S311
    raise AssertionError
