"""Tokens: made and revoked by the master alone, proved by everyone."""

import asyncio
import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from hmac import compare_digest
from itertools import chain
from typing import Any, Final
from uuid import UUID

from qhronos_core.domain import access
from qhronos_core.domain.access import SCOPES_MOST, Access, Principal, is_scope
from qhronos_core.domain.draft import Notice
from qhronos_core.domain.errors import (
    EventNotFoundError,
    Fault,
    InvalidInputError,
    StoreUnavailableError,
    TokenNotFoundError,
    UnauthenticatedError,
)
from qhronos_core.domain.event import EventStatus
from qhronos_core.domain.ids import EventId, TokenId, new_id, new_token_id
from qhronos_core.domain.occurrence import Entry, EntryKind
from qhronos_core.domain.plain import CONTROL, fault_in, printable
from qhronos_core.domain.schedule import parse_instant, say_duration, say_instant
from qhronos_core.ports import (
    Changes,
    Claims,
    Clock,
    EventSave,
    Listing,
    Page,
    Revocation,
    Signals,
    Stirred,
    Store,
    TokenRecord,
    TokenSigner,
)
from qhronos_core.usecases.audit import audited, who
from qhronos_core.usecases.decide import decided

DEFAULT_LIFE: Final = timedelta(hours=1)
LONG_LIFE: Final = timedelta(days=90)
SUB_MOST: Final = 128
REVOKED: Final = "token_revoked"
"""`paused_reason` of an event whose token was revoked with `cascade`."""

COPY_FRESH: Final = 2.0  # seconds a copy of the revocations is used without asking
COPY_USABLE: Final = 5.0  # and while the store cannot be asked: the promise of access.md §2

_FIELDS: Final = ("type", "sub", "access", "scope", "expires_at")
_ACCESS: Final[Mapping[str, Access]] = {
    "read": Access.READ,
    "write": Access.WRITE,
    "admin": Access.ADMIN,
    "read_write": Access.WRITE,
}
_SECOND: Final = timedelta(seconds=1)
_LOOKED_THROUGH: Final = 1_000  # records read at once


@dataclass(frozen=True, slots=True)
class Minted:
    """The only place a token stands in."""

    token: str = field(repr=False)
    record: TokenRecord
    warnings: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True)
class Revoked:
    """`jti`: of the one token, where one was named. `paused`: the events that `cascade` stopped."""

    revoked_at: datetime
    jti: TokenId | None = None
    paused: tuple[EventId, ...] = ()


