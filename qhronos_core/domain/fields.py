"""The fields of an event one by one: what each takes (rest.md §2, §6), and the value that was probably meant by another.

A reader is given a value that is well-formed JSON and not null, and returns it as the domain keeps it.
It coerces nothing: `"5"` is not 5 and `true` is not 1.
"""

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from enum import Enum
from typing import Any, Final

from qhronos_core.domain.destination import URL_MOST, check_headers
from qhronos_core.domain.errors import InvalidInputError
from qhronos_core.domain.event import Ack, Action, ActionType, CatchUp, Overlap
from qhronos_core.domain.plain import CONTROL, HIDDEN, fault_in, json_size, printable
from qhronos_core.domain.retry import RetryPolicy
from qhronos_core.domain.schedule import check_timezone, parse_duration
from qhronos_core.domain.signature import key_of

NAME_MOST: Final = 200
DESCRIPTION_MOST: Final = 4_000
MAX_OCCURRENCES_MOST: Final = 100_000
EXCLUSIONS_MOST: Final = 100
TAGS_MOST: Final = 64
TAG_MOST: Final = 128
METADATA_MOST: Final = 65_536  # bytes, as JSON
ACK_TIMEOUT: Final = (timedelta(seconds=10), timedelta(days=7))
SEND_TIMEOUT: Final = (timedelta(seconds=1), timedelta(seconds=30))
MAX_ATTEMPTS_MOST: Final = 20
DELAY_MOST: Final = timedelta(days=366)
MASK: Final = "***"
"""Shown in place of the value of a secret header; sent back, it stands for the stored one."""

METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
BAD_ACTION: Final = "invalid_action"

_KEY: Final = re.compile(r"[A-Za-z0-9._:/-]{1,100}")
_CLIENT_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")
_CLIENT_PREFIX: Final = "q:"
_FALLBACK_NAME: Final = "Reminder"
_PARTS_MOST: Final = 10  # faults told of one field
SCHEDULE_EXAMPLES: Final = ("every day at 9am", "in 1h", "0 9 * * 1-5")


class Wrong(Exception):
    """A value that will not do: why, and the values that were probably meant, likeliest first.

    `at` leads to the faulty part, where the value is an object or a list. `parts`: several findings in one value.
    """

    def __init__(self, why: str, *meant: object, code: str = InvalidInputError.code) -> None:
        self.why = why
        self.meant = meant
        self.code = code
        self.at: tuple[str | int, ...] = ()
        self.parts: tuple[Wrong, ...] = (self,)
        super().__init__(why)

    def below(self, *path: str | int) -> "Wrong":
        for part in self.parts:
            part.at = (*path, *part.at)
        return self

    @classmethod
    def of_parts(cls, parts: Sequence["Wrong"]) -> "Wrong":
        many = cls("; ".join(part.why for part in parts))
        many.parts = tuple(parts)
        return many


Reader = Callable[[object], Any]


def kind_of(value: object) -> str:
    """What a caller would call it."""
    if isinstance(value, bool):
        return "true or false"
    kinds = ((str, "text"), (int | float, "a number"), (Mapping, "an object"), (list | tuple, "a list"))
    return next((name for kind, name in kinds if isinstance(value, kind)), "null")


def mistyped(wanted: str, value: object, *meant: object) -> Wrong:
    return Wrong(f"This must be {wanted}; it is {kind_of(value)}.", *meant)


# --- kinds of values ----------------------------------------------------------------------------------


def text(value: object) -> str:
    if not isinstance(value, str):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        raise mistyped("text", value, *([str(value)] if number else []))
    return value


def flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise mistyped("true or false", value, True)
    return value


def whole(least: int, most: int) -> Reader:
    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise mistyped("a whole number", value, *_whole_meant(value, least, most))
        if not least <= value <= most:
            raise Wrong(f"From {least:,} to {most:,}.", min(max(value, least), most))
        return value

    return read


def _whole_meant(value: Any, least: int, most: int) -> list[int]:
    if isinstance(value, bool):
        return []
    said = isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value) is not None
    if not said and not (isinstance(value, int | float) and value == int(value)):
        return []
    meant = int(value)
    return [meant] if least <= meant <= most else []


def one_of(kind: type[Enum]) -> Reader:
    words = [str(member.value) for member in kind]

    def read(value: object) -> Enum:
        if not isinstance(value, str) or value not in words:
            raise Wrong(f"One of {', '.join(words)}.", *_near(value, words))
        return kind(value)

    return read


def _near(value: object, words: Sequence[str]) -> Sequence[str]:
    """The word that was meant, or all of them."""
    if not isinstance(value, str):
        return words
    return difflib.get_close_matches(value.strip().lower()[:40], words, n=1) or words


