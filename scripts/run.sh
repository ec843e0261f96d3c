#!/usr/bin/env bash
# Install what is missing, then serve REST, MCP and the page on 127.0.0.1:8080. Arguments go to `qhronos serve`.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
"$root/scripts/setup.sh"
[ -n "${QHRONOS_CONFIG:-}" ] || [ ! -f "$root/config.yaml" ] || export QHRONOS_CONFIG="$root/config.yaml"
export PYTHONTZPATH="" # time zones come from the pinned tzdata, so that all nodes agree
exec "$root/.venv/bin/qhronos" serve "$@"
