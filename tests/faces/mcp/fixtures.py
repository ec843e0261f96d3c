"""What the official conformance suite asks a server for, on our own server: `python -m tests.faces.mcp.fixtures PORT`.

The suite sends no token, so this serves a `local` principal, on loopback only. The names of tools, prompts
and resources are the suite's; the server, its errors, streams and tasks are ours. Never part of the wheel.
"""

import asyncio
import base64
import json
import sys
import tempfile
import warnings
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final
from uuid import uuid4

import anyio
import mcp_types as t
import uvicorn
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.extension import Extension
from mcp.server.mcpserver import Context, MCPServer, require_client_extension
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.prompts.base import UserMessage
from mcp.server.mcpserver.tools import Tool
from mcp.server.session import ServerSession
from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
from mcp.server.transport_security import TransportSecuritySettings
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError
from pydantic import Field
from starlette.types import ASGIApp

from qhronos_core.config import Settings
from qhronos_core.domain.access import Principal
from qhronos_core.domain.errors import NotFoundError
from qhronos_core.wiring import Core, open_core
from qhronos_mcp.mcp_server import compat
from qhronos_mcp.mcp_server.face import Face, Local
from qhronos_mcp.mcp_server.http import CleanHeaders
from qhronos_mcp.mcp_server.push import Hub, serve_legacy_subscriptions
from qhronos_mcp.mcp_server.server import QhronosServer

warnings.simplefilter("ignore", MCPDeprecationWarning)

TASKS: Final = "io.modelcontextprotocol/tasks"
PIXEL: Final = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SILENCE: Final = base64.b64encode(
    b"RIFF\x24\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x40\x1f\x00\x00\x40\x1f\x00\x00\x01\x00\x08\x00"
    b"data\x00\x00\x00\x00"
).decode()
_STEP: Final = 0.05  # seconds, as the suite asks


def words(text: str) -> t.TextContent:
    return t.TextContent(type="text", text=text)


def asked(message: str, **properties: Any) -> t.ElicitRequest:
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return t.ElicitRequest(params=t.ElicitRequestFormParams(message=message, requested_schema=schema))


def sampled(prompt: str, max_tokens: int = 100) -> t.CreateMessageRequest:
    message = t.SamplingMessage(role="user", content=words(prompt))
    return t.CreateMessageRequest(params=t.CreateMessageRequestParams(messages=[message], max_tokens=max_tokens))


def answer(ctx: Context[Any], key: str, name: str) -> Any:
    """What the client gave to that question, if it did."""
    given = (ctx.input_responses or {}).get(key)
    if not isinstance(given, t.ElicitResult) or given.action != "accept" or name not in (given.content or {}):
        return None
    return (given.content or {})[name]


# --- contents -------------------------------------------------------------------------------------------


async def test_simple_text() -> str:
    """Some text."""
    return "This is a simple text response for testing."


async def test_image_content() -> list[t.ContentBlock]:
    """A picture."""
    return [t.ImageContent(type="image", data=PIXEL, mime_type="image/png")]


async def test_audio_content() -> list[t.ContentBlock]:
    """A sound."""
    return [t.AudioContent(type="audio", data=SILENCE, mime_type="audio/wav")]


def _resource(uri: str, mime_type: str, text: str) -> t.EmbeddedResource:
    return t.EmbeddedResource(type="resource", resource=t.TextResourceContents(uri=uri, mime_type=mime_type, text=text))


async def test_embedded_resource() -> list[t.ContentBlock]:
    """A resource within a result."""
    return [_resource("test://embedded-resource", "text/plain", "This is an embedded resource content.")]


async def test_multiple_content_types() -> list[t.ContentBlock]:
    """Text, a picture and a resource."""
    picture = t.ImageContent(type="image", data=PIXEL, mime_type="image/png")
    data = json.dumps({"test": "data", "value": 123})
    mixed = _resource("test://mixed-content-resource", "application/json", data)
    return [words("Multiple content types test:"), picture, mixed]


async def test_error_handling() -> str:
    """Always fails."""
    raise ToolError("This tool intentionally returns an error for testing")


