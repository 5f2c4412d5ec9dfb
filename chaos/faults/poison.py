"""R11: texts that the model does not survive, files that the parser does not survive.

A text makes its worker crash, hang or run out of memory; it alone may be given up. A file makes the parser
crash, hang or run out of memory; it is a failed job with a dead letter, and the files beside it are read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import psutil

from chaos.inputs import poisoned_document
from chaos.oracle import told
from chaos.scene import Plan, counted, scene
from chaos.verdict import Context, Verdict
from embedfleet.ingest import FileState, Ingest, IngestOptions, LocalIntake
from embedfleet.parsing.sandbox import ParserSandbox
from embedfleet.queue_schemas import JobStatus, Stage
from embedfleet.settings import ParsingSettings
from support.poisoned import FATES
from support.system import make_settings, paragraphs, running, take_ledger

_CHUNKS = 24
# The parser takes minutes: time goes with the square of the depth.
_SLOW_PAGE = b"<b>" * 300_000 + b"text"
_LARGE_PAGE = b"<p>x" * 4_000_000


async def run(context: Context) -> Verdict:
    poisoned = context.sized(full=4, short=1)
    neighbours = context.sized(full=40, short=3)
    fates = FATES if context.sized(full=1, short=0) else FATES[:1]
    lines: list[str] = []
    figures: dict[str, Any] = {"seconds_until_all_ended": {}, "attempts": []}
    for fate in fates:
        started = monotonic()
        lines += await _model(context, fate, poisoned, neighbours, figures)
        figures["seconds_until_all_ended"][fate] = round(monotonic() - started, 1)
    refused, of_files = await _parser(context)
    return Verdict(
        done=f"{poisoned} poisoned texts x {', '.join(fates)}; parser crashed, hung, exhausted",
        outcome=f"{figures.get('outcome', '0 lost, 0 doubled')}; {refused} files dead-lettered",
        findings=lines + of_files,
        figures=figures,
    )


async def _model(
    context: Context, fate: str, poisoned: int, neighbours: int, figures: dict[str, Any]
) -> list[str]:
    # A healthy call takes milliseconds, but in small it shares the machine with other tests.
    stuck_after = context.sized(full=1, short=3)
    plan = Plan(
        batch_chunks=8,
        environment={"POISON_DOES": fate},
        settings={"models": {"default": "stub", "stuck_after_seconds": stuck_after}},
    )
    async with scene(context, plan) as at:
        bad = [poisoned_document(context.rng, f"{fate}{n}", _CHUNKS) for n in range(poisoned)]
        with at.fleet.orchestrator():
            await at.inputs.submit_poisoned(at.guest.jobs, bad)
            await at.inputs.submit_documents(at.guest.jobs, "good", neighbours, chunks=_CHUNKS)
            ended = await at.until_ended(patience_seconds=context.allowed_seconds(120))
            findings = await at.examine()
        letters = await at.guest.jobs.of_all_tenants().list_dead_letters()
    figures["outcome"] = counted(findings)
    figures["attempts"] += sorted({letter.reason for letter in letters})
    lines = [] if ended else [f"{fate}: the work came to a stop"]
    return lines + [f"{fate}: {line}" for line in told(findings)]


async def _parser(context: Context) -> tuple[int, list[str]]:
    folder = context.folder / "files"
    folder.mkdir()
    bad = [folder / name for name in ("crashes.html", "hangs.html", "exhausts.html")]
    for path, content in zip(bad, (_SLOW_PAGE, _SLOW_PAGE, _LARGE_PAGE), strict=True):
        path.write_bytes(content)
    good = [folder / f"good{n}.txt" for n in range(3)]
    for path in good:
        path.write_text(paragraphs(path.stem, 5))
    settings = make_settings(context.folder, monitoring={"metrics_port": 0})
    options = IngestOptions(tenant="alice")
    # Time enough to be killed by us; not enough for the page.
    limits = ParsingSettings(memory_mb=400, timeout_seconds=3)
    async with running(settings) as fleet, ParserSandbox(limits, workers=1) as parser:
        ingest = Ingest(LocalIntake(fleet.jobs, parser, options.tenant), options)
        killer = asyncio.create_task(_kill_busy_parser())
        outcomes = [outcome async for outcome in ingest.submit([*bad, *good])]
        await killer
        jobs = {o.source: await fleet.jobs.wait(str(o.job_id), timeout_seconds=60) for o in outcomes}
        letters = {letter.source: letter for letter in await fleet.jobs.of_all_tenants().list_dead_letters()}
        await fleet.settled()
        ledger = await take_ledger(fleet.system)
    lines: list[str] = []
    for outcome in outcomes:
        name, job = Path(outcome.source), jobs[outcome.source]
        if name in bad:
            letter = letters.get(outcome.source)
            if outcome.state is not FileState.FAILED or job.status is not JobStatus.FAILED:
                lines.append(f"{name.name}: {outcome.state}, its job {job.status}")
            elif letter is None or letter.stage is not Stage.CHUNKING:
                lines.append(f"{name.name}: no dead letter")
        elif job.status is not JobStatus.COMPLETED:
            lines.append(f"{name.name}: beside a bad file it ended as {job.status}")
    if ledger.promised != ledger.held:
        lines.append("the vector store does not hold what the good files promised")
    return len(letters), lines


async def _kill_busy_parser() -> None:
    """The first that has used more CPU time than its start takes."""
    while True:
        for process in _parsers():
            if process.cpu_times().user > 0.5:
                process.kill()
                return
        await asyncio.sleep(0.02)


def _parsers() -> Iterator[psutil.Process]:
    for child in psutil.Process().children():
        try:
            if any("embedfleet.parsing" in argument for argument in child.cmdline()):
                yield child
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