class TokenCases:
    """One per process. Keeps a copy of the revocations, which a signal or COPY_FRESH seconds make it read again."""

    def __init__(
        self,
        *,
        store: Store,
        signer: TokenSigner,
        clock: Clock,
        signals: Signals,
        master_token: str,
        max_life: timedelta,
        reserved_subs: frozenset[str] = frozenset(),
        master_may_use_api: bool = True,
    ) -> None:
        self._store = store
        self._signer = signer
        self._clock = clock
        self._signals = signals
        self._master_digest = _digest(master_token)
        self._max_life = max_life
        self._reserved_subs = reserved_subs | {access.MASTER_SUB}
        self._master = Principal.of_master(confined=not master_may_use_api)
        self._revocations = _Copy(store, clock)
        signals.listen(self._revocations.hear)

    # --- proving --------------------------------------------------------------------------------

    async def authenticate(self, token: str) -> Principal:
        """Who bears this token, now.

        Raises:
            UnauthenticatedError: nobody. The same for every reason, after the same work.
            StoreUnavailableError: no copy of the revocations is fresh enough, and the store cannot be asked.
        """
        if compare_digest(_digest(token), self._master_digest):
            return self._master
        claims = self._signer.read(token, now=self._clock.now())
        if claims.sub in self._reserved_subs or (await self._revocations.current()).covers(claims):
            raise UnauthenticatedError()
        return Principal(
            sub=claims.sub,
            access=claims.access,
            scope=frozenset(claims.scope),
            jti=claims.jti,
            holder=str(claims.jti),
            expires_at=int(claims.expires_at.timestamp()),
        )

    async def still_holds(self, principal: Principal, *, shown_at: datetime) -> bool:
        """Whether the token that proved this principal at `shown_at` is still good: for what outlives a request.

        Raises:
            StoreUnavailableError: it cannot be known now.
        """
        if principal.jti is None:
            return True
        if principal.expires_at is not None and self._clock.now().timestamp() >= principal.expires_at:
            return False
        jti = TokenId(principal.jti)
        try:
            token = await self._store.tokens.get(jti)
        except TokenNotFoundError:  # signed elsewhere with our secret; it was good when it was shown
            scope = tuple(sorted(principal.scope))
            expires_at = datetime.fromtimestamp(principal.expires_at or 0, tz=shown_at.tzinfo)
            token = TokenRecord(jti, principal.sub, principal.access, scope, shown_at, expires_at)
        return not (await self._revocations.current()).covers(token)

    # --- minting --------------------------------------------------------------------------------

    async def mint(self, fields: Mapping[str, Any], *, caller: Principal) -> Minted:
        """Make a token. Its text is in this answer and nowhere else; the record of it is kept.

        Raises:
            ForbiddenError: anyone but the master.
            InvalidInputError: R12 and access.md §2, every fault with what to send instead.
        """
        await audited(self._store, caller, "mint", lambda: access.require_master(caller))
        now = await self._store.now()
        asked = read_request(fields, now, self._max_life, self._reserved_subs)
        claims = Claims(new_token_id(now), asked.sub, asked.access, asked.scope, _whole(now), asked.expires_at)
        if _Index(await self._store.tokens.revocations()).covers(claims):
            claims = replace(claims, issued_at=claims.issued_at + _SECOND)  # all of this second were revoked in it
        token = self._signer.sign(claims)
        record = TokenRecord(claims.jti, claims.sub, claims.access, claims.scope, claims.issued_at, claims.expires_at)
        detail = {
            **who(caller),
            "minted": str(record.jti),
            "sub": record.sub,
            "access": record.access.value,
            "scope": list(record.scope),
            "expires_at": say_instant(record.expires_at),
        }
        entry = Entry(now, EntryKind.TOKEN_MINTED, actor=caller.sub, detail=detail)
        await self._store.commit(Changes(tokens=[record], entries=[entry], at=now))
        return Minted(token, record, _warnings(record, now))

    async def list(self, page: Page, *, caller: Principal, count: bool = False) -> Listing[TokenRecord]:
        """What is kept of each token, newest first, with when it was revoked, if it was.

        Raises:
            ForbiddenError: anyone but the master.
        """
        await audited(self._store, caller, "list_tokens", lambda: access.require_master(caller))
        listing = await self._store.tokens.list(page, count=count)
        index = _Index(await self._store.tokens.revocations())
        return replace(listing, items=tuple(index.marked(record) for record in listing.items))

    # --- revoking -------------------------------------------------------------------------------

    async def revoke(
        self,
        *,
        jti: UUID | None = None,
        sub: str | None = None,
        issued_before: datetime | None = None,
        cascade: bool = False,
        caller: Principal,
    ) -> Revoked:
        """End a token, all of a `sub` made so far, or all issued before an instant (of a `sub`, if one is named).

        At once here, within 5 s on every node. `cascade` also pauses the events made with them. A second time answers the same.

        Raises:
            ForbiddenError: anyone but the master.
            TokenNotFoundError: no record of this `jti`.
            InvalidInputError: nothing named, `jti` with anything else, or an instant ahead.
        """
        await audited(self._store, caller, "revoke", lambda: access.require_master(caller))
        now = await self._store.now()
        _check_named(jti, sub, issued_before, now)
        revoked_at = now
        record = await self._store.tokens.get(TokenId(jti)) if jti is not None else None
        if record is not None and record.revoked_at is not None:
            revoked_at = record.revoked_at
        else:
            revocation = Revocation(new_id(now), now, record.jti if record else None, sub, issued_before)
            await self._commit(revocation, record, caller, cascade=cascade, now=now)
        paused = await self._pause(await self._ended(record, sub, issued_before, now), caller) if cascade else ()
        return Revoked(revoked_at, record.jti if record else None, paused)

    async def _commit(
        self, revocation: Revocation, record: TokenRecord | None, caller: Principal, *, cascade: bool, now: datetime
    ) -> None:
        detail: dict[str, Any] = {**who(caller), "cascade": cascade}
        if revocation.jti is not None:
            detail["revoked"] = str(revocation.jti)
        if revocation.sub is not None:
            detail["sub"] = revocation.sub
        if revocation.issued_before is not None:
            detail["issued_before"] = say_instant(revocation.issued_before)
        entry = Entry(now, EntryKind.TOKEN_REVOKED, actor=caller.sub, detail=detail)
        tokens = [replace(record, revoked_at=now)] if record is not None else []
        await self._store.commit(Changes(revocations=[revocation], tokens=tokens, entries=[entry], at=now))
        await self._signals.announce(Stirred(revoked=True))

    async def _ended(
        self, record: TokenRecord | None, sub: str | None, issued_before: datetime | None, now: datetime
    ) -> Sequence[TokenId]:
        """The tokens that this revocation ended."""
        if record is not None:
            return [record.jti]
        named = Revocation(UUID(int=0), now, sub=sub, issued_before=issued_before)
        index, found, page = _Index([named]), list[TokenId](), Page(limit=_LOOKED_THROUGH)
        while True:
            listing = await self._store.tokens.list(page)
            found += [each.jti for each in listing.items if index.covers(each)]
            if listing.next_cursor is None:
                return found
            page = replace(page, cursor=listing.next_cursor)

    async def _pause(self, tokens: Iterable[TokenId], caller: Principal) -> tuple[EventId, ...]:
        """One event at a time; one that is changed or gone meanwhile is looked at again, or left."""
        events = [event_id for jti in tokens for event_id in await self._store.events.of_token(jti)]
        paused = tuple([event_id for event_id in events if await self._paused(event_id, caller)])
        if paused:
            await self._signals.announce(Stirred())
        return paused

    async def _paused(self, event_id: EventId, caller: Principal) -> bool:
        return await decided(lambda: self._pause_one(event_id, caller))

    async def _pause_one(self, event_id: EventId, caller: Principal) -> bool:
        try:
            was = await self._store.events.get(event_id)
        except EventNotFoundError:
            return False
        resumes_by_itself = was.status is EventStatus.PAUSED and was.paused_until is not None
        if was.status is not EventStatus.ACTIVE and not resumes_by_itself:
            return False
        now = await self._store.now()
        event = was.changed(
            now,
            status=EventStatus.PAUSED,
            paused_at=was.paused_at or now,
            paused_until=None,
            paused_reason=REVOKED,
        )
        entry = Entry(
            now, EntryKind.EVENT_PAUSED, event_id, actor=caller.sub, detail={**who(caller), "reason": REVOKED}
        )
        await self._store.commit(Changes(saves=[EventSave(event, was)], entries=[entry], at=now))
        return True


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _whole(instant: datetime) -> datetime:
    return instant.replace(microsecond=0)


