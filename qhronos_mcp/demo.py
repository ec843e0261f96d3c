"""`qhronos demo`: the whole job on the screen in under 15 seconds, with nothing left behind.

A private server (as an agent host would launch it), a receiver on loopback, one event by webhook and
one for the inbox, both a few seconds ahead. What is shown is what really arrived, and when.
"""

import asyncio
import io
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from mcp import Client, StdioServerParameters
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from qhronos_core.config import load
from qhronos_core.domain.access import Access, Principal
from qhronos_core.domain.errors import QhronosError
from qhronos_core.domain.signature import key_of, verify
from qhronos_core.wiring import Core, open_core

AHEAD: Final = timedelta(seconds=4)
PATIENCE: Final = 12.0  # seconds until what has not come will not come
INBOX: Final = "qhronos://inbox"
_OPERATOR: Final = Principal("master", Access.ADMIN, frozenset(), master=True, holder="master")


@dataclass
class Arrived:
    """One webhook as it came in."""

    at: datetime
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Receiver:
    """A server on loopback that accepts whatever is posted to it."""

    now: Callable[[], datetime]
    arrived: asyncio.Queue[Arrived] = field(default_factory=asyncio.Queue)
    url: str = ""

    async def open(self, stack: AsyncExitStack) -> None:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        stack.callback(server.close)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        at = self.now()
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head.split("\r\n")[1:])
        }
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        with suppress(ConnectionError):
            await writer.drain()
        writer.close()
        await self.arrived.put(Arrived(at, headers, body))


def run_demo() -> int:
    """Show it; the exit status is 0 only if everything happened that was promised."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show a sign of the table shows another
    console = Console()
    try:
        with tempfile.TemporaryDirectory(prefix="qhronos-demo-") as directory:
            return asyncio.run(_until_told(_demo(console, Path(directory))))
    except asyncio.CancelledError:
        return 128 + signal.SIGTERM
    except TimeoutError:
        console.print("[red]It did not all happen in time. Run qhronos doctor, or say so in an issue.[/red]")
        return 1


async def _until_told(show: Coroutine[Any, Any, int]) -> int:
    """At SIGTERM as at the keyboard's signal: it is called off, and nothing is left behind."""
    showing = asyncio.create_task(show)
    with suppress(NotImplementedError):  # Windows
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, showing.cancel)
    return await showing


async def _demo(console: Console, directory: Path) -> int:
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("QHRONOS_")},
        "QHRONOS_DATA_DIR": str(directory / "data"),
        "QHRONOS_EGRESS__ALLOW_LOOPBACK": "true",
        "QHRONOS_LOG__LEVEL": "error",
    }
    for elsewhere in ("DATABASE_URL", "REDIS_URL"):
        environ.pop(elsewhere, None)
    config = directory / "config.yaml"  # so that a configuration in the working directory stays out of it
    config.write_text("server: {}\n")
    environ["QHRONOS_CONFIG"] = str(config)
    launch = StdioServerParameters(command=sys.executable, args=["-m", "qhronos_mcp", "stdio"], env=environ)
    progress = Progress(
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console
    )
    async with AsyncExitStack() as stack:
        steps = stack.enter_context(progress)
        bar = steps.add_task("Starting a private server and a receiver", total=6)
        operator = await stack.enter_async_context(open_core(load(None, environ), run_scheduler=False))
        now = operator.clock.now
        receiver = Receiver(now)
        await receiver.open(stack)
        agent = await stack.enter_async_context(Client(launch))
        steps.update(bar, advance=1, description="Scheduling a webhook and an inbox item")

        due = now() + AHEAD
        webhook = await _create(agent, "A signed webhook", due, {"type": "webhook", "params": {"url": receiver.url}})
        inbox = await _create(agent, "Something for the agent", due, "inbox")
        secret = await _secret_of(operator, UUID(webhook["event"]["id"]))
        console.print(f"  scheduled [bold]{webhook['event']['meaning']}[/bold]")
        steps.update(bar, advance=1, description="Waiting for the instant")

        woken = stack.enter_context(_cancelling(asyncio.create_task(_woken(agent, now))))
        arrived = await asyncio.wait_for(receiver.arrived.get(), PATIENCE)
        if not _genuine(arrived, secret):
            raise DemoError("the webhook's signature does not verify")
        console.print(f"  webhook [bold]{arrived.headers['webhook-id']}[/bold] arrived, its signature verified")
        steps.update(bar, advance=1, description="The agent is woken")
        woken_at = await asyncio.wait_for(woken, PATIENCE)
        console.print(f"  the MCP client was told that {INBOX} has changed")
        steps.update(bar, advance=1, description="The agent takes its item and acknowledges it")

        taken = await _call(agent, "wait_for_occurrences", {"seconds": 5})
        item = taken["occurrences"][0]
        done = await _call(agent, "acknowledge_occurrence", {"occurrence_id": item["id"], "outcome": "done"})
        console.print(f"  acknowledged: [bold]{done['occurrence']['status']}[/bold]")
        steps.update(bar, advance=1, description="Reading back what is on record")
        rows = await _settled(agent, {webhook["event"]["id"], inbox["event"]["id"]})
        steps.update(bar, advance=1, description="Done")
    console.print(_timeline(due, arrived, woken_at, rows, webhook["event"]["id"]))
    return 0 if all(row["status"] == "completed" for row in rows) else 1


