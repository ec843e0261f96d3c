"""What the core needs from outside, as promises in prose."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Generic, Protocol, TypeVar
from uuid import UUID

from qhronos_core.domain.access import Access, Reach
from qhronos_core.domain.errors import UnavailableError
from qhronos_core.domain.event import ActionType, Event, EventStatus
from qhronos_core.domain.ids import EventId, OccurrenceId, TokenId
from qhronos_core.domain.journal import Cursor, JournalPage
from qhronos_core.domain.judgement import Due as Due
from qhronos_core.domain.judgement import Gap as Gap
from qhronos_core.domain.lifecycle import State
from qhronos_core.domain.occurrence import Attempt, Entry, Move, Occurrence, Reason
from qhronos_core.domain.occurrence import Outcome as Outcome
from qhronos_core.domain.subscription import Subscription

T = TypeVar("T")

# --- time ---------------------------------------------------------------------------------------


class Clock(Protocol):
    """This node's idea of the store's time. Tests move it; nothing else reads the machine's clock."""

    def now(self) -> datetime: ...

    def monotonic(self) -> float:
        """Seconds that never go back; for deadlines within one process."""
        ...


# --- judging what is due --------------------------------------------------------------------------


class Judge(Protocol):
    """Pure decisions, called by a store inside its claiming transaction: no await, no I/O, some 20 µs each."""

    def judge(self, due: Due) -> Move:
        """What becomes of a due row. If the move ends in `dispatching`, the row is claimed for the node."""
        ...

    def advance(self, event: Event, past: Occurrence, now: datetime) -> Occurrence | None:
        """The event's planned occurrence after the instant of `past`, or None if there is none left."""
        ...


# --- the store ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Claim:
    """One occurrence leased to this node for one attempt. Every later write names `occurrence.fence`."""

    occurrence: Occurrence
    event: Event


@dataclass(frozen=True, slots=True)
class Claimed:
    """What one look at the store gave. `more`: the look was full, so there may be more due already."""

    claims: tuple[Claim, ...]
    judged: int  # rows moved, claims included
    now: datetime  # the store's clock at the claim
    more: bool
    held_for: float = 0.0  # seconds from the call on for which nobody else can have what was claimed, at least
    moves: Sequence[tuple[Move, Event]] = ()  # what became of each row judged, with its event as it was then


@dataclass(frozen=True, slots=True)
class Page:
    """A slice of a list. `cursor` (a position made by this store, for this order) or `offset`, not both."""

    limit: int = 1000
    offset: int = 0
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    items: tuple[T, ...]
    next_cursor: str | None
    total: int | None = None


async def whole(read: Callable[[Page], Awaitable[Listing[T]]], at_once: int) -> AsyncIterator[T]:
    """A list to its end, `at_once` rows at a time."""
    listing = await read(Page(limit=at_once))
    while True:
        for item in listing.items:
            yield item
        if listing.next_cursor is None:
            return
        listing = await read(Page(limit=at_once, cursor=listing.next_cursor))


@dataclass(frozen=True, slots=True)
class EventQuery:
    """Filters narrow `reach` and never widen it. `tags`: any of them, or all with `match_all`. Newest first."""

    tags: tuple[str, ...] = ()
    match_all: bool = False
    statuses: frozenset[EventStatus] = frozenset()  # empty: all but deleted
    text: str | None = None  # in name, key or description, case folded by the store
    key: str | None = None


@dataclass(frozen=True, slots=True)
class OccurrenceQuery:
    """Latest `scheduled_at` first (ties by id); `earliest_first` turns it round. `since` is included, `until` is not.

    `live`: nothing of a deleted event, whoever asks.
    """

    event_id: EventId | None = None
    tags: tuple[str, ...] = ()
    match_all: bool = False
    states: frozenset[State] = frozenset()
    since: datetime | None = None
    until: datetime | None = None
    earliest_first: bool = False
    live: bool = False


@dataclass(frozen=True, slots=True)
class InboxQuery:
    """What an agent will take from the inbox."""

    limit: int = 1
    event_id: EventId | None = None
    tags: tuple[str, ...] = ()


