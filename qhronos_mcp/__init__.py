"""The faces of Qhronos: MCP, REST, WebSocket, the web page and the command line."""
