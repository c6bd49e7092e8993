"""What /metrics tells, made from the figures that the parts keep anyway: nothing is counted for it alone."""

from collections.abc import Iterable, Iterator
from typing import Protocol

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from starlette.datastructures import State

from analysis_service.database import Database, HostState
from analysis_service.database.read_log import ReadLog
from analysis_service.projection.consumer import Progress
from shared.metrics import RequestCounts
from shared.version import VERSION


class CacheFigures(Protocol):
    """What the cache of answers tells of itself."""

    hits: int
    misses: int
    shared: int

    @property
    def evictions(self) -> int: ...
    @property
    def entries(self) -> int: ...
    @property
    def bytes(self) -> int: ...


def open_registry(state: State) -> CollectorRegistry:
    """A registry of one application, whose figures are read from its `state` when they are asked for."""
    registry = CollectorRegistry()
    registry.register(_StateCollector(state))
    ProcessCollector(registry=registry)
    return registry


class _StateCollector(Collector):
    def __init__(self, state: State) -> None:
        self._state = state

    def describe(self) -> Iterable[Metric]:
        """Nothing: what there is to tell is known only when it is asked for."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All but what is of the process."""
        yield _gauge("build_info", "The release that runs.", ["version"], [([VERSION], 1)])
        yield from request_families(self._state.requests)
        database: Database = self._state.reader.database
        yield from host_families(database.hosts())
        yield from read_families(database.reads)
        yield from feed_families(self._state.progress)
        yield from cache_families(self._state.answers)


def request_families(requests: RequestCounts) -> Iterator[Metric]:
    """Requests by method, route and status."""
    seconds = HistogramMetricFamily(
        "scorehouse_request_seconds", "Requests, and how long they took.", labels=["method", "route", "status"]
    )
    for (method, route, status), durations in sorted(requests.by_kind().items()):
        seconds.add_metric([method, route, str(status)], durations.cumulative(), durations.total_s)
    yield seconds


def host_families(hosts: Iterable[HostState]) -> Iterator[Metric]:
    """Servers of the SQL store, and the connections to each."""
    hosts = list(hosts)

    def by_host(name: str, help_text: str, values: Iterable[float]) -> Metric:
        return _gauge(name, help_text, ["host"], [([host.host], v) for host, v in zip(hosts, values, strict=True)])

    yield by_host("pool_size", "Connections that are kept.", [host.pool.size for host in hosts])
    yield by_host("pool_in_use", "Connections in use.", [host.pool.in_use for host in hosts])
    yield by_host("pool_free", "Connections that may be used without overflow.", [host.pool.free for host in hosts])
    yield by_host("pool_overflow", "Connections open beyond the size.", [host.pool.overflow for host in hosts])
    yield by_host("pool_waiting", "Tasks that wait for a connection.", [host.pool.waiting for host in hosts])
    acquiring = HistogramMetricFamily(
        "scorehouse_pool_acquire_seconds", "How long connections were waited for.", labels=["host"]
    )
    snapshots = CounterMetricFamily("scorehouse_snapshots", "Snapshots that were read.", labels=["host", "role"])
    for host in hosts:
        acquiring.add_metric([host.host], host.acquiring.cumulative(), host.acquiring.total_s)
        snapshots.add_metric([host.host, "replica" if host.is_replica else "primary"], host.snapshots)
    yield acquiring
    yield snapshots
    replicas = [host for host in hosts if host.is_replica]
    for name, help_text, told in (
        ("replica_up", "1 while reads may go to the replica.", [replica.is_used for replica in replicas]),
        ("replica_behind", "1 while it is left alone for being behind.", [replica.is_behind for replica in replicas]),
    ):
        yield _gauge(
            name, help_text, ["host"], [([host.host], value) for host, value in zip(replicas, told, strict=True)]
        )


def read_families(reads: ReadLog) -> Iterator[Metric]:
    """Reads of the SQL store by their names."""
    seconds = HistogramMetricFamily(
        "scorehouse_read_seconds", "Reads of the SQL store, and how long they took.", labels=["query"]
    )
    rows = CounterMetricFamily("scorehouse_read_rows", "Rows that they brought.", labels=["query"])
    slow = CounterMetricFamily("scorehouse_slow_reads", "Those over SLOW_QUERY_MS.", labels=["query"])
    ended = CounterMetricFamily("scorehouse_ended_reads", "Those ended by QUERY_TIMEOUT_S.", labels=["query"])
    for name, counts in sorted(reads.by_name.items()):
        seconds.add_metric([name], counts.durations.cumulative(), counts.durations.total_s)
        rows.add_metric([name], counts.rows)
        slow.add_metric([name], counts.slow)
        ended.add_metric([name], counts.ended)
    yield from (seconds, rows, slow, ended)


def feed_families(progress: Progress) -> Iterator[Metric]:
    """How far the projection has come. What is not known is left out rather than told as a number."""
    if progress.position is not None:
        yield GaugeMetricFamily("scorehouse_feed_position", "Events that are applied.", progress.position)
    if progress.lag is not None:
        yield GaugeMetricFamily("scorehouse_feed_lag", "Events that are not applied yet.", progress.lag)
    stopped = progress.stopped is not None
    yield GaugeMetricFamily("scorehouse_feed_stopped", "1 while an event cannot be applied.", stopped)
    applied = CounterMetricFamily("scorehouse_results_applied", "Results applied since the start.")
    applied.add_metric([], progress.results_applied)
    yield applied
    answers = CounterMetricFamily("scorehouse_answers_applied", "Single answers in them.")
    answers.add_metric([], progress.answers_applied)
    yield answers


def cache_families(cache: CacheFigures) -> Iterator[Metric]:
    """The cache of answers."""
    asked = CounterMetricFamily(
        "scorehouse_cache_requests",
        "Requests that found their answer (hit), computed it (miss), or waited for another's (shared).",
        labels=["outcome"],
    )
    for outcome, count in (("hit", cache.hits), ("miss", cache.misses), ("shared", cache.shared)):
        asked.add_metric([outcome], count)
    yield asked
    evicted = CounterMetricFamily("scorehouse_cache_evictions", "Answers that went to make room.")
    evicted.add_metric([], cache.evictions)
    yield evicted
    yield GaugeMetricFamily("scorehouse_cache_entries", "Answers kept now.", cache.entries)
    yield GaugeMetricFamily("scorehouse_cache_bytes", "What they take.", cache.bytes)


def _gauge(name: str, help_text: str, labels: list[str], values: Iterable[tuple[list[str], float]]) -> Metric:
    family = GaugeMetricFamily(f"scorehouse_{name}", help_text, labels=labels)
    for label_values, value in values:
        family.add_metric(label_values, value)
    return family