def _check_named(jti: UUID | None, sub: str | None, issued_before: datetime | None, now: datetime) -> None:
    if jti is None and sub is None and issued_before is None:
        raise InvalidInputError.of("jti", "Name a token, a sub, or an instant before which all were issued.")
    if jti is not None and (sub is not None or issued_before is not None):
        raise InvalidInputError.of("jti", "A token is named by itself; a sub or an instant names many.")
    if issued_before is not None and issued_before > now:
        fix: list[dict[str, object]] = [{"issued_before": say_instant(now)}]
        raise InvalidInputError.of("issued_before", "That is still ahead.", got=say_instant(issued_before), fix=fix)


# --- the revocations ------------------------------------------------------------------------------------


class _Index:
    """Revocations by what they name. Instants of issue are whole seconds, so one of the very second is covered."""

    def __init__(self, revocations: Iterable[Revocation]) -> None:
        self._by_jti: dict[TokenId, datetime] = {}
        self._by_sub: dict[str, list[Revocation]] = defaultdict(list)
        self._of_all: list[Revocation] = []
        for revocation in revocations:
            if revocation.jti is not None:
                self._by_jti.setdefault(revocation.jti, revocation.created_at)
            elif revocation.sub is not None:
                self._by_sub[revocation.sub].append(revocation)
            else:
                self._of_all.append(revocation)

    def covers(self, token: Claims | TokenRecord) -> bool:
        return self._revoked_at(token) is not None

    def marked(self, record: TokenRecord) -> TokenRecord:
        """With when it was revoked, also where it was not named itself."""
        return record if record.revoked_at is not None else replace(record, revoked_at=self._revoked_at(record))

    def _revoked_at(self, token: Claims | TokenRecord) -> datetime | None:
        if (revoked_at := self._by_jti.get(token.jti)) is not None:
            return revoked_at
        for revocation in chain(self._by_sub.get(token.sub, []), self._of_all):
            before = revocation.issued_before
            if token.issued_at <= revocation.created_at if before is None else token.issued_at < before:
                return revocation.created_at
        return None


