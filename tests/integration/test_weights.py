"""Two tenants of different weight with the default settings: documents finish in the ratio of the weights."""

from __future__ import annotations

import asyncio
from pathlib import Path

from embedfleet.bootstrap import open_owner
from embedfleet.queue_schemas import JobRequest, UserTier
from support.hangs import HANG_SECONDS
from support.system import make_settings

DOCUMENTS = 720
TIERS = {"heavy": UserTier.ENTERPRISE, "light": UserTier.FREE}
WEIGHT_OF_HEAVY = 8
CLAIM_TASKS = 256
"""The largest claim of a stage with the default settings: storage's. Its documents finish together."""


async def test_of_the_documents_that_finish_first_the_tenants_have_their_shares(tmp_path: Path) -> None:
    stop = asyncio.Event()
    async with open_owner(make_settings(tmp_path), purpose="test") as system, asyncio.TaskGroup() as tasks:
        requests = [
            JobRequest(
                media_id=str(number), user_id=tenant, user_tier=tier, content=f"{tenant}'s note {number}."
            )
            for number in range(DOCUMENTS)
            for tenant, tier in TIERS.items()
        ]
        job_ids = await system.jobs.create_jobs(requests)
        tenant_of = {job_id: one.user_id for job_id, one in zip(job_ids, requests, strict=True)}
        tasks.create_task(system.orchestrator.run(stop))
        ended = await system.jobs.wait_many(job_ids, timeout_seconds=HANG_SECONDS)
        stop.set()
    finished = list(ended.values())
    finished.sort(key=lambda job: job.finished_at or job.created_at)
    # By now two thirds of the heavy tenant's documents are finished, so both still have work waiting.
    first = [tenant_of[job.job_id] for job in finished[: DOCUMENTS * 3 // 4]]
    heavy, light = first.count("heavy"), first.count("light")
    # A claim that is cut short may be of one tenant alone.
    assert abs(heavy - WEIGHT_OF_HEAVY * light) <= CLAIM_TASKS, (heavy, light)
