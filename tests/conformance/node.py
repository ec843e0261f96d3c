"""The programs of others that run on Node: the conformance suite, the Inspector, the TypeScript client.

Installed once from `package-lock.json`, by npm, beside this Python's own packages. A machine whose Node is too old is
given one of their own.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_HERE: Final = Path(__file__).parent
_PLACE: Final = Path(sys.prefix) / "node"
_NEEDED: Final = (22, 19)  # the Inspector's
_OWN: Final = "node@22.23.3"
_INSTALL_WITHIN_S: Final = 300


class NodeMissing(Exception):
    """This machine has no npm, or npm could not install them; the text says which."""


@dataclass(frozen=True)
class Programs:
    node: str
    modules: Path

    @property
    def environ(self) -> Mapping[str, str]:
        return {**os.environ, "PATH": f"{Path(self.node).parent}{os.pathsep}{os.environ['PATH']}", "NO_COLOR": "1"}

    def script(self, path: str) -> list[str]:
        """The command that runs a program of these packages."""
        return [self.node, str(self.modules / path)]


def programs() -> Programs:
    """Installed if they are not yet, by one process at a time.

    Raises:
        NodeMissing: they cannot be.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise NodeMissing("there is no npm on the PATH")
    if not os.access(sys.prefix, os.W_OK):
        raise NodeMissing(f"{sys.prefix} cannot be written by this user")
    _PLACE.mkdir(exist_ok=True)
    with (_PLACE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted, made_from = (_HERE / "package-lock.json").read_text(), _PLACE / "made-from.json"
        if not made_from.exists() or made_from.read_text() != wanted:
            made_from.unlink(missing_ok=True)
            for name in ("package.json", "package-lock.json"):
                shutil.copy(_HERE / name, _PLACE / name)
            _npm(npm, _PLACE, "ci", "--ignore-scripts")
            made_from.write_text(wanted)
        return Programs(_node(npm), _PLACE / "node_modules")


def _node(npm: str) -> str:
    """The machine's, if it is recent enough."""
    theirs = shutil.which("node")
    if theirs is not None and _version(theirs) >= _NEEDED:
        return theirs
    own = _PLACE / "runtime" / "node_modules" / "node" / "bin" / "node"
    if not own.exists() or _version(str(own)) < _NEEDED:
        own_place = _PLACE / "runtime"
        own_place.mkdir(exist_ok=True)
        (own_place / "package.json").write_text("{}")
        _npm(npm, own_place, "install", _OWN)
    return str(own)


def _version(node: str) -> tuple[int, ...]:
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    return tuple(int(part) for part in said.strip().removeprefix("v").split(".")[:2] if part.isdigit())


def _npm(npm: str, place: Path, *words: str) -> None:
    command = [npm, *words, "--no-audit", "--no-fund", "--loglevel=error"]
    try:
        done = subprocess.run(
            command, cwd=place, capture_output=True, text=True, check=False, timeout=_INSTALL_WITHIN_S
        )
    except subprocess.TimeoutExpired:
        raise NodeMissing(f"npm {words[0]} took more than {_INSTALL_WITHIN_S} s") from None
    if done.returncode != 0:
        raise NodeMissing(f"npm {words[0]} failed: {' '.join(done.stderr.split())[-300:]}")
