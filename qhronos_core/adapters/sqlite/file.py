"""The one file of the embedded store: whether it may be opened, how, and whether it is still there.

Refused, and left as it is to the byte (reliability.md F62, F63): a file that is not ours, a newer
schema, a damaged page, a place that cannot be written, a network file system.
"""

import os
import sqlite3
import sys
from pathlib import Path
from typing import Final

from qhronos_core.adapters.migrations import StoreRefusedError
from qhronos_core.domain.errors import StoreUnavailableError

FILE_NAME: Final = "qhronos.db"
APPLICATION_ID: Final = 0x5168726E  # "Qhrn", in the header of every store of ours

_OLDEST_SQLITE: Final = (3, 37, 0)  # STRICT tables
_MAGIC: Final = b"SQLite format 3\x00"
_APPLICATION_ID_AT: Final = 68
_CHECKED_WHOLE: Final = 32 * 2**20  # a file up to this size is checked page by page at each start
_NETWORKED: Final = frozenset(
    {
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "afs",
        "ncpfs",
        "ceph",
        "lustre",
        "gfs2",
        "ocfs2",
        "fuse.sshfs",
        "fuse.glusterfs",
    }
)


class StoreFile:
    """A path, and the file found there when the store was opened."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._identity: tuple[int, int] | None = None
        self.problem: str | None = None

    def prepare(self, *, make: bool = True) -> None:
        """Make the directory and an empty file of our own where there is none; look at what there is.

        `make` False: nothing is made, and a file without a store in it is refused.

        Raises:
            StoreRefusedError: it must not be used as it is; says why and what to do. Nothing was changed.
        """
        if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
            oldest = ".".join(map(str, _OLDEST_SQLITE))
            raise StoreRefusedError(f"SQLite {sqlite3.sqlite_version} is too old: {oldest} or later is needed.")
        directory = self.path.parent
        if make:
            try:
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise StoreRefusedError(f"The data directory {directory} cannot be made: {error.strerror}.") from error
        self._refuse_network(directory)
        try:
            os.close(os.open(self.path, os.O_RDWR | (os.O_CREAT if make else 0), 0o600))
        except OSError as error:
            raise StoreRefusedError(
                f"The store {self.path} cannot be opened for writing: {error.strerror}. "
                "Make the directory and the file writable for this user, or name another data directory."
            ) from error
        if not os.access(directory, os.W_OK):
            raise StoreRefusedError(f"The data directory {directory} is read-only; the store writes beside its file.")
        self._refuse_foreign()
        if not make and not self.sizes()["file"]:
            raise self.earlier()
        self._identity = self._look()

    def connect(self, *, read_only: bool = False) -> sqlite3.Connection:
        """A connection to the file as it is: one that has gone is never made anew.

        Autocommit until BEGIN; may be handed from thread to thread.
        """
        uri = f"{self.path.resolve().as_uri()}?mode=" + ("ro" if read_only else "rw")
        connection = sqlite3.connect(
            uri, uri=True, timeout=5.0, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        connection.execute("PRAGMA synchronous = FULL")  # per connection; what a caller waits on is on the disk (F64)
        connection.execute("PRAGMA fullfsync = ON")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA journal_size_limit = 8388608")
        return connection

    def require_present(self) -> None:
        """Raises StoreUnavailableError when the file was removed or replaced while the store was open.

        SQLite would go on writing into a file nobody can find again.
        """
        if self._look() == self._identity:
            self.problem = None
            return
        self.problem = (
            f"{self.path} was removed or replaced while the store was open. Nothing is written until it is back. "
            "To go on with another file in its place, start this process again."
        )
        raise StoreUnavailableError

    def sizes(self) -> dict[str, int]:
        """Bytes of the file and of what SQLite keeps beside it."""
        found = {}
        for name, suffix in (("file", ""), ("write_ahead_log", "-wal")):
            try:
                found[name] = os.stat(f"{self.path}{suffix}").st_size
            except OSError:
                found[name] = 0
        return found

    def check_whole(self, connection: sqlite3.Connection) -> None:
        """Raises StoreRefusedError for a damaged file; large ones are left to `qhronos doctor`."""
        if self.sizes()["file"] > _CHECKED_WHOLE:
            return
        try:
            found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        except sqlite3.DatabaseError as error:
            raise self.damaged(str(error)) from error
        if found != "ok":
            raise self.damaged(found)

    def earlier(self) -> StoreRefusedError:
        return StoreRefusedError(
            f"The store {self.path} is of an earlier release, or was never finished. Nothing was changed. "
            "`qhronos migrate`, or the start of a server, brings it up to date."
        )

    def damaged(self, what: str) -> StoreRefusedError:
        return StoreRefusedError(
            f"The store {self.path} is damaged ({what}). Nothing was changed. Restore it: stop every process that "
            f"uses it, move {self.path.name}, {self.path.name}-wal and {self.path.name}-shm elsewhere, and put a backup "
            f"in their place; or save what can be read with: sqlite3 {self.path.name} .recover"
        )

    def _look(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _refuse_foreign(self) -> None:
        """Read as plain bytes: opening a stranger's database would already write beside it."""
        with self.path.open("rb") as file:
            header = file.read(100)
        if not header:
            return
        ours = int.from_bytes(header[_APPLICATION_ID_AT : _APPLICATION_ID_AT + 4], "big") == APPLICATION_ID
        if not header.startswith(_MAGIC) or not ours:
            what = "another program's database" if header.startswith(_MAGIC) else "not a database of ours"
            raise StoreRefusedError(
                f"{self.path} is {what}. It was left untouched. Move it away, or name another data directory; "
                "if a Qhronos store was there, put a backup in its place."
            )

    def _refuse_network(self, directory: Path) -> None:
        kind = _file_system(directory)
        if kind in _NETWORKED:
            raise StoreRefusedError(
                f"{directory} is on a network file system ({kind}), where SQLite's locks do not hold. "
                "Name a data directory on a local disk, or use PostgreSQL."
            )


def mark_as_ours(connection: sqlite3.Connection) -> None:
    """In an empty file: our mark in its header first, in the plain journal mode, then the write-ahead log.

    In this order the header on disk says whose the file is from its first page on, even if the process dies in between.
    """
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise StoreRefusedError(f"SQLite cannot keep a write-ahead log here (journal mode {mode}): use a local disk.")


def _file_system(directory: Path) -> str | None:
    """The type of the file system a directory is on, where the machine tells (Linux)."""
    if not sys.platform.startswith("linux"):
        return None
    where = str(directory.resolve())
    best, kind = "", None
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    for line in mounts:
        before, _, after = line.partition(" - ")
        point = before.split(" ")[4].replace("\\040", " ")
        inside = where == point or where.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, after.split(" ")[0]
    return kind