async def test_tool_with_logging(ctx: Context[Any]) -> str:
    """Logs three lines."""
    for number, line in enumerate(("Tool execution started", "Tool processing data", "Tool execution completed")):
        await asyncio.sleep(_STEP if number else 0)
        await ctx.session.send_log_message("info", line, related_request_id=ctx.request_id)
    return "Logged."


async def test_tool_with_progress(ctx: Context[Any]) -> str:
    """Reports its progress."""
    for progress in (0, 50, 100):
        await ctx.report_progress(progress, 100)
        await asyncio.sleep(_STEP)
    return "Done."


async def test_reconnection(ctx: Context[Any]) -> str:
    """Closes its stream and answers on the next."""
    await ctx.close_sse_stream()
    await asyncio.sleep(2 * _STEP)
    return "Answered after the stream was closed."


async def greet(name: str) -> str:
    """Says hello."""
    return f"Hello, {name}!"


async def test_x_mcp_header(region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})]) -> str:
    """An argument that is mirrored into a header."""
    return region


# --- asking the client, legacy ----------------------------------------------------------------------------


async def test_sampling(prompt: str, ctx: Context[Any]) -> str:
    """Has the client's model answer."""
    message = t.SamplingMessage(role="user", content=words(prompt))
    result = await ctx.session.create_message([message], max_tokens=100, related_request_id=ctx.request_id)
    said = result.content.text if isinstance(result.content, t.TextContent) else ""
    return f"LLM response: {said}"


async def _elicited(ctx: Context[Any], message: str, schema: dict[str, Any]) -> t.ElicitResult:
    session: ServerSession = ctx.session
    return await session.elicit_form(message, schema, related_request_id=ctx.request_id)


async def test_elicitation(message: str, ctx: Context[Any]) -> str:
    """Asks the user."""
    properties = {
        "username": {"type": "string", "description": "User's response"},
        "email": {"type": "string", "description": "User's email address"},
    }
    schema = {"type": "object", "properties": properties, "required": ["username", "email"]}
    result = await _elicited(ctx, message, schema)
    return f"User response: action={result.action}, content={json.dumps(result.content)}"


async def test_elicitation_sep1034_defaults(ctx: Context[Any]) -> str:
    """Asks with defaults of every kind."""
    properties = {
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "default": True},
    }
    result = await _elicited(ctx, "Please review", {"type": "object", "properties": properties})
    return f"Elicitation completed: action={result.action}, content={json.dumps(result.content)}"


async def test_elicitation_sep1330_enums(ctx: Context[Any]) -> str:
    """Asks with choices of every kind."""
    titled = [
        {"const": f"value{n}", "title": f"{word} Option"} for n, word in enumerate(("First", "Second", "Third"), 1)
    ]
    plain = ["option1", "option2", "option3"]
    old = {"enum": ["opt1", "opt2", "opt3"], "enumNames": ["Option One", "Option Two", "Option Three"]}
    properties = {
        "untitledSingle": {"type": "string", "enum": plain},
        "titledSingle": {"type": "string", "oneOf": titled},
        "legacyEnum": {"type": "string", **old},
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": plain}},
        "titledMulti": {"type": "array", "items": {"anyOf": titled}},
    }
    result = await _elicited(ctx, "Please choose", {"type": "object", "properties": properties})
    return f"Elicitation completed: action={result.action}, content={json.dumps(result.content)}"


# --- asking the client, modern: an answer that asks, and a retry ------------------------------------------

_NAME: Final = {"type": "string"}


async def test_input_required_result_elicitation(ctx: Context[Any]) -> str | t.InputRequiredResult:
    """Asks for a name."""
    if (name := answer(ctx, "user_name", "name")) is None:
        return t.InputRequiredResult(input_requests={"user_name": asked("What is your name?", name=_NAME)})
    return f"Hello, {name}!"


async def test_input_required_result_sampling(ctx: Context[Any]) -> str | t.InputRequiredResult:
    """Asks the client's model."""
    given = (ctx.input_responses or {}).get("capital_question")
    if not isinstance(given, t.CreateMessageResult):
        return t.InputRequiredResult(input_requests={"capital_question": sampled("What is the capital of France?")})
    return given.content.text if isinstance(given.content, t.TextContent) else ""


