"""Tokens, revocations and remembered answers."""

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from qhronos_core.adapters.cursors import ListOrder
from qhronos_core.adapters.sqlite.rows import (
    ANSWER_COLUMNS,
    REVOCATION_COLUMNS,
    TOKEN_COLUMNS,
    answer_of,
    answer_row,
    revocation_of,
    revocation_row,
    token_of,
    token_row,
)
from qhronos_core.adapters.sqlite.statements import Filter, columns, marks
from qhronos_core.adapters.sqlite.threads import Readers
from qhronos_core.domain.errors import RepeatedRequestError, TokenNotFoundError
from qhronos_core.domain.ids import TokenId, microseconds
from qhronos_core.ports import Listing, Page, RememberedAnswer, Revocation, TokenRecord

_COLUMNS: Final = columns(TOKEN_COLUMNS)


class SqliteTokens:
    def __init__(self, readers: Readers, store_id: UUID) -> None:
        self._readers = readers
        self._store_id = store_id

    async def list(self, page: Page, *, count: bool = False) -> Listing[TokenRecord]:
        order = ListOrder(self._store_id, "tokens", None)
        wanted = Filter()
        if page.cursor is not None:
            issued_at, jti = order.position(page.cursor)
            wanted.add("(issued_at, jti) < (?, ?)", microseconds(issued_at), jti.bytes)
        sql = f"""
            SELECT {_COLUMNS} FROM tokens WHERE {wanted.sql} ORDER BY issued_at DESC, jti DESC LIMIT ? OFFSET ?
        """
        parameters = (*wanted.parameters, page.limit + 1, page.offset)

        def read(connection: sqlite3.Connection) -> tuple[list[Any], int | None]:
            total = connection.execute("SELECT count(*) FROM tokens").fetchone()[0] if count else None
            return connection.execute(sql, parameters).fetchall(), total

        rows, total = await self._readers.read(read)
        items = tuple(token_of(row) for row in rows[: page.limit])
        more = len(rows) > page.limit and items
        return Listing(items, order.cursor(items[-1].issued_at, items[-1].jti) if more else None, total)

    async def get(self, jti: TokenId) -> TokenRecord:
        sql = f"SELECT {_COLUMNS} FROM tokens WHERE jti = ?"
        row = await self._readers.read(lambda connection: connection.execute(sql, (jti.bytes,)).fetchone())
        if row is None:
            raise TokenNotFoundError
        return token_of(row)

    async def revocations(self) -> Sequence[Revocation]:
        sql = f"SELECT {columns(REVOCATION_COLUMNS)} FROM revocations ORDER BY created_at, id"
        rows = await self._readers.read(lambda connection: connection.execute(sql).fetchall())
        return [revocation_of(row) for row in rows]


_SAVE_TOKEN: Final = f"""
    INSERT INTO tokens ({_COLUMNS}) VALUES ({marks(len(TOKEN_COLUMNS))})
    ON CONFLICT (jti) DO UPDATE SET revoked_at = excluded.revoked_at
"""
_SAVE_REVOCATION: Final = (
    f"INSERT INTO revocations ({columns(REVOCATION_COLUMNS)}) VALUES ({marks(len(REVOCATION_COLUMNS))})"
)
_SAVE_ANSWER: Final = f"INSERT INTO idempotency ({columns(ANSWER_COLUMNS)}) VALUES ({marks(len(ANSWER_COLUMNS))})"


def save_tokens(connection: sqlite3.Connection, tokens: Sequence[TokenRecord]) -> None:
    """A token that is there already has its revocation written; nothing else of it ever changes."""
    connection.executemany(_SAVE_TOKEN, [token_row(token) for token in tokens])


def save_revocations(connection: sqlite3.Connection, revocations: Sequence[Revocation]) -> None:
    connection.executemany(_SAVE_REVOCATION, [revocation_row(revocation) for revocation in revocations])


def remember(connection: sqlite3.Connection, answer: RememberedAnswer, now: datetime) -> None:
    """Raises RepeatedRequestError where an unexpired answer has the key already."""
    connection.execute(
        "DELETE FROM idempotency WHERE principal = ? AND path = ? AND key = ? AND expires_at <= ?",
        (answer.principal, answer.path, answer.key, microseconds(now)),
    )
    try:
        connection.execute(_SAVE_ANSWER, answer_row(answer))
    except sqlite3.IntegrityError as error:
        raise RepeatedRequestError from error


def remembered(
    connection: sqlite3.Connection, principal: str, path: str, key: str, now: datetime
) -> RememberedAnswer | None:
    row = connection.execute(
        f"""
        SELECT {columns(ANSWER_COLUMNS)} FROM idempotency
         WHERE principal = ? AND path = ? AND key = ? AND expires_at > ?
        """,
        (principal, path, key, microseconds(now)),
    ).fetchone()
    return answer_of(row) if row else None
