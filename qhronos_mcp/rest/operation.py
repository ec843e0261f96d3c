"""One line of the route table: what a call is, and all that a reader of the OpenAPI document is told of it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

Endpoint = Callable[[Request], Awaitable[Response]]
Schema = Mapping[str, Any]


class Door(Enum):
    """Who comes in. What a caller may do once inside is decided by the use cases, not here."""

    OPEN = "open"  # nobody is asked
    AJAR = "ajar"  # a credential is not needed; one that is sent must be good
    SHUT = "shut"  # a credential is needed
    METRICS = "metrics"  # likewise, or `metrics.token`


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    says: str
    schema: Schema
    place: str = "query"
    required: bool = False
    repeats: bool = False  # also as `name=a&name=b`

    def document(self) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "name": self.name,
            "in": self.place,
            "description": self.says,
            "required": self.required,
            "schema": self.schema,
        }
        if self.repeats:
            shown |= {"style": "form", "explode": True}
        return shown


@dataclass(frozen=True, slots=True)
class Answer:
    says: str
    schema: Schema | None = None
    media: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)  # name: what it tells


@dataclass(frozen=True, slots=True)
class Operation:
    """`answers`: the good ones; the errors an operation can end in are told by `errors`, one schema for all."""

    method: str
    path: str
    endpoint: Endpoint
    summary: str
    says: str
    topic: str
    answers: Mapping[int, Answer]
    door: Door = Door.SHUT
    errors: tuple[int, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    body: Schema | None = None
    body_required: bool = True
    example: Any = None

    @property
    def id(self) -> str:
        return self.endpoint.__name__

    @property
    def all_errors(self) -> tuple[int, ...]:
        """With those that any operation may end in: the door's own, a crash, and a store that is away."""
        of_the_door = () if self.door is Door.OPEN else (401, 403, 429)
        of_a_foreign_host = (403,)
        return tuple(sorted({*self.errors, *of_the_door, *of_a_foreign_host, 500, 503}))
