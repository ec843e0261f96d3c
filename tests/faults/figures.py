"""Plays the long runs and prints the table of what the checker found (`./scripts/faults.sh`).

Load W5000: three nodes, 500 events of ten instants over 60 s, twenty paths of a receiver that answers in 20 to 200 ms,
a lease of 5 s. `--tenth` runs a tenth of it. The seed is printed; a run that is not clean keeps its directory.
"""

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
import traceback
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.faults.rig.lacking import NotRun
from tests.faults.rig.runs import INSTANTS, Asked, Fault, Found, every_fault
from tests.servers import ServerMissing

COLUMNS = ("fault", "store", "lost", "split", "alien", "early", "lying", "fence breach", "unexplained")


async def main() -> int:
    told = _told()
    console = Console(width=190, soft_wrap=True)
    faults = every_fault()
    if told.list:
        for each in faults:
            console.print(f"{each} [{' '.join(each.stores)}]: {each.holds}", markup=False)
        return 0
    events = 50 if told.tenth else 500
    console.print(f"seed {told.seed}; a load is {events * INSTANTS} occurrences")
    table = Table(*COLUMNS, "duplicates", "p99 late", "holds?")
    clean = True
    for each in faults:
        for store in each.stores:
            if told.only and not any(only in f" {each} {store} " for only in told.only):
                continue
            directory = _kept_directory()
            asked = Asked(store, events, told.seed, directory)
            console.print(f"{each} on {store}: {each.holds}", markup=False)
            try:
                found = await _played(each, asked)
            except (NotRun, ServerMissing) as missing:
                table.add_row(str(each), store, *[""] * 9, f"not run: {missing}")
                console.print(f"  not run: {missing}", markup=False)
                shutil.rmtree(directory)
                continue
            clean = clean and not found.broken
            table.add_row(*_row(each, store, found))
            console.print(f"  {found.verdict or ''} {_figures(found)} {_holds(found)}", markup=False)
            if found.broken:
                console.print(f"  kept: {directory}")
            else:
                shutil.rmtree(directory)
    console.print(table)
    return 0 if clean else 1


async def _played(each: Fault, asked: Asked) -> Found:
    try:
        return await each.play(asked)
    except (NotRun, ServerMissing):
        raise
    except Exception as failure:  # one run that breaks off is one that does not hold; the others go on
        traceback.print_exc()
        return Found(broken=[f"broke off: {failure!r:.200}"])


def _row(each: Fault, store: str, found: Found) -> list[str]:
    verdict = found.verdict
    judged = [""] * 8 if verdict is None else [str(verdict.faults[name]) for name in COLUMNS[2:]]
    if verdict is not None:
        judged.append(f"{verdict.duplicates} of {verdict.deliveries}")
    late = "" if found.p99_late is None else f"{found.p99_late * 1000:.0f} ms"
    return [str(each), store, *judged, late, f"{_holds(found)} {_figures(found)}"]


def _figures(found: Found) -> str:
    return ", ".join(f"{name} {value}" for name, value in found.figures.items())


def _holds(found: Found) -> str:
    return f"NO: {'; '.join(found.broken)}." if found.broken else "yes."


def _told() -> argparse.Namespace:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--tenth", action="store_true", help="a tenth of the load")
    asked.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    asked.add_argument(
        "--only", action="append", help="runs whose number, name or store holds this ('F1 ' is F1 alone)"
    )
    asked.add_argument("--list", action="store_true", help="name the runs and what must hold")
    return asked.parse_args()


def _kept_directory() -> Path:
    """Kept if the run is not clean. Others may enter: PostgreSQL may run as another user."""
    directory = Path(tempfile.mkdtemp(prefix="qhronos-faults-"))
    directory.chmod(0o755)
    return directory


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
