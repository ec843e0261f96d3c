"""`python -m qhronos_mcp`: the same as `qhronos`."""

from qhronos_mcp.cli import main

main()
