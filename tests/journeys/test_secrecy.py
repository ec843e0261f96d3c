"""S33, S34, S23: one journey by every way in and out, with a canary in each secret; then everything is searched.

A real node at debug level, every REST call and every MCP tool, errors, a receiver that echoes what it is sent, a store and
a Redis that go away, and the commands beside it. Then its answers, headers, frames, metrics and logs hold no canary, what
it stored is searched byte by byte, and nobody but the one door connected anywhere.
"""

import asyncio
import base64
import json
import re
import secrets as randomness
import signal
import subprocess
import sys
import time
import urllib.parse
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import psycopg
from mcp.client.streamable_http import streamable_http_client
from websockets.asyncio.client import connect

from qhronos_mcp.rest.routes import OPERATIONS
from tests.faces.mcp.speakers import MODERN, Speaker, in_its_own_task, speaking
from tests.faces.mcp_events.asking import headers as rpc_headers
from tests.faces.mcp_events.asking import request as rpc
from tests.faults.rig.nodes import ROOT, free_port
from tests.journeys.guarded import INSIDE, OUTSIDE
from tests.servers import Postgres, Redis
from tests.telltales import telltales_in


def a_canary(name: str) -> str:
    return f"canary-{name}-{randomness.token_hex(16)}"


@dataclass
class Canaries:
    """Every secret there is, by name; and those that one answer may hold, since it is where they are made."""

    secrets: dict[str, str] = field(default_factory=dict)
    shown_once: dict[str, str] = field(default_factory=dict)  # name: the label of that answer

    def new(self, name: str, value: str | None = None) -> str:
        self.secrets[name] = value or a_canary(name.replace(" ", "-"))
        return self.secrets[name]

    def __iter__(self) -> Iterator[tuple[str, list[bytes]]]:
        """Each with all the forms it could be met in."""
        for name, value in self.secrets.items():
            core = value.removeprefix("whsec_").rpartition(" ")[2]
            forms = {value, core, base64.b64encode(core.encode()).decode().rstrip("="), core.encode().hex()}
            forms |= {urllib.parse.quote(core, safe=""), json.dumps(core)[1:-1]}
            if value.startswith("whsec_"):
                forms.add(base64.b64decode(core + "=" * (-len(core) % 4)).hex())
            if core.count(".") == 2:  # a token: its signature is what must not be known
                forms = {core, core.rpartition(".")[2]}
            yield name, [form.encode() for form in forms]

    def found_in(self, label: str, text: bytes) -> list[str]:
        return [
            f"{name} in {label}"
            for name, forms in self
            if self.shown_once.get(name) != label and any(form in text for form in forms)
        ]


