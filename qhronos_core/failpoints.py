"""Places where the fault suite makes this process die, stop or fail (reliability.md §2). Inert without QHRONOS_FAILPOINT."""

import os
import signal
import time
from typing import Final

_POINT, _, _DEED = os.environ.get("QHRONOS_FAILPOINT", "").partition(":")
ARMED: Final = bool(_POINT)


class FailpointError(Exception):
    """Raised where the fault suite asked for it."""


def failpoint(name: str) -> None:
    if not ARMED or name != _POINT:
        return
    os.write(2, f"failpoint {name}\n".encode())  # so that whoever armed it knows
    if _DEED == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif _DEED == "raise":
        raise FailpointError(name)
    elif _DEED.startswith("sleep="):
        time.sleep(float(_DEED.removeprefix("sleep=")))
