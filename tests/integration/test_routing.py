"""Documents get their models by rules: of the settings and of their tenant, as of their admission."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from embedfleet.administration.operator_administration import OperatorAdministration
from embedfleet.clock import SystemClock
from embedfleet.errors import InvalidRequest, UnknownModel
from embedfleet.ingest import Ingest, LocalIntake
from embedfleet.ingest.intake import IngestOptions
from embedfleet.ingest.outcomes import FileState
from embedfleet.job_manager import EmbeddingJobManager, JobManagerConfig
from embedfleet.lifecycle import model_choice
from embedfleet.parsing.sandbox import ParserSandbox
from embedfleet.queue_schemas import JobRequest
from embedfleet.records import tenants
from embedfleet.routing.choice import Route, choose
from embedfleet.settings import RoutingRule, Settings
from embedfleet.sql.database import Database
from support.databases import on_both_databases
from support.hangs import HANG_SECONDS
from support.statements import statements
from support.system import Configure, running

CODE = RoutingRule(model="static", content_types=("code",))
LEGAL = RoutingRule(model="static", where={"team": "legal"})
GERMAN = "Der Rat hat am Dienstag beschlossen, dass die neue Brücke im nächsten Jahr gebaut wird. "


@pytest.fixture
def settings(configure: Configure) -> Settings:
    return configure(
        models={"default": "stub", "routing": {"rules": [{"model": "minilm", "languages": ["de"]}]}}
    )


@pytest.fixture
async def database(settings: Settings) -> AsyncIterator[Database]:
    settings.data_dir.mkdir(exist_ok=True)
    database = Database(settings.database_url, synchronous="normal")
    await database.open()
    yield database
    await database.close()


@pytest.fixture
def operator(settings: Settings, database: Database) -> OperatorAdministration:
    return OperatorAdministration(database, SystemClock(), settings, actor="local")


@pytest.fixture
def jobs(settings: Settings, database: Database) -> EmbeddingJobManager:
    return EmbeddingJobManager(JobManagerConfig(settings=settings), database=database)


async def submitted(jobs: EmbeddingJobManager, **more: object) -> tuple[str, str | None]:
    """The model and the route of the job of a new version."""
    request = {"media_id": "a", "user_id": "alice", "content": "x = 1", **more}
    info = await jobs.get_job_status((await jobs.create_jobs([JobRequest.model_validate(request)]))[0])
    return info.model, info.route


@on_both_databases
async def test_rules_choose_the_model_of_a_job_which_says_why(
    jobs: EmbeddingJobManager, operator: OperatorAdministration
) -> None:
    assert await submitted(jobs, media_id="b", model="stub") == ("stub", None)
    assert await submitted(jobs) == ("stub", "no rule matched: default model")
    assert await submitted(jobs, content=GERMAN) == ("minilm", "rule 1: language is de (1.00)")
    alice = operator.of("alice")
    shown = await alice.set_rules([CODE])
    assert (shown.rules, shown.model, shown.default_model) == ((CODE,), None, "stub")
    assert [one.model for one in shown.rules_of_settings] == ["minilm"]
    assert await alice.routing() == shown
    code = ("static", "rule 1 of the tenant: content type is code")
    assert await submitted(jobs, content_type="code") == code
    assert await submitted(jobs, content=GERMAN) == ("minilm", "rule 1: language is de (1.00)")
    assert (await submitted(jobs, user_id="bob", content_type="code"))[0] == "stub"
    await alice.set_rules([])
    assert (await submitted(jobs, content_type="code"))[0] == "stub"
    entries = await operator.audit_log()
    assert [(one.action, one.details) for one in entries] == [
        ("routing.set", {"rules": []}),
        ("routing.set", {"rules": [{"model": "static", "content_types": ["code"]}]}),
    ]


@on_both_databases
async def test_a_tenant_without_rules_costs_no_statement_more(
    jobs: EmbeddingJobManager, operator: OperatorAdministration
) -> None:
    async def statements_of(name: str, model: str | None) -> int:
        with statements() as executed:
            await submitted(jobs, media_id=name, model=model)
        return len(executed)

    await submitted(jobs)
    assert await statements_of("b", None) == await statements_of("c", "stub")
    await operator.of("alice").set_rules([CODE])  # as another process does
    assert await submitted(jobs, media_id="d", content_type="code") == (
        "static",
        "rule 1 of the tenant: content type is code",
    )


async def test_rules_that_cannot_work_are_refused(
    operator: OperatorAdministration,
) -> None:
    alice = operator.of("alice")
    await alice.set_rules([CODE])
    with pytest.raises(InvalidRequest, match=r"rule 2: no model `statik` .*did you mean `static`"):
        await alice.set_rules([CODE, RoutingRule(model="statik")])
    with pytest.raises(InvalidRequest, match="rule 1 matches every document"):
        await alice.set_rules([RoutingRule(model="static"), CODE])
    assert (await alice.routing()).rules == (CODE,)


async def test_a_rule_whose_model_is_gone_from_the_settings_is_named_in_the_error(
    jobs: EmbeddingJobManager, database: Database
) -> None:
    def plant(conn: Connection) -> None:
        tenants.lock(conn, ["alice"])
        tenants.set_rules(conn, "alice", [RoutingRule(model="gone", content_types=("code",))])

    await database.write(plant)
    with pytest.raises(UnknownModel, match="rule 1 of the tenant: content type is code: no model `gone`"):
        await submitted(jobs, content_type="code")
    assert (await submitted(jobs))[0] == "stub"


async def test_without_metadata_in_the_request_that_of_the_document_counts(
    jobs: EmbeddingJobManager, operator: OperatorAdministration
) -> None:
    await operator.of("alice").set_rules([LEGAL])
    legal = ("static", "rule 1 of the tenant: metadata is as asked")
    assert await submitted(jobs, metadata={"team": "legal"}) == legal
    assert await submitted(jobs, content="y = 2") == legal
    assert (await submitted(jobs, content="y = 3", metadata={}))[0] == "stub"
    assert (await submitted(jobs, content="y = 4"))[0] == "stub"


@on_both_databases
@pytest.mark.parametrize("many", [False, True])
async def test_rules_that_change_between_the_choice_and_the_admission_count(
    jobs: EmbeddingJobManager, operator: OperatorAdministration, monkeypatch: pytest.MonkeyPatch, many: bool
) -> None:
    """The choice is made before the transaction. Without the check in it, the old rules would win."""
    alice, loop = operator.of("alice"), asyncio.get_running_loop()
    changes = [[LEGAL], [CODE]]

    def choose_and_then_change_the_rules(*arguments: Any) -> Route:
        route = choose(*arguments)
        if changes:
            asyncio.run_coroutine_threadsafe(alice.set_rules(changes.pop()), loop).result(HANG_SECONDS)
        return route

    monkeypatch.setattr(model_choice, "choose", choose_and_then_change_the_rules)
    request = JobRequest(media_id="a", user_id="alice", content="x", content_type="code")
    (made,) = await (jobs.create_each([request]) if many else jobs.create_jobs([request]))
    info = await jobs.get_job_status(str(made))
    assert not changes
    assert (info.model, info.route) == ("stub", "no rule matched: default model")
    changes.append([CODE])
    (made,) = await (jobs.create_each([request]) if many else jobs.create_jobs([request]))
    info = await jobs.get_job_status(str(made))
    assert (info.model, info.route) == ("static", "rule 1 of the tenant: content type is code")


async def test_an_ingest_routes_new_files_and_leaves_those_that_are_there_where_they_are(
    settings: Settings, tmp_path: Path
) -> None:
    files = [tmp_path / "a.py", tmp_path / "b.txt"]
    files[0].write_text("def add(a, b):\n    return a + b\n")
    files[1].write_text(GERMAN)
    async with running(settings) as run:
        alice = OperatorAdministration(run.system.database, SystemClock(), settings, actor="local").of(
            "alice"
        )
        await alice.set_rules([CODE])

        async def ingested() -> list[tuple[FileState, str]]:
            parser = ParserSandbox(settings.parsing)
            async with parser:
                intake = LocalIntake(run.jobs, parser, "alice")
                ingest = Ingest(intake, IngestOptions("alice"))
                found = [one async for one in ingest.submit(files)]
            infos = await run.jobs.wait_many(
                [one.job_id or "" for one in found], timeout_seconds=HANG_SECONDS
            )
            return [(one.state, infos[one.job_id or ""].model) for one in found]

        new = [(FileState.SUBMITTED, "static"), (FileState.SUBMITTED, "minilm")]
        assert await ingested() == new
        await alice.set_rules([])
        unchanged = [(FileState.UNCHANGED, "static"), (FileState.UNCHANGED, "minilm")]
        assert await ingested() == unchanged
        files[0].write_text("def sub(a, b):\n    return a - b\n")
        assert await ingested() == [new[0], unchanged[1]]