@dataclass
class Echo:
    """A receiver that answers with all it was sent, and keeps it."""

    got: list[bytes] = field(default_factory=list)
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"(?i)content-length: (\d+)", head)
                body = await reader.readexactly(int(length[1]) if length else 0)
                self.got.append(head + body)
                if b'"verification"' in body:
                    answer = json.dumps({"challenge": json.loads(body)["challenge"]}).encode()
                    writer.write(b"HTTP/1.1 200 X\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)
                else:  # a failure, so that the answer is looked at and retried
                    echo = head + body
                    writer.write(b"HTTP/1.1 500 X\r\nContent-Length: %d\r\n\r\n" % len(echo) + echo)
                await writer.drain()
        writer.close()

    async def until(self, *wanted: bytes) -> None:
        async with asyncio.timeout(30):
            while not all(any(each in one for one in self.got) for each in wanted):
                await asyncio.sleep(0.02)


@dataclass
class Journey:
    directory: Path
    environ: dict[str, str]
    canaries: Canaries
    echo: Echo
    answers: list[tuple[str, bytes]] = field(default_factory=list)
    url: str = ""

    def keep(self, label: str, said: object) -> None:
        self.answers.append((label, said if isinstance(said, bytes) else repr(said).encode()))

    @property
    def log(self) -> Path:
        return self.directory / "node.log"

    def _started(self, port: int) -> "subprocess.Popen[bytes]":
        guarded = "from tests.journeys.guarded import guard; guard(); from qhronos_mcp.cli import main; main()"
        command = [sys.executable, "-c", guarded, "serve", "--port", str(port)]
        with self.log.open("ab") as log:
            return subprocess.Popen(command, cwd=ROOT, env=self.environ, stdout=log, stderr=log)

    @asynccontextmanager
    async def node(self) -> AsyncIterator["subprocess.Popen[bytes]"]:
        port = free_port()
        process = self._started(port)
        self.url = f"http://127.0.0.1:{port}"
        try:
            deadline = time.monotonic() + 40
            while (await self.ask("GET", "/health", label="start")).status_code != 200:
                assert process.poll() is None, self.log.read_text()
                assert time.monotonic() < deadline
                await asyncio.sleep(0.1)
            yield process
            process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(process.wait, 60)
        finally:
            process.kill()
            process.wait()

    async def ask(
        self, method: str, path: str, body: object = None, token: str | None = None, label: str = "", **headers: str
    ) -> httpx2.Response:
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        content = None
        if body is not None:
            content, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        async with httpx2.AsyncClient(base_url=self.url, timeout=30, trust_env=False) as client:
            try:
                answer = await client.request(method, path, content=content, headers=headers)
            except httpx2.ConnectError:
                return httpx2.Response(599)
        label = label or f"{method} {path}"
        self.keep(label, answer.content)
        self.keep(f"headers of {label}", str(answer.headers.raw).encode())
        return answer

    def runs(self, *arguments: str, **environ: str) -> None:
        """A command beside the node."""
        done = subprocess.run(
            [sys.executable, "-m", "qhronos_mcp", *arguments],
            cwd=ROOT,
            env={**self.environ, **environ},
            capture_output=True,
            timeout=60,
            check=False,
        )
        self.keep(f"qhronos {arguments[0]}", done.stdout + done.stderr)


def environment(directory: Path, canaries: Canaries, echo: Echo, **more: str) -> dict[str, str]:
    import os

    config = directory / "config.yaml"
    config.write_text("server: {}\n")
    at_rest = canaries.new("at-rest key", randomness.token_urlsafe(32))
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("QHRONOS_", "DATABASE_URL"))},
        "QHRONOS_CONFIG": str(config),
        "QHRONOS_DATA_DIR": str(directory / "data"),
        "QHRONOS_MASTER_TOKEN": canaries.new("master token"),
        "QHRONOS_JWT_SECRET": canaries.new("jwt secret"),
        "QHRONOS_AUTH__PREVIOUS_SECRETS": json.dumps({"0": canaries.new("previous jwt secret")}),
        "QHRONOS_AUTH__AT_REST_KEY": at_rest,
        "QHRONOS_AUTH__PREVIOUS_AT_REST_KEYS": canaries.new("previous at-rest key", randomness.token_urlsafe(32)),
        "QHRONOS_METRICS__TOKEN": canaries.new("metrics token"),
        "QHRONOS_EGRESS__ALLOW_LOOPBACK": "true",
        "QHRONOS_EVENTS__DEV_ORIGINS": echo.url,
        "QHRONOS_LOG__LEVEL": "debug",
        "QHRONOS_RATE_LIMITS__MASTER__PER_MINUTE": "0",
        "QHRONOS_RATE_LIMITS__ADMIN__PER_MINUTE": "0",
        "QHRONOS_RATE_LIMITS__READ_WRITE__PER_MINUTE": "0",
        **more,
    }


@asynccontextmanager
async def a_journey(directory: Path, **more: str) -> AsyncIterator[Journey]:
    canaries, echo = Canaries(), Echo()
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    echo.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield Journey(directory, environment(directory, canaries, echo, **more), canaries, echo)
    finally:
        server.close()


# --- the way ----------------------------------------------------------------------------------------


