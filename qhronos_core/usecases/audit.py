"""Refusals are written down too: who was kept from doing what (security.md S36)."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

from qhronos_core.domain.access import Principal
from qhronos_core.domain.errors import ForbiddenError
from qhronos_core.domain.ids import EventId
from qhronos_core.domain.occurrence import Entry, EntryKind, Move
from qhronos_core.ports import Changes, Listing, Page, Store

T = TypeVar("T")


def who(caller: Principal) -> dict[str, Any]:
    """The credential, for the detail of an entry; its `sub` is the entry's actor."""
    return {"jti": str(caller.jti)} if caller.jti else {}


def told_by(caller: Principal, move: Move) -> Move:
    """A move on somebody's word: its entries name the credential too."""
    entries = (replace(each, detail={**who(caller), **each.detail}) if each.actor else each for each in move.entries)
    return replace(move, entries=tuple(entries))


async def audited(
    store: Store, caller: Principal, what: str, judge: Callable[[], T], event_id: EventId | None = None
) -> T:
    """What `judge` says; a ForbiddenError it raises is written to the journal on its way up."""
    try:
        return judge()
    except ForbiddenError as refusal:
        now = await store.now()
        detail = {**who(caller), "what": what, "code": refusal.code}
        entry = Entry(now, EntryKind.ACCESS_REFUSED, event_id, actor=caller.sub, detail=detail)
        await store.commit(Changes(entries=[entry], at=now))
        raise


async def audit_trail(
    store: Store, *, since: datetime | None, page: Page, caller: Principal, count: bool = False
) -> Listing[Entry]:
    """Who did what, allowed or refused, newest first. Raises ForbiddenError: admins and the master read it."""
    await audited(store, caller, "read_audit", lambda: _require_all(caller))
    return await store.journal.audit(since=since, page=page, count=count)


def _require_all(caller: Principal) -> None:
    if not caller.sees_all:
        raise ForbiddenError("The audit trail needs an admin token or the master token.")
