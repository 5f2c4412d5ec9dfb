"""A command that only asks about jobs or changes them, beside a running orchestrator or without one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from embedfleet.cli.options import settings_from

if TYPE_CHECKING:
    from pathlib import Path

    from embedfleet.job_manager import EmbeddingJobManager
    from embedfleet.tracking.scoped_jobs import ScopedJobs

T = TypeVar("T")


def with_jobs(
    data_dir: Path | None,
    config: Path | None,
    act: Callable[[ScopedJobs], Awaitable[T]],
    *,
    tenant: str | None,
) -> T:
    """Run `act` on the jobs that `jobs_for` gives for `--tenant`; returns what it returns."""
    from embedfleet.bootstrap import open_guest

    async def run() -> T:
        async with open_guest(settings_from(data_dir, config)) as guest:
            return await act(jobs_for(guest.jobs, tenant))

    return asyncio.run(run())


def jobs_for(jobs: EmbeddingJobManager, tenant: str | None) -> ScopedJobs:
    """The jobs that `--tenant` selects: that tenant's, or every tenant's if the option is not given."""
    return jobs.of_all_tenants() if tenant is None else jobs.of(tenant)
