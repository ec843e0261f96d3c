"""What the first start of an embedded server says to the person in front of it: where things are, and what to paste."""

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

_BANNER = """\
Qhronos serves REST, MCP and a web page on {url}

Your secrets were made just now. They are yours alone to read, and are kept for the next start:
{made}
Mint a token for whoever schedules:
  {program} token mint --sub ann --scope user:ann

Paste into your agent host to launch Qhronos over stdio:
{stdio}

or to connect to this server (with a token minted as above):
{http}
"""


def welcome(url: str, made: Sequence[Path], *, program: Path | None = None) -> str:
    """The paths of what was made, never the values, and both host configurations."""
    beside = program or Path(sys.executable).parent
    stdio = {"mcpServers": {"qhronos": {"command": str(beside / "qhronos-mcp")}}}
    http = {
        "mcpServers": {
            "qhronos": {"type": "http", "url": f"{url}/mcp", "headers": {"Authorization": "Bearer <your token>"}}
        }
    }
    return _BANNER.format(
        url=url,
        made="\n".join(f"  {path}" for path in made) + "\n",
        program=shlex.quote(str(beside / "qhronos")),
        stdio=json.dumps(stdio, indent=2, ensure_ascii=False),
        http=json.dumps(http, indent=2),
    )