def length(least: timedelta | None = None, most: timedelta | None = None) -> Reader:
    """A duration, the ends of the range included."""

    def parsed(said: str) -> timedelta:
        return parse_duration(said, field="", minimum=least, maximum=most)

    def read(value: object) -> timedelta:
        if not isinstance(value, str):
            seconds = isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10**6
            raise mistyped("a length of time such as 15m or PT15M", value, *_meant(f"{value}s" if seconds else "15m"))
        try:
            return parsed(value)
        except InvalidInputError as error:
            raise Wrong(error.faults[0].why, *_meant(value), code=error.faults[0].code) from None

    def _meant(said: str) -> list[object]:
        try:
            parsed(said)
        except InvalidInputError as error:
            return [fix[""] for fix in error.faults[0].fix]
        return [said]

    return read


# --- the fields ---------------------------------------------------------------------------------------


def name(value: object) -> str:
    given = text(value)
    meant = _visible(given).strip()[:NAME_MOST].strip() or _FALLBACK_NAME
    if not given.strip():
        raise Wrong("A name is not blank.", meant)
    if (why := _fault_in_visible(given)) is not None:
        raise Wrong(why, meant)
    if len(given) > NAME_MOST:
        raise Wrong(f"At most {NAME_MOST} characters.", meant)
    return given


def _visible(given: str) -> str:
    """What may not be in a name or a tag, taken away."""
    return HIDDEN.sub("", CONTROL.sub(" ", given))


def _fault_in_visible(given: str) -> str | None:
    if CONTROL.search(given):
        return "No control characters and no line breaks."
    return "No bidirectional marks, zero-width or tag characters." if HIDDEN.search(given) else None


def description(value: object) -> str:
    given = text(value)
    if len(given) > DESCRIPTION_MOST:
        raise Wrong(f"At most {DESCRIPTION_MOST:,} characters.", given[:DESCRIPTION_MOST])
    return given


def schedule(value: object) -> str | Mapping[str, Any]:
    """As given: what it means is read by `Timetable.of`."""
    if isinstance(value, Mapping):
        return dict(value)
    if not isinstance(value, str):
        raise Wrong(f"A schedule is text, or the later dialect's object; it is {kind_of(value)}.", *SCHEDULE_EXAMPLES)
    return value


def timezone(value: object) -> str:
    if not isinstance(value, str):
        raise mistyped("an IANA name", value, "UTC")
    return check_timezone(value)


def exclusions(value: object) -> tuple[str, ...]:
    """As given: which days and instants they are is read by `Timetable.of`."""
    if not isinstance(value, list | tuple):
        raise mistyped("a list of texts", value, [value] if _is_day(value) else [])
    if len(value) > EXCLUSIONS_MOST:
        raise Wrong(f"At most {EXCLUSIONS_MOST}; a range of days counts as one.", list(value[:EXCLUSIONS_MOST]))
    texts = [each for each in value if isinstance(each, str)]
    if len(texts) < len(value):
        raise Wrong("Each is text: a date, a range of dates or an instant.", texts)
    return tuple(texts)


def _is_day(value: object) -> bool:
    try:
        return isinstance(value, str) and date.fromisoformat(value).isoformat() == value
    except ValueError:
        return False


def tags(value: object) -> tuple[str, ...]:
    """Duplicates dropped, order kept."""
    if not isinstance(value, list | tuple):
        raise mistyped("a list of texts", value, _mended(value.split(",") if isinstance(value, str) else []))
    if (why := next(filter(None, map(_fault_in_tag, value)), None)) is not None:
        raise Wrong(why, _mended(value))
    given = tuple(dict.fromkeys(value))
    if len(given) > TAGS_MOST:
        raise Wrong(f"At most {TAGS_MOST} tags.", list(given[:TAGS_MOST]))
    return given


def _fault_in_tag(tag: object) -> str | None:
    if not isinstance(tag, str):
        return f"Each tag is text; one is {kind_of(tag)}."
    if not 1 <= len(tag) <= TAG_MOST:
        return f"Each tag has 1 to {TAG_MOST} characters."
    return "No comma within a tag." if "," in tag else _fault_in_visible(tag)


def _mended(given: Sequence[object]) -> list[str]:
    """The nearest list of tags that is accepted."""
    scalars = (str(tag) for tag in given if isinstance(tag, str | int | float) and not isinstance(tag, bool))
    parts = (_visible(part).strip()[:TAG_MOST] for scalar in scalars for part in scalar.split(","))
    return list(dict.fromkeys(part for part in parts if part))[:TAGS_MOST]


