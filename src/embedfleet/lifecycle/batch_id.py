"""The id of an embedding or storage task. It names a batch, or a part of one, and the run of its job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from embedfleet.records.jobs import Job


@dataclass(frozen=True, slots=True)
class BatchId:
    """Names a batch, or a part of it, in one run of a job.

    `span` holds the positions [first, past) of a part; None means the whole batch. The run is part of the
    name, because a retried job must not count batches of its earlier runs: the vectors that an earlier run
    found in the store may have been deleted since.
    """

    job_id: str
    run: int
    ordinal: int
    span: tuple[int, int] | None = None

    def __str__(self) -> str:
        batch = f"{self.job_id}:{self.run}:{self.ordinal}"
        return batch if self.span is None else f"{batch}:{self.span[0]}-{self.span[1]}"

    @classmethod
    def parse(cls, task_id: str) -> Self:
        rest, _, last = task_id.rpartition(":")
        span = None
        if "-" in last:
            first, _, past = last.partition("-")
            span = int(first), int(past)
            rest, _, last = rest.rpartition(":")
        job_id, _, run = rest.rpartition(":")
        return cls(job_id, int(run), int(last), span)

    def wanted_by(self, job: Job | None) -> bool:
        """Whether the job exists and is still in the run that this batch belongs to."""
        return job is not None and not job.status.terminal and job.run == self.run