async def test_input_required_result_list_roots(ctx: Context[Any]) -> str | t.InputRequiredResult:
    """Asks for the client's roots."""
    given = (ctx.input_responses or {}).get("client_roots")
    if not isinstance(given, t.ListRootsResult):
        return t.InputRequiredResult(input_requests={"client_roots": t.ListRootsRequest()})
    return ", ".join(str(root.uri) for root in given.roots)


async def test_input_required_result_request_state(ctx: Context[Any]) -> str | t.InputRequiredResult:
    """Gives a state and wants it back."""
    if ctx.request_state != "asked" or answer(ctx, "confirm", "ok") is None:
        question = asked("Please confirm", ok={"type": "boolean"})
        return t.InputRequiredResult(input_requests={"confirm": question}, request_state="asked")
    return "state-ok"


async def test_input_required_result_multiple_inputs(ctx: Context[Any]) -> str | t.InputRequiredResult:
    """Asks for three things at once."""
    questions: dict[str, Any] = {
        "user_name": asked("What is your name?", name=_NAME),
        "greeting": sampled("Generate a greeting", 50),
        "client_roots": t.ListRootsRequest(),
    }
    if ctx.request_state is None or questions.keys() - (ctx.input_responses or {}).keys():
        return t.InputRequiredResult(input_requests=questions, request_state="asked")
    return f"Hello, {answer(ctx, 'user_name', 'name')}!"


async def test_input_required_result_multi_round(ctx: Context[Any]) -> str | t.InputRequiredResult:
    """Asks twice."""
    if ctx.request_state is None:
        question = asked("Step 1: What is your name?", name=_NAME)
        return t.InputRequiredResult(input_requests={"step1": question}, request_state="named")
    if ctx.request_state == "named":
        name = answer(ctx, "step1", "name")
        question = asked("Step 2: What is your favorite color?", color=_NAME)
        return t.InputRequiredResult(input_requests={"step2": question}, request_state=f"coloured {name}")
    name = ctx.request_state.removeprefix("coloured ")
    return f"{name} likes {answer(ctx, 'step2', 'color')}."


async def test_input_required_result_tampered_state(ctx: Context[Any]) -> str | t.InputRequiredResult:
    """Gives a state that must come back as it is."""
    return await test_input_required_result_request_state(ctx)


async def test_input_required_result_capabilities(ctx: Context[Any]) -> str | t.InputRequiredResult:
    """Asks only what the client can do."""
    can = ctx.client_capabilities
    questions: dict[str, Any] = {}
    if can is not None and can.elicitation is not None:
        questions["user_name"] = asked("What is your name?", name=_NAME)
    if can is not None and can.sampling is not None:
        questions["greeting"] = sampled("Generate a greeting", 50)
    if questions and not ctx.input_responses:
        return t.InputRequiredResult(input_requests=questions)
    return "Done."


async def test_missing_capability(ctx: Context[Any]) -> str:
    """Needs a client that samples."""
    can = ctx.client_capabilities
    if can is None or can.sampling is None:
        data = t.MissingRequiredClientCapabilityErrorData(
            required_capabilities=t.ClientCapabilities(sampling=t.SamplingCapability())
        )
        told = data.model_dump(by_alias=True, mode="json", exclude_none=True)
        raise MCPError(t.MISSING_REQUIRED_CLIENT_CAPABILITY, "This tool needs sampling.", told)
    return "Done."


# --- tasks --------------------------------------------------------------------------------------------------


@dataclass
class MemoryTask:
    """A task of this process: a coroutine that may ask."""

    id: str = field(default_factory=lambda: f"mem-{uuid4()}")
    status: str = "working"
    questions: dict[str, t.ElicitRequest] = field(default_factory=dict)
    answers: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    running: "asyncio.Task[None] | None" = None
    answered: asyncio.Event = field(default_factory=asyncio.Event)

    def shown(self) -> dict[str, Any]:
        now = "2026-11-24T00:00:00Z"
        shown: dict[str, Any] = {"taskId": self.id, "status": self.status, "createdAt": now, "lastUpdatedAt": now}
        shown |= {"ttlMs": 600_000, "pollIntervalMs": 100}
        if self.status == "input_required":
            shown["inputRequests"] = {
                key: question.model_dump(by_alias=True, mode="json", exclude_none=True)
                for key, question in self.questions.items()
            }
        if self.result is not None:
            shown["result"] = self.result
        if self.error is not None:
            shown["error"] = self.error
        return shown

    async def ask(self, **questions: t.ElicitRequest) -> None:
        """Park until all are answered."""
        self.questions, self.status = dict(questions), "input_required"
        while self.questions:
            self.answered.clear()
            await self.answered.wait()
        self.status = "working"

    def give(self, answers: Mapping[str, Any]) -> None:
        for key, given in answers.items():
            if self.questions.pop(key, None) is not None:
                self.answers[key] = given
        self.answered.set()


