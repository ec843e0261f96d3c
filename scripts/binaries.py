"""Where a machine keeps the programs of PostgreSQL and Redis, and as whom they may run.

As a command: exit code 0 if it has both, else 1.
"""

import locale
import os
import pwd
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

_WHERE_PACKAGES_PUT_POSTGRES: Final = (
    ("/usr/lib/postgresql", "*/bin"),
    ("/usr", "pgsql-*/bin"),
    ("/opt/homebrew/opt", "postgresql*/bin"),
    ("/usr/local/opt", "postgresql*/bin"),
    ("/home/linuxbrew/.linuxbrew/opt", "postgresql*/bin"),
    ("/Applications/Postgres.app/Contents/Versions", "*/bin"),
)


class ServerMissing(Exception):
    """This machine has no such server. The text says which program was looked for, and where."""


def postgres_binaries() -> Path:
    """The directory that holds `initdb`, `pg_ctl` and `postgres`: by the PATH first, then the newest where packages put them.

    Raises:
        ServerMissing: nowhere.
    """
    candidates: list[Path] = []
    if on_path := shutil.which("initdb"):
        candidates.append(Path(on_path).resolve().parent)
    if config := shutil.which("pg_config"):
        told = subprocess.run([config, "--bindir"], capture_output=True, text=True, check=False).stdout.strip()
        candidates += [Path(told)] if told else []
    for root, pattern in _WHERE_PACKAGES_PUT_POSTGRES:
        candidates += sorted(Path(root).glob(pattern), key=_numbers_in, reverse=True)
    for candidate in candidates:
        if all(os.access(candidate / program, os.X_OK) for program in ("initdb", "pg_ctl", "postgres")):
            return candidate
    raise ServerMissing("PostgreSQL: no initdb, pg_ctl and postgres on the PATH or where packages put them")


def redis_program(kind: str = "server") -> str:
    """The path of `redis-server` (or `redis-cli`, for `kind` "cli"), or of Valkey's, which speaks the same.

    Raises:
        ServerMissing: neither is on the PATH.
    """
    names = [f"{family}-{kind}" for family in ("redis", "valkey")]
    for name in names:
        if found := shutil.which(name):
            return found
    raise ServerMissing(f"Redis: no {' or '.join(names)} on the PATH")


def unprivileged() -> pwd.struct_passwd | None:
    """As whom PostgreSQL is to run, since it refuses to be root; None: as whoever we are."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


def identity(user: pwd.struct_passwd | None) -> dict[str, Any]:
    """The part of a `subprocess` call that makes the child run as `user`."""
    return {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def can_enter(user: pwd.struct_passwd | None, directory: Path) -> bool:
    """Whether every step of the path is open to `user`."""
    done = subprocess.run(["test", "-x", str(directory)], check=False, **identity(user))
    return bool(done.returncode == 0)


def utf8_locale() -> str:
    """A locale that knows the case of all letters, for `initdb`; C where there is none."""
    kept = locale.setlocale(locale.LC_CTYPE)
    try:
        for name in ("C.UTF-8", "en_US.UTF-8"):
            try:
                locale.setlocale(locale.LC_CTYPE, name)
            except locale.Error:
                continue
            return name
    finally:
        locale.setlocale(locale.LC_CTYPE, kept)
    return "C"


def _numbers_in(path: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", str(path))]


if __name__ == "__main__":
    try:
        postgres_binaries()
        redis_program()
    except ServerMissing:
        sys.exit(1)
