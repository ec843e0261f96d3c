#!/usr/bin/env bash
# The first event in three calls, against a server started by ./scripts/run.sh.
set -euo pipefail
server=${QHRONOS_URL:-http://127.0.0.1:8080}
master=$(cat "${QHRONOS_DATA_DIR:-$HOME/.local/share/qhronos}/secrets/master_token")

token=$(curl -fsS "$server/tokens" -H "Authorization: Bearer $master" \
  -d '{"sub": "ann", "access": "write", "scope": ["user:ann"]}' |
  python3 -c 'import json,sys; print(json.load(sys.stdin)["token"])')

curl -fsS "$server/events" -H "Authorization: Bearer $token" \
  -d '{"name": "Stand-up notes", "schedule": "every weekday at 9am", "timezone": "Europe/Paris", "tags": ["team"]}'
echo
curl -fsS "$server/occurrences" -H "Authorization: Bearer $token"
echo
