"""R3: Redis killed and restarted, its append-only file cut by its last second, and emptied, under load."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from pathlib import Path

from chaos.oracle import told
from chaos.scene import Plan, Scene, counted, scene
from chaos.verdict import Context, Verdict

RESUME_SECONDS = 60.0
_CHUNKS_OF_DOCUMENT = 40
_CUT_SECONDS = 1.0


class Loss(StrEnum):
    KILLED = "killed"
    CUT = "log cut"
    EMPTIED = "emptied"


async def run(context: Context) -> Verdict:
    losses = [Loss.KILLED] * context.sized(full=10, short=1)
    losses += [Loss.CUT, Loss.EMPTIED] * context.sized(full=3, short=1)
    context.rng.shuffle(losses)
    chunks_each = context.sized(full=1200, short=200)
    chunks = chunks_each * (len(losses) + 1)
    plan = Plan(
        redis_arguments=("--appendonly", "yes", "--appendfsync", "everysec"),
        seconds_a_chunk=0.005,
        pools={"max_attempts": 1000},
    )
    times: dict[str, list[float]] = {loss.value: [] for loss in Loss}
    lines: list[str] = []
    async with scene(context, plan) as at:
        await at.inputs.submit_documents(
            at.guest.jobs, "doc", chunks // _CHUNKS_OF_DOCUMENT, chunks=_CHUNKS_OF_DOCUMENT
        )
        with at.fleet.orchestrator("--workers", str(context.sized(full=2, short=1))):
            for number, loss in enumerate(losses, 1):
                await at.until_stored(int(chunks_each * (number - context.rng.uniform(0.1, 0.9))))
                if not await at.unfinished():
                    lines.append(f"only {number - 1} faults before the work was done: make it larger")
                    break
                seconds = await _lose(at, loss)
                if seconds is not None:
                    times[loss.value].append(round(seconds, 2))
                elif await at.unfinished():
                    lines.append(f"{loss.value}: work did not resume in {RESUME_SECONDS:.0f} s")
            if not await at.until_ended():
                lines.append(f"the work came to a stop, {await at.unfinished()} jobs do not end")
            findings = await at.examine()
    slowest = max((one for some in times.values() for one in some), default=0.0)
    return Verdict(
        done=f"{losses.count(Loss.KILLED)} kill -9, {losses.count(Loss.CUT)} x log cut by its last second, "
        f"{losses.count(Loss.EMPTIED)} x FLUSHALL",
        outcome=f"{counted(findings)}, resumed in {slowest:.1f} s at most",
        findings=lines + told(findings),
        figures={"chunks": chunks, "seconds_to_resume": times},
    )


async def _lose(at: Scene, loss: Loss) -> float | None:
    """Do it; seconds from Redis being back until more is stored."""
    match loss:
        case Loss.KILLED:
            await asyncio.to_thread(at.redis.restart)
        case Loss.CUT:
            await _cut(at)
        case Loss.EMPTIED:
            with at.redis.client() as client:
                client.flushall()
    return await at.resumed(await at.stored(), within_seconds=RESUME_SECONDS)


async def _cut(at: Scene) -> None:
    """kill -9 alone loses nothing that was written: the operating system has it. A power cut would."""
    log = _append_only_file(at.redis.folder)
    kept = log.stat().st_size
    await asyncio.sleep(_CUT_SECONDS)
    await asyncio.to_thread(at.redis.kill)
    with log.open("ab") as file:
        file.truncate(kept)
    await asyncio.to_thread(at.redis.start)


def _append_only_file(folder: Path) -> Path:
    """Redis 7 keeps several, of which one grows."""
    return next(iter([*folder.rglob("*.incr.aof"), *folder.rglob("*.aof")]))
