"""Rules are asked again for documents that are there: first what would move, then the move."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedfleet.administration.operator_administration import OperatorAdministration
from embedfleet.administration.tenant_administration import TenantAdministration
from embedfleet.bootstrap import open_guest
from embedfleet.clock import SystemClock
from embedfleet.errors import InvalidRequest, NotReady
from embedfleet.inference.catalogue import Catalogue
from embedfleet.model_switching import orders
from embedfleet.searching.search import SearchRequest
from embedfleet.settings import RoutingRule, Settings
from embedfleet.sql.database import Database
from support.command import Command
from support.databases import on_both_databases
from support.hangs import HANG_SECONDS
from support.system import TENANT, Configure, Running, running

CODE = RoutingRule(model="static", content_types=("code",))
PRICES = {"currency": "EUR", "per_million_tokens": {"static": 1_000_000.0}}


@pytest.fixture
def settings(configure: Configure) -> Settings:
    return configure(models={"default": "stub"}, prices=PRICES)


def of_tenant(database: Database, settings: Settings) -> TenantAdministration:
    return OperatorAdministration(database, SystemClock(), settings, actor="local").of(TENANT)


async def fill(fleet: Running) -> None:
    await fleet.ingest("code", "def add(a, b): return a + b", content_type="code", title="sums")
    await fleet.ingest("prose", "The bridge is built.", metadata={"team": "works"})


@on_both_databases
async def test_a_plan_changes_nothing_and_a_move_embeds_from_the_stored_text(settings: Settings) -> None:
    async with running(settings) as fleet:
        door = of_tenant(fleet.system.database, settings)
        await fill(fleet)
        before = [one async for one in fleet.jobs.of(TENANT).all_documents()]
        assert (await door.plan_routing()).documents == 0
        proposed = await door.plan_routing([CODE])
        (line,) = proposed.lines
        assert (line.from_model, line.to_model, line.by) == ("stub", "static", "rule 1 of the tenant")
        assert (line.documents, proposed.staying, proposed.currency) == (1, 1, "EUR")
        assert line.tokens > 5
        assert proposed.cost == line.cost == line.tokens
        assert (await door.routing()).rules == ()
        assert [one async for one in fleet.jobs.of(TENANT).all_documents()] == before
        with pytest.raises(InvalidRequest, match="no model `gone`"):
            await door.plan_routing([RoutingRule(model="gone")])

        await door.set_rules([CODE])
        step = await door.move_routed()
        assert (step.looked_at, len(step.begun), step.left_out, step.next_cursor) == (2, 1, 0, None)
        job = await fleet.jobs.wait(step.begun[0], timeout_seconds=HANG_SECONDS)
        assert (job.media_id, job.model, job.generation) == ("code", "static", 2)
        assert job.route == "rule 1 of the tenant: content type is code"
        await fleet.settled()
        document = await fleet.jobs.of(TENANT).get_document(media_id="code")
        assert document.model == "static"
        hits = await fleet.system.search.search(TENANT, SearchRequest(query="add", model="static"))
        assert [(hit.media_id, hit.text, hit.context) for hit in hits] == [
            ("code", "def add(a, b): return a + b", "sums\n\n")
        ]
        again = await door.move_routed()
        assert (again.looked_at, again.begun) == (2, ())
        assert [one.action for one in await door.audit_log()] == [
            "routing.move",
            "routing.move",
            "routing.set",
        ]


async def test_a_document_with_an_unfinished_job_is_left_out(settings: Settings) -> None:
    async with running(settings) as fleet:
        await fill(fleet)
    async with open_guest(settings) as guest:
        door = of_tenant(guest.database, settings)
        newer = await guest.jobs.create_job(
            media_id="code", user_id=TENANT, content="newer = 1", content_type="code"
        )
        await door.set_rules([CODE])
        step = await door.move_routed()
        assert (step.looked_at, step.begun, step.left_out) == (2, (), 1)
        assert (await guest.jobs.get_job_status(newer)).model == "stub"


async def test_while_a_tenant_is_switched_nothing_is_routed_again(settings: Settings) -> None:
    async with running(settings) as fleet:
        await fill(fleet)
    async with open_guest(settings) as guest:
        door = of_tenant(guest.database, settings)
        await door.set_rules([CODE])
        wanted = orders.Wanted(Catalogue(settings.models).info("static"))
        await guest.database.write(lambda conn: orders.begin(conn, [TENANT], wanted, 1.0))
        with pytest.raises(NotReady, match="is being switched to another model"):
            await door.move_routed()


def test_an_operator_types_rules_looks_at_the_plan_and_moves(tmp_path: Path) -> None:
    command = Command(tmp_path, model="stub")
    (tmp_path / "add.py").write_text("def add(a, b):\n    return a + b\n")
    assert command.typed("ingest", tmp_path / "add.py").code == 0
    file = tmp_path / "rules.yaml"
    file.write_text("- {model: static, content_types: [code]}\n- {model: minilm, languages: [de, nl]}\n")
    shown = command.typed("models", "route", "set", f"@{file}")
    assert (shown.code, shown.stderr) == (0, "")
    assert "1 of the tenant  static  content_types: code" in shown.stdout
    assert "languages: de, nl" in command.typed("models", "route", "show").stdout
    wrong = command.typed("models", "route", "set", "[{model: statik}]")
    assert (wrong.code, "did you mean `static`" in wrong.stderr) == (1, True)
    assert command.typed("models", "route", "set", "{model: static}").code == 2
    plan = command.typed("models", "route", "plan").stdout
    assert "1 document would move" in plan
    assert "no price" in plan
    moved = command.typed("models", "route", "apply", "--yes", "--json").document
    assert (moved["looked_at"], moved["begun"], moved["left_out"]) == (1, 1, 0)
    assert command.typed("models", "route", "clear", "--json").document["routing"]["rules"] == []
