"""A node started as no operator means to: with few descriptors, or with nowhere to log."""

import subprocess
import sys
from typing import Any

from tests.faults.rig.nodes import ROOT, Cluster, Node, free_port


def started(cluster: Cluster, **how: Any) -> Node:
    """Node 1 of this cluster once it answers; `how` goes to Popen."""
    port = free_port()
    log = cluster.directory / "node-1.log"
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "qhronos_mcp", "serve", "--port", str(port)],
            **{"cwd": ROOT, "env": cluster.environ(), "stdout": file, "stderr": file, **how},
        )
    node = cluster.nodes[1] = Node(process, port, log)
    node.until_it_answers()
    return node
