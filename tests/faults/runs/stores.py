"""PostgreSQL goes away, answers late, has no room, or is replaced by its standby."""

import asyncio
import os
import re
import subprocess
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import psycopg

from scripts.binaries import identity
from tests.adapters.store.places import Place
from tests.faults.rig.lacking import NotRun
from tests.faults.rig.nodes import MASTER, Node
from tests.faults.rig.planners import race
from tests.faults.rig.proxy import Connection, Cut
from tests.faults.rig.runs import (
    CLUSTER,
    EMBEDDED,
    LEASE,
    NODES,
    SERVER,
    Asked,
    Found,
    Scene,
    a_scene,
    fault,
    judged,
    under_load,
)
from tests.faults.rig.stops import stop_around_their_instants
from tests.faults.rig.writers import write
from tests.servers import Postgres, free_port, private_postgres

ON_SERVERS: Final = (SERVER, CLUSTER)
LATECOMER: Final = 4  # a node


def webhook(scene: Scene, number: int) -> dict[str, Any]:
    return {"type": "webhook", "params": {"url": scene.receiver.url(f"/{number % 20}")}}


# --- F7, F8: away ---------------------------------------------------------------------------------


async def restarted(scene: Scene, over: asyncio.Event) -> None:
    """In the middle, with writers all the while; what was answered when it went may have gone unrecorded."""
    assert scene.postgres is not None
    writing = asyncio.create_task(write(scene.cluster, over, lambda number: webhook(scene, number)))
    await asyncio.sleep(20)
    before = {number: node.process.pid for number, node in scene.cluster.nodes.items() if node.alive}
    at = time.time()
    await asyncio.to_thread(scene.postgres.stop, "immediate")
    await asyncio.sleep(3)
    await asyncio.to_thread(scene.postgres.start)
    back = time.time()
    scene.blows.append((at - LEASE, back + LEASE))
    await over.wait()
    scene.written, scene.figures["refused"] = await writing
    scene.figures["acknowledged"] = len(scene.written)
    first = min((each.at for each in scene.receiver.log if each.at > back), default=back)
    scene.figures["first dispatch after return"] = f"{first - back:.1f} s"
    if before != {number: node.process.pid for number, node in scene.cluster.nodes.items() if node.alive}:
        scene.broken.append("a node exited")


@fault("F7", "PostgreSQL stopped at once, started again", on=ON_SERVERS, holds="no acknowledged write lost, no exit")
async def _(asked: Asked) -> Found:
    return await under_load(restarted)(asked)


@contextmanager
def a_standby(primary: Postgres) -> Iterator[Postgres]:
    """A copy that follows, in a directory beside the primary's data."""
    program = primary.binaries / "pg_basebackup"
    if not program.exists():
        raise NotRun(f"{program} is not there")
    place = primary.directory / "standby"
    place.mkdir(mode=0o700)
    if primary.run_as is not None:
        os.chown(place, primary.run_as.pw_uid, primary.run_as.pw_gid)
    done = subprocess.run(
        [program, "-d", primary.url, "-D", place / "data", "-R", "-X", "stream", "-c", "fast"],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
        **identity(primary.run_as),
    )
    if done.returncode != 0:
        raise NotRun(f"pg_basebackup: {done.stderr.strip()[-200:]}")
    standby = Postgres(
        directory=place,
        port=free_port(),
        password=primary.password,
        binaries=primary.binaries,
        settings={**primary.settings, "synchronous_standby_names": ""},
        run_as=primary.run_as,
    )
    standby.start()
    try:
        yield standby
    finally:
        standby.stop("immediate")


