"""Plain values, as a caller's JSON holds them: which are refused anywhere, which text hides something, what is the same."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

DEPTH_LIMIT: Final = 32
"""Levels of objects and lists within one request, the request itself included."""

CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""Control characters, and what ends a line."""

# Bidirectional marks, overrides and isolates; zero-width characters; U+E0000-E007F, which some models read and nobody sees.
HIDDEN: Final = re.compile("[\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e007f]")
"""Characters that make a text look other than it reads (security.md S46)."""

_NEVER: Final = re.compile("[\x00\ud800-\udfff]")
_NUL: Final = "NUL is refused in any text."
_SURROGATE: Final = "A lone surrogate is not a character."
TEXT_FAULTS: Final = frozenset({_NUL, _SURROGATE})


def fault_in(value: object, depth: int = 1) -> str | None:
    """Why this value can be no part of a request, or None: `depth` is the level it stands on.

    Refused are NUL and lone surrogates in any string, numbers no double can hold, too deep a nesting,
    and whatever is not JSON.
    """
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, str):
        return _fault_in_text(value)
    if isinstance(value, int):
        return _fault_in_whole(value)
    if isinstance(value, float):
        return None if math.isfinite(value) else "NaN and Infinity are not JSON."
    if not isinstance(value, Mapping | list | tuple):
        return "Only what JSON can say: text, numbers, true, false, null, lists and objects."
    if depth > DEPTH_LIMIT:
        return f"Nested deeper than {DEPTH_LIMIT} levels."
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str):
                return "The names in an object are texts."
            if (fault := _fault_in_text(name)) is not None:
                return fault
    for part in value.values() if isinstance(value, Mapping) else value:
        if (fault := fault_in(part, depth + 1)) is not None:
            return fault
    return None


def _fault_in_text(text: str) -> str | None:
    found = _NEVER.search(text)
    if found is None:
        return None
    return _NUL if found[0] == "\x00" else _SURROGATE


def bad_text_in(value: object) -> tuple[str | int, ...] | None:
    """Where the first text that `fault_in` refuses lies in `value`: () for itself, None if there is none."""
    if isinstance(value, str):
        return () if _NEVER.search(value) else None
    if isinstance(value, Mapping):
        for name, part in value.items():
            if _NEVER.search(name):
                return ()
            if (found := bad_text_in(part)) is not None:
                return (printable(name), *found)
    elif isinstance(value, list | tuple):
        for place, part in enumerate(value):
            if (found := bad_text_in(part)) is not None:
                return (place, *found)
    return None


def without_bad_text(value: Any) -> Any:
    """The same without the characters that are refused in any text."""
    if isinstance(value, str):
        return _NEVER.sub("", value)
    if isinstance(value, Mapping):
        return {without_bad_text(name): without_bad_text(part) for name, part in value.items()}
    return [without_bad_text(part) for part in value] if isinstance(value, list | tuple) else value


def _fault_in_whole(number: int) -> str | None:
    try:
        float(number)
    except OverflowError:
        return "A number no double can hold."
    return None


def hides(value: object) -> bool:
    """Whether any text in it, names of members included, holds a HIDDEN character. `value` has no fault."""
    return any(HIDDEN.search(text) for text in _texts(value))


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, part in value.items():
            yield str(name)
            yield from _texts(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _texts(part)


def json_size(value: Any) -> int:
    """Bytes of the shortest JSON of a value without fault, in UTF-8."""
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=dict).encode())


def same(one: object, other: object) -> bool:
    """Whether two values are the same JSON: `1` is `1.0` and is not `true`; the order of members does not matter."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(part, other[name]) for name, part in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def printable(name: object) -> str:
    """A name a caller made up, safe to repeat: ASCII without controls, at most 100 characters."""
    text = name if isinstance(name, str) else type(name).__name__
    return CONTROL.sub("?", text.encode("ascii", "backslashreplace").decode())[:100]
