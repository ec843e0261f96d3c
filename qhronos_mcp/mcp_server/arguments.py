"""From a tool's arguments to the fields of the use cases (rest.md §2), and from their faults back to arguments.

A fix is an object to merge into the same call: merged, the call is accepted. The use cases speak in
fields, so their fixes are put back into the words of the tool that was called.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from qhronos_core.domain.access import Principal
from qhronos_core.domain.draft import meant_by
from qhronos_core.domain.errors import Fault, InvalidInputError, NothingToDoError, OccurrenceNotFoundError
from qhronos_core.domain.lifecycle import State
from qhronos_core.domain.schedule import UnknownTimezoneError, parse_instant, say_instant, spelled_out
from qhronos_core.domain.schedule.durations import read_duration
from qhronos_core.ports import InboxQuery
from qhronos_core.wiring import Core
from qhronos_mcp.problems import Problem

Arguments = Mapping[str, Any]

FIELDS: Final = (
    "name",
    "schedule",
    "timezone",
    "key",
    "description",
    "action",
    "metadata",
    "tags",
    "start_time",
    "end_time",
    "max_occurrences",
    "exclusions",
    "catch_up",
    "overlap",
    "expires_after",
    "ack",
)
"""What `create_event` takes of an event; `changes` of `update_event` may hold all but `key`, which is fixed."""

CHANGEABLE: Final = tuple(name for name in FIELDS if name != "key")


class UnknownToolError(InvalidInputError):
    code = "unknown_tool"


class UnknownArgumentError(InvalidInputError):
    code = "unknown_argument"


class InvalidActionError(InvalidInputError):
    code = "invalid_action"


def refuse_unknown(
    arguments: Arguments, known: Iterable[str], *, within: str | None = None, belong: Iterable[str] = ()
) -> None:
    """The SDK ignores an argument it does not know; an agent must hear of it. `belong`: names that belong in `changes`.

    Raises:
        UnknownArgumentError: with the argument taken away (null) and its value under the nearest known name.
    """
    known = tuple(known)
    unknown = [name for name in arguments if name not in known]
    if not unknown:
        return
    kept = {name: value for name, value in arguments.items() if name in known}
    moved: dict[str, Any] = {}
    changes: dict[str, Any] = {}
    faults = []
    for name in unknown:
        if name in belong:
            faults.append(Fault(name, UnknownArgumentError.code, "belongs in `changes`."))
            changes[name] = arguments[name]
            continue
        near = difflib.get_close_matches(name, [other for other in known if other not in kept | moved], n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}."
        shown = name if name.isascii() and name.isidentifier() and len(name) <= 40 else "an argument"
        faults.append(
            Fault(
                shown if within is None else f"{within}.{shown}", UnknownArgumentError.code, f"not known here: {hint}"
            )
        )
        if near:
            moved[near[0]] = arguments[name]
    if changes:
        said = arguments.get("changes")
        moved["changes"] = {**(said if isinstance(said, Mapping) else {}), **changes}
    fix: dict[str, Any] = dict.fromkeys(unknown) | moved if within is None else {within: kept | moved}
    if within is not None and not kept | moved:
        raise UnknownArgumentError(faults=faults)  # without it there is nothing left to do
    raise UnknownArgumentError(faults=[replace(faults[0], fix=(fix,)), *faults[1:]])


# --- to fields --------------------------------------------------------------------------------------


def event_fields(arguments: Arguments) -> dict[str, Any]:
    """The fields of an event among a tool's arguments: the absent left out, the short forms of `action` written out."""
    fields = {name: value for name, value in arguments.items() if name in FIELDS}
    if "action" in fields:
        fields["action"] = action_field(fields["action"])
    return fields


def action_field(said: object) -> object:
    """`inbox`, an http(s) URL (a webhook), `websocket:<client>`; an object is left as it is, as is null."""
    if said is None or isinstance(said, Mapping):
        return said
    if not isinstance(said, str):
        raise InvalidActionError.of(
            "action", "Say inbox, a URL, websocket:<client>, or {type, params}.", fix=[{"action": "inbox"}]
        )
    if said == "inbox":
        return {"type": "inbox"}
    if said.startswith(("https://", "http://")):
        return {"type": "webhook", "params": {"url": said}}
    kind, _, name = said.partition(":")
    if kind == "websocket":
        return {"type": "websocket", "params": {"client_name": name}}
    fix = [{"action": f"https://{said}"}] if "." in said and " " not in said else []
    raise InvalidActionError.of(
        "action",
        "Not a destination: say inbox, a URL beginning with https://, or websocket:<client>.",
        got=said,
        fix=[*fix, {"action": "inbox"}],
    )


