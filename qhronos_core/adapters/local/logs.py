"""Logs: one line per entry, fields by allow-list, nothing a stranger wrote (security.md §5)."""

import logging
import re
import sys
import traceback
from collections.abc import Mapping, MutableMapping
from typing import Any, Final, TextIO

import structlog

ALLOWED: Final = frozenset(
    {
        "action",
        "applied",
        "bytes",
        "code",
        "count",
        "duration_ms",
        "error_code",
        "event",
        "event_id",
        "exception",
        "failures",
        "host",
        "jti",
        "kind",
        "level",
        "method",
        "migration",
        "node",
        "occurrence_id",
        "path",
        "port",
        "reason",
        "request_id",
        "retry_in_seconds",
        "route",
        "signal",
        "state",
        "status",
        "store",
        "sub",
        "subscription_id",
        "time",
        "url",
        "version",
    }
)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def configure(level: str, form: str, *, stream: TextIO | None = None, strict: bool = False) -> None:
    """Send every log of this process to `stream` (stderr), as JSON lines or for a terminal.

    `strict` (tests) fails on a field that is not on the list; otherwise it is dropped.
    """
    out = stream or sys.stderr
    renderer: Any = structlog.dev.ConsoleRenderer() if form == "console" else structlog.processors.JSONRenderer()
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        _told_without_locals,
        _Listed(strict=strict),
        _escaped,
    ]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for chatty in ("aiohttp", "asyncio", "httpcore2", "httpx2", "mcp", "psycopg", "psycopg.pool", "uvicorn"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))


class _Listed:
    """Drops a field that is not on the list."""

    def __init__(self, *, strict: bool) -> None:
        self._strict = strict

    def __call__(self, _logger: Any, _method: str, entry: MutableMapping[str, Any]) -> Mapping[str, Any]:
        extra = [name for name in entry if name not in ALLOWED and not name.startswith("_")]
        if extra and self._strict:
            raise AssertionError(f"log fields that are not on the list: {extra}")
        for name in extra:
            del entry[name]
        return entry


def _escaped(_logger: Any, _method: str, entry: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """CR, LF, ESC and other controls are escaped, so that nothing can fake a line."""
    for name, value in entry.items():
        if isinstance(value, str) and not name.startswith("_"):
            entry[name] = _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", value)
    return entry


def _told_without_locals(_logger: Any, _method: str, entry: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """An exception by its type and frames alone: its text may hold a driver's parameter values."""
    info = entry.pop("exc_info", None)
    if not info:
        return entry
    error = sys.exc_info()[1] if info is True else info[1] if isinstance(info, tuple) else info
    if isinstance(error, BaseException):
        frames = traceback.extract_tb(error.__traceback__)
        places = " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames))
        entry["exception"] = f"{type(error).__module__}.{type(error).__qualname__} at {places}"
    return entry
