"""A server as a person starts it: a process, on a free port, with a data directory of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.rig.nodes import Cluster, a_cluster


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Cluster]:
    """Nobody serves yet. The embedded store; loopback may be called."""
    with a_cluster(tmp_path, lease="1m") as cluster:
        yield cluster