class MemoryTasks:
    """A TaskSource for the suite's jobs."""

    def __init__(self) -> None:
        self.tasks: dict[str, MemoryTask] = {}

    def owns(self, task_id: str) -> bool:
        return task_id in self.tasks

    async def look(self, task_id: str, *, caller: Principal) -> Mapping[str, Any]:
        return self.tasks[task_id].shown()

    async def update(self, task_id: str, answers: Mapping[str, Any], *, caller: Principal) -> None:
        self.tasks[task_id].give(answers)

    async def cancel(self, task_id: str, *, caller: Principal) -> None:
        task = self.tasks[task_id]
        if task.status in ("working", "input_required") and task.running is not None:
            task.running.cancel()
            task.status, task.questions = "cancelled", {}

    def begin(self, job: Any, *arguments: Any) -> Mapping[str, Any]:
        task = MemoryTask()
        self.tasks[task.id] = task
        task.running = asyncio.create_task(self._run(task, job, *arguments))
        return task.shown()

    async def _run(self, task: MemoryTask, job: Any, *arguments: Any) -> None:
        try:
            text, failed = await job(task, *arguments)
        except asyncio.CancelledError:
            return
        except RuntimeError as error:
            task.status, task.error = "failed", {"code": t.INTERNAL_ERROR, "message": str(error)}
            return
        result = t.CallToolResult(content=[words(text)], is_error=failed)
        task.result = result.model_dump(by_alias=True, mode="json", exclude_none=True)
        task.status = "completed"


class Job:
    """One tool's way into the MemoryTasks."""

    def __init__(self, tasks: MemoryTasks, job: Any) -> None:
        self._tasks = tasks
        self._job = job

    async def start(self, arguments: Mapping[str, Any], *, caller: Principal) -> Mapping[str, Any] | None:
        if arguments.get("seconds") == 0:
            return None
        return self._tasks.begin(self._job, arguments)

    def owns(self, task_id: str) -> bool:
        return self._tasks.owns(task_id)

    async def look(self, task_id: str, *, caller: Principal) -> Mapping[str, Any]:
        if not self._tasks.owns(task_id):
            raise NotFoundError("No such task.")
        return await self._tasks.look(task_id, caller=caller)

    async def update(self, task_id: str, answers: Mapping[str, Any], *, caller: Principal) -> None:
        await self._tasks.update(task_id, answers, caller=caller)

    async def cancel(self, task_id: str, *, caller: Principal) -> None:
        await self._tasks.cancel(task_id, caller=caller)


async def _computed(task: MemoryTask, arguments: Mapping[str, Any]) -> tuple[str, bool]:
    await asyncio.sleep(float(arguments.get("seconds", 1)))
    return f"Computed {arguments.get('label', '')}.", False


async def _failing(task: MemoryTask, arguments: Mapping[str, Any]) -> tuple[str, bool]:
    await asyncio.sleep(1)
    return "The job failed.", True


async def _crashing(task: MemoryTask, arguments: Mapping[str, Any]) -> tuple[str, bool]:
    await asyncio.sleep(_STEP)
    raise RuntimeError("The job crashed.")


async def _confirmed(task: MemoryTask, arguments: Mapping[str, Any]) -> tuple[str, bool]:
    await task.ask(confirm=asked("Delete it?", confirm={"type": "boolean"}))
    return f"Answered: {json.dumps(task.answers['confirm'])}", False


