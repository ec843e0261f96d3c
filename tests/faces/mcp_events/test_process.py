"""The server as a process: a subscription outlives it, and what fell due meanwhile is told."""

import asyncio
import json
import sys
import time
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.faces.mcp.speakers import MODERN
from tests.faces.mcp.test_stdio import a_host
from tests.faces.mcp_events import asking
from tests.faces.mcp_events.asking import ask, headers, refusal
from tests.faces.mcp_events.receiver import Receiver, a_receiver
from tests.faces.rest.house import MASTER
from tests.faces.rest.test_process import environment


@asynccontextmanager
async def serving(data_dir: Path, origin: str, **more: str) -> AsyncIterator[httpx2.AsyncClient]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "qhronos_mcp",
        "serve",
        env=environment(data_dir, {"QHRONOS_EVENTS__DEV_ORIGINS": origin, **more}),
        stderr=asyncio.subprocess.PIPE,
        cwd=data_dir,
    )
    assert process.stderr is not None
    said = [json.loads(await process.stderr.readline())]
    while said[-1]["event"] != "serving":
        said.append(json.loads(await process.stderr.readline()))
    [warned] = [line for line in said if line["event"] == "events_dev_origins_may_be_called_back"]
    assert (warned["level"], warned["count"]) == ("warning", 1)
    drained = asyncio.create_task(process.stderr.read())
    bearer = {"Authorization": f"Bearer {MASTER}"}
    try:
        async with httpx2.AsyncClient(base_url=said[-1]["url"], headers=bearer, trust_env=False) as client:
            yield client
    finally:
        process.kill()
        await process.wait()
        await drained


async def rpc(client: httpx2.AsyncClient, method: str, **params: Any) -> dict[str, Any]:
    answer = (await client.post("/mcp", json=asking.request(method, **params), headers=headers(method))).json()
    assert "result" in answer, answer
    result: dict[str, Any] = answer["result"]
    return result


async def an_event(client: httpx2.AsyncClient, name: str, schedule: str) -> str:
    answer = await client.post("/events", json={"name": name, "schedule": schedule, "action": {"type": "inbox"}})
    assert answer.status_code == 201, answer.text
    event_id: str = answer.json()["id"]
    return event_id


@pytest.fixture(params=["sqlite", "postgres"])
def where(request: pytest.FixtureRequest) -> dict[str, str]:
    """The store, as the environment names it."""
    return {"DATABASE_URL": request.getfixturevalue("migrated_postgres_url")} if request.param == "postgres" else {}


async def test_a_subscription_outlives_a_kill_and_what_fell_due_meanwhile_is_told(
    tmp_path: Path, where: dict[str, str]
) -> None:
    async with a_receiver() as receiver:
        origin = receiver.url.partition("/hook")[0]
        delivery = {"mode": "webhook", "url": receiver.url, "secret": "whsec_" + b64encode(b"k" * 32).decode()}
        asked = {"name": "occurrence.due", "arguments": {}, "delivery": delivery}
        async with serving(tmp_path, origin, **where) as client:
            granted = await rpc(client, "events/subscribe", **asked)
            assert granted["resultType"] == "complete"
            first = await an_event(client, "first", "in 1 second")
            await told(receiver, first)
            began = time.monotonic()
            second = await an_event(client, "second", "in 2 seconds")
        await asyncio.sleep(max(0.0, 2.5 - (time.monotonic() - began)))  # it falls due while nobody serves
        assert [one["data"]["event_id"] for one in receiver.events] == [first]
        async with serving(tmp_path, origin, **where) as client:
            await told(receiver, second)
            again = await rpc(client, "events/subscribe", **asked)
            assert again["id"] == granted["id"]
            assert len(receiver.of("verification")) == 1
            replayed = await rpc(client, "events/poll", name="occurrence.due", cursor=granted["cursor"])
            assert [one["data"]["event_id"] for one in replayed["events"]] == [first, second]
            await rpc(client, "events/unsubscribe", **asked)


async def told(receiver: Receiver, event_id: str) -> None:
    await receiver.until(lambda: event_id in [one["data"]["event_id"] for one in receiver.events])


async def test_over_stdio_there_are_poll_and_push_and_no_webhooks(tmp_path: Path) -> None:
    for version in (MODERN, "2025-11-25"):
        async with a_host(tmp_path, version) as host:
            listed = (await ask(host, "list"))["events"]
            assert all(one["delivery"] == ["poll", "push"] for one in listed)
            cursor = (await ask(host, "poll", name="occurrence.due"))["cursor"]
            assert (await ask(host, "poll", name="occurrence.due", cursor=cursor))["events"] == []
            delivery = {"url": "https://receiver.example/", "secret": "whsec_" + b64encode(b"k" * 32).decode()}
            error = (await refusal(host, "subscribe", name="occurrence.due", delivery=delivery)).error
            assert error.message == "Unsupported"
