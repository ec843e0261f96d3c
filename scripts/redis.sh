#!/usr/bin/env bash
# A Redis for this clone: start, stop, restart, remove, status, cli. See scripts/servers.py.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
"$root/scripts/setup.sh"
[ -n "${QHRONOS_CONFIG:-}" ] || [ ! -f "$root/config.yaml" ] || export QHRONOS_CONFIG="$root/config.yaml"
PYTHONPATH="$root" exec "$root/.venv/bin/python" -P -m scripts.servers redis "$@"