def metadata(value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        meant = {"value": value}
        would_do = isinstance(value, str | int | float) and not fault_in(meant) and json_size(meant) <= METADATA_MOST
        raise mistyped("an object", value, *([meant] if would_do else []))
    if json_size(value) > METADATA_MOST:
        raise Wrong("At most 64 KiB as JSON.")
    return dict(value)


def key(value: object) -> str:
    given = text(value)
    if not _KEY.fullmatch(given):
        meant = re.sub(r"[^A-Za-z0-9._:/-]+", "-", given).strip("-")[:100]
        raise Wrong("1 to 100 characters; letters A-Z, a-z, digits and ._:/- only.", *([meant] if meant else []))
    return given


def hmac_secret(value: object) -> str:
    if not isinstance(value, str):
        raise mistyped("text", value)
    try:
        key_of(value)
    except InvalidInputError as error:
        raise Wrong(error.faults[0].why, code=error.faults[0].code) from None
    return value


def retry(value: object) -> RetryPolicy:
    """What is left out is as in the default policy."""
    if not isinstance(value, Mapping):
        meant = [{"max_attempts": each} for each in _whole_meant(value, 1, MAX_ATTEMPTS_MOST)]
        raise mistyped("an object", value, *meant)
    return RetryPolicy(**_members(value, _RETRY))


def _delays(value: object) -> tuple[timedelta, ...]:
    if not isinstance(value, list | tuple):
        raise mistyped("a list of lengths of time", value, *([[value]] if isinstance(value, str) else []))
    if not 1 <= len(value) <= MAX_ATTEMPTS_MOST:
        raise Wrong(f"1 to {MAX_ATTEMPTS_MOST} delays.", list(value[:MAX_ATTEMPTS_MOST]) or ["5s"])
    return tuple(_each(value, length(most=DELAY_MOST)))


# --- objects and lists within a request -----------------------------------------------------------------


def _members(
    given: Mapping[str, object], known: Mapping[str, Reader], *, required: Sequence[str] = ()
) -> dict[str, Any]:
    """The members of an object, read; those that are null are left out. Raises Wrong with every faulty one."""
    wrong: list[Wrong] = []
    read: dict[str, Any] = {}
    for member, value in given.items():
        try:
            if member not in known:
                raise Wrong(_no_such(member, known))
            if value is not None:
                read[member] = known[member](value)
        except Wrong as finding:
            wrong.append(finding.below(printable(member)))
            if len(wrong) == _PARTS_MOST:
                break
    absent = [member for member in required if given.get(member) is None]
    wrong += [Wrong("This is required.").below(member) for member in absent]
    if wrong:
        raise Wrong.of_parts([part for finding in wrong for part in finding.parts])
    return read


def _each(given: Sequence[object], reader: Reader) -> list[Any]:
    wrong: list[Wrong] = []
    read: list[Any] = []
    for place, value in enumerate(given):
        try:
            read.append(reader(value))
        except Wrong as finding:
            wrong.append(finding.below(place))
    if wrong:
        raise Wrong.of_parts(wrong[:_PARTS_MOST])
    return read


def _no_such(member: str, known: Mapping[str, Reader]) -> str:
    near = difflib.get_close_matches(member[:40], known, n=1, cutoff=0.0)
    return f"No such member; the nearest is {near[0]}." if near else "No such member: it takes none."


_RETRY: Final[Mapping[str, Reader]] = {"max_attempts": whole(1, MAX_ATTEMPTS_MOST), "delays": _delays}


# --- the action ---------------------------------------------------------------------------------------


def action(value: object) -> tuple[Action, Mapping[str, str]]:
    """Where it goes, and the values of its secret headers: in the action itself they are MASK.

    Whether the URL is one that may be called is judged by `destination.parse_url`, which knows the policy.
    """
    try:
        return _action(value)
    except Wrong as finding:
        for part in finding.parts:
            part.code = BAD_ACTION
        raise


def _action(value: object) -> tuple[Action, Mapping[str, str]]:
    if not isinstance(value, Mapping):
        raise mistyped("an object {type, params}", value, _action_meant(value))
    if not isinstance(value.get("params"), Mapping | None):
        raise mistyped("an object", value["params"], {}).below("params")
    given = _members(value, {"type": one_of(ActionType), "params": _anything}, required=["type"])
    kind: ActionType = given["type"]
    params = given.get("params", {})
    try:
        read = _members(params, _PARAMS[kind], required=_REQUIRED[kind])
    except Wrong as finding:
        raise finding.below("params") from None
    if "timeout" in read:
        read["timeout"] = params["timeout"]  # kept as it was said
    if kind is not ActionType.APICALL:
        return Action(kind, read), {}
    return _apicall(read)


def _action_meant(value: object) -> dict[str, object]:
    if isinstance(value, str) and value.startswith(("https://", "http://")) and len(value) <= URL_MOST:
        return {"type": "webhook", "params": {"url": value}}
    return {"type": "inbox"}


def _apicall(read: dict[str, Any]) -> tuple[Action, Mapping[str, str]]:
    headers: dict[str, str] = read.get("headers", {})
    secret = {name.lower() for name in read.get("secret_headers", ())}
    if secret - {name.lower() for name in headers}:
        raise Wrong("Each is the name of one of the headers.").below("params", "secret_headers")
    secret.add("authorization")
    hidden = {name: value for name, value in headers.items() if name.lower() in secret}
    if headers:
        read["headers"] = {name: MASK if name in hidden else value for name, value in headers.items()}
    return Action(ActionType.APICALL, read), hidden


def _url(value: object) -> str:
    if not isinstance(value, str):
        raise mistyped("text", value)
    if not 1 <= len(value) <= URL_MOST:
        raise Wrong(f"A URL has 1 to {URL_MOST:,} characters.")
    return value


def _method(value: object) -> str:
    if not isinstance(value, str) or value not in METHODS:
        upper = value.strip().upper() if isinstance(value, str) else ""
        raise Wrong(f"One of {', '.join(METHODS)}.", upper if upper in METHODS else "POST")
    return value


def _headers(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise mistyped("an object of texts", value)
    for header, given in value.items():
        if not isinstance(given, str):
            raise mistyped("text", given).below(printable(header))
    try:
        return check_headers(value, field="")
    except InvalidInputError as error:
        parts = [Wrong(fault.why).below(*filter(None, [printable(fault.field[1:])])) for fault in error.faults]
        raise Wrong.of_parts(parts) from None


def _header_names(value: object) -> list[str]:
    if not isinstance(value, list | tuple):
        raise mistyped("a list of the names of headers", value)
    return _each(value, text)


def is_client_name(text: str) -> bool:
    """Whether a WebSocket client may be called so (rest.md §6)."""
    return _CLIENT_NAME.fullmatch(text) is not None


def _client_name(value: object) -> str:
    given = text(value)
    if not is_client_name(given):
        meant = re.sub(r"[^A-Za-z0-9._-]+", "-", given).strip("-")[:128]
        raise Wrong("1 to 128 characters; letters A-Z, a-z, digits and ._- only.", *([meant] if meant else []))
    return given


def _anything(value: object) -> object:
    return value


_PARAMS: Final[Mapping[ActionType, Mapping[str, Reader]]] = {
    ActionType.WEBHOOK: {"url": _url, "timeout": length(*SEND_TIMEOUT)},
    ActionType.APICALL: {
        "method": _method,
        "url": _url,
        "headers": _headers,
        "secret_headers": _header_names,
        "body": _anything,
        "timeout": length(*SEND_TIMEOUT),
    },
    ActionType.WEBSOCKET: {"client_name": _client_name},
    ActionType.INBOX: {},
}
_REQUIRED: Final[Mapping[ActionType, Sequence[str]]] = {
    ActionType.WEBHOOK: ("url",),
    ActionType.APICALL: ("url",),
    ActionType.WEBSOCKET: ("client_name",),
    ActionType.INBOX: (),
}


def webhook(value: object) -> Action:
    """The later dialect's one line: a URL, or `q:` and the name of a client."""
    given = text(value)
    if given.startswith(_CLIENT_PREFIX):
        client = given.removeprefix(_CLIENT_PREFIX)
        try:
            return Action(ActionType.WEBSOCKET, {"client_name": _client_name(client)})
        except Wrong as finding:
            raise Wrong(
                f"After q: a client's name, {finding.why}", *(f"{_CLIENT_PREFIX}{meant}" for meant in finding.meant)
            ) from None
    if not given.lower().startswith(("https://", "http://")):
        raise Wrong("A URL beginning with https://, or q:<client>.")
    return Action(ActionType.WEBHOOK, {"url": _url(given)})


def webhook_of(action: Action) -> str | None:
    """The one line by which an action is shown, where it has one."""
    if action.type is ActionType.WEBHOOK:
        return str(action.params["url"])
    if action.type is ActionType.WEBSOCKET:
        return f"{_CLIENT_PREFIX}{action.params['client_name']}"
    return None


catch_up: Final = one_of(CatchUp)
overlap: Final = one_of(Overlap)
ack: Final = one_of(Ack)
expires_after: Final = length()
ack_timeout: Final = length(*ACK_TIMEOUT)
max_occurrences: Final = whole(1, MAX_OCCURRENCES_MOST)
