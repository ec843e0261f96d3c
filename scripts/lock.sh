#!/usr/bin/env bash
# Write requirements.lock and requirements-test.lock anew from pyproject.toml, for every platform and Python 3.11 on.
# Versions already locked stay; `lock.sh --upgrade` takes the newest. Needs `uv`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
command -v uv >/dev/null || {
  echo 'lock.sh: needs uv on the PATH (python3 -m pip install uv)' >&2
  exit 1
}
lock() { # file, then options; setuptools builds the project itself
  echo 'setuptools>=77' | uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
    --custom-compile-command scripts/lock.sh --output-file "$1" pyproject.toml - "${@:2}"
}
lock requirements.lock "$@"
lock requirements-test.lock --extra test --constraints requirements.lock "$@"
