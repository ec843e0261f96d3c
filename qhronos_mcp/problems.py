"""The words and numbers for an error, shared by both faces.

Kinds are mapped here, so a new leaf of `domain/errors.py` changes no face. REST carries a problem as `document(now)`
(rest.md §4, RFC 9457), MCP as `body()` and `line` (mcp.md §4).
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pydantic import ValidationError

from qhronos_core.domain.errors import (
    ConflictError,
    Fault,
    ForbiddenError,
    InvalidInputError,
    LimitedError,
    NotFoundError,
    QhronosError,
    TooLargeError,
    UnauthenticatedError,
    UnavailableError,
)
from qhronos_core.domain.schedule import say_instant

GOT_AT_MOST: Final = 200  # characters of the caller's own input that an error repeats

_STATUS: Final[Mapping[type[QhronosError], int]] = {
    TooLargeError: 413,
    InvalidInputError: 400,
    UnauthenticatedError: 401,
    ForbiddenError: 403,
    NotFoundError: 404,
    ConflictError: 409,
    LimitedError: 429,
    UnavailableError: 503,
}

TITLES: Final[Mapping[int, str]] = {
    400: "Invalid input",
    401: "Not authenticated",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    408: "Too slow",
    409: "Conflict",
    413: "Too large",
    429: "Too many requests",
    431: "Too large",
    500: "Internal error",
    503: "Unavailable",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """An error as a caller meets it. `retry_after`: whole seconds, at least 1."""

    status: int
    code: str
    message: str
    faults: tuple[Fault, ...] = ()
    retry_after: int | None = None

    def document(self, now: datetime) -> dict[str, Any]:
        """The body of a REST error: the seed's `error` beside the members of RFC 9457.

        `now` in whole seconds: two errors of one moment are the same to the byte and of one length (access.md R8).
        """
        shown: dict[str, Any] = {
            "error": self.message,
            "type": f"urn:qhronos:problem:{self.code}",
            "title": TITLES[self.status],
            "status": self.status,
            "detail": self.message,
            "code": self.code,
            "now": say_instant(now.replace(microsecond=0)),
        }
        if self.faults:
            shown["errors"] = [_fault(fault) for fault in self.faults]
        return shown

    def body(self) -> dict[str, Any]:
        """The compact shape of a tool's error: `{error, code, field?, fix?}`; the first fault speaks."""
        shown: dict[str, Any] = {"error": self.message, "code": self.code}
        if self.faults:
            if self.faults[0].field:
                shown["field"] = self.faults[0].field
            if self.faults[0].fix:
                shown["fix"] = list(self.faults[0].fix[:3])
        return shown

    @property
    def line(self) -> str:
        """The sentence and the likeliest correction, for a reader of text alone."""
        fix = self.body().get("fix")
        return f"{self.message} Try {json.dumps(fix[0], ensure_ascii=False)}." if fix else self.message


def describe(error: BaseException) -> Problem:
    """What a caller is told of `error`. Of one that is no QhronosError: that it was logged, and nothing else."""
    if isinstance(error, ValidationError):
        return _rewritten(error)
    if not isinstance(error, QhronosError):
        return Problem(500, "internal", "Something failed on our side; it has been logged.")
    status = next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), None)
    if status is None:
        return Problem(500, "internal", "Something failed on our side; it has been logged.")
    faults = error.faults if isinstance(error, InvalidInputError) else ()
    codes = {fault.code for fault in faults}
    code = codes.pop() if len(codes) == 1 and error.code == InvalidInputError.code else error.code
    return Problem(status, code, str(error), faults, _retry_after(error))


def _retry_after(error: QhronosError) -> int | None:
    if isinstance(error, LimitedError):
        return max(1, math.ceil(error.retry_after))
    return 1 if isinstance(error, UnavailableError) else None


def _fault(fault: Fault) -> dict[str, Any]:
    return {
        "field": fault.field,
        "code": fault.code,
        "got": cut(fault.got),
        "why": fault.why,
        "fix": list(fault.fix),
    }


def cut(got: object) -> object:
    """A caller's own value, at most 200 characters of it (of its JSON, if it is no string)."""
    if isinstance(got, str):
        return got if len(got) <= GOT_AT_MOST else got[: GOT_AT_MOST - 1] + "…"
    text = json.dumps(got, ensure_ascii=False, default=str)
    return got if len(text) <= GOT_AT_MOST else text[: GOT_AT_MOST - 1] + "…"


_WORDS: Final[Mapping[str, str]] = {
    "missing": "This field is required.",
    "extra_forbidden": "No such field.",
    "string_type": "This must be text.",
    "int_type": "This must be a whole number.",
    "float_type": "This must be a number.",
    "bool_type": "This must be true or false.",
    "list_type": "This must be a list.",
    "dict_type": "This must be an object.",
}


def _rewritten(error: ValidationError) -> Problem:
    """400 in our words: pydantic's own text, with its values and addresses, never leaves."""
    faults = [
        Fault(_path(found["loc"]), InvalidInputError.code, _WORDS.get(found["type"], "This value cannot be used here."))
        for found in error.errors(include_url=False, include_input=False, include_context=False)
    ]
    return describe(InvalidInputError(faults=faults))


def _path(parts: Sequence[int | str]) -> str:
    return ".".join(str(part) for part in parts)
