#!/usr/bin/env bash
# The official MCP conformance suite against our own server with the tools the suite names, at each protocol version, and its
# task scenarios. Needs npm, which fetches the suite and a Node of its own; where there is none, says so and ends.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup.sh test

suite=@modelcontextprotocol/conformance@0.2.0-alpha.12
versions=(2025-06-18 2025-11-25 2026-07-28)
tasks=(lifecycle capability-negotiation wire-fields request-state-removal dispatch-and-envelope request-headers
  mrtr-input mrtr-composition required-task-error)
port=${PORT:-8121}
out=out/conformance

if ! command -v npm >/dev/null; then
  echo 'qhronos: the conformance suite was skipped: there is no npm on the PATH' >&2
  exit 0
fi
mkdir -p "$out"
npm install --prefix "$out" --no-audit --no-fund --no-save --loglevel error node@22 "$suite" >&2
PATH=$PWD/$out/node_modules/.bin:$PATH
run() { node "$out/node_modules/@modelcontextprotocol/conformance/dist/index.js" server --url "http://localhost:$port/mcp" "$@"; }

.venv/bin/python -m tests.faces.mcp.fixtures "$port" >"$out/server.log" 2>&1 &
server=$!
trap 'kill $server 2>/dev/null || true' EXIT
for _ in {1..150}; do
  (: <"/dev/tcp/localhost/$port") 2>/dev/null && break
  kill -0 $server 2>/dev/null || { cat "$out/server.log" >&2; exit 1; }
  sleep 0.2
done

failed=0
for version in "${versions[@]}"; do
  run --suite all --spec-version "$version" -o "$out/$version" >"$out/$version.log" 2>&1 || failed=1
  printf '%-12s %s\n' "$version" "$(grep -E '^Total:' "$out/$version.log" || echo 'did not run')"
  grep -E '^✗' "$out/$version.log" || true
done
for scenario in "${tasks[@]}"; do
  if run --scenario "tasks-$scenario" -o "$out/tasks" >"$out/tasks-$scenario.log" 2>&1; then
    passed=$(grep -c SUCCESS "$out/tasks-$scenario.log" || true)
    printf '%-12s %s: %s checks passed\n' tasks "$scenario" "$passed"
  else
    failed=1
    printf '%-12s %s: failed\n' tasks "$scenario"
    grep FAILURE "$out/tasks-$scenario.log" || true
  fi
done
echo "Details: $out"
exit $failed
