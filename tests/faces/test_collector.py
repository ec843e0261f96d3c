"""A process that serves looks for garbage seldom, and still often enough."""

import subprocess
import sys

_MAKES_CYCLES = """
import gc, weakref
from qhronos_mcp.collector import collect_later, collect_seldom

class Node:
    pass

gone = 0
def one_is_gone(_):
    global gone
    gone += 1

def cycles(count):
    kept = []
    for _ in range(count):
        node = Node()
        node.itself = node
        kept.append(weakref.ref(node, one_is_gone))
    return kept

collect_later()
first = cycles(30_000)
print(gone)
collect_seldom()
later = cycles(200_000)
print(gone)
"""


def test_nothing_is_collected_at_the_start_and_what_holds_itself_later_does_not_pile_up() -> None:
    done = subprocess.run([sys.executable, "-c", _MAKES_CYCLES], capture_output=True, text=True, check=True)
    at_the_start, later = map(int, done.stdout.split())
    assert at_the_start == 0
    assert 150_000 < later < 200_000