class _Copy:
    """A copy of the revocations, read again when it is COPY_FRESH seconds old or a signal told of a new one."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._index = _Index(())
        self._read_at: float | None = None  # when the copy was asked for, by the monotonic clock
        self._stale = True
        self._heard = 0
        self._failures = 0
        self._why = ""
        self._reading = asyncio.Lock()

    def hear(self, signal: Stirred) -> None:
        if signal.revoked:
            self._heard += 1
            self._stale = True

    async def current(self) -> _Index:
        """Raises StoreUnavailableError: it could not be read, and what is here is older than COPY_USABLE."""
        if self._is_fresh():
            return self._index
        failures = self._failures
        async with self._reading:
            while not self._is_fresh():
                if self._failures == failures:
                    await self._read()
                elif self._age() > COPY_USABLE:  # also where another's reading failed while this one waited for it
                    raise StoreUnavailableError(self._why)
                else:
                    break
        return self._index

    def _is_fresh(self) -> bool:
        return not self._stale and self._age() <= COPY_FRESH

    def _age(self) -> float:
        return float("inf") if self._read_at is None else self._clock.monotonic() - self._read_at

    async def _read(self) -> None:
        """Replace the copy, or count a failure."""
        asked_at, heard = self._clock.monotonic(), self._heard
        try:
            index = _Index(await self._store.tokens.revocations())
        except StoreUnavailableError as error:
            self._failures, self._why = self._failures + 1, str(error)
            return
        self._index, self._read_at = index, asked_at
        self._stale = heard != self._heard  # told of another one meanwhile


# --- what is asked of a new token -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Asked:
    """What a new token shall say."""

    sub: str
    access: Access
    scope: tuple[str, ...]
    expires_at: datetime


def read_request(fields: Mapping[str, Any], now: datetime, max_life: timedelta, reserved: frozenset[str]) -> Asked:
    """What is asked of a token to be made at `now`.

    Raises:
        InvalidInputError: every fault, ten at most, each with what to send instead.
    """
    faults: list[Fault] = []
    for name in fields:
        if name not in _FIELDS:
            why = f"No such field; a token has {', '.join(_FIELDS)}."
            faults.append(Fault(printable(name), "unknown_field", why))
            if len(faults) == 10:
                raise InvalidInputError(faults=faults)
    asked: dict[str, Any] = {}
    given_sub, given_access = fields.get("sub"), fields.get("access")
    readers: Mapping[str, Callable[[], Any]] = {
        "type": lambda: _type(fields.get("type")),
        "sub": lambda: _sub(given_sub, reserved),
        "access": lambda: _access(given_access),
        "scope": lambda: _scope(fields.get("scope"), given_access, given_sub),
        "expires_at": lambda: _expires_at(fields.get("expires_at"), now, max_life),
    }
    for name, read in readers.items():
        try:
            asked[name] = read()
        except InvalidInputError as error:
            faults += error.faults
    if faults:
        raise InvalidInputError(faults=faults)
    del asked["type"]
    return Asked(**asked)


def _refused(field: str, why: str, got: object, *meant: object) -> InvalidInputError:
    shown = got if isinstance(got, str | int | float) and fault_in(got) is None else None
    return InvalidInputError.of(field, why, got=shown, fix=[{field.partition(".")[0]: each} for each in meant])


def _type(given: object) -> str:
    if given not in (None, "jwt"):
        raise _refused("type", "Only jwt.", given, "jwt")
    return "jwt"


def _sub(given: object, reserved: frozenset[str]) -> str:
    if not isinstance(given, str):
        raise _refused("sub", "Whose token it is, as text: this is required.", given, "agent")
    if fault_in(given) is not None or CONTROL.search(given) or not 1 <= len(given) <= SUB_MOST:
        meant = re.sub(r"[^A-Za-z0-9._@-]+", "-", given).strip("-")[:SUB_MOST] or "agent"
        why = f"1 to {SUB_MOST} characters, no control characters."
        raise _refused("sub", why, given, meant if meant not in reserved else f"{meant}-agent"[-SUB_MOST:])
    if given in reserved:
        raise _refused("sub", "This name is kept for the server's own.", given, f"{given[: SUB_MOST - 6]}-agent")
    return given


def _access(given: object) -> Access:
    known = _ACCESS.get(given) if isinstance(given, str) else None
    if known is None:
        raise _refused("access", "One of read, write, admin.", given, "read", "write")
    return known


def _scope(given: object, given_access: object, sub: object) -> tuple[str, ...]:
    """Duplicates dropped, order kept. Only an admin's may be empty: its scopes limit nothing."""
    if given is None:
        given = []
    if not isinstance(given, list | tuple):
        raise _refused("scope", "A list of resource:identifier.", given, _meant([given], sub))
    for place, scope in enumerate(given):
        if not isinstance(scope, str) or not is_scope(scope):
            why = "A scope is resource:identifier, such as user:rizqme; it holds no wildcard."
            raise _refused(f"scope.{place}", why, scope, _meant(given, sub))
    scopes = tuple(dict.fromkeys(given))
    if len(scopes) > SCOPES_MOST:
        raise _refused("scope", f"At most {SCOPES_MOST} scopes.", len(scopes), list(scopes[:SCOPES_MOST]))
    if not scopes and given_access != Access.ADMIN:
        raise _refused("scope", "A token that reads or writes needs a scope.", None, _meant([], sub))
    return scopes


