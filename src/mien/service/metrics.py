"""Figures for Prometheus: no label is a collection, a subject or a key."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["Metrics"]

_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The figures of one service.

    Args:
        waiting: Requests that wait for a worker.
        running: Requests that are worked on.
    """

    def __init__(self, waiting: Callable[[], float], running: Callable[[], float]) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "mien_requests", "Requests that were answered.", ("method", "route", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "mien_request_seconds",
            "From the head of a request to the end of its answer.",
            ("route",),
            registry=self._registry,
            buckets=_BUCKETS_S,
        )
        self._faces = Counter("mien_faces", "Faces that were found.", registry=self._registry)
        for name, words, value in (
            ("mien_waiting", "Requests that wait for a worker.", waiting),
            ("mien_running", "Requests and pictures of jobs that are worked on.", running),
        ):
            Gauge(name, words, registry=self._registry).set_function(value)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answer."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def found(self, faces: int) -> None:
        """Count faces."""
        self._faces.inc(faces)

    def text(self) -> bytes:
        """Return all figures in the text format of Prometheus."""
        return generate_latest(self._registry)
