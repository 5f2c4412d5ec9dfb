"""R1: kill -9 of a random worker process, every two seconds, under load.

With the attempts that everybody has: a task that happens to be in the hands of several victims must not be
taken for the cause of their deaths.
"""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from time import monotonic

from chaos.oracle import told
from chaos.scene import Plan, Scene, counted, kill, scene
from chaos.verdict import Context, Verdict
from support.fleet import Orchestrator

_PAUSE_SECONDS = 2.0
_CHUNKS_OF_DOCUMENT = 50
_BATCH_CHUNKS = 8
_BATCH_TASKS = 4
_CONCURRENCY = 2
IN_FLIGHT = _BATCH_CHUNKS * _BATCH_TASKS * _CONCURRENCY
"""Chunks that one embedding worker can have in hand."""


async def run(context: Context) -> Verdict:
    seconds = context.sized(full=300, short=4)
    chunks = context.sized(full=50_000, short=200)
    workers = context.sized(full=2, short=1)
    plan = Plan(
        # They are dead a good part of the time: so the work lasts as long as the killing, and longer.
        seconds_a_chunk=0.85 * workers * seconds / chunks,
        batch_chunks=_BATCH_CHUNKS,
        pools={"batch_tasks": _BATCH_TASKS, "concurrency": _CONCURRENCY},
    )
    async with scene(context, plan) as at:
        await at.inputs.submit_documents(
            at.guest.jobs, "doc", chunks // _CHUNKS_OF_DOCUMENT, chunks=_CHUNKS_OF_DOCUMENT
        )
        with at.fleet.orchestrator("--workers", str(workers)) as one:
            killed = await _kill_for(seconds, at, one, context)
            ended = await at.until_ended()
            findings = await at.examine()
        again = at.embedded() - chunks
    lines = told(findings)
    if again > sum(killed.values()) * IN_FLIGHT:
        lines.append(f"{again} chunks embedded again, more than {IN_FLIGHT} a kill")
    if not ended:
        lines.append("the work came to a stop: no progress for 60 s")
    kills = sum(killed.values())
    return Verdict(
        done=f"{kills} kill -9 of random workers in {seconds} s, {chunks} chunks",
        outcome=f"{counted(findings)}, {again} chunks embedded again (allowed {kills * IN_FLIGHT})",
        findings=lines,
        figures={
            "chunks": chunks,
            "kills": dict(killed),
            "chunks_embedded_again": again,
            "chunks_in_flight_of_a_worker": IN_FLIGHT,
        },
    )


async def _kill_for(seconds: float, at: Scene, one: Orchestrator, context: Context) -> Counter[str]:
    killed: Counter[str] = Counter()
    started = monotonic()
    while monotonic() - started < seconds and await at.unfinished():
        workers = one.workers()
        if workers:
            victim = context.rng.choice(sorted(workers, key=lambda worker: worker.pid))
            kill(victim.pid, signal.SIGKILL)
            killed["kills"] += 1
        await asyncio.sleep(_PAUSE_SECONDS)
    return killed
