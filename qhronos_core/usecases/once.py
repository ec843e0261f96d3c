"""Requests that may be repeated: an `Idempotency-Key` and the answer kept with its effect (rest.md §5)."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from hmac import compare_digest
from typing import Any, Final, TypeVar

from qhronos_core.domain.errors import IdempotencyMismatchError, QhronosError, UnavailableError
from qhronos_core.ports import RememberedAnswer, Rendered, Store

KEPT_FOR: Final = timedelta(hours=24)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Once:
    """One request's key. `render` makes the answer to keep: status and body, without a secret that is shown once."""

    principal: str
    path: str
    key: str
    body_hash: bytes
    render: Callable[[Any], tuple[int, Rendered]]

    def remembered(self, result: Any, now: datetime) -> RememberedAnswer:
        status, answer = self.render(result)
        return RememberedAnswer(self.principal, self.path, self.key, self.body_hash, status, answer, now + KEPT_FOR)


class Replay(QhronosError):
    """This request was answered before: the same status and body again."""

    code = "replayed"

    def __init__(self, status: int, answer: Rendered) -> None:
        self.status = status
        self.answer = answer
        super().__init__("answered before")


async def replayed(store: Store, once: Once | None, run: Callable[[], Awaitable[T]]) -> T:
    """`run`, or Replay if the request was answered before, also by one that ran at the same time.

    Raises:
        IdempotencyMismatchError: the key came with another body.
    """
    if once is None:
        return await run()
    await _replay(store, once)
    try:
        return await run()
    except UnavailableError:
        raise
    except QhronosError:  # maybe of what the same request did a moment ago: there is nothing left to do
        await _replay(store, once)
        raise


async def _replay(store: Store, once: Once) -> None:
    before = await store.remembered(once.principal, once.path, once.key)
    if before is None:
        return
    if not compare_digest(before.body_hash, once.body_hash):
        raise IdempotencyMismatchError()
    raise Replay(before.status, before.answer)
