#!/usr/bin/env bash
# Install what is missing, then run every test. With arguments: `pytest` with these. What this machine could not run is
# named at the end; with CI=true that fails the run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup.sh test
export PYTHONTZPATH=""
[ $# -eq 0 ] || exec .venv/bin/python -m pytest "$@"

failed=0
.venv/bin/python -m pytest -n auto --maxprocesses 4 --dist loadfile -m 'not alone' || failed=$?
printf '\nNow what wants the machine to itself:\n'
.venv/bin/python -m pytest -m alone || { code=$? && [ $code -eq 5 ] || failed=$code; } # 5: there is none
exit $failed
