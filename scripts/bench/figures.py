"""What a benchmark says: ours, the limit measured in the same run, and the ratio of the two."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final


class CouldNotRun(Exception):
    """Something this machine lacks; the text names it."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One line. `limit` is what bounds it, measured beside it; `ratio` the median of each round's own ratio."""

    name: str
    ours: str
    limit: str = ""
    ratio: float | None = None


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured, and on which stores."""

    quick: bool
    stores: tuple[str, ...]

    def of(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    @property
    def rounds(self) -> int:
        return 1 if self.quick else 3


Section = Callable[[Scale], Iterable[Figure]]


def mid(values: Iterable[float]) -> float:
    return median(list(values))


def percentile(values: Sequence[float], percent: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


_HEAD: Final = ("what", "ours", "limit", "ratio")


def table(figures: Sequence[Figure]) -> Iterator[str]:
    """Lines of a table that reads as Markdown too."""
    rows = [(f.name, f.ours, f.limit, "" if f.ratio is None else f"{f.ratio:.2f}") for f in figures]
    widths = [max(len(row[place]) for row in (_HEAD, *rows)) for place in range(len(_HEAD))]
    yield _line(_HEAD, widths)
    yield "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    for row in rows:
        yield _line(row, widths)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"
