"""How fast, how punctually and at what cost what is due goes out: by the whole core, wired as a server wires it."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import aiohttp

from qhronos_core.adapters.http.egress import Egress
from qhronos_core.domain.access import Access, Principal, Reach
from qhronos_core.domain.destination import EgressPolicy
from qhronos_core.domain.lifecycle import State
from qhronos_core.ports import OccurrenceQuery, Page, Stirred
from qhronos_core.wiring import Core, open_core
from scripts.bench.figures import Figure, Scale, mid, percentile
from scripts.bench.loops import run
from scripts.bench.receiver import Receiver, a_receiver
from scripts.bench.stores import Place, on_each_store

OPERATOR: Final = Principal("master", Access.ADMIN, frozenset(), master=True, holder="master")
CONNECTIONS: Final = (50, 200)  # a bare client is measured with each; its better rate counts
_LIKE_OURS: Final = {  # what a webhook carries, so that the bare clients send as much
    "Content-Type": "application/json",
    "User-Agent": "Qhronos",
    "webhook-id": "b2f6a3a0-6a5e-8b0c-9d3e-0123456789ab",
    "webhook-timestamp": "1790000000",
    "webhook-signature": "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=",
    "Idempotency-Key": "b2f6a3a0-6a5e-8b0c-9d3e-0123456789ab",
    "Qhronos-Attempt": "1",
    "X-Qhronos-Signature": "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b",
}
_BODY: Final = b'{"event_id":"%s","name":"bench 00000","description":"","metadata":{},"tags":[]}' % (b"0" * 120)
_QUIET: Final = timedelta(milliseconds=100)
_SETUP: Final = timedelta(seconds=2)  # between the last creation and the first due instant


def burst(scale: Scale) -> Iterator[Figure]:
    """All due at one instant: the rate from that instant until the last is recorded, beside bare clients' rates."""
    yield from _with_a_receiver(scale, _burst_on)


def lateness(scale: Scale) -> Iterator[Figure]:
    """Spread evenly: how long after its instant each one reached the receiver."""
    yield from _with_a_receiver(scale, _lateness_on)


def _with_a_receiver(
    scale: Scale, measure: Callable[[Place, Receiver, Scale], Coroutine[Any, Any, list[Figure]]]
) -> Iterator[Figure]:
    with a_receiver() as receiver:
        yield from on_each_store(scale, lambda place: run(measure(place, receiver, scale)))


# --- bursts -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Burst:
    rate: float
    cpu: float  # seconds per 1,000, ours and the server's
    last_receipt: float  # seconds after the instant
    aiohttp: float
    egress: float


async def _burst_on(place: Place, receiver: Receiver, scale: Scale) -> list[Figure]:
    count = scale.of(5_000, 300)
    figures = []
    for kind, rule in (("once each", _once), ("every hour", _hourly)):
        rounds = [await _one_burst(place, receiver, count, rule) for _ in range(scale.rounds)]
        name = f"burst of {count:,}, {kind}, {place.name}"
        ours = f"{mid(r.rate for r in rounds):,.0f}/s, last receipt after {mid(r.last_receipt for r in rounds):.2f} s"
        bare, own = mid(r.aiohttp for r in rounds), mid(r.egress for r in rounds)
        figures += [
            Figure(name, ours, f"aiohttp alone {bare:,.0f}/s", mid(r.rate / r.aiohttp for r in rounds)),
            Figure("", "", f"our client alone {own:,.0f}/s", mid(r.rate / r.egress for r in rounds)),
            Figure("  CPU per 1,000, with the store", f"{mid(r.cpu for r in rounds):.3f} s"),
        ]
    return figures


async def _one_burst(place: Place, receiver: Receiver, count: int, rule: "_Rule") -> _Burst:
    bare = max([await _bare_aiohttp(receiver.url, count, connections) for connections in CONNECTIONS])
    own = max([await _bare_egress(receiver.url, count, connections) for connections in CONNECTIONS])
    async with _planned(place, receiver, [timedelta(0)] * count, rule) as (core, due):
        before = due - timedelta(milliseconds=100)
        await asyncio.sleep((before - core.clock.now()).total_seconds())
        used = -(time.process_time() + place.server_cpu())
        ended = await _all_recorded(core, receiver, count)
        used += time.process_time() + place.server_cpu()
        last_receipt = max(receiver.lateness()) / 1000
    return _Burst(count / (ended - due).total_seconds(), used / count * 1000, last_receipt, bare, own)