def _meant(given: Sequence[object], sub: object) -> list[str]:
    """The scopes that were probably meant: those that are some once their resource is in lower case."""
    mended: list[str] = []
    for scope in given[: 2 * SCOPES_MOST]:
        resource, colon, identifier = scope.strip().partition(":") if isinstance(scope, str) else ("", "", "")
        better = f"{resource.lower()}{colon}{identifier}"
        if is_scope(better) and better not in mended:
            mended.append(better)
    own = f"user:{sub}"
    return mended[:SCOPES_MOST] or [own if is_scope(own) else "user:agent"]


def _expires_at(given: object, now: datetime, max_life: timedelta) -> datetime:
    """Whole seconds: a fraction is cut, so that nothing lives longer than was asked."""
    soon, latest = _whole(now + min(DEFAULT_LIFE, max_life)), _whole(now) + max_life

    def lies_ahead(said: str) -> bool:
        return now + _SECOND < parse_instant(said, field="expires_at", timezone="UTC") <= latest

    if given is None:
        return soon
    if not isinstance(given, str):
        raise _refused("expires_at", "An instant as text, such as 2030-01-01T00:00:00Z.", given, say_instant(soon))
    try:
        expires_at = _whole(parse_instant(given, field="expires_at", timezone=None))
    except InvalidInputError as error:
        fault = error.faults[0]
        said = [str(fix["expires_at"]) for fix in fault.fix if fix.keys() == {"expires_at"}]
        meant = list(filter(lies_ahead, said)) or [say_instant(soon)]
        raise _refused("expires_at", fault.why, given, *meant) from None
    if expires_at <= now + _SECOND:
        raise _refused("expires_at", "It must lie ahead.", given, say_instant(soon))
    if expires_at > latest:
        raise _refused("expires_at", f"A token lives at most {say_duration(max_life)}.", given, say_instant(latest))
    return expires_at


def _warnings(record: TokenRecord, now: datetime) -> tuple[Notice, ...]:
    if record.expires_at - now <= LONG_LIFE:
        return ()
    says = f"It lives for {(record.expires_at - now).days} days; a token that lives for over 90 is hard to take back."
    return (Notice("long_life", says),)
