"""Where the driver's errors become the domain's; nothing of psycopg leaves this package."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import psycopg

from qhronos_core.domain.errors import (
    InvalidInputError,
    KeyTakenError,
    RepeatedRequestError,
    StaleError,
    StoreUnavailableError,
)

_BY_CONSTRAINT: Final[Mapping[str, type[KeyTakenError | RepeatedRequestError | StaleError]]] = {
    "events_key_idx": KeyTakenError,
    "events_pkey": StaleError,
    "idempotency_pkey": RepeatedRequestError,
    "occurrences_pkey": StaleError,
    "occurrences_instant_key": StaleError,
}

LOST_A_RACE: Final = (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected)
"""The server undid the transaction so that another could go on: it can simply be run again."""

AWAY: Final = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.errors.ReadOnlySqlTransaction)
"""No answer, no room, no time, or a standby that takes no writes."""

_SAID: Final[Mapping[str, str]] = {
    "authentication failed": "it refuses the user or the password",
    "no password supplied": "it asks for a password",
    "no pg_hba.conf entry": "it does not let this machine or this user in",
    'database "': "it has no such database",
    'role "': "it has no such user",
    "connection refused": "nothing listens there",
    "resolve host": "there is no such host",
    "host name": "there is no such host",
    "name or service not known": "there is no such host",
    "timeout": "it did not answer in time",
    "too many": "it has no connection left",
}
"""Of what libpq says, in its own order of looking, what an operator can mend; in words of ours."""


def why_away(error: BaseException) -> str:
    """Why the server does not answer, without a word of the driver's: that may hold an address or a name."""
    said = f"{error} {error.__cause__ or ''}".lower()
    return next((why for words, why in _SAID.items() if words in said), type(error.__cause__ or error).__name__)


@contextmanager
def domain_errors() -> Iterator[None]:
    """A constraint nobody named is a bug, so its error passes unchanged."""
    try:
        yield
    except psycopg.IntegrityError as error:
        if (known := _BY_CONSTRAINT.get(error.diag.constraint_name or "")) is None:
            raise
        raise known() from error
    except AWAY as error:
        raise StoreUnavailableError() from error
    except (psycopg.DataError, UnicodeEncodeError) as error:
        if isinstance(error, psycopg.DataError) and error.sqlstate is not None:
            raise
        raise InvalidInputError("A text holds NUL or half a character, which no text kept here can.") from error
