"""`TenantAccess`: to every method, rows of another tenant are as unknown as rows that never were."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Connection, select

from embedfleet import records
from embedfleet.account import NOTHING_SAID
from embedfleet.administration.operator_administration import OperatorAdministration
from embedfleet.administration.tenant_administration import TenantAdministration
from embedfleet.document_filter import EVERY_DOCUMENT, DocumentFilter
from embedfleet.errors import EmbedfleetError
from embedfleet.job_manager import EmbeddingJobManager, JobManagerConfig
from embedfleet.places import NOWHERE
from embedfleet.queue_schemas import JobRequest, JobStatus, SearchHits, Stage
from embedfleet.records import dead_letters, events, generations, job_completion, jobs, receipts
from embedfleet.records.dead_letters import DeadLetter
from embedfleet.records.receipts import Findings, Searched
from embedfleet.searching.search import SearchRequest
from embedfleet.sql import tables
from embedfleet.sql.database import Database
from embedfleet.sql.schema import SCHEMA
from embedfleet.tenant_access import TenantAccess
from embedfleet.tracking.operator_jobs import OperatorJobs
from embedfleet.tracking.scoped_jobs import ScopedJobs
from support.experiments import keep_answer
from support.system import Configure

OWNER, STRANGER = "alice", "bob"
NOW = 1_700_000_000.0
SOURCE_HASH = "5" * 64


@dataclass(frozen=True)
class Names:
    """What a caller may know of a document: every id that a method of TenantAccess takes."""

    job_id: str
    dead_letter_id: int
    media_id: str
    receipt_id: str
    impression_id: str = "imp_owner"


NEVER = Names("job_" + "0" * 32, 4711, "never", "rcp_" + "0" * 32, "imp_never")
Arguments = Callable[[Names], Mapping[str, Any]]


def own_request(media_id: str) -> JobRequest:
    return JobRequest(media_id=media_id, user_id=STRANGER, content="strange")


class SearchesOf:
    """A search whose answer names the tenant that it is asked for."""

    async def search(self, tenant: str, request: SearchRequest) -> SearchHits:
        return SearchHits([], models=[tenant])


# They make documents of the stranger's own, of any media id.
CREATING = (
    "record_unreadable",
    "create_job",
    "create_job_from_file",
    "create_jobs",
    "create_each",
)

ARGUMENTS: Mapping[str, Sequence[Arguments]] = {
    "status": [lambda of: {"job_id": of.job_id}],
    "find_job_id": [lambda of: {"start": of.job_id}],
    "statuses": [lambda of: {"job_ids": [of.job_id]}],
    "list_jobs": [
        lambda _: {},
        lambda of: {
            "status": JobStatus.FAILED,
            "media_id": of.media_id,
            "created_from": datetime.fromtimestamp(0, UTC),
            "created_before": datetime.now(UTC),
            "limit": 10,
            "after": None,
        },
    ],
    "list_collections": [lambda _: {}],
    "list_documents": [
        lambda _: {},
        lambda _: {"prefix": "/", "matching": EVERY_DOCUMENT, "limit": 10, "after": None},
    ],
    "wait": [lambda of: {"job_id": of.job_id, "timeout_seconds": 20}],
    "wait_many": [lambda of: {"job_ids": [of.job_id], "timeout_seconds": 20}],
    "as_completed": [lambda of: {"job_ids": [of.job_id]}],
    "totals": [lambda _: {"since": datetime.fromtimestamp(0, UTC)}],
    "events": [lambda _: {}, lambda _: {"after": 0, "limit": 10}],
    "follow_events": [lambda _: {"after": 0}],
    "cancel": [lambda of: {"job_id": of.job_id}],
    "retry": [lambda of: {"job_id": of.job_id}],
    "retry_many": [lambda of: {"job_ids": [of.job_id]}],
    "list_dead_letters": [
        lambda _: {},
        lambda of: {"job_id": of.job_id, "stage": Stage.EMBEDDING, "limit": 10, "ended": True, "after": None},
    ],
    "get_dead_letter": [lambda of: {"dead_letter_id": of.dead_letter_id}],
    "requeue_dead_letters": [lambda of: {"ids": [of.dead_letter_id]}, lambda of: {"job_id": of.job_id}],
    "purge_dead_letters": [
        lambda of: {"ids": [of.dead_letter_id]},
        lambda of: {"job_id": of.job_id},
        lambda _: {"before": datetime.now(UTC)},
    ],
    "find_job": [
        lambda of: {
            "media_id": of.media_id,
            "source_hash": SOURCE_HASH,
            "chunking_config": None,
            "model": "stub",
        }
    ],
    "find_jobs": [
        lambda of: {
            "sources": [(of.media_id, SOURCE_HASH)],
            "chunking_config": None,
            "model": "stub",
        }
    ],
    "all_documents": [lambda _: {}, lambda _: {"prefix": "/", "matching": EVERY_DOCUMENT}],
    "models_of": [lambda of: {"media_ids": [of.media_id]}],
    "record_unreadable": [
        lambda of: {
            "media_id": of.media_id,
            "reason": "no text in it",
            "model": "stub",
            "source": f"/{of.media_id}",
            "source_hash": SOURCE_HASH,
        }
    ],
    "set_metadata": [lambda of: {"media_id": of.media_id, "patch": {"team": "strange"}}],
    "replace_metadata": [lambda of: {"metadata": {of.media_id: {"team": "strange"}}}],
    "receipt": [lambda of: {"receipt_id": of.receipt_id}],
    "list_receipts": [lambda _: {"limit": 10, "after": None}],
    "searched_receipt": [lambda of: {"receipt_id": of.receipt_id}],
    "estimate_documents": [
        lambda of: {
            "requests": [own_request(of.media_id)],
            "cut": True,
        }
    ],
    "sum_of_estimates": [lambda _: {"estimates": []}],
    "delete_documents": [lambda of: {"matching": DocumentFilter(media_ids=[of.media_id])}],
    "delete_document": [lambda of: {"media_id": of.media_id}],
    "wait_until_visible": [lambda of: {"position": of.job_id, "timeout_seconds": 20}],
    "get_document": [lambda of: {"media_id": of.media_id}],
    "read_text": [lambda of: {"media_id": of.media_id, "start": 0, "end": 5}],
    "list_chunks": [
        lambda of: {"media_id": of.media_id, "limit": 10, "after": None, "with_text": True},
    ],
    "create_job": [
        lambda of: {
            "media_id": of.media_id,
            "content": "strange",
            "content_type": "text",
            "chunking_config": None,
            "priority": 50,
            "model": "stub",
            "source": f"/{of.media_id}",
            "source_hash": SOURCE_HASH,
            "title": "strange",
            "account": NOTHING_SAID,
            "places": NOWHERE,
            "strict": False,
            "metadata": {"team": "strange"},
        }
    ],
    "create_job_from_file": [
        lambda of: {
            "file": b"strange",
            "media_id": of.media_id,
            "name": "strange.txt",
            "chunking_config": None,
            "priority": 50,
            "model": "stub",
            "source": f"/{of.media_id}",
            "strict": False,
            "metadata": None,
        }
    ],
    "create_jobs": [lambda of: {"requests": [own_request(of.media_id)], "also": None}],
    "create_each": [lambda of: {"requests": [own_request(of.media_id)]}],
    "search": [lambda _: {"request": SearchRequest(query="text")}],
    "feedback": [
        lambda of: {"impression_id": of.impression_id, "clicked": [0]},
        lambda of: {"impression_id": of.impression_id, "clicked": ["00" * 16]},
    ],
}
"""For each public method the ways to call it; together they use every parameter it has."""

CALLS = [(method, build) for method, ways in ARGUMENTS.items() for build in ways]
CLASSES = (
    EmbeddingJobManager,
    TenantAccess,
    OperatorJobs,
    TenantAdministration,
    OperatorAdministration,
)
# `sum_of_estimates` reads nothing but how fast work is done.
LOOKING = [(method, build) for method, build in CALLS if method not in {*CREATING, "sum_of_estimates"}]


@dataclass(frozen=True)
class Scene:
    """`ended` names a document with a dead letter that readers see, `unfinished` one on its way; both are the
    owner's. The stranger has a cancelled job."""

    database: Database
    manager: EmbeddingJobManager
    ended: Names
    unfinished: Names

    async def owned(self) -> Collection[str]:
        """What is in each row of the owner: its name, or the id of one of its documents."""
        mine = select(tables.documents.c.document_id).where(tables.documents.c.tenant == OWNER)
        return [OWNER, *await self.database.read(lambda conn: conn.execute(mine).scalars().all())]

    async def rows(self) -> Counter[tuple[str, str]]:
        """Every row of every table."""

        def look(conn: Connection) -> Counter[tuple[str, str]]:
            return Counter(
                (table.name, repr(row._asdict()))
                for table in SCHEMA.sorted_tables
                for row in conn.execute(select(table))
            )

        return await self.database.read(look)


