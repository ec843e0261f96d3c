"""The statements that must stay quick are served by their indexes, and rows hold exactly the domain's fields."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from qhronos_core.adapters.migrations import Migration
from qhronos_core.adapters.sqlite import claims, events, migrating, occurrences, rows
from qhronos_core.domain.event import Event, EventStatus
from qhronos_core.domain.lifecycle import State
from qhronos_core.domain.occurrence import Attempt, Entry, Occurrence
from qhronos_core.ports import RememberedAnswer, Revocation, TokenRecord
from tests.clock import NOON


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(tmp_path / "empty.db", isolation_level=None)) as connection:
        migrating.migrate(connection, NOON)
        yield connection


def plan(connection: sqlite3.Connection, sql: str) -> str:
    parameters = [0] * sql.count("?")
    return "\n".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", parameters))


@pytest.mark.parametrize(
    ("sql", "index"),
    [
        (claims.ANY_DUE, "occurrences_due_idx"),
        (claims.TAKE_DUE, "occurrences_due_idx"),
        (claims.LANES_DUE, "occurrences_lane_idx"),
        (claims.TAKE_OF_LANES, "occurrences_lane_idx"),
        (events.COUNT_LIVE, "events_live_idx"),
        (events.RUNS_PER_DAY, "events_live_idx"),
        (claims.crowds_sql(2, 3), "occurrences_unfinished_idx"),
        (
            f"SELECT * FROM occurrences WHERE event_id IN (?, ?) AND {occurrences._PLANNED}",
            "occurrences_unfinished_idx",
        ),
    ],
)
def test_what_every_look_asks_is_answered_from_an_index(empty: sqlite3.Connection, sql: str, index: str) -> None:
    found = plan(empty, sql)
    assert index in found
    assert "TEMP B-TREE" not in found
    already_found = r"occurrences USING INDEX|o$|\(subquery|every$|turn VIRTUAL TABLE"
    assert not re.search(rf"SCAN (?!{already_found})", found, re.MULTILINE)


def test_the_next_due_instant_is_read_from_the_head_of_its_index(empty: sqlite3.Connection) -> None:
    asked: list[str] = []
    empty.set_trace_callback(asked.append)
    occurrences.next_due(empty, 0)
    empty.set_trace_callback(None)
    for sql in asked:
        found = plan(empty, sql)
        assert "occurrences_due_idx" in found
        assert "TEMP B-TREE" not in found


@pytest.mark.parametrize(
    ("columns", "value"),
    [
        (rows.EVENT_COLUMNS, Event),
        (rows.OCCURRENCE_COLUMNS, Occurrence),
        (rows.ATTEMPT_COLUMNS, Attempt),
        (rows.ENTRY_COLUMNS, Entry),
        (rows.TOKEN_COLUMNS, TokenRecord),
        (rows.REVOCATION_COLUMNS, Revocation),
        (rows.ANSWER_COLUMNS, RememberedAnswer),
    ],
)
def test_a_row_has_a_column_for_every_field(columns: tuple[str, ...], value: Any) -> None:
    assert set(columns) == {field.name for field in fields(value)}


def test_occurrences_are_read_by_position_in_the_order_of_their_fields() -> None:
    assert tuple(field.name for field in fields(Occurrence)) == rows.OCCURRENCE_COLUMNS


def test_a_step_may_change_all_but_what_makes_the_row_itself() -> None:
    fixed = set(rows.OCCURRENCE_COLUMNS) - set(rows.MOVING_COLUMNS)
    assert fixed == {"id", "event_id", "scheduled_at", "created_at", "cause", "lane"}


@pytest.mark.parametrize(("table", "states"), [("occurrences", State), ("events", EventStatus)])
def test_the_column_takes_the_domains_states_and_no_other(
    empty: sqlite3.Connection, table: str, states: type[State] | type[EventStatus]
) -> None:
    (sql,) = empty.execute("SELECT sql FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
    checked = re.search(r"CHECK \((?:state|status) IN \(([^)]*)\)\)", sql)
    assert checked is not None
    assert re.findall(r"'(\w+)'", checked[1]) == [state.value for state in states]


def test_migrating_twice_changes_nothing(empty: sqlite3.Connection) -> None:
    before = list(empty.iterdump())
    assert migrating.migrate(empty, NOON) == []
    assert list(empty.iterdump()) == before


def test_a_migration_that_fails_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = migrating.known()[0]
    bad = Migration(2, "0002_bad", "CREATE TABLE half (id);\nCREATE TABLE nonsense (;\n")
    monkeypatch.setattr(migrating, "known", lambda: [good, bad])
    with closing(sqlite3.connect(tmp_path / "half.db", isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError):
            migrating.migrate(connection, NOON)
        connection.execute("ROLLBACK")
        assert connection.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,)
