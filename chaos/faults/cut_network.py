"""R10: the network between the fleet and one service is gone: silently (`blackhole`) or with a word (`cut`).

The orchestrator and its workers must live on and work again by themselves soon after the network does.
"""

from __future__ import annotations

import asyncio
from typing import Any

from chaos.oracle import told
from chaos.proxy import TcpProxy
from chaos.scene import Plan, Scene, counted, pids, scene
from chaos.verdict import Context, Verdict
from support.fleet import Orchestrator
from support.hangs import HANG_SECONDS

_RESUME_SECONDS = 10.0
_CHUNKS_OF_DOCUMENT = 50


async def run(context: Context) -> Verdict:
    seconds = context.sized(full=30, short=1)
    allowed = context.allowed_seconds(_RESUME_SECONDS)
    trials = [(service, how) for service in ("redis", "postgresql", "chroma") for how in ("blackhole", "cut")]
    context.rng.shuffle(trials)
    lines: list[str] = []
    resumed: dict[str, float | None] = {}
    plan = Plan(
        proxied=True,
        seconds_a_chunk=context.sized(full=20, short=10) / 1000,
        pools={"max_attempts": 1000, "lease_seconds": 5},
    )
    async with scene(context, plan) as at:
        with at.fleet.orchestrator("--workers", "1") as one:
            before = pids(one.workers())
            for number, (service, how) in enumerate(trials):
                name = f"{service} {how}"
                await _enough_work(at, f"{number}", context.sized(full=12, short=4))
                resumed[name] = await _cut_off(at, name, getattr(at.network, service), how, seconds)
                lines += _judged(name, resumed[name], allowed)
            if not await at.until_ended():
                lines.append("the work came to a stop")
            lines += _lived_on(one, before)
            findings = await at.examine()
    slowest = max((value for value in resumed.values() if value is not None), default=0.0)
    figures: dict[str, Any] = {"seconds_away": seconds, "seconds_to_resume": resumed}
    return Verdict(
        done=f"{seconds} s without Redis, PostgreSQL, Chroma, each silent and reset",
        outcome=f"{counted(findings)}, resumed in {slowest:.1f} s at most (allowed {allowed:.0f} s)",
        findings=lines + told(findings),
        figures=figures,
    )


async def _enough_work(at: Scene, name: str, documents: int) -> None:
    """So that work is under way when the network goes, and some is left when it comes back."""
    before = await at.stored()
    await at.inputs.submit_documents(at.guest.jobs, f"doc{name}", documents, chunks=_CHUNKS_OF_DOCUMENT)
    await at.until_stored(before + 1)


async def _cut_off(at: Scene, name: str, proxy: TcpProxy, how: str, seconds: int) -> float | None:
    """Seconds from healing until a new document has gone all the way."""
    proxy.cut() if how == "cut" else proxy.blackhole()
    await asyncio.sleep(seconds)
    proxy.heal()
    took = await at.resumed(name, within_seconds=HANG_SECONDS)
    return None if took is None else round(took, 2)


def _judged(name: str, took: float | None, allowed: float) -> list[str]:
    if took is None:
        return [f"{name}: no new document went through within {HANG_SECONDS} s of healing"]
    if took > allowed:
        return [f"{name}: work resumed {took:.1f} s after healing"]
    return []


def _lived_on(one: Orchestrator, before: set[int]) -> list[str]:
    if one.process.poll() is not None:
        return [f"the orchestrator ended with code {one.process.returncode}"]
    gone = before - pids(one.workers())
    return [f"{len(gone)} worker processes had to be started again"] if gone else []
