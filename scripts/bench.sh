#!/usr/bin/env bash
# Measure: a table of ours, the limit found in the same run, and the ratio. `--quick`: small numbers, once; `--only NAME`,
# `--store NAME`: a part of it. What this machine could not run is named at the end.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup.sh test
exec .venv/bin/python -m scripts.bench "$@"
