"""The faces of Qhronos: MCP, REST, WebSocket, the web page and the command line."""

__version__ = "0.1.0"  # the one in pyproject.toml; a test holds them equal
