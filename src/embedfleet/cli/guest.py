"""A command that only asks or tells the job manager: beside whatever runs, or when nothing does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from embedfleet.cli.options import settings_from

if TYPE_CHECKING:
    from pathlib import Path

    from embedfleet.job_manager import EmbeddingJobManager

T = TypeVar("T")


def with_jobs(
    data_dir: Path | None, config: Path | None, act: Callable[[EmbeddingJobManager], Awaitable[T]]
) -> T:
    """What `act` makes of the job manager of these settings."""
    from embedfleet.bootstrap import open_guest

    async def run() -> T:
        async with open_guest(settings_from(data_dir, config)) as guest:
            return await act(guest.jobs)

    return asyncio.run(run())
