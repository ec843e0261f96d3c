"""rest.md §4: how a body is read, and what is refused before any field is looked at."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qhronos_core.domain.errors import InvalidInputError
from qhronos_mcp import strict_json


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"{'a': 1}",
        b'{"a": 1,}',
        b'{"a": 1} x',
        b'{"a": 01}',
        b'{"a": +1}',
        b'{"a": .5}',
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": -Infinity}',
        b'{"a": 1e400}',
        b'{"a": -1e400}',
        b'{"a": ' + b"9" * 310 + b"}",
        b'{"a": ' + b"9" * 309 + b"}",
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": 1, "a": 2}',
        b'{"m": {"a": 1, "\\u0061": 2}}',
        b'{"a": "\\u0000"}',
        b'{"\\u0000": 1}',
        b'{"a": "\x00"}',
        b'{"a": "\\ud800"}',
        b'{"a": ["x", {"b": "\\udc00\\ud800"}]}',
        b'{"\\udfff": 1}',
        b'{"a": "\xff"}',
        b'{"a": "\xed\xa0\x80"}',
        b"\xef\xbb\xbf{}",
        '{"a": 1}'.encode("utf-16"),
        b'{"a": "line\nbreak"}',
        b"[" * 33 + b"]" * 33,
        b"[" * 1_000_000,
        b'{"a":' * 200_000,
        b"[]",
        b"null",
        b'"text"',
        b"5",
    ],
)
def test_a_body_that_two_readers_could_read_differently_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidInputError):
        strict_json.read_object(body)


def test_thirty_two_levels_are_accepted_and_thirty_three_are_not() -> None:
    deepest = b'{"a":' + b"[" * 31 + b"]" * 31 + b"}"
    assert strict_json.read_object(deepest)
    with pytest.raises(InvalidInputError, match="deeper than 32"):
        strict_json.read_object(b'{"a":' + b"[" * 32 + b"]" * 32 + b"}")


def test_numbers_keep_their_kind_and_whole_numbers_their_digits() -> None:
    read = strict_json.read_object(b'{"id": 9007199254740993, "half": 0.5, "one": 1.0, "big": 1e308, "no": -0}')
    assert read == {"id": 9007199254740993, "half": 0.5, "one": 1.0, "big": 1e308, "no": 0}
    assert [type(value) for value in read.values()] == [int, float, float, float, int]


def test_a_surrogate_pair_is_one_character_and_accepted() -> None:
    assert strict_json.read_object(b'{"a": "\\ud83d\\ude00"}') == {"a": "\U0001f600"}


def test_a_refusal_names_where_the_bad_text_lies() -> None:
    with pytest.raises(InvalidInputError) as refused:
        strict_json.read_object(b'{"metadata": {"notes": ["ok", "\\u0000"]}}')
    assert refused.value.faults[0].field == "metadata.notes.1"


def test_a_member_given_twice_is_named() -> None:
    with pytest.raises(InvalidInputError) as refused:
        strict_json.read_object(b'{"name": "a", "tags": [], "name": "b"}')
    assert (refused.value.faults[0].field, refused.value.faults[0].code) == ("name", "duplicate_member")


_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _TEXT,
    lambda parts: st.lists(parts) | st.dictionaries(_TEXT, parts),
    max_leaves=20,
)


@settings(max_examples=60)
@given(st.dictionaries(_TEXT, _JSON), st.booleans())
def test_whatever_is_well_formed_comes_back_as_it_was(value: dict[str, object], ascii_only: bool) -> None:
    assert strict_json.read_object(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_and_nothing_else(body: bytes) -> None:
    try:
        strict_json.read(body)
    except InvalidInputError as refused:
        str(refused).encode("utf-8")
        for fault in refused.faults:
            fault.field.encode("utf-8")
