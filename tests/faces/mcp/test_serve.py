"""`qhronos serve` as a process: `/mcp` beside REST, and its end with streams open."""

import asyncio
import re
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx2
from mcp.client.streamable_http import streamable_http_client

from qhronos_mcp.mcp_server.push import INBOX
from tests.faces.mcp.speakers import VERSIONS, Speaker, in_its_own_task, slowness, speaking
from tests.faces.mcp.test_stdio import environment


@asynccontextmanager
async def a_server(data_dir: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "qhronos_mcp", "serve", "--port", "0"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=environment(data_dir),
        cwd=data_dir,
    )
    assert process.stderr is not None
    try:
        told = ""
        while (found := re.search(r"http://127\.0\.0\.1:\d+", told)) is None:
            line = await asyncio.wait_for(process.stderr.readline(), 30)
            assert line, told
            told += line.decode()
        yield process, found[0]
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@asynccontextmanager
async def a_client(url: str, token: str, version: str) -> AsyncIterator[Speaker]:
    async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=60) as http:
        transport = streamable_http_client(f"{url}/mcp", http_client=http)
        async with in_its_own_task(speaking(transport, version)) as speaker:
            yield speaker


def master_token(data_dir: Path) -> str:
    [secret] = (data_dir / "secrets").glob("master*")
    return secret.read_text().strip()


async def test_every_version_is_served_beside_rest_and_all_streams_end_at_sigterm(tmp_path: Path) -> None:
    async with a_server(tmp_path) as (process, url), AsyncExitStack() as closing:
        token = master_token(tmp_path)
        clients = [await closing.enter_async_context(a_client(url, token, version)) for version in VERSIONS]
        old, legacy, modern = clients
        made = await modern.call("create_event", name="n", schedule="@yearly", key="k")
        async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}) as http:
            shown = await http.get(f"{url}/events/{made['event']['id']}")
            assert shown.json()["key"] == "k"
            assert (await http.get(f"{url}/nothing")).json()["code"] == "not_found"
        ears = [await closing.enter_async_context(client.watching(INBOX)) for client in clients]
        await old.call("trigger", event_id="k")
        for ear in ears:
            await ear.until(INBOX)
        [item] = (await legacy.call("wait_for_occurrences"))["occurrences"]
        assert item["event"] == "k"
        waits = [asyncio.create_task(client.call("wait_for_occurrences", seconds=50)) for client in clients]
        async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}) as http:
            while 'qhronos_open{kind="waits"} 3.0' not in (await http.get(f"{url}/metrics")).text:
                await asyncio.sleep(0.05)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        answers = await asyncio.gather(*waits)
        status = await asyncio.wait_for(process.wait(), 10)
        assert time.monotonic() - began < 2 * slowness()
        assert status == -signal.SIGTERM
        assert [answer["occurrences"] for answer in answers] == [[], [], []]
        assert ears[2].ended.is_set()


async def test_an_address_that_proves_nothing_too_often_is_answered_429(tmp_path: Path) -> None:
    async with a_server(tmp_path) as (_, url), httpx2.AsyncClient() as http:
        status = 401
        for _ in range(1_000):
            answer = await http.post(f"{url}/mcp", json={}, headers={"Authorization": "Bearer nonsense"})
            if (status := answer.status_code) != 401:
                break
        assert status == 429
        assert int(answer.headers["retry-after"]) >= 1
