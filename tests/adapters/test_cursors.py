"""Cursors of lists: a position in one order of one store, and nothing else reads as one."""

import base64
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qhronos_core.adapters.cursors import ListOrder
from qhronos_core.domain.errors import InvalidInputError
from qhronos_core.domain.lifecycle import State
from qhronos_core.ports import EventQuery, OccurrenceQuery
from tests.clock import NOON

STORE = UUID(int=1)
ORDER = ListOrder(STORE, "events", EventQuery())
INSTANTS = st.datetimes(datetime(1900, 1, 1), datetime(2300, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@given(INSTANTS, st.uuids())
def test_a_cursor_reads_as_the_position_it_was_made_of(instant: datetime, id_: UUID) -> None:
    assert ORDER.position(ORDER.cursor(instant, id_)) == (instant, id_)


@pytest.mark.parametrize("instant", [b"\x7f" + b"\xff" * 7, b"\x80" + b"\0" * 7])
def test_an_instant_no_calendar_has_is_refused(instant: bytes) -> None:
    raw = base64.urlsafe_b64decode(ORDER.cursor(NOON, UUID(int=3)))
    with pytest.raises(InvalidInputError):
        ORDER.position(base64.urlsafe_b64encode(raw[:6] + instant + raw[14:]).decode())


@pytest.mark.parametrize(
    "other",
    [
        ListOrder(UUID(int=2), "events", EventQuery()),
        ListOrder(STORE, "occurrences", EventQuery()),
        ListOrder(STORE, "events", EventQuery(text="x")),
        ListOrder(STORE, "events", None),
    ],
)
def test_a_cursor_of_another_store_list_or_filter_is_refused(other: ListOrder) -> None:
    with pytest.raises(InvalidInputError) as refused:
        ORDER.position(other.cursor(NOON, UUID(int=3)))
    assert refused.value.faults[0].code == "invalid_cursor"


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda raw: raw.decode("latin-1")))
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError):
        ORDER.position(text)


def test_another_process_makes_the_same_cursor_whatever_its_hash_seed() -> None:
    code = (
        "from uuid import UUID; from tests.clock import NOON; from qhronos_core.ports import OccurrenceQuery;"
        "from qhronos_core.adapters.cursors import ListOrder; from qhronos_core.domain.lifecycle import State;"
        "print(ListOrder(UUID(int=1), 'o', OccurrenceQuery(states=frozenset(State))).cursor(NOON, UUID(int=3)))"
    )
    made = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=Path(__file__).parents[2],
            env={"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        for seed in ("1", "2", "3")
    }
    ours = ListOrder(STORE, "o", OccurrenceQuery(states=frozenset(State))).cursor(NOON, UUID(int=3))
    assert made == {ours}
