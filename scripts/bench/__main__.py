"""`./scripts/bench.sh`: what is fast and what is not, as ratios to limits measured in the same run (docs/figures.md)."""

import argparse
import os
import platform
import sys
from collections.abc import Mapping
from typing import Final

from scripts.bench import dispatch, planning, serving, stores, streams
from scripts.bench.figures import CouldNotRun, Figure, Scale, Section, table

_SECTIONS: Final[Mapping[str, Section]] = {
    "burst": dispatch.burst,
    "lateness": dispatch.lateness,
    "next_after": planning.next_after,
    "claiming": planning.claiming,
    "rest": serving.rest,
    "mcp": serving.mcp,
    "starting": serving.starting,
    "streams": streams.streams,
}


def main() -> int:
    asked = _asked()
    scale = Scale(asked.quick, tuple(asked.store or stores.NAMES))
    figures: list[Figure] = []
    not_run: list[str] = []
    for name in asked.only or _SECTIONS:
        print(f"{name} ...", file=sys.stderr, flush=True)
        try:
            for found in _SECTIONS[name](scale):
                figures.append(found)  # noqa: PERF402  kept, should the next one be refused
        except CouldNotRun as reason:
            not_run.append(f"{name}: {reason}")
    print(f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}\n")
    print(*table(figures), sep="\n")
    if not_run:
        print("\ncould not run:", *(f"  {line}" for line in not_run), sep="\n")
    return 0


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench.sh", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small numbers, once: whether it works, not how fast")
    parser.add_argument("--only", action="append", choices=_SECTIONS, metavar="NAME", help=", ".join(_SECTIONS))
    parser.add_argument("--store", action="append", choices=stores.NAMES, help="only on this store")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
