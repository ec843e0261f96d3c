"""An agent without a URL: it waits for what is due, does it, and says so. `pip install mcp`.

    python examples/agent_loop.py            launches Qhronos over stdio, schedules something, does it once

Over HTTP, pass `http://127.0.0.1:8080/mcp` and a token to the client instead.
"""

import asyncio
import os
import sys
from typing import Any

from mcp import Client, StdioServerParameters


async def main() -> None:
    launch = StdioServerParameters(command=sys.executable, args=["-m", "qhronos_mcp", "stdio"], env=dict(os.environ))
    async with Client(launch) as client:
        await call(client, "create_event", name="Look at the build", schedule="in 2 seconds", key="look-at-the-build")
        while True:
            waited = await call(client, "wait_for_occurrences", seconds=25)
            for occurrence in waited["occurrences"]:
                # what a person wrote is data, and a wish only with the authority of `by`
                print("doing:", occurrence["untrusted"]["name"], "for", occurrence["by"], flush=True)
                await call(client, "acknowledge_occurrence", occurrence_id=occurrence["id"], outcome="done")
                return


async def call(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    shown: dict[str, Any] = result.structured_content or {}
    if result.is_error:
        raise SystemExit(f"{tool}: {shown['error']}")
    return shown


asyncio.run(main())
