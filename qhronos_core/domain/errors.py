"""Every error a caller can meet, raised once, where the fault is found.

QhronosError
├── InvalidInputError      400  what was sent cannot be done; says what to send instead
│   └── TooLargeError      413
├── UnauthenticatedError   401  no credential, or one that proves nothing (one text for all)
├── ForbiddenError         403  known to the caller, but not theirs to change
├── NotFoundError          404  absent, or not the caller's to know of: one text for both
├── ConflictError          409  true of another state than the present one
├── LimitedError           429  too much, too fast; says when to come back
└── UnavailableError       503  the store is away, or the node is stopping

The kinds are closed: `qhronos_mcp/problems.py` maps each to a status. The leaves are open.
A message is for the caller, who may be a model: what is wrong, then the next move. It never
holds event text, driver text or a path.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with one field. Each of `fix`, merged into the same request, is accepted."""

    field: str
    code: str
    why: str
    got: object = None
    fix: tuple[dict[str, object], ...] = ()


class QhronosError(Exception):
    """The root. `code` is stable and machine-readable; `str(error)` is the sentence for the caller."""

    code: ClassVar[str] = "internal"


class InvalidInputError(QhronosError, ValueError):
    """Something sent is wrong. Holds every fault found, ten at most."""

    code: ClassVar[str] = "invalid_argument"

    def __init__(self, message: str = "", *, faults: Sequence[Fault] = ()) -> None:
        self.faults: tuple[Fault, ...] = tuple(faults)[:10]
        super().__init__(message or "; ".join(f"{fault.field}: {fault.why}" for fault in self.faults))

    @classmethod
    def of(
        cls, field: str, why: str, *, code: str = "", got: object = None, fix: Sequence[Mapping[str, object]] = ()
    ) -> "InvalidInputError":
        return cls(faults=(Fault(field, code or cls.code, why, got, tuple(dict(change) for change in fix)),))


class TooLargeError(InvalidInputError):
    code = "too_large"


class DestinationNotAllowedError(InvalidInputError):
    """A URL the egress policy refuses. One class for every refused destination."""

    code = "destination_not_allowed"


class UnauthenticatedError(QhronosError):
    code = "unauthenticated"

    def __init__(self) -> None:
        super().__init__("A valid bearer token is needed: Authorization: Bearer <token>.")


class ForbiddenError(QhronosError):
    code = "forbidden"

    def __init__(self, message: str = "Your token does not permit this.") -> None:
        super().__init__(message)


class NotFoundError(QhronosError):
    """Absent, or out of the caller's reach: the words name no id, so that the two are the same to the byte (access.md R8)."""

    code = "not_found"


class EventNotFoundError(NotFoundError):
    code = "event_not_found"

    def __init__(self) -> None:
        super().__init__("No such event. List events to see those your token reaches.")


class OccurrenceNotFoundError(NotFoundError):
    code = "occurrence_not_found"

    def __init__(self) -> None:
        super().__init__("No such occurrence. List occurrences to see those your token reaches.")


class TokenNotFoundError(NotFoundError):
    code = "token_not_found"

    def __init__(self) -> None:
        super().__init__("No such token. List tokens to see those that were minted.")


class ConflictError(QhronosError):
    code = "conflict"


class StaleError(ConflictError):
    """What a change was decided on has moved: nothing was written. Decide again."""

    code = "busy"

    def __init__(self) -> None:
        super().__init__("Others are changing the same event. Send the request again.")


class KeyTakenError(ConflictError):
    code = "key_taken"

    def __init__(self) -> None:
        super().__init__("This key is taken by an event out of your token's reach. Choose another key.")


class AlreadySettledError(ConflictError):
    code = "already_settled"

    def __init__(self, status: str) -> None:
        super().__init__(f"This occurrence is already {status}; its outcome stands.")


class NotHeldError(ConflictError):
    code = "not_held"

    def __init__(self) -> None:
        super().__init__(
            "This occurrence is claimed by another, or your lease on it has lapsed. Wait for occurrences to claim it."
        )


class NotFinishedError(ConflictError):
    code = "not_finished"

    def __init__(self, status: str) -> None:
        super().__init__(f"Only a failed or missed occurrence can be sent again; this one is {status}.")


class NothingToDoError(InvalidInputError):
    code = "nothing_to_do"


class NoNextRunError(ConflictError):
    code = "no_next_run"

    def __init__(self) -> None:
        super().__init__("This event has no run ahead to skip or snooze.")


class IdempotencyMismatchError(ConflictError):
    code = "idempotency_mismatch"

    def __init__(self) -> None:
        super().__init__("This Idempotency-Key was used with another body. Use a new key for a new request.")


class IdempotencyInProgressError(ConflictError):
    code = "idempotency_in_progress"

    def __init__(self) -> None:
        super().__init__("The first request with this Idempotency-Key is still running. Send it again in a moment.")


class RepeatedRequestError(ConflictError):
    """Internal: the idempotency row of this request is already there. The use case replays it."""

    code = "repeated_request"


class QuotaExceededError(ConflictError):
    code = "quota_exceeded"


class LimitedError(QhronosError):
    """Asked for too much, too fast."""

    code = "rate_limited"

    def __init__(self, retry_after: float, message: str = "") -> None:
        self.retry_after = retry_after
        super().__init__(message or f"Too many requests. Come back in {max(1, -int(-retry_after // 1))} s.")


class UnavailableError(QhronosError):
    code = "unavailable"


class StoreUnavailableError(UnavailableError):
    code = "store_unavailable"

    def __init__(self, message: str = "The store does not answer. Send the request again in a moment.") -> None:
        super().__init__(message)


class DrainingError(UnavailableError):
    code = "draining"

    def __init__(self) -> None:
        super().__init__("This node is stopping. Send the request again; another node will answer.")


class StartRefusedError(Exception):
    """What keeps a process from starting. For its operator, never for a caller: one line that names the key or path
    and the way out, and holds no secret. Exit code 2."""