class WaitState(StrEnum):
    WORKING = "working"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Wait:
    """An agent's wait that outlives its request (an MCP task). A row, so any node answers and a restart changes nothing.

    `occurrence_ids`: what was claimed for it, once; `answer`: what was then told, and is told again.
    """

    id: UUID
    holder: str
    query: InboxQuery
    created_at: datetime
    updated_at: datetime
    ends_at: datetime
    state: WaitState = WaitState.WORKING
    occurrence_ids: tuple[OccurrenceId, ...] = ()
    answer: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class TokenRecord:
    jti: TokenId
    sub: str
    access: Access
    scope: tuple[str, ...]
    issued_at: datetime
    expires_at: datetime
    revoked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Revocation:
    """Exactly one of the three is set: a token, all of a `sub`, or all issued before an instant (with or without `sub`)."""

    id: UUID
    created_at: datetime
    jti: TokenId | None = None
    sub: str | None = None
    issued_before: datetime | None = None


Rendered = Mapping[str, Any] | Sequence[Mapping[str, Any]]  # a body: one thing, or a list of them


@dataclass(frozen=True, slots=True)
class RememberedAnswer:
    """The answer of a request with an `Idempotency-Key`, kept in the transaction of its effect.

    Of a request whose effect is many transactions it is kept after the last.
    """

    principal: str
    path: str
    key: str
    body_hash: bytes
    status: int
    answer: Rendered
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class EventSave:
    """An event to write. `was` None inserts; else the row is replaced if its version and status are still those of `was`."""

    event: Event
    was: Event | None = None


@dataclass(frozen=True, slots=True)
class Quota:
    """What one creator may have once all is written. None: not counted."""

    created_by: str
    events: int | None = None
    runs_per_day: int | None = None


@dataclass(slots=True)
class Changes:
    """All that one decision writes, in one transaction or not at all. Filled by a use case, committed once.

    The store, in this order: locks the pending rows of every event saved over an older self (so that no claim
    made under the old version can commit after this does), then writes moves, withdrawals,
    sweeps, planned rows, events, tokens, answers, journal.
    """

    saves: list[EventSave] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)  # strict: one that has moved on undoes all (StaleError)
    withdrawn: list[Occurrence] = field(default_factory=list)  # planned rows to remove; strict likewise
    planned: list[Occurrence] = field(default_factory=list)  # inserted; an instant that has a row raises StaleError
    cancel_unfinished: list[tuple[EventId, Reason]] = field(
        default_factory=list
    )  # every pending and dispatched row, with an entry each
    let_go: list[EventId] = field(
        default_factory=list
    )  # rows held by a pause become due again (or held by overlap again)
    entries: list[Entry] = field(default_factory=list)
    tokens: list[TokenRecord] = field(default_factory=list)
    revocations: list[Revocation] = field(default_factory=list)
    answer: RememberedAnswer | None = None
    zones_version: str | None = None  # planned rows follow this release of the time zones now
    at: datetime | None = None  # the instant written by sweeps
    quota: Quota | None = None  # counted with what is written, and with what others write meanwhile: over it is stale


class Events(Protocol):
    async def get(self, event_id: EventId) -> Event:
        """Raises EventNotFoundError. A deleted event is found until retention ends it."""
        ...

    async def many(self, event_ids: Sequence[EventId]) -> Mapping[EventId, Event]: ...

    async def by_key(self, key: str, *, created_by: str | None = None) -> Sequence[Event]:
        """Live events with this key, newest first: of one creator, or of any."""
        ...

    async def list(self, query: EventQuery, reach: Reach, page: Page, *, count: bool = False) -> Listing[Event]:
        """Newest first. Raises InvalidInputError (`invalid_cursor`) for a cursor of another order or store."""
        ...

    async def look_alikes(self, event: Event, reach: Reach, limit: int) -> Sequence[EventId]:
        """Other active events of the same creator with the same schedule, zone and action; any of those in `reach`."""
        ...

    async def count_live(self, created_by: str) -> int:
        """How many of a creator's events are active or paused."""
        ...

    async def runs_per_day(self, created_by: str, *, but: EventId) -> int:
        """The sum of `runs_per_day` over the creator's events that are active or resume by themselves, leaving out one."""
        ...

    async def of_token(self, jti: TokenId) -> Sequence[EventId]:
        """Live events created with this token."""
        ...

    async def to_resume(self, limit: int) -> Sequence[EventId]:
        """Paused events whose `paused_until` has come."""
        ...

    async def next_resume_at(self) -> datetime | None: ...


