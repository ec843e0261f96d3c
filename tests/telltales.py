"""What no answer may hold: the words of a driver, of SQL, of a library, of a place on this machine (S54)."""

import re
from pathlib import Path
from typing import Final

import httpx2

from tests.canaries import none_in

_ROOT: Final = str(Path(__file__).parents[1])
_TELLTALE: Final = re.compile(
    r"psycopg|sqlite3|aiosqlite|sqlstate|(Operational|Integrity|Programming|Interface)Error|redis\.exceptions|hiredis"
    r"|pydantic|starlette|uvicorn|site-packages|Traceback \(most|\.py\b.{0,3}line \d"
    r"|\bFROM (events|occurrences|journal|attempts|tokens|subscriptions)\b|\bINSERT INTO\b|\bORDER BY\b"
    rf"|{re.escape(_ROOT)}|/tmp/pytest",
    re.IGNORECASE,
)


def telltales_in(text: str) -> list[str]:
    return sorted({found[0] for found in _TELLTALE.finditer(text)})


async def tells_nothing(answer: httpx2.Response) -> None:
    """A hook for a client of the tests: each of its answers is searched, its headers too."""
    await answer.aread()
    said = "\n".join([answer.text, *(f"{name}: {value}" for name, value in answer.headers.multi_items())])
    assert telltales_in(said) == [], f"{answer.request.method} {answer.request.url.path}"
    none_in(said)
