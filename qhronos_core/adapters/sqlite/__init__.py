"""The embedded store: the promises of `ports.Store` on one SQLite file, for a laptop and for fast tests."""

from qhronos_core.adapters.sqlite.store import SqliteStore, open_sqlite_store

__all__ = ["SqliteStore", "open_sqlite_store"]
