"""Driver errors become the domain's here, where the driver speaks; nothing of sqlite3 leaves this package."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from qhronos_core.domain.errors import StoreUnavailableError

# Of the file, the disk or another writer: true of this moment, not of the statement.
_AWAY: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
    }
)
_SPOILT: Final = frozenset(
    {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CANTOPEN}
)


def code_of(error: BaseException) -> int:
    """The primary result code (its low byte); 0 for an error that is not SQLite's own."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def is_busy(error: BaseException) -> bool:
    return code_of(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def awaits_rollback(error: BaseException) -> bool:
    """A reader has met the journal of a process that was killed before the write-ahead log was there; it may not undo it."""
    return getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_READONLY_ROLLBACK


def is_away(error: BaseException) -> bool:
    return isinstance(error, sqlite3.Error) and code_of(error) in _AWAY


def spoils_connection(error: BaseException) -> bool:
    """After such an error nothing this connection believes is trusted: it is closed, and the file read afresh (F25)."""
    return isinstance(error, sqlite3.Error) and code_of(error) in _SPOILT


def violates(error: sqlite3.IntegrityError, *columns: str) -> bool:
    """Whether this is the violation of the unique key over these columns (`table.column`, in the index's order)."""
    return str(error).endswith("UNIQUE constraint failed: " + ", ".join(columns))


@contextmanager
def domain_errors() -> Iterator[None]:
    """Every statement runs inside. A constraint nobody named is a bug, so its error passes unchanged."""
    try:
        yield
    except sqlite3.Error as error:
        if is_away(error):
            raise StoreUnavailableError from error
        raise
