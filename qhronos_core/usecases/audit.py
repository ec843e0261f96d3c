"""Refusals are written down too: who was kept from doing what (security.md S36)."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from qhronos_core.domain.access import Principal
from qhronos_core.domain.errors import ForbiddenError
from qhronos_core.domain.ids import EventId
from qhronos_core.domain.occurrence import Entry, EntryKind
from qhronos_core.ports import Changes, Journal, Listing, Page, Store


def who(caller: Principal) -> dict[str, Any]:
    """The credential, for the detail of an entry; its `sub` is the entry's actor."""
    return {"jti": str(caller.jti)} if caller.jti else {}


async def audited(
    store: Store, caller: Principal, what: str, judge: Callable[[], None], event_id: EventId | None = None
) -> None:
    """Call `judge`; a ForbiddenError it raises is written to the journal on its way up."""
    try:
        judge()
    except ForbiddenError as refusal:
        now = await store.now()
        detail = {**who(caller), "what": what, "code": refusal.code}
        entry = Entry(now, EntryKind.ACCESS_REFUSED, event_id, actor=caller.sub, detail=detail)
        await store.commit(Changes(entries=[entry], at=now))
        raise


async def audit_trail(
    journal: Journal, *, since: datetime | None, page: Page, caller: Principal, count: bool = False
) -> Listing[Entry]:
    """Who did what, allowed or refused, newest first. Raises ForbiddenError: admins and the master read it."""
    if not caller.sees_all:
        raise ForbiddenError("The audit trail needs an admin token or the master token.")
    return await journal.audit(since=since, page=page, count=count)