class Occurrences(Protocol):
    async def get(self, occurrence_id: OccurrenceId) -> Occurrence:
        """Raises OccurrenceNotFoundError."""
        ...

    async def many(self, occurrence_ids: Sequence[OccurrenceId]) -> Mapping[OccurrenceId, Occurrence]: ...

    async def list(
        self, query: OccurrenceQuery, reach: Reach, page: Page, *, count: bool = False
    ) -> Listing[Occurrence]: ...

    async def planned(self, event_id: EventId) -> Occurrence | None:
        """The one planned row (`advances`, pending, never begun), if there is one."""
        ...

    async def planned_of(self, event_ids: Sequence[EventId]) -> Mapping[EventId, Occurrence]:
        """Likewise of many."""
        ...

    async def last_ordinal(self, event_id: EventId, *, since: datetime) -> int:
        """The ordinal of the schedule's row planned last (by created_at, then scheduled_at); 0 if there is none.

        `since`: when the rule was accepted. Rows of an earlier one are not counted; one that both have is.
        """
        ...

    async def held_by_overlap(self, event_id: EventId) -> Sequence[Occurrence]:
        """Rows an earlier one holds back, oldest first."""
        ...

    async def instants_after(self, event_id: EventId, after: datetime) -> frozenset[datetime]:
        """The scheduled instants later than `after` that have a row, whatever its state."""
        ...

    async def latest(self, event_ids: Sequence[EventId]) -> Mapping[EventId, Occurrence]:
        """Of each, the last that was begun or finished (by scheduled_at)."""
        ...

    async def attempts(self, occurrence_id: OccurrenceId) -> Sequence[Attempt]:
        """First attempt first."""
        ...

    async def held_by(self, holder: str, limit: int) -> Sequence[Occurrence]:
        """Inbox items under an unlapsed lease of this holder."""
        ...

    async def inbox(self, query: InboxQuery, reach: Reach, *, limit: int) -> Sequence[Occurrence]:
        """Inbox items awaiting their acknowledgement, claimed or not, earliest handed over first. Claims nothing."""
        ...

    async def waiting(self, query: InboxQuery, reach: Reach) -> int:
        """Inbox items free to take now."""
        ...

    async def next_due_within(self, query: InboxQuery, reach: Reach) -> datetime | None:
        """The next planned instant of an inbox event the caller reaches (for `next_due`)."""
        ...

    async def next_due(self) -> datetime | None:
        """The earliest instant at which any row must be looked at: due rows and lapsing leases."""
        ...

    async def backlog(self) -> tuple[int, datetime | None]:
        """How many rows are due now and unleased (counted to 10,000), and the earliest `due_at`."""
        ...


class Journal(Protocol):
    async def end(self) -> Cursor:
        """The safe end: a reader from here meets every entry that commits later."""
        ...

    async def after(self, cursor: Cursor, *, limit: int) -> JournalPage:
        """The entries after `cursor`, in order, none ever skipped because it committed late."""
        ...

    async def audit(self, *, since: datetime | None, page: Page, count: bool = False) -> Listing[Entry]:
        """Entries with an actor, newest first: who did what."""
        ...


class Tokens(Protocol):
    async def list(self, page: Page, *, count: bool = False) -> Listing[TokenRecord]:
        """Newest first."""
        ...

    async def get(self, jti: TokenId) -> TokenRecord:
        """Raises TokenNotFoundError."""
        ...

    async def revocations(self) -> Sequence[Revocation]: ...


class Waits(Protocol):
    async def start(self, wait: Wait, *, most: int) -> bool:
        """Keep it. False, and nothing kept: its holder has `most` already that go on and have not run out."""
        ...

    async def get(self, wait_id: UUID) -> Wait | None: ...

    async def end(self, wait_id: UUID, state: WaitState, *, answer: Mapping[str, Any] | None = None) -> Wait | None:
        """End a working wait; the row as it is then. One that has ended stays as it is."""
        ...


