"""R6: kill -9 of the Chroma server, again and again in the middle of upserts.

Chroma may come back damaged, or not be able to read its collection at all. That is allowed if `verify` names
the damage and `rebuild` mends it; it is told here either way.
"""

from __future__ import annotations

import asyncio

from chaos.oracle import Finding, Kind, told
from chaos.scene import Plan, Scene, counted, scene
from chaos.verdict import Context, Verdict
from embedfleet.errors import VectorStoreUnavailable

_CHUNKS_OF_DOCUMENT = 200
_DIFFERENCES = 3
"""Exit code of `verify` when it has found some."""


async def run(context: Context) -> Verdict:
    chunks = context.sized(full=100_000, short=1_000)
    kills = context.sized(full=20, short=1)
    at_counts = sorted(context.rng.sample(range(chunks // 20, chunks - chunks // 10), kills))
    lines: list[str] = []
    killed = 0
    # Small claims, so that there is a middle to kill in: with the default one upsert takes a thousand rows.
    plan = Plan(batch_chunks=50, pools={"max_attempts": 1000, "lease_seconds": 5, "batch_tasks": 4})
    async with scene(context, plan) as at:
        with at.fleet.orchestrator("--pool", f"storage={context.sized(full=2, short=1)}"):
            await at.inputs.submit_documents(
                at.guest.jobs, "doc", chunks // _CHUNKS_OF_DOCUMENT, chunks=_CHUNKS_OF_DOCUMENT
            )
            for count in at_counts:
                if not await at.until_stored(count) or not await at.unfinished():
                    break
                await asyncio.to_thread(at.chroma.kill)
                await asyncio.to_thread(at.chroma.start)
                killed += 1
            if killed < kills:
                lines.append(f"only {killed} kills: the work stood still, or was done before")
            if not await at.until_ended():
                lines.append("the work came to a stop")
            damage = await _damage(at)
            findings = await _mended(at, lines) if damage else []
    how = f", {len(damage)} rows or records damaged before `rebuild`" if damage else ""
    return Verdict(
        done=f"{killed} kill -9 of Chroma during {chunks} upserts",
        outcome=counted(findings) + how,
        findings=lines + told(findings),
        figures={"chunks": chunks, "kills": killed, "damage": told(damage)},
    )


async def _damage(at: Scene) -> list[Finding]:
    try:
        return await at.examine()
    except VectorStoreUnavailable as exc:
        return [Finding(Kind.LOST, f"Chroma cannot read its collection: {exc}")]


async def _mended(at: Scene, lines: list[str]) -> list[Finding]:
    """What is wrong after `verify` has named the damage, or said that only `rebuild` helps, and `rebuild` has
    mended it. `lines` gets what they did not do."""
    seen = await asyncio.to_thread(at.direct.command, "verify", "--json")
    if seen.returncode != _DIFFERENCES and "`embedfleet rebuild`" not in seen.stderr:
        lines.append(f"`verify` does not name the damage (exit code {seen.returncode}): {seen.stderr}")
    rebuilt = await asyncio.to_thread(at.direct.command, "rebuild", "--yes", "--json")
    if rebuilt.returncode != 0:
        lines.append(f"`rebuild` ended with code {rebuilt.returncode}: {rebuilt.stderr}")
    await at.until_ended()
    return await at.examine()
