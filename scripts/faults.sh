#!/usr/bin/env bash
# The fault suite in full: W5000 under each fault on each store, judged by an independent checker. Prints the table.
# `--tenth` for a tenth of the load, `--only NAME`, `--list`, `--seed N`. What this machine could not run is named in the table.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup.sh test
export PYTHONTZPATH=""
exec .venv/bin/python -m tests.faults.figures "$@"