async def everything_secret_is_used(journey: Journey) -> tuple[str, dict[str, str]]:
    """An agent's token; and the ids of what was made."""
    ask, canaries, echo = journey.ask, journey.canaries, journey.echo
    master = canaries.secrets["master token"]
    fields = {"sub": "ann", "access": "admin", "scope": ["user:ann"]}
    token = (await ask("POST", "/tokens", fields, master, label="minting")).json()["token"]
    canaries.shown_once["a JWT"] = "minting"
    canaries.new("a JWT", token)

    hook = {"name": "h", "schedule": "every 1h", "tags": ["user:ann"], "webhook": f"{echo.url}/hook"}
    made = (await ask("POST", "/events", hook, token, label="making a secret")).json()
    canaries.shown_once["a secret that was made"] = "making a secret"
    canaries.new("a secret that was made", made["hmac_secret"])
    anew = (await ask("PUT", f"/events/{made['id']}", {"hmac_secret": None}, token, label="another secret")).json()
    canaries.shown_once["another that was made"] = "another secret"
    canaries.new("another that was made", anew["hmac_secret"])

    given = {**hook, "hmac_secret": canaries.new("hmac secret"), "webhook": f"{echo.url}/given", "key": "given"}
    given_id = (await ask("POST", "/events", given, token)).json()["id"]
    whsec = "whsec_" + base64.b64encode(canaries.new("whsec").encode()).decode()
    canaries.new("whsec", whsec)
    await ask("PUT", f"/events/{given_id}", {"hmac_secret": whsec}, token)

    headers = {"Authorization": f"Bearer {canaries.new('authorization')}", "X-Key": canaries.new("secret header")}
    params = {"url": f"{echo.url}/call", "headers": headers, "secret_headers": ["X-Key"], "body": {"n": 1}}
    call = {"name": "c", "schedule": "every 1h", "tags": ["user:ann"], "action": {"type": "apicall", "params": params}}
    call_id = (await ask("POST", "/events", call, token)).json()["id"]
    await ask("POST", "/events", call, token, **{"Idempotency-Key": "one"})
    await ask("POST", "/events", call, token, **{"Idempotency-Key": "one"})

    secret = canaries.new("subscription secret", "whsec_" + base64.b64encode(randomness.token_bytes(32)).decode())
    delivery = {"mode": "webhook", "url": f"{echo.url}/subscribed", "secret": secret}
    asked = rpc("events/subscribe", name="occurrence.due", arguments={}, delivery=delivery)
    granted = await ask("POST", "/mcp", asked, token, label="subscribing", **rpc_headers("events/subscribe"))
    assert "result" in granted.json(), granted.text
    return token, {"hook": made["id"], "given": given_id, "call": call_id}


async def it_falls_due(journey: Journey, token: str, ids: dict[str, str]) -> str:
    """All of it is sent, and echoed; the id of the call's occurrence."""
    for event_id in ids.values():
        assert (await journey.ask("POST", f"/events/{event_id}/trigger", {}, token)).status_code < 300
    await journey.echo.until(b"POST /hook", b"POST /given", b"POST /call", b"POST /subscribed")
    path = f"/events/{ids['call']}/occurrences"
    rows = (await journey.ask("GET", path, None, token)).json()
    occurrence_id: str = next(row["id"] for row in rows if row["attempts_made"])
    async with asyncio.timeout(30):
        while not (await journey.ask("GET", f"/occurrences/{occurrence_id}/attempts", None, token)).json():
            await asyncio.sleep(0.05)
    told = await journey.ask("GET", f"/occurrences/{occurrence_id}/attempts?include=response", None, token)
    assert "/call" in told.text, "the echo must be among what is searched"
    return occurrence_id


async def every_call_by_everybody(journey: Journey, token: str, ids: dict[str, str], occurrence_id: str) -> None:
    """Each route with what is there and what is not, with good, bad and malformed credentials and bodies."""
    secrets = journey.canaries.secrets
    bearers = [token, secrets["master token"], secrets["metrics token"], secrets["jwt secret"], "garbage", None]
    for operation in OPERATIONS:
        if operation.path in {"/tokens/{jti}"} or operation.method == "DELETE":
            paths = [operation.path.replace("{id}", str(uuid4())).replace("{jti}", str(uuid4()))]
        elif operation.path.startswith("/occurrences/{id}"):
            paths = [operation.path.replace("{id}", each) for each in (occurrence_id, str(uuid4()), "x")]
        else:
            paths = [operation.path.replace("{id}", each) for each in (ids["call"], ids["hook"], "x")]
        for path in dict.fromkeys(paths):
            for bearer in bearers:
                minting = operation.path == "/tokens" and operation.method == "POST"
                if minting and bearer == secrets["master token"]:
                    continue  # it would show what it made
                body = {"name": 5, "hmac_secret": secrets["hmac secret"] * 9} if operation.method != "GET" else None
                await journey.ask(operation.method, path, body, bearer)
    for malformed in (secrets["a JWT"], f"Basic {secrets['a JWT']}", f"Bearer {secrets['a JWT']} x", "Bearer \x7f"):
        await journey.ask("GET", "/events", Authorization=malformed)
    await journey.ask("GET", f"/events?q={secrets['master token']}&access_token={secrets['a JWT']}", None, token)
    figures = await journey.ask("GET", "/metrics", None, secrets["metrics token"])
    assert "qhronos_http_requests_total" in figures.text


