"""An estimate is what an ingest then does: tokens by the ledger, chunks by the job, the model's work."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, func, select

from embedfleet.errors import InvalidRequest, OverBudget
from embedfleet.ingest import FileOutcome, FileState, Ingest, IngestOptions, LocalIntake
from embedfleet.job_manager import EmbeddingJobManager, JobManagerConfig
from embedfleet.lifecycle.estimates import Budget
from embedfleet.parsing.sandbox import ParserSandbox
from embedfleet.queue_schemas import DocumentEstimate, EstimateState, JobRequest
from embedfleet.settings import Settings
from embedfleet.sql import tables
from embedfleet.sql.database import Database
from embedfleet.sql.schema import SCHEMA
from support.system import ONE_EACH, TENANT, Running, make_settings, paragraphs, running

PRICES = {"currency": "EUR", "per_million_tokens": {"stub": 1_000_000.0}}
"""A token costs 1."""


async def estimated(fleet: Running, media_id: str, content: str) -> DocumentEstimate:
    before = await rows(fleet.system.database)
    (found,) = await fleet.jobs.of(TENANT).estimate_documents(
        [JobRequest(media_id=media_id, user_id=TENANT, content=content, chunking_config=ONE_EACH)]
    )
    assert await rows(fleet.system.database) == before, "an estimate writes nothing"
    return found


async def rows(database: Database) -> dict[str, int]:
    def count(conn: Connection) -> dict[str, int]:
        return {
            table.name: conn.execute(select(func.count()).select_from(table)).scalar_one()
            for table in SCHEMA.sorted_tables
            if table.name not in ("facts", "orchestrators", "leadership")
        }

    return await database.read(count)


async def charged(fleet: Running) -> int:
    tokens = select(func.sum(tables.usage.c.tokens))
    return int(await fleet.system.database.read(lambda conn: conn.execute(tokens).scalar()) or 0)


async def check(fleet: Running, media_id: str, content: str) -> DocumentEstimate:
    """Estimate, then submit, and compare. Return the estimate."""
    estimate = await estimated(fleet, media_id, content)
    tokens, embedded = await charged(fleet), fleet.embedded()
    info = await fleet.ingest(media_id, content, chunking_config=ONE_EACH)
    assert estimate.tokens == await charged(fleet) - tokens
    assert (estimate.chunks_to_embed or 0) == fleet.embedded() - embedded
    assert estimate.chunks in (None, info.progress.chunks_total)
    assert estimate.cost == pytest.approx(estimate.tokens)
    return estimate


async def test_an_estimate_is_what_an_ingest_then_does(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, prices=PRICES)
    text = paragraphs("first", 30)
    async with running(settings) as fleet:
        new = await check(fleet, "1", text)
        unchanged = await check(fleet, "1", text)
        changed = await check(fleet, "1", text + "\n\n" + paragraphs("more", 2))
        moved = await check(fleet, "2", text)
        total = await fleet.jobs.of(TENANT).sum_of_estimates([new, unchanged, changed, moved])
        request = JobRequest(media_id="1", user_id=TENANT, content=text)
        with pytest.raises(InvalidRequest, match="only documents of `bob`"):
            await fleet.jobs.of("bob").estimate_documents([request])
    assert (new.state, new.chunks, new.chunks_to_embed) == (EstimateState.EMBEDS, 30, 30)
    assert (unchanged.state, unchanged.tokens, unchanged.chunks) == (EstimateState.UNCHANGED, 0, None)
    assert (changed.chunks, changed.chunks_stored, changed.chunks_to_embed) == (32, 30, 2)
    assert (moved.chunks, moved.chunks_cached, moved.chunks_to_embed) == (30, 30, 0)
    assert (total.documents, total.embeds, total.chunks_to_embed) == (4, 3, 32)
    assert total.seconds is not None
    assert total.cost == total.tokens


async def test_what_is_under_way_costs_nothing_more(tmp_path: Path) -> None:
    async with EmbeddingJobManager(
        JobManagerConfig(settings=make_settings(tmp_path))
    ) as jobs:  # no worker is at work
        await jobs.create_job(media_id="1", user_id=TENANT, content="Text.")
        request = JobRequest(media_id="1", user_id=TENANT, content="Text.")
        (found,) = await jobs.of(TENANT).estimate_documents([request])
        total = await jobs.of(TENANT).sum_of_estimates([found])
    assert (found.state, found.tokens) == (EstimateState.UNDER_WAY, 0)
    assert (total.seconds, total.rate_source) == (None, None)


@asynccontextmanager
async def ingesting(
    settings: Settings, budget: Budget | None = None
) -> AsyncIterator[tuple[Ingest, LocalIntake]]:
    async with (
        EmbeddingJobManager(JobManagerConfig(settings=settings)) as jobs,
        ParserSandbox(settings.parsing) as parser,
    ):
        intake = LocalIntake(jobs, parser, TENANT, budget=budget)
        yield Ingest(intake, IngestOptions(tenant=TENANT)), intake


def files(folder: Path) -> list[Path]:
    """Three files of 4 tokens each, as the stub's tokeniser counts them; the second is empty of text."""
    names = ("1.txt", "2.txt", "3.txt", "4.txt")
    for name in names:
        (folder / name).write_text("" if name == "2.txt" else f"word word word {name[0]}")
    return [folder / name for name in names]