async def _answered_twice(task: MemoryTask, arguments: Mapping[str, Any]) -> tuple[str, bool]:
    await task.ask(first=asked("One?", one=_NAME), second=asked("Two?", two=_NAME))
    return f"Answered: {json.dumps(task.answers)}", False


async def _greeting(task: MemoryTask, arguments: Mapping[str, Any]) -> tuple[str, bool]:
    await asyncio.sleep(_STEP)
    return f"Hello, {arguments['name']}!", False


async def slow_compute(ctx: Context[Any], seconds: float = 1, label: str = "") -> str:
    """Takes its time; as a task where the client can."""
    await asyncio.sleep(min(seconds, 1))
    return f"Computed {label}."


async def failing_job(ctx: Context[Any]) -> str:
    """Only as a task; fails."""
    require_client_extension(ctx.request_context, TASKS)
    raise ToolError("The job failed.")


async def protocol_error_job(ctx: Context[Any]) -> str:
    """Only as a task; crashes."""
    require_client_extension(ctx.request_context, TASKS)
    raise ToolError("The job crashed.")


async def confirm_delete(ctx: Context[Any], filename: str = "") -> str:
    """Only as a task; asks once."""
    require_client_extension(ctx.request_context, TASKS)
    return filename


async def multi_input(ctx: Context[Any]) -> str:
    """Only as a task; asks twice at once."""
    require_client_extension(ctx.request_context, TASKS)
    return ""


async def test_tool_with_task(ctx: Context[Any]) -> str | t.InputRequiredResult:
    """Asks first, then becomes a task."""
    require_client_extension(ctx.request_context, TASKS)
    return t.InputRequiredResult(input_requests={"user_name": asked("What is your name?", name=_NAME)})


class AsksThenWorks(Extension):
    """`test_tool_with_task`: once answered, the call becomes a task."""

    identifier = "dev.qhronos/fixtures"

    def __init__(self, tasks: MemoryTasks) -> None:
        self._tasks = tasks

    async def intercept_tool_call(
        self, params: t.CallToolRequestParams, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        given = (params.input_responses or {}).get("user_name")
        if params.name == "test_tool_with_task" and isinstance(given, t.ElicitResult) and given.content:
            return {"resultType": "task", **self._tasks.begin(_greeting, given.content)}
        return await call_next(ctx)


# --- prompts and resources ----------------------------------------------------------------------------------


async def test_simple_prompt() -> str:
    """Some words."""
    return "This is a simple prompt for testing."


async def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
    """Words with words in them."""
    return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"


async def test_prompt_with_embedded_resource(resourceUri: str) -> list[UserMessage]:  # noqa: N803 - the suite's
    """A resource, and what to do with it."""
    resource = _resource(resourceUri, "text/plain", "Embedded resource content for testing.")
    return [UserMessage(resource), UserMessage("Please process the embedded resource above.")]


async def test_prompt_with_image() -> list[UserMessage]:
    """A picture, and what to do with it."""
    picture = t.ImageContent(type="image", data=PIXEL, mime_type="image/png")
    return [UserMessage(picture), UserMessage("Please analyze the image above.")]


async def test_input_required_result_prompt(ctx: Context[Any]) -> str | t.InputRequiredResult:
    """Asks before it speaks."""
    if (context := answer(ctx, "user_context", "context")) is None:
        question = asked("What context should the prompt use?", context=_NAME)
        return t.InputRequiredResult(input_requests={"user_context": question})
    return f"Use this context: {context}"


RICH_SCHEMA: Final[dict[str, Any]] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


async def json_schema_2020_12_tool(name: str = "") -> str:
    """Tool with JSON Schema 2020-12 features"""
    return name


class MemoryEvents(EventStore):
    """What `server-sse-polling` replays."""

    def __init__(self) -> None:
        self._events: list[tuple[str, t.JSONRPCMessage | None]] = []

    async def store_event(self, stream_id: str, message: t.JSONRPCMessage | None) -> str:
        self._events.append((stream_id, message))
        return str(len(self._events) - 1)

    async def replay_events_after(self, last_event_id: str, send_callback: EventCallback) -> str | None:
        if not last_event_id.isdigit() or int(last_event_id) >= len(self._events):
            return None
        stream_id = self._events[int(last_event_id)][0]
        for number, (stream, message) in enumerate(self._events):
            if number > int(last_event_id) and stream == stream_id and message is not None:
                await send_callback(EventMessage(message, str(number)))
        return stream_id


def furnish_for_the_suite(server: MCPServer[Any]) -> None:
    for tool in (
        test_simple_text,
        test_image_content,
        test_audio_content,
        test_embedded_resource,
        test_multiple_content_types,
        test_error_handling,
        test_tool_with_logging,
        test_tool_with_progress,
        test_reconnection,
        greet,
        test_x_mcp_header,
        test_sampling,
        test_elicitation,
        test_elicitation_sep1034_defaults,
        test_elicitation_sep1330_enums,
        test_input_required_result_elicitation,
        test_input_required_result_sampling,
        test_input_required_result_list_roots,
        test_input_required_result_request_state,
        test_input_required_result_multiple_inputs,
        test_input_required_result_multi_round,
        test_input_required_result_tampered_state,
        test_input_required_result_capabilities,
        test_missing_capability,
        slow_compute,
        failing_job,
        protocol_error_job,
        confirm_delete,
        multi_input,
        test_tool_with_task,
    ):
        server.add_tool(tool, structured_output=False)
    for prompt in (
        test_simple_prompt,
        test_prompt_with_arguments,
        test_prompt_with_embedded_resource,
        test_prompt_with_image,
        test_input_required_result_prompt,
    ):
        server.prompt()(prompt)

    @server.resource("test://static-text", description="Some text.", mime_type="text/plain")
    async def static_text() -> str:
        return "This is the content of the static text resource."

    @server.resource("test://static-binary", description="A picture.", mime_type="image/png")
    async def static_binary() -> bytes:
        return base64.b64decode(PIXEL)

    @server.resource("test://template/{id}/data", description="By id.", mime_type="application/json")
    async def template(id: str) -> str:  # noqa: A002 - the suite's
        return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})

    @server.resource("test://watched-resource", description="To be watched.", mime_type="text/plain")
    async def watched() -> str:
        return "Watched."


