"""Counts the processor time of a process."""

from __future__ import annotations

import time

from embedfleet.metrics.series import Metrics


class ProcessorTime:
    """Counts what this process, all its threads, has used since it started. For one thread at a time."""

    def __init__(self, metrics: Metrics, process: str) -> None:
        """`process`: a stage, for a worker process, or `orchestrator`."""
        self._counter = metrics.cpu_seconds_total.labels(process)
        self._counted = 0.0

    def count(self) -> None:
        """Add what was used since the last call."""
        used = time.process_time()
        self._counter.inc(used - self._counted)
        self._counted = used