def changed_fields(changes: Arguments, do: str | None, until: str | None, now: datetime) -> dict[str, Any]:
    """The fields of an `update_event` call; what is to be done comes after the changes. `until` may be a duration.

    Raises:
        UnknownArgumentError: `changes` holds something that is no field of `create_event`, or `key`.
        NothingToDoError: neither `changes` nor `do`.
        InvalidInputError: `until` without its `do`, or `snooze` without `until`.
    """
    if not changes and do is None and until is None:
        raise NothingToDoError("Nothing to do: give `changes`, or say what to `do`.")
    refuse_unknown(changes, CHANGEABLE, within="changes")
    fields = event_fields(changes)
    if until is not None and do not in ("pause", "snooze"):
        when = {} if _is_to_come(until, now) else {"until": "1h"}
        fix = [{"do": "pause", **when}, {"do": "snooze", **when}] if do is None else [{"until": None}]
        raise InvalidInputError.of("until", "Only with do: pause or snooze.", fix=fix)
    if do == "pause":
        length = read_duration(until)
        if isinstance(length, timedelta):
            until = say_instant(now + length)
        fields |= {"status": "paused"} if until is None else {"paused_until": until}
    elif do == "resume":
        fields["status"] = "active"
    elif do == "skip_next":
        fields["skip_next"] = True
    elif do == "snooze":
        if until is None:
            raise InvalidInputError.of("until", "Until when? An instant, or how long.", fix=[{"until": "1h"}])
        fields["snooze"] = until
    return fields


INSTANTS: Final = ("start_time", "end_time", "paused_until", "snooze")


def with_instants_spelled_out(fields: Arguments, timezone: object, now: datetime) -> dict[str, Any]:
    """The same fields with `tomorrow 09:00` and its kind in RFC 3339; where the zone is faulty, any will do to read them."""
    zone = timezone if isinstance(timezone, str) else "UTC"
    try:
        return {
            name: spelled_out(value, timezone=zone, now=now) if name in INSTANTS and isinstance(value, str) else value
            for name, value in fields.items()
        }
    except UnknownTimezoneError:
        return with_instants_spelled_out(fields, "UTC", now)


def _is_to_come(until: str, now: datetime) -> bool:
    """Whether this is a length, or an instant later than now in whatever zone."""
    if isinstance(read_duration(until), timedelta):
        return True
    try:
        return parse_instant(until, field="until", timezone="UTC") > now
    except InvalidInputError:
        return False


# --- and back ---------------------------------------------------------------------------------------

_FROM_FIELD: Final = {
    "webhook": "action",
    "paused_until": "until",
    "snooze": "until",
    "skip_next": "do",
    "status": "do",
}
_DO: Final = {"active": "resume", "paused": "pause"}


def in_arguments(problem: Problem, tool: str, arguments: Arguments) -> Problem:
    """The same problem in the words of the tool: its fields as arguments, and each fix as arguments to send."""
    known = _KNOWN.get(tool)
    if known is None:
        return problem
    faults = []
    for fault in problem.faults:
        head, dot, rest = fault.field.partition(".")
        head = head if head in known else _FROM_FIELD.get(head, head)
        if tool == "update_event" and head in CHANGEABLE:
            head = f"changes.{head}"
        fixes = [_said(fix, tool, arguments) for fix in fault.fix]
        faults.append(replace(fault, field=f"{head}{dot}{rest}", fix=tuple(fix for fix in fixes if fix)))
    return replace(problem, faults=tuple(faults))


_KNOWN: Final[Mapping[str, frozenset[str]]] = {
    "create_event": frozenset(FIELDS),
    "update_event": frozenset({"event_id", "changes", "do", "until"}),
}


def _said(fix: Mapping[str, object], tool: str, arguments: Arguments) -> dict[str, object] | None:
    """A fix in fields as a fix in arguments; None where the tool cannot say it."""
    said: dict[str, object] = {}
    changes: dict[str, object] = {}
    for field, value in fix.items():
        if tool == "update_event" and field in ("paused_until", "snooze"):
            said |= {"do": "pause" if field == "paused_until" else "snooze", "until": value}
        elif tool == "update_event" and field == "status" and value in _DO:
            said |= {"do": _DO[str(value)]}
        elif tool == "update_event" and value is None and "changes" in fix:
            said[field] = None  # it was said beside `changes`, and is among them now
        elif field == "webhook" or field in FIELDS:
            changes["action" if field == "webhook" else field] = value
        elif field in ("event_id", "changes", "do", "until"):
            said[field] = value
        else:
            return None
    if tool == "create_event":
        return said | changes
    given = arguments.get("changes")
    if changes:
        said["changes"] = {**(given if isinstance(given, Mapping) else {}), **changes}
    return said


