"""How hard a destination may be knocked at: caps, and a breaker while it is down (security.md §3, Load).

One cap is on sends at once; another, where it is set, on how many begin within a second.

Waiting costs no attempt: a send that is not admitted is given back until the instant named here. Those instants are
spread, at the pace at which the destination has been answering, so that ten thousand that wait for one host neither
return in one storm nor are claimed and given back over and over. Each creator has a line of its own there, and while several
wait none holds more than its share of the places: a flood to a host that many use delays the others by a share. Each node
keeps its own count.
"""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

FAILURES_TO_OPEN: Final = 5
FIRST_PROBE_AFTER: Final = timedelta(minutes=1)
PROBE_AFTER_MOST: Final = timedelta(minutes=5)
LENT_MOST: Final = 100  # of what an open breaker holds back, before each of its probes
WAIT_MOST: Final = timedelta(seconds=30)  # beyond what it waits for: an estimate that is wrong is wrong for this long

_FIRST_GUESS: Final = timedelta(milliseconds=100)  # how long a send takes, until it is known
_LEAST_PACE: Final = timedelta(milliseconds=1)
_SECOND: Final = timedelta(seconds=1)
_TAKEN_WITHIN: Final = timedelta(seconds=1)  # what may be tried again is claimed: its place is kept for it until then
_REMEMBERED: Final = 10_000
_FORGET_AFTER: Final = timedelta(hours=1)


@dataclass(slots=True)
class _Host:
    under_way: deque[tuple[datetime, str | None]] = field(default_factory=deque)  # begun when, at which address
    takes: timedelta = _FIRST_GUESS
    failures: int = 0  # in a row
    open_until: datetime | None = None  # None: the breaker is closed
    wait: timedelta = FIRST_PROBE_AFTER  # before the next probe, if this one fails
    lent: int = 0  # left to other nodes since it opened, or since the last probe
    given: dict[int, datetime] = field(default_factory=dict)  # the latest instant given to one that waits, by creator
    holding: Counter[int] = field(default_factory=Counter)  # of `under_way`, by creator
    begun: deque[datetime] = field(default_factory=deque)  # of the last second; kept where there is a cap on them
    seen: datetime | None = None