async def every_tool(journey: Journey, token: str, ids: dict[str, str], occurrence_id: str) -> None:
    bearer = {"Authorization": f"Bearer {token}"}
    secrets = journey.canaries.secrets
    action = {"type": "webhook", "params": {"url": f"{journey.echo.url}/tool"}}
    calls: list[tuple[str, dict[str, Any]]] = [
        ("create_event", {"name": "t", "schedule": "every 1h", "action": action}),
        ("create_event", {"name": "t", "schedule": "sometimes", "action": action}),
        ("list_events", {}),
        ("list_events", {"event_id": ids["call"]}),
        ("update_event", {"event_id": ids["call"], "name": "renamed"}),
        ("update_event", {"event_id": ids["hook"], "hmac_secret": secrets["hmac secret"]}),
        ("list_occurrences", {"event_id": ids["call"]}),
        ("wait_for_occurrences", {"seconds": 1}),
        ("acknowledge_occurrence", {"occurrence_id": occurrence_id, "outcome": "done"}),
        ("trigger", {"event_id": ids["given"]}),
        ("delete_event", {"event_id": str(uuid4())}),
    ]
    for version in (MODERN, "2025-11-25"):
        async with (
            httpx2.AsyncClient(headers=bearer, timeout=60, trust_env=False) as http,
            in_its_own_task(
                speaking(streamable_http_client(f"{journey.url}/mcp", http_client=http), version)
            ) as speaker,
        ):
            tools = await speaker.client.list_tools()
            assert {name for name, _ in calls} == {tool.name for tool in tools.tools}
            journey.keep("tools/list", tools)
            for name, arguments in calls:
                journey.keep(f"tool {name}", await speaker.client.call_tool(name, arguments))
            await the_rest_of_mcp(journey, speaker, ids, occurrence_id)
    for method in ("events/list", "events/poll"):
        await journey.ask("POST", "/mcp", rpc(method, name="occurrence.due"), token, **rpc_headers(method))


async def the_rest_of_mcp(journey: Journey, speaker: Speaker, ids: dict[str, str], occurrence_id: str) -> None:
    for uri in ("inbox", f"events/{ids['call']}", f"occurrences/{occurrence_id}", "guide/schedules", "nothing"):
        try:
            journey.keep(f"resource {uri}", await speaker.client.read_resource(f"qhronos://{uri}"))
        except Exception as error:
            journey.keep(f"resource {uri}", error)
    prompts, given = await speaker.client.list_prompts(), {"goal": "wake me", "event_id": ids["call"]}
    for prompt in prompts.prompts:
        try:
            journey.keep(f"prompt {prompt.name}", await speaker.client.get_prompt(prompt.name, given))
        except Exception as error:
            journey.keep(f"prompt {prompt.name}", error)


async def over_a_socket(journey: Journey, token: str) -> None:
    async with connect(f"{journey.url.replace('http', 'ws')}/ws") as socket:
        for frame in (
            {"type": "tag-listener", "tags": ["user:ann"], "token": token},
            {"type": "nonsense", "token": token},
            {"type": "ack", "occurrence_id": str(uuid4()), "secret": journey.canaries.secrets["hmac secret"]},
        ):
            with suppress(Exception):
                await socket.send(json.dumps(frame))
                journey.keep("a frame", await asyncio.wait_for(socket.recv(), 10))


async def after_the_journey(journey: Journey) -> None:
    log = journey.log.read_bytes()
    assert INSIDE.encode() in log, "the door was not used, or nobody watched"
    outside = [line for line in log.decode().splitlines() if OUTSIDE in line]
    assert outside == []
    assert b'"level": "debug"' in log or b'"event": "request"' in log
    journey.keep("the log", log)
    leaks = [leak for label, said in journey.answers for leak in journey.canaries.found_in(label, said)]
    assert leaks == []
    told = [
        (label, telltales_in(said.decode("utf-8", "replace"))) for label, said in journey.answers if is_an_answer(label)
    ]
    assert [each for each in told if each[1]] == []  # S54
    # And they were used: else nothing was proved.
    sent = b"".join(journey.echo.got)
    for name in ("authorization", "secret header"):
        assert journey.canaries.secrets[name].encode() in sent
    # S40: what came in to prove who asks goes nowhere.
    for name in ("a JWT", "master token", "metrics token", "jwt secret", "at-rest key"):
        assert journey.canaries.secrets[name].encode() not in sent


