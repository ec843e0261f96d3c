"""What leaves: a value as JSON, or an error as a problem. One function answers every error of this face."""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

import orjson
import structlog
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from qhronos_core.domain.errors import ForbiddenError
from qhronos_core.usecases.once import Replay
from qhronos_mcp.middleware import facts_of
from qhronos_mcp.problems import Problem, describe

_LOG: Final = structlog.get_logger("qhronos.rest")
JSON: Final = "application/json"
PROBLEM_JSON: Final = "application/problem+json"
_UNWELCOME: Final = re.compile(r"q=0(\.0{0,3})?")


def shown(value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(encoded(value), status, headers, media_type=JSON)


def encoded(value: Any) -> bytes:
    """JSON in UTF-8. orjson holds no whole number beyond 64 bits, which `metadata` may: those go the slower way."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


async def answer_problem(request: Request, error: Exception) -> Response:
    """The answer to whatever went wrong, and the log's word about a crash."""
    if isinstance(error, Replay):
        return shown(error.answer, status=error.status, headers={"idempotent-replayed": "true"})
    facts = facts_of(request.scope)
    problem = _of_the_path(error) if isinstance(error, HTTPException) else describe(error)
    facts.code = problem.code
    if problem.status == 500:
        _LOG.error("crashed", request_id=facts.request_id, route=facts.route, exc_info=error)
    return problem_response(request.headers, problem, error, now=request.app.state.core.clock.now())


def problem_response(asked: Headers, problem: Problem, error: Exception | None, *, now: Any) -> Response:
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    if problem.retry_after is not None:
        headers["retry-after"] = str(problem.retry_after)
    if problem.status == 401:
        headers["www-authenticate"] = "Bearer"
    elif isinstance(error, ForbiddenError):
        headers["www-authenticate"] = 'Bearer error="insufficient_scope"'
    media = PROBLEM_JSON if _asks_for_a_problem(asked) else JSON
    return Response(encoded(problem.document(now)), problem.status, headers, media_type=media)


def _asks_for_a_problem(asked: Headers) -> bool:
    """Whether `Accept` names it, by itself and not to say that it is unwelcome."""
    for each in ",".join(asked.getlist("accept")).lower().split(","):
        media, *parameters = (part.strip() for part in each.split(";"))
        if media == PROBLEM_JSON and not any(_UNWELCOME.fullmatch(part) for part in parameters):
            return True
    return False


def _of_the_path(error: HTTPException) -> Problem:
    """What the router itself refuses."""
    if error.status_code == 405:
        return Problem(405, "method_not_allowed", "This path does not take that method; see Allow.")
    if error.status_code == 404:
        return Problem(404, "not_found", "No such path. See /openapi.json.")
    return describe(error)
