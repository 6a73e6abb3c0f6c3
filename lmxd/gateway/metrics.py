"""Metrics for Prometheus: requests served, how long they waited, and the gateway's own cost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from lmxd.errors import LmxdError
from lmxd.gateway.http.upstream import CLIENT_LEFT
from lmxd.gateway.requests.failures import status_of

_SECONDS: Final = (0.001, 0.01, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600)
_FAULT: Final = 500
"""Of what the gateway itself did wrong."""


class Served:
    """One request as metrics count it: when it got its lease, and the status of its answer.

    Until that is whole its status is that of a client that left.
    ``model`` is one that is configured, by its own name; empty for all others, for a client may say anything.
    """

    def __init__(self, wait: Histogram, walls: Counter) -> None:
        self._begun = time.monotonic()
        self._wait = wait
        self._walls = walls
        self.model = ""
        self.status = CLIENT_LEFT
        self.waited: float | None = None

    def leased(self) -> None:
        self.waited = time.monotonic() - self._begun
        self._wait.observe(self.waited)

    def met_wall(self, how: str) -> None:
        """Count an answer that filled its context while it was written: continued, again or ended."""
        self._walls.labels(self.model, how).inc()


class GatewayMetrics:
    """The gateway's own figures for Prometheus."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "lmxd_gateway_requests", "Requests by model and HTTP status.", ["model", "code"], registry=self.registry
        )
        self._open = Gauge("lmxd_gateway_requests_in_flight", "Requests not yet answered.", registry=self.registry)
        self._wait = Histogram(
            "lmxd_gateway_wait_seconds", "From a request to its lease.", buckets=_SECONDS, registry=self.registry
        )
        self._walls = Counter(
            "lmxd_gateway_walls",
            "Answers of elastic models that filled their context, by what became of them.",
            ["model", "how"],
            registry=self.registry,
        )

    @contextmanager
    def serving(self) -> Iterator[Served]:
        served = Served(self._wait, self._walls)
        self._open.inc()
        try:
            yield served
        except LmxdError as error:
            served.status = status_of(error)
            raise
        except ConnectionError:
            raise
        except Exception:
            served.status = _FAULT
            raise
        finally:
            self._open.dec()
            self._requests.labels(served.model, str(served.status)).inc()