@pytest.fixture
async def scene(configure: Configure, database_url: str) -> AsyncIterator[Scene]:
    database = Database(database_url, synchronous="normal")
    await database.open()
    config = JobManagerConfig(settings=configure())
    manager = EmbeddingJobManager(config, database=database, searches=SearchesOf())

    async def submit(media_id: str, tenant: str) -> str:
        return await manager.create_job(
            media_id=media_id,
            user_id=tenant,
            content=f"text of {media_id}",
            source=f"/{media_id}",
            source_hash=SOURCE_HASH,
        )

    ended, unfinished = await submit("ended", OWNER), await submit("unfinished", OWNER)

    def end(conn: Connection) -> int:
        job = jobs.lock(conn, ended)
        assert job is not None
        generation = generations.generation(conn, job.generation_id)
        assert generation is not None
        dead_letters.add(conn, {ended: [DeadLetter(Stage.EMBEDDING, "bad", 0, 0, 0, 4)]}, NOW)
        generations.mark_live(conn, [(generation.document_id, generation.generation_id)])
        job_completion.finish(conn, [ended], JobStatus.FAILED, reason="1 of 1 chunks failed", now=NOW)
        return int(conn.execute(select(tables.dead_letters.c.dead_letter_id)).scalar_one())

    letter = await database.write(end)
    await submit("deleted", OWNER)
    receipt = await manager.of(OWNER).delete_document(media_id="deleted")
    assert receipt is not None
    searched = Findings(since=NOW, held={}, left={})
    await database.write(lambda conn: receipts.record(conn, [Searched(receipt, searched, NOW)]))
    await keep_answer(database, OWNER, "imp_owner")
    await manager.cancel_job(await submit("another", STRANGER), user_id=STRANGER)
    await database.write(lambda conn: events.assign_positions(conn, 10))
    yield Scene(
        database,
        manager,
        Names(ended, letter, "ended", receipt),
        Names(unfinished, letter, "unfinished", receipt),
    )
    await manager.close()
    await database.close()


