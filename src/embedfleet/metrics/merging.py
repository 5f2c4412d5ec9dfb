"""Merges the series of many processes: adds the counts of the workers to the orchestrator's own series.

Each worker reports what it has counted since it started (`snapshot`). These counts stay when the worker ends,
so that no counter of the host ever falls. Gauges are those of the orchestrator only.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from embedfleet.metrics.cardinality import BoundedLabels

Labels: TypeAlias = tuple[tuple[str, str], ...]
Counted: TypeAlias = tuple[str, Labels, float]
"""A sample: its name, its sorted labels, and what its process has counted since it started."""
_Sums: TypeAlias = defaultdict[tuple[str, Labels], float]

_ADDITIVE = ("counter", "histogram")
_SUFFIXES = ("_total", "_bucket", "_count", "_sum")


def snapshot(registry: CollectorRegistry) -> list[Counted]:
    """All counts so far, as plain values that can be sent to another process."""
    families = (family for family in registry.collect() if family.type in _ADDITIVE)
    return [counted for family in families for counted in _counted(family)]


class MergedCollector(Collector):
    """Collects one registry and the snapshots of other processes. Safe to use from any thread."""

    def __init__(self, own: CollectorRegistry, *, max_tenants: int = 50) -> None:
        self._own = own
        self._tenants = BoundedLabels(max_tenants)
        self._lock = threading.Lock()
        self._latest: dict[str, dict[tuple[str, Labels], float]] = {}
        self._ended: _Sums = defaultdict(float)

    def update(self, worker: str, counted: Sequence[Counted]) -> None:
        """Replace the snapshot of a worker process. `worker` must be new for each start of a process."""
        latest = {(name, labels): value for name, labels, value in counted}
        with self._lock:
            self._latest[worker] = latest

    def ended(self, worker: str) -> None:
        """The worker sends no more snapshots. Its counts stay."""
        with self._lock:
            _add(self._ended, self._latest.pop(worker, {}))

    def total(self, name: str, **labels: str) -> float:
        """The sum of a counter's sample over all processes; 0 if no process has counted."""
        key = (name, tuple(sorted(labels.items())))
        # One family only: collecting all takes milliseconds, and the orchestrator calls this every second.
        families = self._own.restricted_registry([name]).collect()
        own = sum(s.value for family in families for s in family.samples if s.labels == labels)
        with self._lock:
            return own + self._ended[key] + sum(latest.get(key, 0.0) for latest in self._latest.values())

    def collect(self) -> Iterable[Metric]:
        others = self._others()
        for family in self._own.collect():
            yield self._merged(family, others) if family.type in _ADDITIVE else family

    def _others(self) -> _Sums:
        with self._lock:
            sums = self._ended.copy()
            for latest in self._latest.values():
                _add(sums, latest)
            return sums

    def _merged(self, family: Metric, others: _Sums) -> Metric:
        names = {family.name + suffix for suffix in _SUFFIXES}
        foreign = ((name, labels, value) for (name, labels), value in others.items() if name in names)
        sums: _Sums = defaultdict(float)
        for name, labels, value in (*_counted(family), *foreign):
            sums[name, self._bounded(labels)] += value
        merged = Metric(family.name, family.documentation, family.type, family.unit)
        merged.samples = [Sample(name, dict(labels), value) for (name, labels), value in sums.items()]
        return merged

    def _bounded(self, labels: Labels) -> Labels:
        return tuple((name, self._tenants.label(v) if name == "tenant" else v) for name, v in labels)


def _counted(family: Metric) -> Iterable[Counted]:
    """The samples of a family, except the times of creation, which cannot be added."""
    for sample in family.samples:
        if not sample.name.endswith("_created"):
            yield sample.name, tuple(sorted(sample.labels.items())), sample.value


def _add(sums: _Sums, counted: Mapping[tuple[str, Labels], float]) -> None:
    for key, value in counted.items():
        sums[key] += value
