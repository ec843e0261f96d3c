#!/usr/bin/env bash
# What is shipped, and what is known against it: build/sbom.json (CycloneDX, from the lock), and pip-audit over the locks.
# Exit 0: nothing is known against any version. 1: something is. 3: nobody could be asked, so nothing is known either
# way; the SBOM is there all the same. No part of .ci/run, which must not depend on a service of others.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tools=.venv-audit # of its own: what audits is not among what is audited
lock=requirements-audit.lock
if ! cmp -s "$lock" "$tools/installed"; then
  python3 -m venv --clear "$tools"
  "$tools/bin/python" -m pip install -qq --disable-pip-version-check --no-input --require-hashes --requirement "$lock"
  cp "$lock" "$tools/installed"
fi

mkdir -p build
# The lock is the whole truth, so the graph of who needs whom, which it does not hold, is not asked for.
"$tools/bin/python" -W ignore -m cyclonedx_py requirements requirements.lock --pyproject pyproject.toml \
  --output-reproducible --of JSON -o build/sbom.json
echo 'build/sbom.json: what is shipped, as CycloneDX'

# By OSV, which says when it cannot answer; a package index that knows no advisories looks as if there were none.
found=$("$tools/bin/pip-audit" --strict --vulnerability-service osv ${QHRONOS_OSV_URL:+--osv-url "$QHRONOS_OSV_URL"} \
  --disable-pip --require-hashes --progress-spinner off --format json \
  --requirement requirements.lock --requirement requirements-test.lock 2>build/audit.log) && code=0 || code=$?
if [ $code = 0 ]; then
  echo 'audit.sh: nothing is known against any locked version'
elif [ -n "$found" ]; then
  printf '%s\n' "$found" >build/audit.json
  "$tools/bin/python" - <<'PY'
import json

for each in json.load(open("build/audit.json"))["dependencies"]:
    for advisory in each.get("vulns", []):
        mended = ", ".join(advisory["fix_versions"]) or "no version yet"
        print(f"{each['name']} {each['version']}: {advisory['id']}, mended in {mended}")
PY
  exit 1
else
  echo "audit.sh: advisories could not be asked ($(tail -n 1 build/audit.log | cut -c 1-120)): NOTHING WAS AUDITED" >&2
  exit 3
fi