@fault(
    "F8",
    "failover to a synchronous standby (remote_apply)",
    on=(CLUSTER,),
    holds="writes lost 0, split 0: remote_apply",
)
async def _(asked: Asked) -> Found:
    async with a_scene(asked) as scene:
        primary = scene.postgres
        assert primary is not None
        assert scene.cluster.database_url is not None
        with a_standby(primary) as standby:
            with psycopg.connect(primary.url, autocommit=True) as connection:
                connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
                connection.execute("ALTER SYSTEM SET synchronous_commit = 'remote_apply'")
                connection.execute("SELECT pg_reload_conf()")
            parts = urlsplit(scene.cluster.database_url)
            credentials, _, _ = parts.netloc.rpartition("@")
            hosts = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
            scene.cluster.database_url = f"postgresql://{credentials}@{hosts}{parts.path}"
            await scene.start(*NODES)
            over = asyncio.Event()
            writing = asyncio.create_task(write(scene.cluster, over, lambda number: webhook(scene, number)))
            await asyncio.sleep(15)
            gone = time.time()
            await asyncio.to_thread(primary.stop, "immediate")
            await asyncio.sleep(1)
            with psycopg.connect(standby.url, autocommit=True) as connection:
                connection.execute("SELECT pg_promote()")
            promoted = time.time()
            await asyncio.sleep(20)
            over.set()
            scene.written, scene.figures["refused"] = await writing
            scene.blows.append((gone - LEASE, promoted + LEASE + 5))
            first = min((each.at for each in scene.receiver.log if each.at > promoted), default=promoted)
            scene.figures["acknowledged"] = len(scene.written)
            scene.figures["first dispatch after promotion"] = f"{first - promoted:.1f} s"
            return await judged(scene, scene.written)


# --- F9: cut in the middle of COMMIT ----------------------------------------------------------------

_PARSED: Final = re.compile(rb"P[\0-\xff]{4}([^\0]*)\0COMMIT\0")
_BOUND: Final = re.compile(rb"B[\0-\xff]{4}[^\0]*\0([^\0]*)\0")


def commits(connection: Connection, data: bytes) -> bool:
    """Whether these bytes ask for a COMMIT: by its text, or by the name under which this connection prepared it."""
    names = connection.memory.setdefault("names", set())
    assert isinstance(names, set)
    parsed = {found[1] for found in _PARSED.finditer(data)}
    names |= parsed - {b""}
    return bool(parsed) or any(found[1] in names for found in _BOUND.finditer(data))


@fault(
    "F9",
    "connection cut inside COMMIT, every time",
    on=ON_SERVERS,
    holds="with a key or an Idempotency-Key, a create that is cut makes one event",
)
async def _(asked: Asked) -> Found:
    found = Found()
    creates = asked.events * 2
    async with a_scene(asked, through=("postgres",)) as scene:
        await scene.start(1)
        node, proxy, rng = scene.cluster.nodes[1], scene.proxies["postgres"], scene.rng
        kinds: Counter[str] = Counter()

        def cut(connection: Connection, data: bytes) -> Cut | None:
            if not commits(connection, data):
                return None
            chosen = rng.choices([Cut.AFTER, Cut.BEHIND, Cut.BEFORE], [5, 2, 3])[0]
            kinds[chosen.name.lower()] += 1
            return chosen

        gate, answers = asyncio.Semaphore(8), Counter[int]()

        async def create(number: int) -> str:
            fields: dict[str, Any] = {"name": f"c{number}", "schedule": "every 1d"}
            headers = {}
            if number % 2:
                fields["key"] = f"k{number}"
            else:
                headers["Idempotency-Key"] = f"i{number}"
            async with gate:
                while True:
                    status, event = await asyncio.to_thread(node.ask, "POST", "/events", fields, headers)
                    answers[status] += 1
                    if status in (200, 201):
                        return str(event["id"])
                    found.must(status == 503, f"{status} {event}")
                    await asyncio.sleep(0.05)

        proxy.cuts_at = cut
        told = await asyncio.gather(*[create(number) for number in range(creates)])
        proxy.heal()
        events = await asyncio.to_thread(_names_of_events, scene)
    found.figures = {"creates": creates, "cuts": dict(kinds), "answers": dict(answers), "events": len(events)}
    found.must(len(events) == len(set(events)) == creates == len(set(told)), f"{len(events)} events of {creates}")
    found.must(sum(kinds.values()) >= creates, "fewer cuts than creates")
    return found


def _names_of_events(scene: Scene) -> list[str]:
    assert scene.postgres is not None
    assert scene.cluster.database_url is not None
    direct = scene.cluster.database_url.replace(f":{scene.proxies['postgres'].port}/", f":{scene.postgres.port}/")
    with psycopg.connect(direct) as connection:
        return [name for (name,) in connection.execute("SELECT name FROM events")]


# --- F10, F11: slow, and without room ------------------------------------------------------------------


