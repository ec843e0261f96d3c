"""F54: the at-rest key and signing secrets change while events are delivered, by the commands an operator has."""

import asyncio
import re
import secrets as randomness
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from standardwebhooks import Webhook

from tests.faults.rig.nodes import ROOT, Cluster, Node, a_cluster

EVENTS = 6


@dataclass
class Receiver:
    """As a receiver is: it has one secret for each path, and refuses what that does not verify."""

    secrets: dict[str, str] = field(default_factory=dict)
    accepted: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    base: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                first, *lines = head.split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
                body = await reader.readexactly(int(headers["content-length"]))
                path = first.split(" ")[1]
                try:
                    Webhook(self.secrets[path]).verify(body.decode(), headers)
                except Exception as error:
                    self.refused.append(f"{path}: {error!r}")
                else:
                    self.accepted.append(path)
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            return
        finally:
            writer.close()

    async def is_called_again(self) -> None:
        """At every path, with what its secret verifies."""
        here = len(self.accepted)
        async with asyncio.timeout(60):
            while not self.refused and set(self.accepted[here:]) < set(self.secrets):
                await asyncio.sleep(0.05)
        assert self.refused == []


@asynccontextmanager
async def a_receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield receiver
    finally:
        server.close()


@dataclass
class Site:
    """Two nodes and a receiver, and what its operator does."""

    place: Cluster
    receiver: Receiver
    events: dict[str, str] = field(default_factory=dict)  # by path

    async def start(self, number: int) -> Node:
        return await asyncio.to_thread(self.place.start, number)

    async def restart(self, **settings: str) -> None:
        """One node after the other, so that events are always delivered by one of either kind."""
        self.place.settings = {**self.place.settings, **settings}
        for number in (1, 2):
            await asyncio.to_thread(self.place.nodes[number].stopped_by, signal.SIGTERM)
            await self.start(number)
            await self.receiver.is_called_again()

    async def events_are_made(self) -> None:
        """One a second at each path, every other made by either node."""
        for n in range(EVENTS):
            action = {"type": "webhook", "params": {"url": f"{self.receiver.base}/{n}"}}
            node = self.place.nodes[1 + n % 2]
            event = await asyncio.to_thread(node.create, action=action, schedule="every 1s")
            self.receiver.secrets[f"/{n}"] = event["hmac_secret"]
            self.events[f"/{n}"] = event["id"]

    async def secrets_are_changed(self) -> dict[str, str]:
        """The new ones, which the receiver has not yet."""
        told = {}
        for path, event_id in self.events.items():
            node, anew = self.place.nodes[1], {"hmac_secret": None}
            status, event = await asyncio.to_thread(node.ask, "PUT", f"/events/{event_id}", anew)
            assert status == 200, event
            told[path] = event["hmac_secret"]
        return told

    async def runs(self, *arguments: str, status: int = 0) -> str:
        """`qhronos ...` beside the nodes."""
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "qhronos_mcp", *arguments],
            cwd=ROOT,
            env=self.place.environ(),
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout

    async def nothing_went_wrong(self) -> None:
        assert self.receiver.refused == []
        failed: Any = await asyncio.to_thread(self.place.nodes[1].ask, "GET", "/occurrences?status=failed")
        assert failed == (200, [])
        for log in self.place.directory.glob("node-*.log"):
            said = log.read_text()
            for fault in ("key_missing", "cannot_be_opened", "unrecorded", "Traceback", "_failed"):
                assert fault not in said, said


@asynccontextmanager
async def a_site(directory: Path, database_url: str | None) -> AsyncIterator[Site]:
    with a_cluster(directory, database_url=database_url, lease="1m") as place:
        async with a_receiver() as receiver:
            site = Site(place, receiver)
            for number in (1, 2):
                await site.start(number)
            await site.events_are_made()
            await receiver.is_called_again()
            yield site


async def test_the_embedded_key_is_rotated_under_two_processes_that_deliver(tmp_path: Path) -> None:
    async with a_site(tmp_path, None) as site:
        files = tmp_path / "data" / "secrets"
        before = (files / "at_rest_key").read_text()
        said = await site.runs("rotate-key")
        assert f"Sealed anew: {EVENTS}." in said
        assert (files / "at_rest_key").read_text() != before
        assert before.strip() in (files / "retired_at_rest_keys").read_text()
        await site.receiver.is_called_again()

        changing = asyncio.create_task(site.secrets_are_changed())  # by a process that must have the new key by itself
        await site.runs("rotate-key")
        told = await changing
        await site.receiver.is_called_again()  # its secret is the former one: two signatures come
        site.receiver.secrets = told
        await site.receiver.is_called_again()

        await site.restart()  # what is on disk is enough
        said = await site.runs("doctor")
        assert re.search(rf"ok   At rest: the present key \w+ seals {EVENTS} secrets", said)
        assert said.count("nothing is sealed with the earlier key") == 2
        await site.nothing_went_wrong()


async def test_on_postgresql_a_key_is_introduced_on_every_node_before_it_seals(
    tmp_path: Path, migrated_postgres_url: str
) -> None:
    """The three steps of config.example.yaml, from the key derived from the signing secret to one of its own."""
    new = randomness.token_urlsafe(32)
    async with a_site(tmp_path, migrated_postgres_url) as site:
        await site.restart(QHRONOS_AUTH__PREVIOUS_AT_REST_KEYS=new)
        await site.restart(QHRONOS_AUTH__PREVIOUS_AT_REST_KEYS="", QHRONOS_AUTH__AT_REST_KEY=new)
        changing = asyncio.create_task(site.secrets_are_changed())
        await site.runs("rotate-key")
        told = await changing
        await site.receiver.is_called_again()
        site.receiver.secrets = told
        await site.receiver.is_called_again()
        said = await site.runs("rotate-key")
        assert "Nothing to do" in said
        said = await site.runs("doctor", status=1)
        assert re.findall("^FIX  (.*acknowledged)", said, re.M) == ["The server may lose what it has acknowledged"]
        assert said.count("FIX ") == 1  # tests' servers run without fsync
        assert re.search(rf"ok   At rest: the present key \w+ seals {EVENTS} secrets", said)
        assert "earlier key" not in said
        await site.nothing_went_wrong()
