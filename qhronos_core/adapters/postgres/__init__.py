"""The store on a PostgreSQL server (13 or later), for any number of nodes."""

from qhronos_core.adapters.postgres.pool import PoolSettings
from qhronos_core.adapters.postgres.store import PostgresStore, open_postgres_store

__all__ = ["PoolSettings", "PostgresStore", "open_postgres_store"]
