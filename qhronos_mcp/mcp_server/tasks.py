"""The tasks extension (`io.modelcontextprotocol/tasks`): the wire of it. What a task is, its source knows.

The SDK serves none of it.
"""

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Final, Protocol

import mcp_types as t
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.extension import Extension, MethodBinding
from mcp.server.mcpserver import require_client_extension
from mcp.shared.exceptions import MCPError
from pydantic import Field
from starlette.requests import Request

from qhronos_core.domain.access import Principal
from qhronos_core.domain.errors import NotFoundError, QhronosError

MODERN: Final = frozenset({"2026-07-28"})
REFUSED: Final[ContextVar[QhronosError | None]] = ContextVar("refused", default=None)
"""Why this tool call is refused, whatever it asks: no task is begun for it, and the tool's answer says so."""


class TaskSource(Protocol):
    """Where the tasks of one tool live."""

    async def start(self, arguments: Mapping[str, Any], *, caller: Principal) -> Mapping[str, Any] | None:
        """A new task as the wire shows it; None where the call is better answered at once."""
        ...

    async def look(self, task_id: str, *, caller: Principal) -> Mapping[str, Any]:
        """The task as it is now. Raises NotFoundError for one that is absent or another's."""
        ...

    async def update(self, task_id: str, answers: Mapping[str, Any], *, caller: Principal) -> None:
        """Take answers to what the task asked; to what it did not ask, none. Raises NotFoundError likewise."""
        ...

    async def cancel(self, task_id: str, *, caller: Principal) -> None:
        """End it, if it has not ended. Raises NotFoundError likewise."""
        ...

    def owns(self, task_id: str) -> bool: ...


class TaskParams(t.RequestParams):
    task_id: str


class TaskAnswers(TaskParams):
    input_responses: dict[str, Any] = Field(default_factory=dict)


class Tasks(Extension):
    """The tasks extension, for a request that declares it at 2026-07-28, and for no other.

    The SDK serves none of it. A source that starts no task leaves the call to the tool.
    """

    identifier = "io.modelcontextprotocol/tasks"

    def __init__(self) -> None:
        self._caller: Callable[[], Principal] | None = None
        self._sources: Mapping[str, TaskSource] = {}

    def serve(self, caller: Callable[[], Principal], sources: Mapping[str, TaskSource]) -> None:
        """From now on: the tools, by name, whose calls may become tasks. `caller` says who asks."""
        self._caller = caller
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
        if source is None or not declared or ctx.protocol_version not in MODERN or REFUSED.get() is not None:
            return await call_next(ctx)
        task = await source.start(params.arguments or {}, caller=self._who())
        return await call_next(ctx) if task is None else {"resultType": "task", **task}

    async def _get(self, ctx: ServerRequestContext[Any, Any], params: TaskParams) -> HandlerResult:
        source = self._source(ctx, params)
        try:
            shown = await source.look(params.task_id, caller=self._who())
        except NotFoundError as error:
            raise _no_such_task() from error
        return {"resultType": "complete", **(_in_a_line(shown) if asks_for_a_line(ctx.request) else shown)}

    async def _cancel(self, ctx: ServerRequestContext[Any, Any], params: TaskParams) -> HandlerResult:
        source = self._source(ctx, params)
        try:
            await source.cancel(params.task_id, caller=self._who())
        except NotFoundError as error:
            raise _no_such_task() from error
        return {"resultType": "complete"}

    async def _update(self, ctx: ServerRequestContext[Any, Any], params: TaskAnswers) -> HandlerResult:
        source = self._source(ctx, params)
        try:
            await source.update(params.task_id, params.input_responses, caller=self._who())
        except NotFoundError as error:
            raise _no_such_task() from error
        return {"resultType": "complete"}

    def _who(self) -> Principal:
        assert self._caller is not None  # noqa: S101 - no request comes before `serve`
        return self._caller()

    def _source(self, ctx: ServerRequestContext[Any, Any], params: TaskParams) -> TaskSource:
        require_client_extension(ctx, self.identifier)
        named = ctx.request.headers.get("mcp-name") if isinstance(ctx.request, Request) else params.task_id
        if named != params.task_id:
            raise MCPError(t.HEADER_MISMATCH, "The Mcp-Name header must be the task's id.")
        for source in self._sources.values():
            if source.owns(params.task_id):
                return source
        raise _no_such_task()


def asks_for_a_line(request: object) -> bool:
    """`?text=line` on the URL: for a host known to show the model text and structure both."""
    return isinstance(request, Request) and request.query_params.get("text") == "line"


def _in_a_line(shown: Mapping[str, Any]) -> Mapping[str, Any]:
    result = shown.get("result")
    line = ((result or {}).get("structuredContent") or {}).get("says")
    if line is None:
        return shown
    return {**shown, "result": {**shown["result"], "content": [{"type": "text", "text": line}]}}


def _no_such_task() -> MCPError:
    return MCPError(t.INVALID_PARAMS, "No such task.")
