"""Waiting for what is due: as a long poll, for every client; as a task, where a client can."""

from collections.abc import Awaitable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, Protocol
from uuid import UUID

import anyio
from pydantic import ValidationError

from qhronos_core.domain.access import Principal
from qhronos_core.domain.errors import NotFoundError, QhronosError
from qhronos_core.ports import InboxQuery, Wait, WaitState
from qhronos_core.usecases.occurrences import OccurrenceAnswer
from qhronos_mcp.mcp_server.arguments import WaitArguments, inbox_query
from qhronos_mcp.mcp_server.face import Face
from qhronos_mcp.mcp_server.push import INBOX, Dirty, Hub
from qhronos_mcp.mcp_server.results import Waited, tool_result
from qhronos_mcp.views import instant

LOOK_EVERY: Final = 5.0  # seconds between looks without a hint
TELL_EVERY: Final = 1.0  # seconds between reports of progress
MODERN: Final = frozenset({"2026-07-28"})
KEPT_AFTER: Final = timedelta(days=1)  # how long a task is found after its wait ran out


class Report(Protocol):
    def __call__(self, progress: float, total: float | None = None, message: str | None = None) -> Awaitable[None]: ...


class LongPoll:
    """Watch the inbox first, then look, then sleep: nothing falls between. A sleeping wait holds no store connection."""

    def __init__(self, face: Face, hub: Hub) -> None:
        self._face = face
        self._hub = hub

    async def wait(
        self, query: InboxQuery, seconds: float, caller: Principal, report: Report
    ) -> Sequence[OccurrenceAnswer]:
        """What could be claimed within `seconds`; empty after that, or when this node is stopping.

        Raises:
            TooManyWaitsError: the caller has as many waits open as one principal may.
        """
        occurrences = self._face.core.occurrences
        if seconds == 0:
            return await occurrences.claim_inbox(query, caller=caller)
        began = anyio.current_time()
        async with self._hub.waiting(frozenset({INBOX}), caller) as dirty:
            while not dirty.closed:  # by the end of this node, or of the caller's token: then nothing more is claimed
                if claimed := await occurrences.claim_inbox(query, caller=caller):
                    return claimed
                if anyio.current_time() - began >= seconds:
                    break
                await self._sleep(dirty, began, seconds, report)
        return []

    @staticmethod
    async def _sleep(dirty: Dirty, began: float, seconds: float, report: Report) -> None:
        """Until something changed or it is time to look again. Progress renews a client's patience, which may be short."""
        ends = min(began + seconds, anyio.current_time() + LOOK_EVERY)
        while (left := ends - anyio.current_time()) > 0:
            await report(anyio.current_time() - began, seconds)
            with anyio.move_on_after(min(left, TELL_EVERY)):
                await dirty.changed()
                return


# --- as a task -----------------------------------------------------------------------------------------


class WaitTasks:
    """`wait_for_occurrences` as a task: its state is derived from the store at each look."""

    prefix = "wait-"

    def __init__(self, face: Face) -> None:
        self._face = face

    def owns(self, task_id: str) -> bool:
        return task_id.startswith(self.prefix)

    async def start(self, arguments: Mapping[str, Any], *, caller: Principal) -> Mapping[str, Any] | None:
        """None for what the tool itself must answer: a mistake, a look, or something that is due already."""
        try:
            asked = WaitArguments.model_validate(
                {name: value for name, value in arguments.items() if value is not None}
            )
            if asked.seconds == 0:
                return None
            core = self._face.core
            query = await inbox_query(core, caller, limit=asked.limit, event_id=asked.event_id, tags=asked.tags)
            length = core.settings.inbox.task_wait if asked.seconds is None else timedelta(seconds=asked.seconds)
            wait = await core.waits.start(query, length, caller=caller)
        except (ValidationError, QhronosError):
            return None
        return None if wait is None else await self._shown(wait, caller)

    async def look(self, task_id: str, *, caller: Principal) -> Mapping[str, Any]:
        waits = self._face.core.waits
        looked = await waits.look(self._id(task_id), caller=caller)
        wait = looked.wait
        if looked.news is not None:
            glimpse = await self._face.core.occurrences.inbox(wait.query, caller=caller)
            view = Waited.of(looked.news, glimpse, caller)
            told = tool_result(view.model_dump(mode="json"), self._face.core.clock.now(), line=self._face.text_line)
            wait = await waits.tell(wait, told.model_dump(by_alias=True, mode="json", exclude_none=True))
        return await self._shown(wait, caller)

    async def update(self, task_id: str, answers: Mapping[str, Any], *, caller: Principal) -> None:
        """A wait asks nothing, so whatever is answered has no effect."""
        del answers
        await self._face.core.waits.get(self._id(task_id), caller=caller)

    async def cancel(self, task_id: str, *, caller: Principal) -> None:
        await self._face.core.waits.cancel(self._id(task_id), caller=caller)

    def _id(self, task_id: str) -> UUID:
        try:
            return UUID(task_id.removeprefix(self.prefix))
        except ValueError:
            raise NotFoundError("No such task.") from None

    async def _shown(self, wait: Wait, caller: Principal) -> Mapping[str, Any]:
        shown: dict[str, Any] = {
            "taskId": f"{self.prefix}{wait.id}",
            "status": wait.state.value,
            "createdAt": instant(wait.created_at),
            "lastUpdatedAt": instant(wait.updated_at),
            "ttlMs": (wait.ends_at - wait.created_at + KEPT_AFTER) // timedelta(milliseconds=1),
        }
        if wait.state is WaitState.WORKING:
            shown["pollIntervalMs"] = 1_000 if await self._due_soon(wait, caller) else 5_000
        if wait.answer is not None:
            shown["result"] = wait.answer
        return shown

    async def _due_soon(self, wait: Wait, caller: Principal) -> bool:
        left = await self._face.core.waits.next_due(wait, caller=caller)
        return left is not None and left <= timedelta(seconds=10)
