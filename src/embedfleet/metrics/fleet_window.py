"""What a fleet did in a window of time, by looks at the monitoring ports of its orchestrators. Pure.

A `Look` is what one port said at one moment. Counters of an orchestrator never fall, so the difference of two
looks is what was done in between. One that was started again in the window counts from 0, in the time of the
same port. The figures of all ports add up. A figure that nothing was counted for is None.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import inf
from typing import Any, Self

from prometheus_client.parser import text_string_to_metric_families

_PREFIX = "embedding_"
STAGES = ("chunking", "embedding", "storage", "deletion")

Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Look:
    """The samples of one monitoring port at `at` (seconds of any clock that does not jump)."""

    at: float
    samples: Mapping[tuple[str, Labels], float]

    @classmethod
    def at_port(cls, text: str, at: float) -> Self:
        """Read what `/metrics` answered. Raises ValueError for a text that is not Prometheus's."""
        return cls(
            at,
            {
                (sample.name.removeprefix(_PREFIX), frozenset(sample.labels.items())): sample.value
                for family in text_string_to_metric_families(text)
                for sample in family.samples
                if sample.name.startswith(_PREFIX)
            },
        )

    @property
    def orchestrator(self) -> tuple[str, str] | None:
        """The id and the host of the orchestrator; None if the port is of something else."""
        for name, labels in self.samples:
            if name == "orchestrator_info":
                said = dict(labels)
                return said["orchestrator_id"], said["host"]
        return None

    def sum_of(self, name: str, **labels: str) -> float:
        """The sum of the samples that have these labels, whatever others they have."""
        return self.known_sum_of(name, **labels) or 0.0

    def known_sum_of(self, name: str, **labels: str) -> float | None:
        """The same; None if the port has no such sample."""
        wanted = labels.items()
        values = [value for (of, has), value in self.samples.items() if of == name and wanted <= has]
        return sum(values) if values else None


class FleetWindow:
    """The looks at all monitoring ports of a fleet in one window.

    `looks` are those of each port, in order, two at least. They may begin and end at somewhat different
    times: a rate is of each port's own time. A port's orchestrator may change once it was started again.
    """

    def __init__(self, looks: Sequence[Sequence[Look]]) -> None:
        if not looks or any(len(several) < 2 for several in looks):
            raise ValueError("a window needs two looks at each port")
        self._looks = looks
        self._spans = [_spans(several) for several in looks]

    @property
    def seconds(self) -> float:
        """The mean length of the window."""
        return _mean([several[-1].at - several[0].at for several in self._looks]) or 0.0

    @property
    def restarts(self) -> int:
        """How often an orchestrator was started again in the window."""
        return sum(len(spans) - 1 for spans in self._spans)

    def count(self, name: str, **labels: str) -> float:
        """What was counted in the window, at all ports."""
        return sum(_counted(spans, name, **labels) for spans in self._spans)

    def rate(self, name: str, **labels: str) -> float:
        """The same, a second."""
        return sum(
            _counted(spans, name, **labels) / (several[-1].at - several[0].at)
            for several, spans in zip(self._looks, self._spans, strict=True)
        )

    def gauge(self, name: str, **labels: str) -> float:
        """The mean over the window of a number that each orchestrator has of its own, added up."""
        return sum(_mean([look.sum_of(name, **labels) for look in several]) or 0.0 for several in self._looks)

    def shared_gauge(self, name: str, **labels: str) -> float:
        """The mean over the window of a number that all see alike, such as a queue's length.

        A process of one pool knows its own queue only, so only the looks count that have the number.
        """
        known = (look.known_sum_of(name, **labels) for several in self._looks for look in several)
        return _mean([value for value in known if value is not None]) or 0.0

    def labels(self, name: str, label: str) -> list[str]:
        """The values that a label of these samples has, sorted."""
        found = {
            dict(labels)[label]
            for several in self._looks
            for look in several
            for of, labels in look.samples
            if of == name and label in dict(labels)
        }
        return sorted(found)

    def spread(self, name: str, **labels: str) -> Spread:
        """How the values that a histogram counted in the window are spread."""
        below: defaultdict[float, float] = defaultdict(float)
        for (of, has), value in self._differences():
            if of == f"{name}_bucket" and labels.items() <= has:
                below[float(dict(has)["le"])] += value
        return Spread(
            count=self.count(f"{name}_count", **labels),
            total=self.count(f"{name}_sum", **labels),
            below=sorted(below.items()),
        )

    def _differences(self) -> Iterable[tuple[tuple[str, Labels], float]]:
        for spans in self._spans:
            for before, after in spans:
                for key, value in after.samples.items():
                    yield key, value - before.samples.get(key, 0.0)


_Span = tuple[Look, Look]
"""What an orchestrator had counted before its part of the window, and at the end of it."""


