"""R3: Redis killed and restarted, its append-only file cut by its last second, and emptied, under load."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from pathlib import Path
from time import monotonic

from chaos.oracle import told
from chaos.scene import LOOK_AGAIN_SECONDS, Plan, Scene, counted, scene
from chaos.verdict import Context, Verdict
from embedfleet.queue.keys import stage_key
from embedfleet.queue_schemas import Stage
from embedfleet.records import jobs

_RESUME_SECONDS = 60.0
_CHUNKS_OF_DOCUMENT = 40
_CHUNKS_OF_LATE = 400  # more than are embedded in the second that is cut
_CUT_SECONDS = 1.0


class Loss(StrEnum):
    KILLED = "killed"
    CUT = "log cut"
    EMPTIED = "emptied"


async def run(context: Context) -> Verdict:
    losses = [Loss.KILLED] * context.sized(full=10, short=1)
    losses += [Loss.CUT, Loss.EMPTIED] * context.sized(full=3, short=1)
    context.rng.shuffle(losses)
    losses.sort(key=lambda loss: loss is Loss.CUT)  # emptied later, Redis would be filled from SQL again
    chunks_each = context.sized(full=1200, short=200)
    chunks = chunks_each * (len(losses) + 1)
    plan = Plan(
        redis_arguments=("--appendonly", "yes", "--appendfsync", "everysec"),
        seconds_a_chunk=0.005,
        pools={"max_attempts": 1000},
    )
    times: dict[str, list[float]] = {loss.value: [] for loss in Loss}
    lines: list[str] = []
    late: list[str] = []
    allowed = context.allowed_seconds(_RESUME_SECONDS)
    async with scene(context, plan) as at:
        await at.inputs.submit_documents(
            at.guest.jobs, "doc", chunks // _CHUNKS_OF_DOCUMENT, chunks=_CHUNKS_OF_DOCUMENT
        )
        with at.fleet.orchestrator("--workers", str(context.sized(full=2, short=1))):
            for number, loss in enumerate(losses, 1):
                await at.until_stored(int(chunks_each * (number - context.rng.uniform(0.1, 0.9))))
                if not await at.unfinished():  # the work was faster than this loop: it gets more of it
                    await at.inputs.submit_documents(
                        at.guest.jobs,
                        f"more{number}",
                        chunks_each // _CHUNKS_OF_DOCUMENT,
                        chunks=_CHUNKS_OF_DOCUMENT,
                    )
                seconds = await _lose(at, number, loss, late, allowed)
                if seconds is not None:
                    times[loss.value].append(round(seconds, 2))
                else:
                    lines.append(f"{loss.value}: work did not resume in {allowed:.0f} s")
            if not await at.until_ended(patience_seconds=context.allowed_seconds(120)):
                lines.append(f"the work came to a stop, {await at.unfinished()} jobs do not end")
            findings = await at.examine()
    slowest = max((one for some in times.values() for one in some), default=0.0)
    return Verdict(
        done=f"{losses.count(Loss.KILLED)} kill -9, {losses.count(Loss.CUT)} x log cut by its last second, "
        f"{losses.count(Loss.EMPTIED)} x FLUSHALL",
        outcome=f"{counted(findings)}, resumed in {slowest:.1f} s at most",
        findings=lines + told(findings),
        figures={"queued_in_a_cut_second": len(late), "chunks": chunks, "seconds_to_resume": times},
    )


async def _lose(at: Scene, number: int, loss: Loss, late: list[str], allowed: float) -> float | None:
    """Do it; seconds from Redis being back until a new document has gone all the way, None after `allowed`.
    `late` gets the jobs that were queued in a second that was cut."""
    match loss:
        case Loss.KILLED:
            await asyncio.to_thread(at.redis.restart)
        case Loss.CUT:
            late.append(await _cut(at, len(late)))
        case Loss.EMPTIED:
            with at.redis.client() as client:
                client.flushall()
    return await at.resumed(f"{number}", within_seconds=allowed)


async def _cut(at: Scene, number: int) -> str:
    """kill -9 alone loses nothing that was written: the operating system has it. A power cut would.

    In the second that is cut a job is queued: SQL remembers that, Redis does not.
    """
    while not await asyncio.to_thread(_filled, at):  # noqa: ASYNC110 - Redis sends no event
        await asyncio.sleep(LOOK_AGAIN_SECONDS)
    await asyncio.sleep(_CUT_SECONDS)  # `everysec` may put a write off
    log = _append_only_file(at.redis.folder)
    kept = log.stat().st_size
    cut_at = monotonic() + _CUT_SECONDS
    [job_id] = await at.inputs.submit_documents(
        at.guest.jobs, f"late{number}", 1, chunks=_CHUNKS_OF_LATE, tenant="late"
    )
    while not await _queued(at, job_id):  # noqa: ASYNC110 - the orchestrator sends no event
        await asyncio.sleep(LOOK_AGAIN_SECONDS)
    await asyncio.sleep(max(0.0, cut_at - monotonic()))
    await asyncio.to_thread(at.redis.kill)
    with log.open("ab") as file:
        file.truncate(kept)
    await asyncio.to_thread(at.redis.start)
    return job_id


def _filled(at: Scene) -> bool:
    """After Redis was emptied it takes a moment until it has a new life, by whose name it is known."""
    with at.redis.client() as client:
        return all(client.hexists(stage_key("embedfleet", stage, "meta"), "epoch") for stage in Stage)


async def _queued(at: Scene, job_id: str) -> bool:
    job = await at.guest.database.read(lambda conn: jobs.get(conn, job_id))
    return job is not None and job.offered_at is not None


def _append_only_file(folder: Path) -> Path:
    """Redis 7 keeps several, of which one grows."""
    return next(iter([*folder.rglob("*.incr.aof"), *folder.rglob("*.aof")]))
