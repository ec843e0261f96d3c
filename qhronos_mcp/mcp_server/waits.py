"""Waiting for what is due: as a long poll, for every client; as a task, where a client can."""

from collections.abc import Awaitable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, Protocol
from uuid import UUID

import anyio
import mcp_types as t
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.extension import Extension, MethodBinding
from mcp.server.mcpserver import require_client_extension
from mcp.shared.exceptions import MCPError
from pydantic import ConfigDict, ValidationError
from starlette.requests import Request

from qhronos_core.domain.access import Principal
from qhronos_core.domain.errors import NotFoundError, QhronosError
from qhronos_core.ports import InboxQuery, Wait, WaitState
from qhronos_core.usecases.occurrences import OccurrenceAnswer
from qhronos_mcp.mcp_server.arguments import WaitArguments, inbox_query
from qhronos_mcp.mcp_server.face import Face
from qhronos_mcp.mcp_server.push import INBOX, Hub
from qhronos_mcp.mcp_server.results import Waited, tool_result
from qhronos_mcp.views import instant

LOOK_EVERY: Final = 5.0  # seconds between looks without a hint, and between reports of progress
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
            while not (claimed := await occurrences.claim_inbox(query, caller=caller)):
                passed = anyio.current_time() - began
                if passed >= seconds or self._hub.closing:
                    break
                await report(passed, seconds)
                with anyio.move_on_after(min(seconds - passed, LOOK_EVERY)):
                    await dirty.changed()
            return claimed


# --- tasks --------------------------------------------------------------------------------------------


class TaskSource(Protocol):
    """Where the tasks of one tool live."""

    async def start(self, arguments: Mapping[str, Any], *, caller: Principal) -> Mapping[str, Any] | None:
        """A new task as the wire shows it; None where the call is better answered at once."""
        ...

    async def look(self, task_id: str, *, caller: Principal) -> Mapping[str, Any]:
        """The task as it is now. Raises NotFoundError for one that is absent or another's."""
        ...

    async def cancel(self, task_id: str, *, caller: Principal) -> None: ...

    def owns(self, task_id: str) -> bool: ...


class TaskParams(t.RequestParams):
    task_id: str


class TaskAnswers(TaskParams):
    """`tasks/update`: answers to what a task asked. Ours never ask."""

    model_config = ConfigDict(extra="allow")


class Tasks(Extension):
    """The tasks extension, for a request that declares it at 2026-07-28, and for no other.

    The SDK serves none of it. A source that starts no task leaves the call to the tool.
    """

    identifier = "io.modelcontextprotocol/tasks"

    def __init__(self, face: Face, sources: Mapping[str, TaskSource]) -> None:
        self._face = face
        self._sources = dict(sources)

    def methods(self) -> Sequence[MethodBinding]:
        return [
            MethodBinding("tasks/get", TaskParams, self._get, MODERN),
            MethodBinding("tasks/cancel", TaskParams, self._cancel, MODERN),
            MethodBinding("tasks/update", TaskAnswers, self._update, MODERN),
        ]

    async def intercept_tool_call(
        self, params: t.CallToolRequestParams, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        source = self._sources.get(params.name)
        capabilities = ctx.session.client_capabilities
        declared = capabilities is not None and self.identifier in (capabilities.extensions or {})
        if source is None or not declared or ctx.protocol_version not in MODERN:
            return await call_next(ctx)
        task = await source.start(params.arguments or {}, caller=self._face.caller())
        return await call_next(ctx) if task is None else {"resultType": "task", **task}

    async def _get(self, ctx: ServerRequestContext[Any, Any], params: TaskParams) -> HandlerResult:
        source = self._source(ctx, params)
        try:
            return {"resultType": "complete", **await source.look(params.task_id, caller=self._face.caller())}
        except NotFoundError as error:
            raise _no_such_task() from error

    async def _cancel(self, ctx: ServerRequestContext[Any, Any], params: TaskParams) -> HandlerResult:
        source = self._source(ctx, params)
        try:
            await source.cancel(params.task_id, caller=self._face.caller())
        except NotFoundError as error:
            raise _no_such_task() from error
        return {"resultType": "complete"}

    async def _update(self, ctx: ServerRequestContext[Any, Any], params: TaskAnswers) -> HandlerResult:
        source = self._source(ctx, params)
        try:
            await source.look(params.task_id, caller=self._face.caller())
        except NotFoundError as error:
            raise _no_such_task() from error
        return {"resultType": "complete"}

    def _source(self, ctx: ServerRequestContext[Any, Any], params: TaskParams) -> TaskSource:
        require_client_extension(ctx, self.identifier)
        named = ctx.request.headers.get("mcp-name") if isinstance(ctx.request, Request) else params.task_id
        if named != params.task_id:
            raise MCPError(t.HEADER_MISMATCH, "The Mcp-Name header must be the task's id.")
        for source in self._sources.values():
            if source.owns(params.task_id):
                return source
        raise _no_such_task()


def _no_such_task() -> MCPError:
    return MCPError(t.INVALID_PARAMS, "No such task.")


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