# --- what the argument models refuse ------------------------------------------------------------------


def rewritten(error: ValidationError, arguments: Arguments) -> InvalidInputError:
    """What pydantic found, in our words and with corrections: its own text, with values and addresses, never leaves."""
    faults: dict[str, Fault] = {}
    for found in error.errors(include_url=False, include_input=True, include_context=True):
        name = str(found["loc"][0]) if found["loc"] else ""
        context = found.get("ctx", {})
        why, better = _explained(found["type"], context, found["input"])
        if found["type"] not in ("literal_error", "enum"):
            better = meant_by(name, found["input"]) if name in FIELDS else _accepted(name, better)
        elif name == "do":
            better = _agreeing(better, arguments)
        fix = tuple({name: value} for value in better[:3]) if len(found["loc"]) == 1 else ()
        if name not in faults:
            faults[name] = Fault(name, InvalidInputError.code, why, arguments.get(name), fix)
    return InvalidInputError(faults=tuple(faults.values()))


def _explained(kind: str, context: Mapping[str, Any], got: object) -> tuple[str, Sequence[object]]:
    match kind:
        case "missing":
            return "This is required.", []
        case "string_too_long":
            most = context["max_length"]
            return f"At most {most} characters.", [str(got)[:most]]
        case "string_too_short":
            return "This must not be empty.", []
        case "greater_than_equal":
            return f"At least {context['ge']}.", [context["ge"]]
        case "less_than_equal":
            return f"At most {context['le']}.", [context["le"]]
        case "literal_error" | "enum":
            accepted = [word.strip().strip("'") for word in str(context["expected"]).replace(" or ", ", ").split(",")]
            near = difflib.get_close_matches(str(got), accepted, n=3, cutoff=0.3)
            return f"One of {', '.join(accepted)}.", list(near or accepted)
        case "uuid_parsing" | "uuid_type":
            return "This must be the id of an occurrence, as shown by list_occurrences.", []
    if kind.startswith("string"):
        return "This must be text.", [str(got)] if isinstance(got, int | float) else []
    if kind.startswith("int"):
        return "This must be a whole number.", []
    if kind.startswith("bool"):
        return "This must be true or false.", [True, False]
    if kind.startswith("list"):
        return "This must be a list.", [[got]] if isinstance(got, str) else []
    if kind.startswith("dict"):
        return "This must be an object.", []
    return "This value cannot be used here.", []


_ANY_TEXT: Final = frozenset({"note", "q"})
_STATES: Final = frozenset(str(state) for state in State)


def _accepted(name: str, better: Sequence[object]) -> Sequence[object]:
    """Those of these values that an argument takes that is no field of an event: of texts few take any."""
    return [
        value
        for value in better
        if name in _ANY_TEXT or not isinstance(value, str | list) or (isinstance(value, list) and {*value} <= _STATES)
    ]


def _agreeing(better: Sequence[object], arguments: Arguments) -> Sequence[object]:
    """The words for `do` that agree with an `until`, or with none."""
    timed = arguments.get("until") is not None
    return [word for word in better if word == "pause" or (word == "snooze") == timed]


# --- names of things ----------------------------------------------------------------------------------


def ref(text: str) -> UUID | str:
    """An event as an agent names it: an id, or else a key."""
    try:
        return UUID(text)
    except ValueError:
        return text


def occurrence_ref(text: str) -> UUID:
    """Raises OccurrenceNotFoundError for what is no id: it names nothing."""
    try:
        return UUID(text)
    except ValueError:
        raise OccurrenceNotFoundError from None


async def inbox_query(
    core: Core, caller: Principal, *, limit: int = 1, event_id: str | None = None, tags: Sequence[str] | None = None
) -> InboxQuery:
    """What to take from the inbox. Raises EventNotFoundError for an event that is absent or out of reach."""
    event = None if event_id is None else (await core.events.get(ref(event_id), caller=caller)).event
    return InboxQuery(limit=limit, event_id=None if event is None else event.id, tags=tuple(tags or ()))


def _counted(value: object) -> object:
    """pydantic would read true as 1."""
    if isinstance(value, bool):
        raise PydanticCustomError("int_type", "not a number")
    return value


COUNTED: Final = BeforeValidator(_counted)
"""Of a whole number, after its bounds: before them, they would not be in the schema as bounds."""


class WaitArguments(BaseModel):
    """Those of `wait_for_occurrences`, where they are met before the tool's own model; a test holds both equal."""

    model_config = ConfigDict(extra="forbid")

    seconds: Annotated[int, Field(ge=0, le=50), COUNTED] | None = None
    limit: Annotated[int, Field(ge=1, le=10), COUNTED] = 1
    event_id: str | None = None
    tags: list[str] | None = None
