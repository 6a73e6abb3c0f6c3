"""Metrics for Prometheus: bytes by device, instances, leases, the queue, and decisions with their times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from aiohttp import web
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client import Counter as Counts
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from lmxd.core.books.state import State
from lmxd.core.decisions import Decision, EndLease, ForgetInstance, GrantLease, MoveLease, RefuseLease, StopInstance
from lmxd.core.words import Cause, InstanceId, Phase
from lmxd.daemon.answering.device_views import charged
from lmxd.daemon.answering.move_counts import MoveCounts
from lmxd.errors import LmxdError
from lmxd.listening.connections import Connections
from lmxd.listening.listen import listen
from lmxd.listening.pages import OwnPages

_SCRAPERS = 32
"""Connections at a time: of more, the oldest goes."""
_SECONDS = (0.001, 0.01, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800)


class Metrics:
    """Counts decisions as they are carried out. All other figures are read from the state at each scrape."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.registry = CollectorRegistry()
        self.registry.register(_Books(state))
        self._decisions = Counts(
            "lmxd_decisions", "Answers to requests for a lease.", ["model", "result"], registry=self.registry
        )
        self._ended = Counts("lmxd_leases_ended", "Leases ended.", ["reason"], registry=self.registry)
        self._stopped = Counts("lmxd_instances_stopped", "Instances told to stop.", ["cause"], registry=self.registry)
        self._wait = Histogram(
            "lmxd_wait_seconds",
            "From a request to its answer.",
            ["result"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._launch = Histogram(
            "lmxd_launch_seconds",
            "From the start of an instance until it was ready.",
            ["model"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._moves = MoveCounts(self.registry)
        self._measured: set[str] = set()

    def observe(self, decision: Decision) -> None:
        """Count one decision."""
        match decision:
            case GrantLease():
                self._answered(decision.profile, "granted", decision.waited)
                self._observe_launch(decision.instance)
            case MoveLease():
                self._moves.moved(decision)
            case RefuseLease(moves=str()):
                self._moves.refused(decision)
            case RefuseLease():
                self._answered(decision.ask.profile, decision.refusal.code, decision.waited)
            case EndLease():
                self._ended.labels(decision.reason).inc()
            case StopInstance():
                self._stopped.labels(decision.cause.value).inc()
                self._note_shrink(decision)
            case ForgetInstance():
                self._measured.discard(decision.instance)

    def _note_shrink(self, stop: StopInstance) -> None:
        instance = self._state.instances.get(stop.instance)
        if stop.cause is Cause.SHRUNK and instance is not None:
            self._moves.shrinks(instance.ask.profile, stop)

    def _answered(self, model: str, result: str, waited: float) -> None:
        self._decisions.labels(model, result).inc()
        self._wait.labels("granted" if result == "granted" else "refused").observe(waited)

    def _observe_launch(self, name: InstanceId) -> None:
        """Note the load time of an instance at its first grant."""
        instance = self._state.instances.get(name)
        if instance is None:
            return  # it has ended already
        if name not in self._measured and instance.ready_at is not None:
            self._measured.add(name)
            self._launch.labels(instance.ask.profile).observe(instance.ready_at - instance.started_at)

    async def serve(self, address: str) -> web.AppRunner:
        """Answer GET /metrics on ``address``. LmxdError ``config`` if that is taken."""
        pages = OwnPages(address)

        async def get(request: web.Request) -> web.Response:
            try:
                pages.require(request)
            except LmxdError as error:
                raise web.HTTPForbidden(text=f"{error}\n") from error
            return web.Response(body=generate_latest(self.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

        app = web.Application()
        app.router.add_get("/metrics", get)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await listen(runner, "metrics.listen", address, Connections(strangers=_SCRAPERS, known=0))
        return runner


class _Books(Collector):
    """Gauges, read from the state at each scrape."""

    def __init__(self, state: State) -> None:
        self._state = state

    def _by_model(self) -> Counter[tuple[str, str]]:
        found: Counter[tuple[str, str]] = Counter()
        for i in self._state.instances.values():
            for device, size in charged(self._state, i).items():
                found[device, i.ask.profile] += size
        return found

    def collect(self) -> Iterator[Metric]:
        size = GaugeMetricFamily("lmxd_device_bytes", "Bytes of a device by class.", labels=["device", "class"])
        up = GaugeMetricFamily("lmxd_device_available", "Whether a device can be measured.", labels=["device"])
        shared = GaugeMetricFamily("lmxd_pool_bytes", "Bytes that devices share, by class.", labels=["pool", "class"])
        view = GaugeMetricFamily("lmxd_device_pool", "The pool of a device that has one.", labels=["device", "pool"])
        fault = GaugeMetricFamily(
            "lmxd_device_fault",
            "A device that cannot be measured: why, and the remedy.",
            labels=["device", "why", "remedy"],
        )
        ledger = self._state.ledger
        for a in ledger.accounts.values():
            if a.unavailable is not None:
                fault.add_metric([a.device, a.unavailable, a.remedy], 1.0)
            up.add_metric([a.device], float(a.unavailable is None))
            for name in ("capacity", "margin", "foreign", "charged", "reclaiming", "yielded", "headroom"):
                family = shared if ledger.views(a.device) else size  # else a sum over devices would count them twice
                family.add_metric([a.device, name], getattr(a, name))
            if a.pool is not None:
                view.add_metric([a.device, a.pool], 1.0)
        instances = GaugeMetricFamily("lmxd_instances", "Instances by phase.", labels=["phase"])
        for phase in Phase:
            count = sum(1 for i in self._state.instances.values() if i.phase is phase)
            instances.add_metric([phase.value], count)
        charged = GaugeMetricFamily(
            "lmxd_charged_bytes", "Bytes charged to a model's instances, by device.", labels=["device", "model"]
        )
        for (device, model), total in self._by_model().items():
            charged.add_metric([device, model], total)
        yield size
        yield shared
        yield view
        yield up
        yield fault
        yield charged
        yield instances
        yield GaugeMetricFamily("lmxd_leases", "Leases held.", value=len(self._state.leases))
        yield GaugeMetricFamily("lmxd_queue_length", "Requests that wait.", value=len(self._state.queue))
        counts = CounterMetricFamily("lmxd_admission", "What admission did besides.", labels=["what"])
        for what in ("backfilled", "thrash", "slept", "woken"):
            counts.add_metric([what], self._state.counts[what])
        yield counts