class Subscriptions(Protocol):
    """Webhook subscriptions of MCP Events. A row that was held within the last day is found as a tombstone."""

    async def get(self, subscription_id: str) -> Subscription | None: ...

    async def count_live(self, owner: str) -> int: ...

    async def verified(self, owner: str, url: str) -> datetime | None:
        """Until when this owner has proved that it holds this URL; None if it has not, or no longer."""
        ...

    async def start(self, subscription: Subscription, *, most: int) -> bool:
        """Keep it, in place of one that has ended. False, and nothing kept: its owner has `most` live ones already."""
        ...

    async def refresh(self, subscription: Subscription) -> Subscription | None:
        """Write principal, secrets, grant and proof of a live one, and try again at once what failed.

        Its position stays. None: it is not live any more.
        """
        ...

    async def advance(self, subscription: Subscription, cursor: Cursor) -> None:
        """Nothing was to be told up to `cursor`. Writes nothing if it has moved or is under a lease."""
        ...

    async def end(self, subscription_id: str) -> bool:
        """From now on a tombstone without URL and secret. False: it was not live."""
        ...

    async def due(self, limit: int) -> Sequence[Subscription]:
        """Live ones that may be delivered to now: not between retries, under no unlapsed lease. Longest due first."""
        ...

    async def claim(self, subscription: Subscription, lease: timedelta) -> Subscription | None:
        """Lease it to one node, with a new fence; None if another was faster."""
        ...

    async def settle(self, subscription: Subscription) -> bool:
        """Write position, retries, status and lease, if the fence stands and it has not ended."""
        ...

    async def sweep(self) -> int:
        """Turn lapsed ones into tombstones, and forget tombstones of a day ago; how many rows that were."""
        ...


class SealedIn(StrEnum):
    """The tables in which secrets stand."""

    EVENTS = "events"
    SUBSCRIPTIONS = "subscriptions"

    def context(self, row: object) -> str:
        """What a secret in this row is bound to."""
        return f"{self}:{row}"


@dataclass(frozen=True, slots=True)
class SealedValue:
    """A sealed secret, and the row it stands in."""

    table: SealedIn
    row: str
    sealed: bytes = field(repr=False)

    @property
    def context(self) -> str:
        return self.table.context(self.row)


class SealedValues(Protocol):
    """Everything the store keeps sealed, as bytes; what begins alike was sealed with the same key."""

    async def heads(self, length: int) -> Mapping[bytes, int]:
        """How many values there are of each beginning. Looks at every row."""
        ...

    async def without(self, head: bytes, *, after: SealedValue | None, limit: int) -> Sequence[SealedValue]:
        """Values with another beginning than `head`, in the order of tables and rows, from the one after `after`."""
        ...

    async def replace(self, values: Sequence[tuple[SealedValue, bytes]]) -> int:
        """Write the new bytes of each whose old ones still stand there, in one transaction; how many those were.

        The version of an event stays: what was asked for has not changed.
        """
        ...


PRESENT_FOR: Final = timedelta(seconds=30)


class Presence(Protocol):
    """Which nodes serve, and which WebSocket clients are connected to which. A hint: it ages out after PRESENT_FOR."""

    async def hold(self, node: str, names: Iterable[str]) -> None:
        """`node` serves; these, and no others, are connected to it now."""
        ...

    async def nodes(self) -> frozenset[str]:
        """Those that said so within PRESENT_FOR."""
        ...

    async def elsewhere(self, node: str) -> frozenset[str]:
        """The names connected to any other node."""
        ...


REVOKED_FOR: Final = timedelta(hours=1)
"""How long a token's revocation outlives the token: its expiry is forgiven for a moment, and clocks differ."""


