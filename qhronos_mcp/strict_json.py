"""One strict reader of request bodies (rest.md §4).

Python's own reader takes duplicate members (the last wins), NaN, lone surrogates and any depth; orjson likewise but for
NaN. Two readers that disagree about a body are two opinions of what was asked, so all of these are refused.
"""

import json
import math
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from qhronos_core.domain.errors import InvalidInputError

DEPTH_LIMIT: Final = 32
_LONGEST_WHOLE: Final = 309  # decimal digits of the greatest double


def read(body: bytes, *, any_text: bool = False) -> Any:
    """The value of a JSON text (RFC 8259, UTF-8): numbers as int or float, whole numbers exact.

    With `any_text` it is left to the caller to refuse NUL and lone surrogates, where it knows what to send instead.

    Raises:
        InvalidInputError: not well formed, deeper than 32, a duplicate member, NaN, Infinity, a number beyond
            the doubles, NUL or a lone surrogate in a string.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _refused(f"Not UTF-8: see byte {error.start}.") from None
    try:
        value = _READER.decode(text)
    except RecursionError:
        raise _too_deep() from None
    except json.JSONDecodeError as error:
        raise _refused(f"Not well-formed JSON: see line {error.lineno}, column {error.colno}.") from None
    _check(value, "", 0, any_text=any_text)
    return value


def read_object(body: bytes, *, any_text: bool = False) -> Mapping[str, Any]:
    """As `read`; anything but an object is refused."""
    value = read(body, any_text=any_text)
    if not isinstance(value, dict):
        raise _refused("A JSON object is needed.")
    return value


def _check(value: Any, path: str, depth: int, *, any_text: bool) -> None:
    """Text and depth of everything within `value`, which lies at `path`."""
    if isinstance(value, str):
        if not any_text:
            _check_text(value, path)
    elif isinstance(value, dict | list):
        if depth == DEPTH_LIMIT:
            raise _too_deep()
        for name, part in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(name, str) and not any_text:
                _check_text(name, path)
            _check(part, f"{path}.{name}"[:200] if path else str(name)[:200], depth + 1, any_text=any_text)


def _check_text(text: str, path: str) -> None:
    if "\x00" in text:
        raise InvalidInputError.of(path or "body", "NUL is refused in any text.", code="bad_text")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidInputError.of(path or "body", "A lone surrogate is not a character.", code="bad_text")


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise InvalidInputError.of(
            _printable(twice), "This member is given twice in one object.", code="duplicate_member"
        )
    return members


def _whole(digits: str) -> int:
    if len(digits.lstrip("-")) > _LONGEST_WHOLE or math.isinf(float(digits)):
        raise _refused("A number is larger than any double.")
    return int(digits)


def _fraction(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise _refused("A number is larger than any double.")
    return number


def _constant(name: str) -> NoReturn:
    raise _refused(f"{name} is not JSON.")


def _printable(name: str) -> str:
    return name.encode("ascii", "backslashreplace").decode()[:200]


def _refused(why: str) -> InvalidInputError:
    return InvalidInputError.of("body", why, code="invalid_json")


def _too_deep() -> InvalidInputError:
    return _refused(f"Nested deeper than {DEPTH_LIMIT} levels.")


_READER: Final = json.JSONDecoder(
    object_pairs_hook=_members, parse_int=_whole, parse_float=_fraction, parse_constant=_constant
)
