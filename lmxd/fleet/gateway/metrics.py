"""Metrics for Prometheus: requests and tries by node, how long a node was looked for, and how lately each was heard."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final, Literal, TypeAlias

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from lmxd.fleet.choosing.table import NodeTable
from lmxd.gateway.http.upstream import CLIENT_LEFT

_SECONDS: Final = (0.001, 0.003, 0.01, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600)
TryOutcome: TypeAlias = Literal["served", "full", "refused", "away"]


class FleetServed:
    """One request as metrics count it. ``model``: one that a node has; ``node``: the one that answered."""

    def __init__(self) -> None:
        self.model = ""
        self.node = ""
        self.status = CLIENT_LEFT


class FleetMetrics:
    """The figures of one gateway of a fleet."""

    def __init__(self, table: NodeTable, now: Callable[[], float]) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.registry.register(_Heard(table, now))
        self._requests = Counter(
            "lmxd_fleet_requests",
            "Requests by model, the node that answered, and HTTP status.",
            ["model", "node", "code"],
            registry=self.registry,
        )
        self._tries = Counter(
            "lmxd_fleet_tries", "Requests to nodes, by what came of them.", ["node", "outcome"], registry=self.registry
        )
        self._open = Gauge("lmxd_fleet_requests_in_flight", "Requests not yet answered.", registry=self.registry)
        self._found = Histogram(
            "lmxd_fleet_find_seconds",
            "From a request to the head of a node's answer.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._moves = Counter(
            "lmxd_fleet_moves", "Requests that left a node's queue for another node.", registry=self.registry
        )

    @contextmanager
    def serving(self) -> Iterator[FleetServed]:
        """Count one request, however it ends."""
        served = FleetServed()
        self._open.inc()
        try:
            yield served
        finally:
            self._open.dec()
            self._requests.labels(served.model, served.node, str(served.status)).inc()

    def tried(self, node: str, outcome: TryOutcome) -> None:
        self._tries.labels(node, outcome).inc()

    def found(self, seconds: float) -> None:
        self._found.observe(seconds)

    def moved(self) -> None:
        self._moves.inc()


class _Heard(Collector):
    """The age of each node's last heartbeat, when it is asked for."""

    def __init__(self, table: NodeTable, now: Callable[[], float]) -> None:
        self._table, self._now = table, now

    def collect(self) -> Iterable[Metric]:
        age = GaugeMetricFamily(
            "lmxd_fleet_heartbeat_age_seconds", "Since a node's last heartbeat was sent.", labels=["node"]
        )
        now = self._now()
        for node in self._table.nodes.values():
            if node.card is not None:
                age.add_metric([node.name], now - node.spoke_at)
        yield age
