#!/usr/bin/env bash
# Format, lint, types, import contracts. All are run, then the worst counts.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup.sh test

failed=0
check() {
  printf '== %s\n' "$*"
  ".venv/bin/$@" || failed=1
}
check ruff format --check .
check ruff check .
check mypy
check lint-imports
exit $failed
