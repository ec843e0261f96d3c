"""Counters of the HTTP face for `/metrics`. Labels come from closed sets: never an id, a tag, a host or a `sub`."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

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
