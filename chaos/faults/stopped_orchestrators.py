"""R13: an orchestrator under load is told to stop, again and again (`benchmarks/shutdown.py`)."""

from __future__ import annotations

from typing import Any

from shutdown import CHUNKS_PER_JOB, rounds

from chaos.oracle import told
from chaos.scene import Plan, counted, scene
from chaos.verdict import Context, Verdict

_GRACE_SECONDS = 2.0
"""Beside one batch in hand."""


async def run(context: Context) -> Verdict:
    stops = context.sized(full=100, short=1)
    # The leases of the product: none may expire, so a short one would prove less.
    plan = Plan(batch_chunks=4, pools={"lease_seconds": 60})
    async with scene(context, plan) as at:

        async def submit(number: int) -> str:
            [job_id] = await at.inputs.submit_documents(
                at.guest.jobs, f"round{number}", 1, chunks=CHUNKS_PER_JOB
            )
            return job_id

        figures: dict[str, Any] = await rounds(at.fleet, at.guest, stops, submit)
        findings = await at.examine()
    allowed = figures["mean_claim_seconds_most"] + _GRACE_SECONDS
    lines = []
    if figures["exit_seconds_most"] > allowed:
        lines.append(f"an exit took {figures['exit_seconds_most']} s, more than {allowed:.2f} s")
    for name in ("exit_codes_not_0", "leases_left", "second_deliveries"):
        if figures[name]:
            lines.append(f"{name.replace('_', ' ')}: {figures[name]}")
    return Verdict(
        done=f"{stops} SIGTERM under load",
        outcome=f"{counted(findings)}, ended in {figures['exit_seconds_most']} s at most "
        f"(allowed {allowed:.2f} s), {figures['second_deliveries']} second deliveries",
        findings=lines + told(findings),
        figures=figures,
    )
