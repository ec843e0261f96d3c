"""One path: which methods it takes, who comes in, and how often."""

import asyncio
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hmac import compare_digest
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from qhronos_core.domain.access import Access, Principal
from qhronos_core.domain.errors import ForbiddenError, LimitedError, NotFoundError, UnauthenticatedError
from qhronos_core.wiring import Core
from qhronos_mcp.middleware import FAILED_AUTHENTICATIONS, address_bucket, allowance, facts_of
from qhronos_mcp.rest.operation import Door, Operation
from qhronos_mcp.verifier import Verifier

ABSENT_AFTER: Final = 0.010
"""Seconds within which a 404 is never told: both kinds of absence are known by then, so their times are alike (R8, S17)."""


@dataclass(frozen=True, slots=True)
class Doorkeeper:
    """Lets a request in, or raises. The order is access.md R8: who asks, how often, then what is asked."""

    core: Core
    verifier: Verifier

    async def admit(self, operation: Operation, request: Request) -> None:
        """Raises UnauthenticatedError, LimitedError; ForbiddenError at the metrics' door."""
        given = request.headers.getlist("authorization")
        if operation.door is Door.OPEN or (operation.door is Door.AJAR and not given):
            return
        if operation.door is Door.METRICS and self._is_metrics_token(given):
            return
        caller = await self._authenticated(request, given[0] if len(given) == 1 else None)
        facts = facts_of(request.scope)
        facts.caller = caller
        facts.verdict = await self.core.limits.take(*allowance(caller, self.core.settings))
        if not facts.verdict.allowed:
            raise LimitedError(facts.verdict.retry_after)
        if operation.door is Door.METRICS and not (caller.master or caller.access is Access.ADMIN):
            raise ForbiddenError("Metrics need an admin token, the master token or metrics.token.")

    async def _authenticated(self, request: Request, header: str | None) -> Principal:
        """Every failure costs one from the bucket of its address: guessing is slow, whatever is guessed."""
        try:
            return await self.verifier.principal(header)
        except UnauthenticatedError:
            verdict = await self.core.limits.take(address_bucket(request.scope), FAILED_AUTHENTICATIONS)
            if not verdict.allowed:
                raise LimitedError(verdict.retry_after) from None
            raise

    def _is_metrics_token(self, given: Sequence[str]) -> bool:
        secret = self.core.settings.metrics.token
        if secret is None or len(given) != 1:
            return False
        scheme, _, token = given[0].partition(" ")
        alike = compare_digest(_digest(token), _digest(secret.get_secret_value()))
        return scheme.lower() == "bearer" and alike


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


class Resource:
    """The operations of one path as one ASGI app, so that `Allow` names all of its methods."""

    def __init__(self, operations: Sequence[Operation], keeper: Doorkeeper) -> None:
        self.path = operations[0].path
        self.operations: Mapping[str, Operation] = {operation.method: operation for operation in operations}
        self._keeper = keeper
        names = [*self.operations, *(["HEAD"] if "GET" in self.operations else [])]
        self._allow = ", ".join(sorted(names))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        method = "GET" if request.method == "HEAD" else request.method
        facts_of(scope).route = self.path
        operation = self.operations.get(method)
        if operation is None:
            raise HTTPException(405, headers={"allow": self._allow})
        await self._keeper.admit(operation, request)
        began = time.perf_counter()
        try:
            response = await operation.endpoint(request)
        except NotFoundError:
            # What is another's takes longer to find than what never was, so neither is told before both are known.
            await asyncio.sleep(max(0.0, began + ABSENT_AFTER - time.perf_counter()))
            raise
        await response(scope, receive, send)
