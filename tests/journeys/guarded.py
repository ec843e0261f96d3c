"""A node that tells who connects: `python -c "from tests.journeys.guarded import guard; guard(); ..."` (S23).

Every connect and every datagram of the process is judged by the code on its stack: the one door, or the drivers of the
stores and of Redis. Others are told on stderr, and so is how often the door was used, lest a test find nothing because
nothing was looked at. On asyncio's own loop: uvloop's connects are not seen by Python's audit.
"""

import asyncio
import socket
import sys
import threading
import traceback
from collections.abc import Iterable
from typing import Any, Final

OUTSIDE: Final = "connected-outside-the-door"
INSIDE: Final = "connected-through-the-door"
_DOOR: Final = "qhronos_core/adapters/http/"
_DRIVERS: Final = ("qhronos_core/adapters/redis/", "qhronos_core/adapters/postgres/", "/redis/asyncio/", "/psycopg")
_WATCHED: Final = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})


def guard() -> None:
    from qhronos_mcp import app

    has = app._has
    app._has = lambda module: module != "uvloop" and has(module)
    sys.addaudithook(_judge)


def _judge(name: str, arguments: tuple[Any, ...]) -> None:
    if name not in _WATCHED or arguments[0].family == getattr(socket, "AF_UNIX", None):
        return
    files = [*_files_of_stack(), *_files_of_tasks()]
    if any(_DOOR in file for file in files):
        print(INSIDE, file=sys.stderr)
    elif not any(driver in file for file in files for driver in _DRIVERS):
        print(OUTSIDE, name, *files[:12], file=sys.stderr)


def _files_of_stack() -> Iterable[str]:
    return [frame.filename for frame in reversed(traceback.extract_stack())]


def _files_of_tasks() -> Iterable[str]:
    """Of the task that is running: a coroutine's own callers are not always on the thread's stack."""
    if threading.current_thread() is not threading.main_thread():
        return []
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return []
    return [] if task is None else [frame.f_code.co_filename for frame in task.get_stack()]
