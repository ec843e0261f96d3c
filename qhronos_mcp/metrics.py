"""The figures of `/metrics`. Labels come from closed sets: never an id, a tag, a host or a `sub`.

What the HTTP face does is counted here; what the core does it counts itself (`qhronos_core/tally.py`), and is read at each
scrape. A counter that has not moved yet is shown as 0, so that its first step is seen.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import accumulate
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from qhronos_core.domain.event import ActionType
from qhronos_core.domain.lifecycle import TERMINAL
from qhronos_core.domain.occurrence import AttemptOutcome
from qhronos_core.tally import CallbackOutcome, Spread
from qhronos_core.wiring import Core

disable_created_metrics()  # type: ignore[no-untyped-call]  # when a counter began is of no use here, and doubles the text

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_GAUGES: Final[Mapping[str, str]] = {
    "due": "Occurrences that are due now and not leased.",
    "oldest_due_seconds": "How long the oldest of them has been due.",
}


class HttpMetrics:
    """One registry per app, so that two apps of one process do not share their figures."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._answers = Counter(
            "qhronos_http_requests", "Requests answered.", ("method", "route", "status"), registry=self.registry
        )
        self._took = Histogram(
            "qhronos_http_request_seconds",
            "From the first byte in to the last byte out.",
            ("route",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._open = Gauge("qhronos_http_in_flight", "Requests being answered.", registry=self.registry)
        self._up = Gauge("qhronos_store_up", "Whether the store answered this scrape.", registry=self.registry)
        self._of_status = {
            name: Gauge(f"qhronos_{name}", says, registry=self.registry) for name, says in _GAUGES.items()
        }

    @contextmanager
    def in_flight(self) -> Iterator[None]:
        with self._open.track_inprogress():
            yield

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """`route` is a template of the route table, or `unknown`."""
        self._answers.labels(method if method in _METHODS else "other", route, str(status)).inc()
        self._took.labels(route).observe(seconds)

    def exposed(self, status: Mapping[str, Any] | None) -> bytes:
        """The text of a scrape. `status`: what the core tells of itself, or None while the store is away."""
        self._up.set(0 if status is None else 1)
        for name, gauge in self._of_status.items():
            value = None if status is None else status.get(name)
            gauge.set(float(value) if isinstance(value, int | float) else float("nan"))
        return generate_latest(self.registry)


class CoreMetrics(Collector):
    """What the core has counted, and how much is open on this node now. `open_`: by kind, a closed set."""

    def __init__(self, core: Core, open_: Callable[[], Mapping[str, int]]) -> None:
        self._core = core
        self._open = open_

    def collect(self) -> Iterable[Metric]:
        tally, load = self._core.tally, self._core.load()
        attempts = CounterMetricFamily("qhronos_attempts", "Attempts on record.", labels=("action", "outcome"))
        for action in ActionType:
            for outcome in AttemptOutcome if action is not ActionType.INBOX else ():
                attempts.add_metric((action.value, outcome.value), tally.attempts[action, outcome])
        yield attempts
        finished = CounterMetricFamily(
            "qhronos_occurrences_finished",
            "Occurrences that reached a terminal record by this node.",
            labels=("state",),
        )
        for state in sorted(TERMINAL):
            finished.add_metric((state.value,), tally.finished[state])
        yield finished
        yield _histogram(
            "lateness_seconds", "From due to the look that began the attempt, or offered it.", tally.lateness
        )
        yield _histogram("claim_seconds", "Time of one look at what is due.", tally.claim_took)
        yield _histogram("claim_occurrences", "Occurrences claimed by one look.", tally.claimed)
        yield _histogram("settle_seconds", "Time of writing outcomes together.", tally.settle_took)
        yield _histogram("settle_occurrences", "Outcomes written together.", tally.settled)
        late = CounterMetricFamily(
            "qhronos_late_outcomes", "Outcomes that came after their lease, refused by the fence."
        )
        late.add_metric((), tally.late_outcomes)
        yield late
        yield _histogram(
            "journal_delay_seconds",
            "From an entry of the journal to its reading, while somebody listens.",
            tally.journal_delay,
        )
        callbacks = CounterMetricFamily(
            "qhronos_subscription_deliveries", "Deliveries to webhook subscriptions of MCP Events.", labels=("outcome",)
        )
        for result in CallbackOutcome:
            callbacks.add_metric((result.value,), tally.callbacks[result])
        yield callbacks
        yield GaugeMetricFamily("qhronos_attempts_in_flight", "Attempts under way.", load.in_flight)
        yield GaugeMetricFamily("qhronos_attempt_slots", "Attempts there may be at once.", load.slots)
        yield GaugeMetricFamily("qhronos_breakers_open", "Receivers that are sent only probes.", load.breakers_open)
        kinds = GaugeMetricFamily("qhronos_open", "MCP streams, MCP waits and WebSockets open.", labels=("kind",))
        for kind, count in self._open().items():
            kinds.add_metric((kind,), count)
        yield kinds


def _histogram(name: str, says: str, spread: Spread) -> HistogramMetricFamily:
    bounds = [*(str(float(bound)) for bound in spread.bounds), "+Inf"]
    buckets = list(zip(bounds, accumulate(spread.counts), strict=True))
    return HistogramMetricFamily(f"qhronos_{name}", says, buckets, spread.total)
