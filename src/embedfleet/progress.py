"""What streams tell between two durable events: how far a job is, and what is left of a tenant's work."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from embedfleet.queue_schemas import JobProgress, JobStatus, Stage


class _Told(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def json_document(self) -> dict[str, Any]:
        """Return the stable form that streams send."""
        return self.model_dump(mode="json")


class JobNow(_Told):
    """How far a job is at this moment."""

    job_id: str
    status: JobStatus
    stage: Stage | None = Field(description="The earliest stage with work left; null: it has ended.")
    progress: JobProgress
    eta_seconds: float | None = Field(
        description="About how long until it has ended; null: it has, or it cannot be told."
    )
    at: datetime = Field(description="When this was read.")


class WorkNow(_Told):
    """What is left of a tenant's work at this moment, or of the work of all tenants."""

    unfinished: dict[JobStatus, int] = Field(description="Unfinished jobs, by those statuses that some have.")
    tokens_left: int = Field(description="About what is left to embed and store, in tokens.")
    eta_seconds: float | None = Field(
        description="About how long until all of it has ended; null: it cannot be told."
    )
    at: datetime = Field(description="When this was read.")
