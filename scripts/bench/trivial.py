"""A tool that does nothing, on the SDK that ours stand on: `stdio`, or `http PORT`."""

import sys

from mcp.server import MCPServer

server = MCPServer("trivial")


@server.tool()
async def nothing() -> dict[str, str]:
    """Nothing."""
    return {"now": "then"}


if __name__ == "__main__":
    if sys.argv[1] == "stdio":
        server.run("stdio")
    else:
        server.run("streamable-http", port=int(sys.argv[2]), json_response=True, stateless_http=True)