async def outcomes(ingest: Ingest, paths: list[Path]) -> tuple[list[FileOutcome], OverBudget | None]:
    done: list[FileOutcome] = []
    try:
        async for outcome in ingest.submit(paths):
            done.append(outcome)
    except OverBudget as exc:
        return done, exc
    return done, None


async def test_files_are_estimated_without_a_trace(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, prices=PRICES)
    paths = files(tmp_path)
    async with ingesting(settings) as (ingest, intake):
        await outcomes(ingest, paths[:1])
        paths[2].write_bytes(b"\xff\xfe\x00\xd8 broken \x00")
        found = [one async for one in ingest.estimate([*paths, tmp_path / "gone.txt"], intake)]
        listed = await intake.jobs.list_jobs()
    assert [one.state for one in found][:2] == [EstimateState.UNDER_WAY, EstimateState.UNREADABLE]
    assert found[3].state is EstimateState.EMBEDS
    assert found[4].state is EstimateState.UNREADABLE
    assert len(listed) == 1, "no job records what could not be read"


async def test_an_ingest_stops_before_the_file_that_costs_too_much(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, prices=PRICES)
    paths = files(tmp_path)
    async with ingesting(settings) as (ingest, intake):
        (first, *_) = [one async for one in ingest.estimate(paths, intake)]
    assert first.cost is not None
    budget = Budget(2 * first.cost + 0.5)
    async with ingesting(settings, budget) as (ingest, intake):
        done, over = await outcomes(ingest, paths)
        assert [one.state for one in done] == [FileState.SUBMITTED, FileState.EMPTY, FileState.SUBMITTED]
        assert str(paths[3]) in str(over)
        assert (budget.stopped_at, budget.next_cost) == (str(paths[3]), first.cost)
        assert budget.spent == 2 * first.cost
        assert len(await intake.jobs.list_jobs()) == 2
    async with ingesting(settings, Budget(first.cost)) as (ingest, _):
        done, over = await outcomes(ingest, paths)
    assert over is None, "what was submitted before costs nothing again"
    assert done[-1].state is FileState.SUBMITTED


async def test_a_budget_needs_a_price(tmp_path: Path) -> None:
    async with ingesting(make_settings(tmp_path), Budget(1.0)) as (ingest, intake):
        done, over = await outcomes(ingest, files(tmp_path))
        assert await intake.jobs.list_jobs() == []
    assert done == []
    assert "prices.per_million_tokens.stub" in str(over)


def test_the_report_says_where_it_stopped() -> None:
    from embedfleet.cli.ingest_report import IngestReport

    budget = Budget(3.0)
    assert [budget.take("/0", 2.0), budget.take("/a", 1.5)] == [True, False]
    report = IngestReport(tenant=TENANT, budget=budget, not_reached=5)
    document: dict[str, Any] = report.document()
    assert document["budget"] == {
        "cap": 3.0, "spent": 2.0, "stopped_at": "/a", "next_cost": 1.5, "not_reached": 5,
    }  # fmt: skip
    assert "spent: 2.0000 of 3" in list(report.lines())