class Store(Protocol):
    """Durable truth. Both stores keep the same promises and answer one suite (tests/adapters/store).

    Every call may raise StoreUnavailableError; then nothing was written, or (a lost answer to a
    commit) it is found by reading back.
    """

    @property
    def events(self) -> Events: ...

    @property
    def occurrences(self) -> Occurrences: ...

    @property
    def journal(self) -> Journal: ...

    @property
    def presence(self) -> Presence: ...

    @property
    def tokens(self) -> Tokens: ...

    @property
    def waits(self) -> Waits: ...

    @property
    def subscriptions(self) -> Subscriptions: ...

    @property
    def sealed(self) -> SealedValues: ...

    async def now(self) -> datetime:
        """The store's clock, which decides what is due."""
        ...

    async def commit(self, changes: Changes) -> int:
        """Write all of it; how many occurrences `cancel_unfinished` has cancelled.

        Raises:
            StaleError: something it was decided on has moved, or a quota would be passed; nothing was written.
            KeyTakenError: another live event of the creator has the key.
            RepeatedRequestError: the answer's idempotency key is there already; nothing was written.
        """
        ...

    async def claim_due(
        self, *, node: str, lease: timedelta, limit: int, judge: Judge, without: Set[int] = frozenset()
    ) -> Claimed:
        """Judge up to `limit` due rows, earliest due first, and lease for `lease` of the store's time those to be sent.

        `without`: creators (`lanes.creator_of`) whose rows are left where they are; `more` is said of the others'.

        A row is due when its `due_at` has come and it is under no unlapsed lease. Moves, successors, attempts,
        entries and the event's end commit together. Each claim carries its fence. If the
        lease runs out unsettled any node may claim the occurrence again, so a receiver can
        see one occurrence id twice. A store that answers slowly makes the lease longer, since settling will be slow too.
        """
        ...

    async def look(self) -> None:
        """Say that a node looks, though it can take nothing now: what falls due meanwhile is not in a gap. `claim_due` says it too."""
        ...

    async def settle(self, moves: Sequence[Move]) -> frozenset[OccurrenceId]:
        """Write each move whose occurrence still has the fence and state it was decided on; the ids of those written.

        What is not among them was a zombie's: nothing of it was written.
        """
        ...

    async def claim_inbox(
        self,
        query: InboxQuery,
        reach: Reach,
        *,
        holder: str,
        actor: str,
        told: Mapping[str, Any] | None = None,
        wait_id: UUID | None = None,
    ) -> Sequence[Occurrence]:
        """Lease up to `query.limit` free inbox items to `holder`, each for its event's `ack_timeout`; earliest handed over first.

        `reach` is of the WRITE level. Two holders never hold one item at a time. The fence grows, the state stays
        `dispatched`, and `due_at` becomes the earlier of the lease's end and the expiry. `told` is the detail of each
        entry. With `wait_id`, what was taken is written into that wait in the same transaction; nothing is taken for
        one that has ended or has its own.
        """
        ...

    async def still_wanted(self, claims: Sequence[Claim]) -> frozenset[OccurrenceId]:
        """Of these claims, those whose fence stands and whose event is at the claimed version and not stopped."""
        ...

    async def remembered(self, principal: str, path: str, key: str) -> RememberedAnswer | None:
        """The unexpired answer of an `Idempotency-Key`."""
        ...

    async def retire(
        self,
        *,
        occurrences_before: datetime,
        attempts_before: datetime,
        journal_before: datetime,
        deleted_before: datetime,
        limit: int,
    ) -> int:
        """Remove ended history older than each instant, at most `limit` rows of each kind; how many went.

        Kept whatever its age: anything unfinished, each event's latest row, every live event. Expired
        answers, revocations of expired tokens and waits that ran out a day ago go too.
        """
        ...

    async def zones_version(self) -> str | None:
        """The release of the time zones that planned rows were computed by; None in a new store."""
        ...

    async def damage(self) -> Sequence[str]:
        """What a look at every page finds wrong, a few lines at most. Takes as long as reading it all."""
        ...

    async def status(self) -> Mapping[str, Any]:
        """For `/status` and `doctor`: kind, version, migrations, sizes. No secret, no path of a socket."""
        ...

    @property
    def takes_writes(self) -> bool:
        """Whether there was room for the last of this node's writes, and the disk took it. Asks nobody."""
        ...

    async def begin_epoch(self) -> None:
        """A backup was put back: a cursor given out after it was made is from now on known to be of another journal.

        Webhook subscriptions are of the backup themselves, and go on where they stood.
        """
        ...

    async def migrate(self) -> Sequence[str]:
        """Apply what is missing, under a lock, with checksums; the names applied, also by its opening. Safe from two nodes."""
        ...

    async def aclose(self) -> None: ...


# --- signals, limits, secrets ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stirred:
    """Something was committed. `due_at`: the earliest instant it made due, if any was; the Hub looks in any case."""

    due_at: datetime | None = None
    revoked: bool = False  # tokens were revoked: look at the list again


