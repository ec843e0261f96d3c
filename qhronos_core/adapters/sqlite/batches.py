"""Many rows in one step.

`sqlite3` lets other threads run at every step of a statement, and beside a busy event loop the way back is long: a hundred
rows read, or written, one by one cost a hundred such waits. So rows are read as one JSON text, made by SQLite itself, and
written by one statement over a list of values.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, Final

import orjson

from qhronos_core.adapters.sqlite.statements import chunks, columns, marks

WRITTEN_AT_ONCE: Final = 250  # rows in one statement; their values stay far below SQLite's limit of 32,766


class RowText:
    """The columns of a table as SQL for one JSON array a row, and the way back to rows as `sqlite3` would give them."""

    def __init__(self, names: Sequence[str], blobs: Iterable[str], table: str) -> None:
        blobs = frozenset(blobs)
        parts = ((name in blobs, f"{table}.{name}") for name in names)
        self.sql = ", ".join(f"iif({it} IS NULL, NULL, hex({it}))" if is_blob else it for is_blob, it in parts)
        self._blobs = tuple(place for place, name in enumerate(names) if name in blobs)

    def read(self, text: str) -> list[list[Any]]:
        """The rows of a `json_group_array(json_array({sql}))`; what stands behind these columns is left as it is."""
        rows: list[list[Any]] = orjson.loads(text)
        for row in rows:
            for place in self._blobs:
                if row[place] is not None:
                    row[place] = bytes.fromhex(row[place])
        return rows


def insert(connection: sqlite3.Connection, into: str, rows: Sequence[Sequence[Any]]) -> None:
    """`into` is all before VALUES. The rows are inserted in their order."""
    for some in chunks(rows, WRITTEN_AT_ONCE):
        connection.execute(_insert(into, len(some), len(some[0])), list(chain.from_iterable(some)))


@lru_cache(maxsize=1024)
def _insert(into: str, count: int, width: int) -> str:
    return f"{into} VALUES {_values(count, width)}"


def update_occurrences(connection: sqlite3.Connection, changed: Sequence[str], rows: Sequence[Sequence[Any]]) -> int:
    """Rows of id, fence and state to be met, then the values of the columns `changed`; how many were met and written."""
    before = connection.total_changes
    for some in chunks(rows, WRITTEN_AT_ONCE):
        connection.execute(_update(tuple(changed), len(some)), list(chain.from_iterable(some)))
    return connection.total_changes - before


@lru_cache(maxsize=1024)
def _update(changed: tuple[str, ...], count: int) -> str:
    names = [f"c{place}" for place in range(len(changed))]
    settings = ", ".join(f"{column} = step.{name}" for column, name in zip(changed, names, strict=True))
    return f"""
        WITH step (id, fence, state, {columns(names)}) AS (VALUES {_values(count, 3 + len(changed))})
        UPDATE occurrences SET {settings} FROM step
         WHERE occurrences.id = step.id AND occurrences.fence = step.fence AND occurrences.state = step.state
    """


def count_standing(connection: sqlite3.Connection, rows: Sequence[Sequence[Any]]) -> int:
    """Of these ids, fences and states: how many occurrences are as they say."""
    return sum(
        connection.execute(_standing(len(some)), list(chain.from_iterable(some))).fetchone()[0]
        for some in chunks(rows, WRITTEN_AT_ONCE)
    )


@lru_cache(maxsize=1024)
def _standing(count: int) -> str:
    return f"""
        WITH step (id, fence, state) AS (VALUES {_values(count, 3)})
        SELECT count(*) FROM step JOIN occurrences AS o ON o.id = step.id AND o.fence = step.fence AND o.state = step.state
    """


def ids_present(connection: sqlite3.Connection, table: str, ids: Iterable[bytes]) -> Iterator[bytes]:
    """Those of the ids that have a row."""
    for some in chunks(list(ids)):
        sql = f"SELECT group_concat(hex(id), ' ') FROM {table} WHERE id IN ({marks(len(some))})"
        found = connection.execute(sql, some).fetchone()[0]
        yield from (bytes.fromhex(each) for each in (found or "").split())


def _values(count: int, width: int) -> str:
    return ", ".join([f"({marks(width)})"] * count)
