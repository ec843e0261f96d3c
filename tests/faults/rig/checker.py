"""The independent judge: joins what was wanted, what arrived and what is on record. Shares no code with the product."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tests.faults.rig.receiver import Received

ENDS = {"completed", "failed", "missed", "cancelled"}


@dataclass(frozen=True)
class Wanted:
    """One instant that was asked for."""

    event_id: str
    instant: datetime


@dataclass
class Verdict:
    """All but `duplicates` must be 0; every duplicate must have the id of the first."""

    lost: list[Wanted] = field(default_factory=list)
    alien: list[Received] = field(default_factory=list)
    split: list[Wanted] = field(default_factory=list)
    early: list[Received] = field(default_factory=list)
    lying: list[Mapping[str, Any]] = field(default_factory=list)
    fence_breaches: list[Mapping[str, Any]] = field(default_factory=list)
    unexplained: list[Received] = field(default_factory=list)
    duplicates: int = 0
    deliveries: int = 0

    @property
    def faults(self) -> dict[str, int]:
        return {
            "lost": len(self.lost),
            "alien": len(self.alien),
            "split": len(self.split),
            "early": len(self.early),
            "lying": len(self.lying),
            "fence breach": len(self.fence_breaches),
            "unexplained": len(self.unexplained),
        }

    def clean(self) -> bool:
        return not any(self.faults.values())

    def __str__(self) -> str:
        told = ", ".join(f"{name} {count}" for name, count in self.faults.items())
        return f"{told}, duplicates {self.duplicates} of {self.deliveries}"


def judge(
    wanted: Iterable[Wanted],
    received: Sequence[Received],
    rows: Sequence[Mapping[str, Any]],
    attempts: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    *,
    blows: Sequence[tuple[float, float]] | None = None,
    clock_error: float = 0.001,
) -> Verdict:
    """`rows`: the occurrences as the API shows them; `attempts`: of each, by its id.

    `blows`: from when to when a fault may have swallowed an answer that came between; an accepted delivery followed by
    another, with none at its answer, is a duplicate nothing explains. None: duplicates are only counted.
    `early` allows `clock_error` seconds for the receiver's own clock, which reads microseconds differently.
    """
    verdict = Verdict(deliveries=len(received))
    by_instant: dict[tuple[str, datetime], Mapping[str, Any]] = {
        (row["event_id"], _instant(row["scheduled_at"])): row for row in rows
    }
    accepted: dict[str, list[Received]] = {}
    ids: dict[tuple[str, datetime], set[str]] = {}
    known = {row["id"] for row in rows}
    for request in received:
        instant = _instant(request.scheduled_at)
        ids.setdefault((request.event_id, instant), set()).add(request.webhook_id)
        if request.webhook_id not in known:
            verdict.alien.append(request)
        if request.at < instant.timestamp() - clock_error:
            verdict.early.append(request)
        if request.accepted:
            accepted.setdefault(request.webhook_id, []).append(request)
    for requests in accepted.values():
        *sent_again, _last = sorted(requests, key=lambda each: each.at)
        verdict.duplicates += len(sent_again)
        if blows is not None:
            verdict.unexplained += [each for each in sent_again if not _struck(each, blows)]
    for each in wanted:
        row = by_instant.get((each.event_id, each.instant))
        if row is None or (row["status"] not in ENDS and row["id"] not in accepted):
            verdict.lost.append(each)
        if len(ids.get((each.event_id, each.instant), ())) > 1:
            verdict.split.append(each)
    for row in rows:
        if row["status"] == "completed" and row["id"] not in accepted and not row.get("acknowledged_at"):
            verdict.lying.append(row)
        tries = (attempts or {}).get(row["id"], ())
        numbers = [attempt["number"] for attempt in tries]
        outcomes = Counter(attempt["outcome"] for attempt in tries)
        if numbers != sorted(set(numbers)) or outcomes["accepted"] > 1:
            verdict.fence_breaches.append(row)
    return verdict


def _struck(request: Received, blows: Sequence[tuple[float, float]]) -> bool:
    """Whether a fault came between the request and the record of its answer."""
    return any(since <= request.answered_at and request.at <= until for since, until in blows)


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
