"""Names to addresses, by the system's resolver, off the event loop."""

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

Resolve = Callable[[str], Awaitable[tuple[str, ...]]]

_LOOKUPS_MOST: Final = 256


class SystemResolver:
    """`await resolver(name)`: every address of a name, in the system's order. Raises OSError when there is none.

    Each lookup has a thread of its own, a daemon: a lookup cannot be cancelled, and one stuck for half a minute must
    delay neither other names (as it would in a pool) nor the end of the process. Callers of one name share
    its lookup; nothing is remembered once it has answered.
    """

    def __init__(self) -> None:
        self._under_way: dict[str, asyncio.Future[tuple[str, ...]]] = {}
        self._room = asyncio.Semaphore(_LOOKUPS_MOST)

    async def __call__(self, name: str) -> tuple[str, ...]:
        while (lookup := self._under_way.get(name)) is None:
            await self._room.acquire()
            if name in self._under_way:  # begun by another while this one waited for room
                self._room.release()
                continue
            self._begin(name)
        return await asyncio.shield(lookup)

    def _begin(self, name: str) -> None:
        loop = asyncio.get_running_loop()
        lookup: asyncio.Future[tuple[str, ...]] = loop.create_future()
        # Every caller may have been cancelled by the time it fails: its error is looked at here in any case.
        lookup.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._under_way[name] = lookup

        def finish(addresses: tuple[str, ...], error: OSError | None) -> None:
            del self._under_way[name]
            self._room.release()
            if lookup.cancelled():
                return
            if error is None:
                lookup.set_result(addresses)
            else:
                lookup.set_exception(error)

        def look_up() -> None:
            addresses: tuple[str, ...] = ()
            error: OSError | None = None
            try:
                found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
                addresses = tuple(dict.fromkeys(str(info[4][0]) for info in found))
            except OSError as failure:
                error = failure
            except UnicodeError:  # the codec of a name no resolver would take
                error = OSError("not a name")
            with suppress(RuntimeError):  # the loop has closed meanwhile: nobody waits any more
                loop.call_soon_threadsafe(finish, addresses, error)

        threading.Thread(target=look_up, name="lookup", daemon=True).start()