async def outcome(through: ScopedJobs, method: str, build: Arguments, names: Names) -> str:
    """What the call returns or raises, in words in which the names that it was given do not show."""
    try:
        answer = getattr(through, method)(**build(names))
        found = await anext(answer) if inspect.isasyncgen(answer) else await answer
        said = f"{found!r} {getattr(found, 'model', '')}"
    except EmbedfleetError as exc:
        said = f"{type(exc).__name__}: {exc}"
    quoted = (f"`{names.dead_letter_id}`", f"`{names.media_id}`", f"'{names.media_id}'")
    for name in (names.job_id, *quoted, names.receipt_id, names.impression_id):
        said = said.replace(name, "NAME")
    return re.sub(r"job_[0-9a-f]{32}", "JOB", said) if method in CREATING else said


def public_methods() -> dict[str, Callable[..., Any]]:
    return {
        name: member
        for name, member in inspect.getmembers(TenantAccess, inspect.isfunction)
        if not name.startswith("_")
    }


def test_every_public_method_and_every_parameter_has_a_case() -> None:
    methods = public_methods()
    assert set(ARGUMENTS) == set(methods)
    for name, method in methods.items():
        parameters = set(inspect.signature(method).parameters) - {"self"}
        used = {argument for build in ARGUMENTS[name] for argument in build(NEVER)}
        assert used == parameters, name
    properties = [name for name, value in inspect.getmembers(TenantAccess) if isinstance(value, property)]
    assert properties == [], "a property needs a case, too"


def test_whose_rows_are_meant_is_never_left_to_a_default() -> None:
    """Neither in what callers use nor in the queries below it."""
    public = [member for kind in CLASSES for _, member in inspect.getmembers(kind, inspect.isfunction)]
    queries = [
        member
        for module in pkgutil.iter_modules(records.__path__, f"{records.__name__}.")
        for _, member in inspect.getmembers(importlib.import_module(module.name), inspect.isfunction)
    ]
    scopes = [
        (function.__qualname__, parameter)
        for function in public + queries
        for parameter in inspect.signature(function).parameters.values()
        if parameter.name in ("user_id", "tenant", "tenants", "scope")
    ]
    assert len(scopes) > 20
    for where, parameter in scopes:
        assert parameter.default is inspect.Parameter.empty, where
        assert "None" not in str(parameter.annotation), where


async def test_what_another_tenant_has_is_as_unknown_as_what_never_was(scene: Scene) -> None:
    """One scene for all calls: each must leave every row as it was, so the next finds the same."""
    # Last, as its documents are the stranger's own, and of the same media ids.
    in_order = sorted(CALLS, key=lambda call: call[0] in CREATING)
    for method, build in in_order:
        await assert_unknown_and_unchanged(scene, method, build)


async def assert_unknown_and_unchanged(scene: Scene, method: str, build: Arguments) -> None:
    stranger = scene.manager.of(STRANGER)
    before = await scene.rows()
    said = [await outcome(stranger, method, build, names) for names in (scene.ended, scene.unfinished)]
    assert OWNER not in "".join(said), method
    assert said == [await outcome(stranger, method, build, NEVER)] * 2, method
    after = await scene.rows()
    if method in CREATING:  # what the stranger has changes, and nothing of the owner's does
        owned = await scene.owned()
        gone = [row for _table, row in before - after if any(name in row for name in owned)]
        assert gone == [], f"{method}: rows were changed or dropped"
    else:
        assert after == before, method
    added = "".join(row for _table, row in after - before)
    assert OWNER not in added, method
    assert scene.ended.job_id not in added, method


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(("method", "build"), LOOKING, ids=[method for method, _ in LOOKING])
async def test_the_same_calls_find_it_for_its_owner(scene: Scene, method: str, build: Arguments) -> None:
    """Otherwise the test above would show nothing. Each call has a scene of its own, which it may change."""
    said = await outcome(scene.manager.of(OWNER), method, build, scene.ended)
    assert said != await outcome(scene.manager.of(STRANGER), method, build, scene.ended)