def rich_tool() -> Tool:
    tool = Tool.from_function(json_schema_2020_12_tool, structured_output=False)
    return tool.model_copy(update={"parameters": RICH_SCHEMA})


@asynccontextmanager
async def the_suite_s_server(core: Core) -> AsyncIterator[ASGIApp]:
    face = Face(core, Local(Principal.of_local_owner("local", node="tests")))
    hub, tasks = Hub(face), MemoryTasks()
    server = QhronosServer(tools=[rich_tool()], extensions=[AsksThenWorks(tasks)])
    jobs = {
        "slow_compute": _computed,
        "failing_job": _failing,
        "protocol_error_job": _crashing,
        "confirm_delete": _confirmed,
        "multi_input": _answered_twice,
    }
    server.furnish(face, hub, task_sources={name: Job(tasks, job) for name, job in jobs.items()})
    furnish_for_the_suite(server)

    async def level_is_set(_: ServerRequestContext[Any, Any], __: t.SetLevelRequestParams) -> t.EmptyResult:
        return t.EmptyResult()

    compat.lowlevel(server).add_request_handler("logging/setLevel", t.SetLevelRequestParams, level_is_set)
    hosts = [form for name in ("localhost", "127.0.0.1", "[::1]") for form in (name, f"{name}:*")]
    origins = [f"http://{host}" for host in hosts]
    app = server.streamable_http_app(
        event_store=MemoryEvents(),
        retry_interval=200,
        transport_security=TransportSecuritySettings(allowed_hosts=hosts, allowed_origins=origins),
    )
    async with anyio.create_task_group() as group:
        serve_legacy_subscriptions(server, hub, group, face)
        group.start_soon(hub.run)
        yield CleanHeaders(app)
        hub.close()
        group.cancel_scope.cancel()


async def main(port: int) -> None:
    with tempfile.TemporaryDirectory() as data_dir:
        async with open_core(Settings(data_dir=Path(data_dir))) as core, the_suite_s_server(core) as app:
            core.start_scheduler()
            config = uvicorn.Config(app, host="localhost", port=port, log_level="warning", timeout_graceful_shutdown=2)
            await uvicorn.Server(config).serve()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
