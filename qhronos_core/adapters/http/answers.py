"""What an answer, or the want of one, means for a delivery (rest.md §6); and what every sent request has in common."""

import email.utils
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from time import perf_counter
from typing import Any, Final

import orjson

from qhronos_core.adapters.http.egress import Answer, Egress, EgressFailure
from qhronos_core.domain.occurrence import AttemptOutcome
from qhronos_core.domain.retry import RETRY_AFTER_LEAST, RETRY_AFTER_MOST
from qhronos_core.domain.schedule.durations import read_duration
from qhronos_core.ports import Outcome

USER_AGENT: Final = "Qhronos"
TIMEOUT_LEAST: Final = timedelta(seconds=1)
TIMEOUT_MOST: Final = timedelta(seconds=30)

_RETRY_AFTER_STATUSES: Final = frozenset({429, 502, 503, 504})
_GONE: Final = 410
_SECONDS: Final = re.compile(r"0*([0-9]+)")


async def sent(
    egress: Egress,
    method: str,
    url: str,
    *,
    headers: Mapping[str, str],
    body: bytes,
    timeout: timedelta,
    now: datetime,
) -> Outcome:
    """Send one request; whatever happens is an Outcome."""
    began = perf_counter()
    try:
        answer = await egress.request(method, url, headers=headers, body=body, deadline=timeout.total_seconds())
    except EgressFailure as failure:
        return Outcome(
            AttemptOutcome.NO_ANSWER,
            error=failure.kind.value,
            duration=timedelta(seconds=perf_counter() - began),
            destination=egress.shown(url),
        )
    accepted = 200 <= answer.status <= 299
    return Outcome(
        AttemptOutcome.ACCEPTED if accepted else AttemptOutcome.REFUSED,
        status_code=answer.status,
        error=None if accepted else f"http_{answer.status}",
        retry_after=None if accepted else retry_after(answer, now),
        gone=answer.status == _GONE,
        response=answer.body,
        duration=timedelta(seconds=answer.duration),
        destination=egress.shown(url),
    )


def retry_after(answer: Answer, now: datetime) -> timedelta | None:
    """How long the receiver asks us to wait, within 1 s-24 h. Rubbish, and what is negative or past, is as if not said."""
    if answer.status not in _RETRY_AFTER_STATUSES or (said := answer.headers.get("retry-after")) is None:
        return None
    if (seconds := _SECONDS.fullmatch(said := said.strip())) is not None:
        wait = RETRY_AFTER_MOST if len(seconds[1]) > 9 else timedelta(seconds=int(seconds[1]))
        return min(max(wait, RETRY_AFTER_LEAST), RETRY_AFTER_MOST)
    try:
        at = email.utils.parsedate_to_datetime(said)
        wait = (at if at.tzinfo else at.replace(tzinfo=UTC)) - now
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
    return None if wait <= timedelta(0) else min(max(wait, RETRY_AFTER_LEAST), RETRY_AFTER_MOST)


@lru_cache(maxsize=256)
def timeout_of(text: object, default: timedelta) -> timedelta:
    """The deadline of one attempt: the action's own, else the configured one; 1-30 s either way."""
    given = read_duration(text) if text is not None else default
    return min(max(given if isinstance(given, timedelta) else default, TIMEOUT_LEAST), TIMEOUT_MOST)


def json_bytes(value: Any) -> bytes:
    """JSON, the same bytes for the same value."""
    try:
        return orjson.dumps(value)
    except TypeError:  # an integer beyond 64 bits, which JSON allows
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