def is_an_answer(label: str) -> bool:
    """What a caller is sent: not what is logged or stored, nor what an operator reads on the machine itself."""
    return not label.startswith(("the log", "the file", "table", "qhronos"))


async def the_whole_way(journey: Journey) -> tuple[str, dict[str, str]]:
    token, ids = await everything_secret_is_used(journey)
    occurrence_id = await it_falls_due(journey, token, ids)
    await every_call_by_everybody(journey, token, ids, occurrence_id)
    await every_tool(journey, token, ids, occurrence_id)
    await over_a_socket(journey, token)
    return token, ids


async def test_on_the_embedded_store_no_secret_is_met_again(tmp_path: Path) -> None:
    async with a_journey(tmp_path) as journey:
        async with journey.node():
            await the_whole_way(journey)
            for command in (["doctor"], ["token", "list"], ["migrate"], ["rotate-key"], ["secret", "nothing"]):
                await asyncio.to_thread(journey.runs, *command)
            # S33: the file and its log, as they are while it serves.
            stored = [
                path for path in (tmp_path / "data").rglob("*") if path.is_file() and path.parent.name != "secrets"
            ]
            assert {path.name for path in stored} >= {"qhronos.db", "qhronos.db-wal"}
            for path in stored:
                journey.keep(f"the file {path.name}", path.read_bytes())
        journey.runs("serve", QHRONOS_AUTH__AT_REST_KEY="canary")
        journey.runs("serve", QHRONOS_MASTER_TOKEN=journey.canaries.secrets["jwt secret"])
        await after_the_journey(journey)


async def test_on_postgresql_and_redis_no_secret_is_met_again_though_both_go_away(
    tmp_path: Path, postgres_server: Postgres, postgres_url: str, redis_server: Redis, redis_url: str
) -> None:
    async with a_journey(tmp_path, DATABASE_URL=postgres_url, REDIS_URL=redis_url) as journey:
        journey.canaries.new("database password", postgres_server.password)
        journey.canaries.new("redis password", redis_server.password)
        async with journey.node():
            token, ids = await the_whole_way(journey)
            with without(postgres_server), without(redis_server):
                for path in ("/events", f"/events/{ids['call']}", "/occurrences", "/status", "/health"):
                    await journey.ask("GET", path, None, token, label=f"{path} without a store")
                await journey.ask("POST", "/events", {"name": "n", "schedule": "@daily"}, token, label="lost")
            async with asyncio.timeout(60):
                while (await journey.ask("GET", "/events", None, token)).status_code != 200:
                    await asyncio.sleep(0.1)
            for command in (["doctor"], ["rotate-key"]):
                await asyncio.to_thread(journey.runs, *command)
        wrong = postgres_url.replace(postgres_server.password, "wrong-" + postgres_server.password)
        journey.runs("doctor", DATABASE_URL=wrong)
        for table, row in rows_of(postgres_url):
            journey.keep(f"table {table}", row)
        assert sum(label == "table events" for label, _ in journey.answers) >= 3
        await after_the_journey(journey)


@contextmanager
def without(server: Postgres | Redis) -> Iterator[None]:
    server.stop()
    try:
        yield
    finally:
        server.start()


def rows_of(url: str) -> Iterator[tuple[str, str]]:
    """Everything in the database, as `pg_dump` writes it: text, and bytes in hex."""
    with psycopg.connect(url, autocommit=True) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        for (table,) in tables:
            for (row,) in connection.execute(f'SELECT t::text FROM "{table}" AS t').fetchall():
                yield table, row


def test_a_canary_that_flew_is_seen(tmp_path: Path) -> None:
    """The search itself: in each form, but not where it was made."""
    canaries = Canaries()
    secret = canaries.new("secret")
    canaries.shown_once["secret"] = "making"
    for form in (secret, base64.b64encode(secret.encode()).decode(), secret.encode().hex(), f"Bearer {secret}"):
        assert canaries.found_in("elsewhere", f"x {form} y".encode()) == ["secret in elsewhere"]
        assert canaries.found_in("making", form.encode()) == []
    assert canaries.found_in("elsewhere", b"nothing") == []
