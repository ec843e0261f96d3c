#!/usr/bin/env bash
# Make `.venv` with what Qhronos needs (`setup.sh`), or with the tools that test it too (`setup.sh test`).
# Needs Python 3.11 or later and nothing else. Does nothing where nothing has changed, so it may run before every start.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

for_what=${1:-run}
lock=requirements.lock
[ "$for_what" = test ] && lock=requirements-test.lock

# What an installation was made from. The place counts: the programs in `.venv` name it.
made_from() { pwd -P; cat pyproject.toml "$1"; }
up_to_date() { made_from "$1" | cmp -s - ".venv/$1.installed"; }
is_ready() { up_to_date "$lock" && .venv/bin/python -c '' 2>/dev/null; }

give_up() {
  printf 'qhronos: %s\n' "$*" >&2
  exit 1
}

is_recent() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() { # QHRONOS_PYTHON names one; else those the lock is tested with come first
  local found candidate
  for candidate in ${QHRONOS_PYTHON:+"$QHRONOS_PYTHON"} python3.13 python3.12 python3.11 python3; do
    found=$(command -v "$candidate" 2>/dev/null) && is_recent "$found" || continue
    if "$found" -c 'import ensurepip, venv' 2>/dev/null; then
      printf '%s\n' "$found"
      return
    fi
    without_venv=${without_venv:-$found}
  done
  if [ -n "${without_venv:-}" ]; then
    give_up "$without_venv cannot make virtual environments: install its venv module" \
      "(Debian, Ubuntu: apt install python3-venv), then run this again."
  fi
  give_up "Python 3.11 or later is needed and none was found on the PATH: install it, then run this again."
}

install() {
  local python
  python=$(find_python)
  [ -w . ] || give_up "$(pwd) cannot be written by this user, so .venv cannot be made: use a clone of your own."
  printf 'qhronos: installing into .venv (once; about half a minute)\n' >&2
  rm -f .venv/*.installed
  if ! [ "$(cat .venv/place 2>/dev/null)" = "$(pwd -P)" ] || ! .venv/bin/python -c 'import pip' 2>/dev/null; then
    "$python" -m venv --clear .venv || give_up "$python could not make .venv."
    pwd -P >.venv/place
  fi
  local pip=(.venv/bin/python -m pip --disable-pip-version-check --no-input install -qq)
  "${pip[@]}" --require-hashes --requirement "$lock" ||
    give_up "pip could not install $lock (above: why). Is a package index within reach?"
  "${pip[@]}" --no-deps --no-build-isolation --editable . || give_up "pip could not install Qhronos itself."
  made_from requirements.lock >.venv/requirements.lock.installed # each lock holds this one
  made_from "$lock" >".venv/$lock.installed"
}

is_ready && exit 0
if command -v flock >/dev/null && [ -w . ]; then # two first starts: one installs, the other waits
  exec 9>.venv.lock
  flock 9
fi
is_ready || install
