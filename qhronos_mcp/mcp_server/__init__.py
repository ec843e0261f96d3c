"""The agent's face: eight tools, resources, prompts, push and tasks on the official MCP SDK, both protocol generations."""
