"""When a process that serves looks for garbage that holds itself: seldom, since what one run or request makes is gone without."""

import gc
from typing import Final

_MADE_BETWEEN_LOOKS: Final = 20_000  # objects; Python's 700 are reached every few runs, and cost a tenth of the time


def collect_later() -> None:
    """Not until `collect_seldom`: what is imported and made at the start stays, and looking through it takes time."""
    gc.disable()


def collect_seldom() -> None:
    """Never look again at what there is now, and at what is new not so often."""
    gc.freeze()
    gc.set_threshold(_MADE_BETWEEN_LOOKS)
    gc.enable()
