"""What an orchestrator knows of a worker in another process: the content of its last report."""

from __future__ import annotations

from time import monotonic

from embedfleet.errors import EmbedfleetError
from embedfleet.launchers.channel import Failure, Report, unpack_trouble
from embedfleet.launchers.launcher import WorkerSpec
from embedfleet.metrics.merging import MergedCollector


class ReportedWorker:
    """The state of a worker, as its reports tell it. The base of the handles of other processes."""

    def __init__(self, spec: WorkerSpec, collector: MergedCollector, key: str) -> None:
        """`key` names this start of the worker in the `collector`, and no other start."""
        self.spec = spec
        self.placed = True
        self.ready = False
        self.reports = 0
        self.ready_at: float | None = None
        self.trouble: EmbedfleetError | None = None
        self.memory_bytes = 0
        self.models: tuple[str, ...] = ()
        self.failure_reason: str | None = None
        self._collector = collector
        self._key = key

    def take(self, message: Report | Failure) -> None:
        """Keep what the worker has reported."""
        match message:
            case Report():
                self.reports += 1
                self.ready, self.trouble = message.ready, unpack_trouble(message.trouble)
                if message.ready and self.ready_at is None:
                    self.ready_at = monotonic()
                self.memory_bytes, self.models = message.memory_bytes, message.models
                self._collector.update(self._key, message.counted)
            case Failure(reason):
                self.failure_reason = reason

    def no_more_reports(self) -> None:
        """The worker has ended. What it has counted stays."""
        self._collector.ended(self._key)