async def _call(agent: Client, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    result = await agent.call_tool(tool, arguments)
    shown: dict[str, Any] = result.structured_content or {}
    if result.is_error:
        raise DemoError(json.dumps(shown.get("error", "a tool failed")))
    return shown


async def _create(agent: Client, name: str, due: datetime, action: Any) -> dict[str, Any]:
    return await _call(agent, "create_event", {"name": name, "schedule": due.isoformat(), "action": action})


async def _secret_of(operator: Core, event_id: UUID) -> str:
    """As `qhronos secret` does: a second process on the same data directory asks for a new one, shown once."""
    answer = await operator.events.update(event_id, {"hmac_secret": None}, caller=_OPERATOR)
    if answer.secret_once is None:
        raise DemoError("no signing secret was made")
    return answer.secret_once


async def _woken(agent: Client, now: Callable[[], datetime]) -> datetime:
    """When the client is told that the inbox has changed."""
    async with agent.listen(resource_subscriptions=[INBOX]) as changes:
        async for _ in changes:
            return now()
    raise DemoError("the stream ended before anything was due")


async def _settled(agent: Client, events: set[str]) -> list[dict[str, Any]]:
    """The occurrences of both events, once both are finished."""
    async with asyncio.timeout(PATIENCE):
        while True:
            shown = await _call(agent, "list_occurrences", {"limit": 10})
            rows: list[dict[str, Any]] = [row for row in shown["occurrences"] if row["event"] in events]
            if len(rows) == len(events) and all(row["status"] == "completed" for row in rows):
                return rows
            await asyncio.sleep(0.05)


def _genuine(arrived: Arrived, secret: str) -> bool:
    return verify(
        arrived.body,
        arrived.headers["webhook-signature"],
        keys=[key_of(secret)],
        message_id=arrived.headers["webhook-id"],
        timestamp=int(arrived.headers["webhook-timestamp"]),
        now=int(arrived.at.timestamp()),
    )


def _timeline(due: datetime, arrived: Arrived, woken_at: datetime, rows: list[dict[str, Any]], webhook: str) -> Table:
    table = Table(title="What is on record", title_justify="left")
    for column in ("occurrence", "reached by", "status", "late"):
        table.add_column(column, justify="right" if column == "late" else "left")
    for row in rows:
        by_webhook = row["event"] == webhook
        late = ((arrived.at if by_webhook else woken_at) - due) / timedelta(milliseconds=1)
        reached = "webhook, signed" if by_webhook else "inbox, MCP notification"
        table.add_row(row["id"], reached, row["status"], f"{late:.1f} ms")
    return table


class DemoError(QhronosError):
    """The demonstration did not go as promised."""

    code = "demo_failed"


class _cancelling:  # noqa: N801
    """A task that does not outlive the block."""

    def __init__(self, task: asyncio.Task[datetime]) -> None:
        self._task = task

    def __enter__(self) -> asyncio.Task[datetime]:
        return self._task

    def __exit__(self, *_: object) -> None:
        self._task.cancel()