async def _bare_aiohttp(url: str, count: int, connections: int) -> float:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=connections)) as session:

        async def send() -> None:
            async with session.post(url, data=_BODY, headers=_LIKE_OURS) as answer:
                await answer.read()

        return await _rate(send, count, connections)


async def _bare_egress(url: str, count: int, connections: int) -> float:
    async with Egress(EgressPolicy(allow_loopback=True)) as egress:

        async def send() -> None:
            await egress.request("POST", url, headers=_LIKE_OURS, body=_BODY, deadline=15)

        return await _rate(send, count, connections)


async def _rate(send: Callable[[], Awaitable[None]], count: int, connections: int) -> float:
    """Requests a second over connections that are open already."""

    async def worker(share: int) -> None:
        for _ in range(share):
            await send()

    await asyncio.gather(*(worker(1) for _ in range(connections)))
    began = time.perf_counter()
    share = max(1, count // connections)
    await asyncio.gather(*(worker(share) for _ in range(connections)))
    return connections * share / (time.perf_counter() - began)


# --- lateness -----------------------------------------------------------------------------------------


async def _lateness_on(place: Place, receiver: Receiver, scale: Scale) -> list[Figure]:
    figures = []
    for per_second, seconds in ((50, scale.of(20, 2)), (200, scale.of(10, 1))):
        late = await _spread(place, receiver, per_second, seconds)
        told = f"p50 {percentile(late, 50):.1f}, p99 {percentile(late, 99):.1f}, most {late[-1]:.1f} ms"
        early = sum(each < 0 for each in late)
        figures.append(
            Figure(f"lateness at {per_second}/s for {seconds} s, {place.name}", told, f"early: {early} of {len(late)}")
        )
    return figures


async def _spread(place: Place, receiver: Receiver, per_second: int, seconds: int) -> list[float]:
    ahead = [timedelta(seconds=n / per_second) for n in range(per_second * seconds)]
    async with _planned(place, receiver, ahead, _once) as (core, due):
        await asyncio.sleep((due - core.clock.now() + ahead[-1]).total_seconds())
        await _all_recorded(core, receiver, len(ahead))
    return sorted(receiver.lateness())


# --- the core -----------------------------------------------------------------------------------------

_Rule = Callable[[datetime], dict[str, Any]]


def _once(due: datetime) -> dict[str, Any]:
    return {"schedule": due.isoformat()}


def _hourly(due: datetime) -> dict[str, Any]:
    return {"schedule": "every 1h", "start_time": due.isoformat()}


@asynccontextmanager
async def _planned(
    place: Place, receiver: Receiver, ahead: list[timedelta], rule: _Rule
) -> AsyncIterator[tuple[Core, datetime]]:
    """A running core on an empty store, with webhook events each first due so long after the instant, still to come."""
    each = 0.002  # seconds that one creation takes, until it is known
    while True:
        async with open_core(place.emptied()) as core:
            receiver.reset()
            began = time.perf_counter()
            due = core.clock.now() + 2 * each * len(ahead) * timedelta(seconds=1) + _SETUP
            await _create(core, receiver, [due + delay for delay in ahead], rule)
            each = (time.perf_counter() - began) / len(ahead)
            if due - core.clock.now() > _SETUP / 2:
                core.start_scheduler()
                yield core, due
                return


async def _create(core: Core, receiver: Receiver, instants: list[datetime], rule: _Rule) -> None:
    action = {"type": "webhook", "params": {"url": receiver.url}}
    left = iter(enumerate(instants))

    async def worker() -> None:
        for number, instant in left:
            fields = {"name": f"bench {number:05}", "action": action, **rule(instant)}
            await core.events.create(fields, caller=OPERATOR)

    await asyncio.gather(*(worker() for _ in range(32)))


async def _all_recorded(core: Core, receiver: Receiver, count: int) -> datetime:
    """When the last outcome was committed. Nothing is asked while the core is busy, so that asking costs nothing."""
    query = OccurrenceQuery(states=frozenset({State.COMPLETED}))
    async with _last_stir(core) as last:
        while True:
            await asyncio.sleep(_QUIET.total_seconds())
            if core.clock.now() - last[0] < _QUIET or await asyncio.to_thread(receiver.count) < count:
                continue
            found = await core.store.occurrences.list(query, Reach(everything=True), Page(limit=1), count=True)
            if found.total == count:
                return last[0]


@asynccontextmanager
async def _last_stir(core: Core) -> AsyncIterator[list[datetime]]:
    """Holds when the core last said that it committed something."""
    at = [core.clock.now()]

    def heard(_: Stirred) -> None:
        at[0] = core.clock.now()

    deaf = core.signals.listen(heard)
    try:
        yield at
    finally:
        deaf()