class Signals(Protocol):
    """Hints between nodes: look again. Never raises: a lost signal costs time, not an occurrence."""

    async def announce(self, signal: Stirred) -> None:
        """Tell every listener, here and on other nodes. Called after the commit; coalesced where it is dear."""
        ...

    def listen(self, heard: Callable[[Stirred], None]) -> Callable[[], None]:
        """Call `heard` (which must not block) at each signal, on the event loop; the result ends it."""
        ...

    async def aclose(self) -> None: ...


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A token bucket: `per_minute` refilled evenly, at most `burst` at once. `per_minute` 0: no limit."""

    per_minute: int
    burst: int


@dataclass(frozen=True, slots=True)
class RateVerdict:
    allowed: bool
    limit: RateLimit
    remaining: int
    retry_after: float  # seconds until one more is allowed; 0 when allowed
    reset_after: float  # seconds until the bucket is full


class Limits(Protocol):
    async def take(self, bucket: str, limit: RateLimit) -> RateVerdict:
        """One from the bucket. Never raises: without its shared store each node keeps its own count."""
        ...


class VaultError(Exception):
    """A ciphertext that is not what was sealed here. Says nothing about its content."""


class KeyMissingError(VaultError, UnavailableError):
    """Sealed with a key that is not in the ring of this node. Another node may have it, or an operator."""

    code = "key_missing"

    def __init__(self) -> None:
        super().__init__(
            "This server lacks the key that a secret was sealed with. Try again later; its operator runs qhronos doctor."
        )


class Vault(Protocol):
    """AES-256-GCM at rest (security.md §4). `context` binds a ciphertext to its row.

    What was sealed with one key begins with the same HEAD_BYTES, its head.
    """

    def seal(self, plain: bytes, *, context: str) -> bytes: ...

    def open(self, sealed: bytes, *, context: str) -> bytes:
        """Raises VaultError: changed, or moved to another row; KeyMissingError."""
        ...

    def head(self) -> bytes:
        """The head of what is sealed now."""
        ...

    def opens(self, head: bytes) -> bool:
        """Whether the key of this head is kept."""
        ...


HEAD_BYTES: Final = 9


class KeyFiles(Protocol):
    """The at-rest key where this installation makes it for itself, and those it took the place of."""

    def renew(self, at: datetime) -> None:
        """A new key for all processes on this data directory; the old one is kept beside it. A crash leaves both or neither."""
        ...

    def retired(self) -> Mapping[bytes, datetime]:
        """The heads of the keys kept beside the present one, and since when each seals nothing."""
        ...

    def forget(self, heads: Iterable[bytes]) -> None: ...


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says of its bearer (access.md §2). Instants are whole seconds."""

    jti: TokenId
    sub: str
    access: Access
    scope: tuple[str, ...]
    issued_at: datetime
    expires_at: datetime


class TokenSigner(Protocol):
    """Tokens nobody else can make. Pure: no I/O, time is an argument."""

    def sign(self, claims: Claims) -> str: ...

    def read(self, token: str, *, now: datetime) -> Claims:
        """Raises UnauthenticatedError, one for all: malformed, foreign, changed, out of its time."""
        ...


# --- going out --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EventSecrets:
    """What `Event.secrets` holds once opened. `retired`: earlier signing secrets and until when both sign."""

    hmac_secret: str | None = None
    retired: tuple[tuple[str, datetime], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)  # values of secret headers, by name as given

    def __repr__(self) -> str:
        return "EventSecrets(***)"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt to make: of this occurrence, by its event's action. `now` is the attempt's own instant."""

    event: Event
    occurrence: Occurrence
    secrets: EventSecrets
    now: datetime

    @property
    def attempt(self) -> int:
        return self.occurrence.attempts_made


@dataclass(frozen=True, slots=True)
class SecretKeeper:
    """Seals and opens what is secret about an event, without its user knowing keys."""

    seal: Callable[[EventId, EventSecrets], bytes]
    open: Callable[[Event], EventSecrets]


class Courier(Protocol):
    async def deliver(self, delivery: Delivery) -> Outcome | None:
        """Make one attempt. Never raises but CancelledError: whatever happened is an Outcome; ends by the action's own deadline.

        None: it is another node's to make. No attempt was made, and the claim is given back.
        """
        ...

    def host_of(self, event: Event) -> str | None:
        """The key under which caps and the breaker count this destination; None: neither applies."""
        ...


Couriers = Mapping[ActionType, Courier]


@dataclass(frozen=True, slots=True)
class Called:
    """What a callback endpoint answered, or why it did not: connection_refused, timeout or tls_error."""

    status: int | None = None
    error: str | None = None
    body: bytes = b""


class Callbacks(Protocol):
    """Calls of endpoints that subscribers named: over https, to public addresses alone."""

    def refusal(self, url: str) -> str | None:
        """Why a URL cannot be one, judged as text; None: it may be tried. Says nothing of where it leads."""
        ...

    def host_of(self, url: str) -> str: ...

    async def post(self, url: str, *, headers: Mapping[str, str], body: bytes, deadline: float) -> Called:
        """Never raises but CancelledError. A forbidden address looks like one where nothing listens."""
        ...
