"""R2: at every boundary between the steps of a task, its worker is killed, fails, or has it taken away.

`twice`: the worker stands still until its lease has run out and another has the task, then goes on.
"""

from __future__ import annotations

import asyncio
from time import monotonic

from chaos.boundaries import BOUNDARIES, What, arm
from chaos.oracle import told
from chaos.scene import LOOK_AGAIN_SECONDS, Plan, Scene, counted, scene
from chaos.verdict import Context, Verdict
from support.system import paragraphs

_CHUNKS = 12
_PATIENCE_SECONDS = 30.0


async def run(context: Context) -> Verdict:
    trials = [(boundary, what) for boundary in BOUNDARIES for what in What]
    context.rng.shuffle(trials)
    trials = trials[: context.sized(full=len(trials), short=3)]
    lines: list[str] = []
    patience = context.allowed_seconds(_PATIENCE_SECONDS)
    plan = Plan(traps=True, batch_chunks=4, pools={"max_attempts": 10})
    async with scene(context, plan) as at:
        with at.fleet.orchestrator("--workers", str(context.sized(full=2, short=1))):
            for boundary, what in trials:
                if not await _trial(at, boundary, what, patience):
                    lines.append(f"{what.value} at `{boundary}`: the work came to a stop")
                    at.trap.unlink(missing_ok=True)
            findings = await at.examine()
    return Verdict(
        done=f"{len(trials)} stops at {len({boundary for boundary, _ in trials})} boundaries",
        outcome=counted(findings),
        findings=lines + told(findings),
        figures={"trials": [f"{what.value} at {boundary}" for boundary, what in trials]},
    )


async def _trial(at: Scene, boundary: str, what: What, patience: float) -> bool:
    """A new document and a new version of one, so that there is something to delete. Whether the trap was
    taken and all ended."""
    name = f"{boundary} {what.value}"
    await at.inputs.submit(at.guest.jobs, [("alice", name, paragraphs(f"{name} old", _CHUNKS))])
    if not await at.until_ended(patience_seconds=patience):
        return False
    arm(at.trap, boundary, what)
    await at.inputs.submit(at.guest.jobs, [("alice", name, paragraphs(f"{name} new", _CHUNKS))])
    ended = await at.until_ended(patience_seconds=patience)
    give_up_at = monotonic() + patience
    while at.trap.exists() or await at.guest.jobs.of_all_tenants().cleanups_left():
        if monotonic() > give_up_at:
            return False
        await asyncio.sleep(LOOK_AGAIN_SECONDS)
    return ended