async def judged_by_its_delay(scene: Scene) -> None:
    """Whether `ready` says how slow the store is: at 3 s, and not yet at 500 ms. Then the run begins."""
    await scene.start(*NODES)
    proxy, node = scene.proxies["postgres"], scene.cluster.nodes[1]
    for delay, expected in ((3.0, 503), (0.5, 200), (0.0, 200)):
        proxy.to_server.latency = delay
        ready = (await asyncio.to_thread(node.ask, "GET", "/health?ready=true"))[0]
        scene.figures[f"ready at +{delay:g} s"] = ready
        if ready != expected:
            scene.broken.append(f"ready with answers after {delay:g} s: {ready}")


async def slowed(scene: Scene, over: asyncio.Event) -> None:
    proxy = scene.proxies["postgres"]
    proxy.to_server.latency = 0.5
    await over.wait()
    await asyncio.sleep(2 * LEASE)  # for what came last; then the checker need not read so slowly
    proxy.heal()


@fault("F10", "every statement 500 ms slower", on=ON_SERVERS, holds="no double claim, false rescues 0; ready says so")
async def _(asked: Asked) -> Found:
    found = await under_load(slowed, prepare=judged_by_its_delay, duplicates=0, through=("postgres",))(asked)
    found.must(found.figures["rescued"] == 0, f"false rescues {found.figures['rescued']}")
    return found


async def used_up(scene: Scene, over: asyncio.Event) -> None:
    """Every connection the server has left is taken, while forty callers ask at once; a node that starts now gets none."""
    assert scene.postgres is not None
    answers: Counter[int] = Counter()
    without: list[str] = []

    def asks(node: Node) -> None:
        url = f"http://127.0.0.1:{node.port}/events?limit=50"
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {MASTER}"})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                answers[answer.status] += 1
        except urllib.error.HTTPError as error:
            with error:
                answers[error.code] += 1
                if "retry-after" not in error.headers:
                    without.append(str(error.code))

    async def calls(number: int) -> None:
        while not over.is_set():
            await asyncio.to_thread(asks, scene.cluster.nodes[NODES[number % 3]])

    with ExitStack() as held:
        while True:
            try:
                held.enter_context(psycopg.connect(scene.postgres.url))
            except psycopg.OperationalError:
                break
        calling = asyncio.gather(*[calls(number) for number in range(40)])
        await scene.start(LATECOMER)
        await asyncio.to_thread(asks, scene.cluster.nodes[LATECOMER])
        await calling
    scene.figures["answers"] = dict(sorted(answers.items()))
    if set(answers) != {200, 503} or without:
        scene.broken.append(f"answers {dict(answers)}, without Retry-After {without}")


@fault("F11", "max_connections used up", on=ON_SERVERS, holds="503 with Retry-After; dispatch keeps its connections")
async def _(asked: Asked) -> Found:
    return await under_load(
        used_up,
        duplicates=0,
        lateness=2,
        of_postgres={"max_connections": "30", "superuser_reserved_connections": "0"},
    )(asked)


# --- F41, F43 at length ----------------------------------------------------------------------------------


@fault("F41", "planners insert the same instant", on=(EMBEDDED, SERVER), holds="rows per instant 1 of 100,000")
async def _(asked: Asked) -> Found:
    found, instants = Found(), asked.events * 200
    with ExitStack() as stack:
        if asked.store == EMBEDDED:
            place = Place("sqlite", str(asked.directory / "data"))
        else:
            place = Place("postgres", stack.enter_context(private_postgres()).new_database())
        rows, winners = await race(place, instants, asked.seed)
    found.figures = {"instants": instants, **winners}
    found.must(rows == {1: instants}, f"rows per instant {dict(rows)}")
    return found


@fault(
    "F43",
    "edit, pause, delete at +-200 ms of the instant",
    on=(EMBEDDED, CLUSTER),
    holds="claims committed after the answer 0; requests over 1 s after it 0",
)
async def _(asked: Asked) -> Found:
    found = Found()
    async with a_scene(asked) as scene:
        await scene.start(*NODES)
        stops = await stop_around_their_instants(
            scene.cluster, scene.receiver, asked.events * 2, scene.rng, nodes=NODES
        )
    found.figures = {"stops": len(stops.stopped), "latest request": f"{stops.latest_request:.2f} s after"}
    found.must(not stops.claims_after, f"claims after the answer: {stops.claims_after[:5]}")
    found.must(stops.latest_request <= 1, f"a request {stops.latest_request:.2f} s after the answer")
    return found
