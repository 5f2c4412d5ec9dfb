"""R5: the ends of batches in any order, one in five reported twice, over sixteen connections at once."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Any

from chaos.verdict import Context, Verdict
from embedfleet.records import jobs
from support.databases import PostgresDatabases
from support.fan_in import Plan, assert_counters, carry_out, create, make_plans, opened
from support.postgres_server import PostgresServer


async def run(context: Context) -> Verdict:
    count = context.sized(full=10_000, short=60)
    plans = make_plans(count, context.rng)
    findings: list[str] = []
    figures: dict[str, Any] = {"jobs": count, "batches": sum(plan.batches for plan in plans)}
    completed = 0
    with PostgresServer() as server, PostgresDatabases(server).migrated() as postgresql_url:
        sqlite_url = f"sqlite:///{Path(context.folder, 'fan-in.db')}"
        for name, url in (("SQLite", sqlite_url), ("PostgreSQL", postgresql_url)):
            started = monotonic()
            completions, wrong = await _fan_in(url, plans, random.Random(context.rng.random()))
            completed += completions
            findings += [f"{name}: {line}" for line in wrong]
            figures[f"{name}_seconds"] = round(monotonic() - started, 1)
    return Verdict(
        done=f"{count} jobs of 0 to 50 batches, shuffled, one in five reported twice, "
        "on SQLite and on PostgreSQL",
        outcome=f"{completed} completions of {2 * count}, {len(findings)} wrong or early",
        findings=findings,
        figures=figures,
    )


async def _fan_in(url: str, plans: Sequence[Plan], rng: random.Random) -> tuple[int, list[str]]:
    """Completions, and what is wrong with them. A step that ends a job early raises."""
    async with opened(url) as database:
        await create(database, plans)
        completions, early = await _carried_out(url, plans, rng)
        if early:
            return 0, early
        found = await database.read(lambda conn: jobs.get_many(conn, [plan.job_id for plan in plans]))
    return completions.total(), _judged(plans, completions, found)


async def _carried_out(url: str, plans: Sequence[Plan], rng: random.Random) -> tuple[Counter[str], list[str]]:
    """Completions; and what was seen in the very transaction that finished a job too early."""
    try:
        return await carry_out(url, plans, rng), []
    except BaseExceptionGroup as group:
        early, other = group.split(AssertionError)
        if early is None or other is not None:
            raise
        return Counter(), [str(exc) for exc in early.exceptions]


def _judged(plans: Sequence[Plan], completions: Counter[str], found: dict[str, jobs.Job]) -> list[str]:
    lines = [
        f"job {plan.job_id} was completed {completions[plan.job_id]} times"
        for plan in plans
        if completions[plan.job_id] != 1
    ]
    for plan in plans:
        try:
            assert_counters(found[plan.job_id], plan)
        except AssertionError:
            lines.append(f"job {plan.job_id}: its counters are wrong: {found[plan.job_id]}")
    return lines