def _spans(looks: Sequence[Look]) -> list[_Span]:
    """Return the span of each orchestrator that a port had. All but the first one began with nothing."""
    lives = [list(life) for _, life in groupby(looks, key=lambda look: look.orchestrator)]
    first, *others = lives
    return [(first[0], first[-1]), *((Look(life[0].at, {}), life[-1]) for life in others)]


def _counted(spans: Sequence[_Span], name: str, **labels: str) -> float:
    return sum(after.sum_of(name, **labels) - before.sum_of(name, **labels) for before, after in spans)


@dataclass(frozen=True, slots=True)
class Spread:
    """A histogram. `below` holds, in order of the bounds, how many values were at most each bound."""

    count: float
    total: float
    below: Sequence[tuple[float, float]]

    @property
    def mean(self) -> float | None:
        return self.total / self.count if self.count else None

    def quantile(self, share: float) -> float | None:
        """Estimate a quantile as Prometheus does: values are spread evenly between two bounds.

        Of values above the last finite bound, it is that bound.
        """
        if not self.count:
            return None
        wanted, lower_bound, lower_count = share * self.count, 0.0, 0.0
        for bound, number in self.below:
            if number >= wanted and number > lower_count:
                if bound == inf:
                    return lower_bound
                return lower_bound + (bound - lower_bound) * (wanted - lower_count) / (number - lower_count)
            lower_bound, lower_count = bound, number
        return lower_bound

    def as_figures(self) -> dict[str, float | None]:
        return {
            "mean": _rounded(self.mean),
            "p50": _rounded(self.quantile(0.5)),
            "p95": _rounded(self.quantile(0.95)),
        }


def figures_of(window: FleetWindow) -> dict[str, Any]:
    """All figures of the window, as JSON values."""
    return {
        "seconds": _rounded(window.seconds),
        "restarts": window.restarts,
        "stages": {stage: _stage(window, stage) for stage in STAGES},
        "models": {model: _model(window, model) for model in window.labels("real_tokens_total", "model")},
        "cache_hit_share": _share(window.count("cache_hits_total"), window.count("cache_misses_total")),
        "vector_store": {
            "rows_per_second": _rounded(window.rate("batch_chunks_sum", stage="storage")),
            "calls": _calls(window, "store_seconds"),
        },
        "sql": {"units": _calls(window, "sql_seconds")},
        "cpu_cores": {
            process: _rounded(window.rate("cpu_seconds_total", process=process))
            for process in window.labels("cpu_seconds_total", "process")
        },
    }


def _stage(window: FleetWindow, stage: str) -> dict[str, Any]:
    tasks = window.rate("tasks_done_total", stage=stage)
    claims = window.spread("stage_latency_seconds", stage=stage)
    waiting = window.shared_gauge("queue_depth", stage=stage)
    return {
        "workers": _rounded(window.gauge("worker_count", worker_type=stage)),
        "busy_share": _share(
            window.count("busy_seconds_total", stage=stage), window.count("idle_seconds_total", stage=stage)
        ),
        "tasks_per_second": _rounded(tasks),
        "tokens_per_second": _rounded(window.rate("task_cost_tokens_total", stage=stage)),
        "tasks_a_claim": _rounded(window.count("tasks_done_total", stage=stage) / claims.count)
        if claims.count
        else None,
        "claim_seconds": claims.as_figures(),
        "queued_tasks": _rounded(waiting),
        # Little's law: what waits on average, divided by what leaves in a second.
        "queue_wait_seconds": _rounded(waiting / tasks) if tasks else None,
        "retries": window.count("retries_total", stage=stage),
        "dead_letters": window.count("dead_letters_total", stage=stage),
    }


def _model(window: FleetWindow, model: str) -> dict[str, Any]:
    real = window.count("real_tokens_total", model=model)
    return {
        "tokens_per_second": _rounded(window.rate("real_tokens_total", model=model)),
        "texts_per_second": _rounded(window.rate("model_call_chunks_sum", model=model)),
        "padding_share": _share(window.count("padding_tokens_total", model=model), real),
        "busy_share": _share(
            window.count("model_seconds_total", model=model),
            window.count("model_wait_seconds_total", model=model),
        ),
        "calls_per_second": _rounded(window.rate("model_call_tokens_count", model=model)),
        "call_tokens": window.spread("model_call_tokens", model=model).as_figures(),
        "call_texts": window.spread("model_call_chunks", model=model).as_figures(),
        "chunk_tokens": window.spread("chunk_tokens", model=model).as_figures(),
    }


def _calls(window: FleetWindow, histogram: str) -> dict[str, Any]:
    found = {}
    for operation in window.labels(f"{histogram}_count", "operation"):
        spread = window.spread(histogram, operation=operation)
        found[operation] = {
            "per_second": _rounded(window.rate(f"{histogram}_count", operation=operation)),
            "seconds": spread.as_figures(),
        }
    return found


def _share(part: float, rest: float) -> float | None:
    return round(part / (part + rest), 4) if part + rest else None


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _rounded(value: float | None) -> float | None:
    """Four digits: more would say more than is known."""
    return None if value is None else float(f"{value:.4g}")