class Hosts:
    """Caps and breakers by destination. Time is an argument; nothing here waits.

    Every `admit` that answers None is followed by exactly one `report` or `withdraw`.
    """

    def __init__(
        self, per_host: int, *, per_second: int = 0, address_of: Callable[[str], str | None] = lambda _: None
    ) -> None:
        """`per_second`: most sends that begin within a second, 0 for any number.

        `address_of`: the address a host was last dialled at, if known; the cap on sends at once holds for each
        of these too (S50).
        """
        self._per_host = per_host
        self._per_second = per_second
        self._address_of = address_of
        self._hosts: dict[str, _Host] = {}
        self._at_address: dict[str, int] = {}
        self._room = _REMEMBERED
        self._unanswered = 0  # sends in a row, to whatever host
        self._unanswered_at: datetime | None = None  # the last of them

    def admit(self, host: str, now: datetime, *, creator: int = 0) -> datetime | None:
        """None: send, and report. Else the instant before which this one is not to be tried again, always later than `now`."""
        state = self._hosts.get(host)
        if state is None:
            self._make_room(now)
            state = self._hosts[host] = _Host()
        state.seen = now
        if state.open_until is not None:
            if now < state.open_until:
                return self._turn(state, creator, not_before=state.open_until)
            if state.under_way:  # one probe at a time
                return self._turn(state, creator, not_before=now + max(state.takes, timedelta(seconds=1)))
        address = self._address_of(host)
        if len(state.under_way) >= self._per_host or (
            address is not None and self._at_address.get(address, 0) >= self._per_host
        ):
            return self._turn(state, creator, not_before=now + self._pace(state))
        if state.given and state.holding[creator] >= self._share(state, creator, now):
            return self._turn(state, creator, not_before=now + self._pace(state))
        if self._per_second and (begins := self._within_its_rate(state, now)) > now:
            return self._turn(state, creator, not_before=begins)
        state.under_way.append((now, address))
        state.holding[creator] += 1
        self._leave(state, creator, now)
        if address is not None:
            self._at_address[address] = self._at_address.get(address, 0) + 1
        return None

    def report(self, host: str, *, creator: int = 0, answered: bool, now: datetime) -> None:
        """An admitted send is over. `answered`: the host is up, whatever it said."""
        state, began = self._ended(host, creator)
        state.takes += (max(now - began, timedelta(0)) - state.takes) / 8
        self._unanswered = 0 if answered else self._unanswered + 1
        self._unanswered_at = None if answered else now
        if answered:
            state.failures, state.open_until, state.wait = 0, None, FIRST_PROBE_AFTER
            return
        state.failures += 1
        # Sends begun before it opened say nothing new by failing; after `open_until` only the probe can.
        if state.failures >= FAILURES_TO_OPEN and (state.open_until is None or now >= state.open_until):
            state.open_until, state.lent = now + state.wait, 0
            state.wait = min(state.wait * 2, PROBE_AFTER_MOST)

    def withdraw(self, host: str, *, creator: int = 0) -> None:
        """An admitted send was never made: nothing was learned."""
        self._ended(host, creator)

    def breakers_open(self) -> int:
        """How many hosts are sent nothing but a probe now and then."""
        return sum(state.open_until is not None for state in self._hosts.values())

    def lends(self, host: str) -> bool:
        """Whether one more that an open breaker holds back is left to other nodes. They learn from a few; all would be a storm."""
        state = self._hosts.get(host)
        if state is None or state.open_until is None or state.lent >= LENT_MOST:
            return False
        state.lent += 1
        return True

    def is_cut_off(self, now: datetime) -> bool:
        """Whether nothing this node has sent of late was answered, by any host: it may be the node that is at fault."""
        at = self._unanswered_at
        return self._unanswered >= FAILURES_TO_OPEN and at is not None and now - at < FIRST_PROBE_AFTER

    def _ended(self, host: str, creator: int) -> tuple[_Host, datetime]:
        # Sends of one host are not told apart: the sums are right, and the mean of their lengths.
        state = self._hosts[host]
        began, address = state.under_way.popleft()
        state.holding[creator] -= 1
        if not state.holding[creator]:
            del state.holding[creator]
        if address is not None:
            self._at_address[address] -= 1
            if not self._at_address[address]:
                del self._at_address[address]
        return state, began

    def _within_its_rate(self, state: _Host, now: datetime) -> datetime:
        """When one more may begin. If it may now, it is counted as begun, whether or not it is made after all."""
        begun = state.begun
        while begun and not begun[0] <= now < begun[0] + _SECOND:  # past; or to come, of a clock that was set back
            begun.popleft()
        if len(begun) >= self._per_second:
            return begun[0] + _SECOND
        begun.append(now)
        return now

    def _pace(self, state: _Host) -> timedelta:
        pace = max(state.takes / self._per_host, _LEAST_PACE)
        return max(pace, _SECOND / self._per_second) if self._per_second else pace

    def _share(self, state: _Host, creator: int, now: datetime) -> int:
        """How many places one creator may hold while others wait for theirs."""
        others = sum(given >= now - _TAKEN_WITHIN for waiting, given in state.given.items() if waiting != creator)
        return -(-self._per_host // (1 + others))

    def _turn(self, state: _Host, creator: int, *, not_before: datetime) -> datetime:
        """The next place in the creator's line of those that wait: the first has `not_before` itself."""
        given = state.given.get(creator)
        if given is None or given < not_before:
            given = not_before
        else:
            lines = sum(latest >= not_before for latest in state.given.values())
            given = min(given + lines * self._pace(state), not_before + WAIT_MOST)
        state.given[creator] = given
        return given

    def _leave(self, state: _Host, creator: int, now: datetime) -> None:
        """One of a creator's line has come and is let through: if it was the last, the line is gone; so are those nobody came back of."""
        if state.given and state.given.get(creator, now) <= now:
            state.given.pop(creator, None)
            for waiting in [waiting for waiting, given in state.given.items() if given < now - _TAKEN_WITHIN]:
                del state.given[waiting]

    def _make_room(self, now: datetime) -> None:
        if len(self._hosts) < self._room:
            return
        for host, state in list(self._hosts.items()):
            closed = state.open_until is None and not state.failures
            if not state.under_way and (closed or (state.seen is not None and now - state.seen > _FORGET_AFTER)):
                del self._hosts[host]
        self._room = max(_REMEMBERED, 2 * len(self._hosts))  # so that looking through them all is rare
