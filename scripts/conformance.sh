#!/usr/bin/env bash
# The official MCP conformance suite against our server with its fixtures (tests/faces/mcp/fixtures.py): every server scenario at
# each protocol version we promise, and the tasks scenarios. Prints the counts; fails
# if any check does, or a scenario was not run. Needs npm; where there is none, says so and ends. Results: out/conformance.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup.sh test
export PYTHONTZPATH=""
exec .venv/bin/python -m tests.conformance.run
