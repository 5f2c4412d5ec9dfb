"""One call with N submissions writes the rows, and gives the answers, of N calls with one submission."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, select, update

from embedfleet.errors import InvalidRequest, QuotaExceeded
from embedfleet.inference.catalogue import Catalogue
from embedfleet.lifecycle import ending, retrying
from embedfleet.lifecycle.admission import Admission
from embedfleet.lifecycle.model_choice import NOTHING_KNOWN
from embedfleet.queue_schemas import JobRequest, JobStatus, UserTier
from embedfleet.records import generations, identity, job_completion, jobs, segments
from embedfleet.sql import document_lock, tables
from support.system import make_settings

TENANTS, MEDIA = "ab", "12"
# A tenant reaches each of its limits within a few steps: unfinished jobs, characters of a document and a day.
LIMITS = {
    "weight": 1,
    "max_active_jobs": 3,
    "max_document_chars": 20,
    "daily_chars": 60,
    "daily_bytes": 50,
    "daily_tokens": 12,
}
# With the other tier a tenant may do more, so the order in which tiers are set decides what is admitted.
WIDER = LIMITS | {"max_active_jobs": 5, "daily_tokens": 20}
TEXTS = ["one", "another one", "yet another one", "longer than is allowed"]


@dataclass(frozen=True)
class Given:
    """A submission."""

    tenant: str
    media: str
    text: str
    source: str | None
    source_hash: str | None
    metadata: dict[str, str] | None
    tier: UserTier | None


@dataclass(frozen=True)
class Happening:
    """What befalls a document between two calls."""

    what: str
    tenant: str
    media: str


a_submission = st.builds(
    Given,
    tenant=st.sampled_from(TENANTS),
    media=st.sampled_from(MEDIA),
    text=st.sampled_from(TEXTS),
    source=st.sampled_from([None, "/a", "/b"]),
    source_hash=st.sampled_from([None, "h1", "h2"]),
    metadata=st.sampled_from([None, None, {}, {"team": "a"}, {"team": "b"}]),
    tier=st.sampled_from([None, None, UserTier.FREE, UserTier.PREMIUM]),
)
a_call = st.lists(a_submission, min_size=1, max_size=6)
a_happening = st.builds(
    Happening,
    what=st.sampled_from(["completed", "completed with errors", "cancelled", "retried", "deleted"]),
    tenant=st.sampled_from(TENANTS),
    media=st.sampled_from(MEDIA),
)
a_story = st.lists(st.one_of(a_call, a_happening), min_size=1, max_size=10)


class TickingClock:
    """Every instant that it gives is later than the one before."""

    def __init__(self) -> None:
        self._now = 1_700_000_000.0

    def now(self) -> float:
        self._now += 0.125
        return self._now


@dataclass
class World:
    """A system without workers. `prefix` keeps the tenants of worlds in one database apart."""

    engine: Engine
    admission: Admission
    clock: TickingClock
    prefix: str
    one_by_one: bool
    answers: list[object] = field(default_factory=list)

    def live(self, story: Sequence[list[Given] | Happening]) -> None:
        for step in story:
            if isinstance(step, Happening):
                self._unit(partial(self._befall, step=step))
                continue
            try:
                self.answers.append(self._unit(partial(self._admit, step=step)))
            except QuotaExceeded as exc:
                self.answers.append(str(exc).replace(self.prefix, ""))

    def _unit(self, work: Callable[[Connection], Any]) -> Any:
        with self.engine.begin() as conn:
            document_lock.begin(conn)
            return work(conn)

    def _admit(self, conn: Connection, step: Sequence[Given]) -> list[str]:
        prepared = [
            self.admission.prepare(
                JobRequest(
                    media_id=one.media,
                    user_id=self.prefix + one.tenant,
                    content=one.text,
                    source=one.source,
                    source_hash=one.source_hash,
                    metadata=one.metadata,
                    user_tier=one.tier,
                ),
                NOTHING_KNOWN,
            )
            for one in step
        ]
        if not self.one_by_one:
            return self.admission.admit(conn, prepared)
        return [self.admission.admit(conn, [one])[0] for one in prepared]

    def _befall(self, conn: Connection, step: Happening) -> None:
        document_id = identity.document_id(self.prefix + step.tenant, step.media)
        document_lock.lock(conn, [document_id])
        unfinished = jobs.unfinished_of_documents(conn, [document_id]).get(document_id, [])
        if step.what == "deleted":
            ending.delete_documents(conn, [document_id], self.clock.now())
        elif step.what == "retried":
            self._retry(conn, document_id)
        elif unfinished and step.what == "cancelled":
            ending.cancel(conn, unfinished[0], self.clock.now())
        elif unfinished:
            status = JobStatus(step.what.replace(" ", "_"))
            complete(conn, unfinished[0], status, self.clock.now())

    def _retry(self, conn: Connection, document_id: str) -> None:
        query = select(tables.jobs).where(tables.jobs.c.document_id == document_id)
        row = conn.execute(query.order_by(tables.jobs.c.created_at.desc())).first()
        if row is not None:
            try:
                retrying.retry(conn, jobs.job_of(row), self.clock.now())
            except InvalidRequest:
                return

    def rows(self) -> list[object]:
        """Every row of this world's tenants, with names in place of ids and of instants."""
        with self.engine.begin() as conn:
            return [self._rows_of(conn, tenant) for tenant in TENANTS]

    def _rows_of(self, conn: Connection, tenant: str) -> list[object]:
        def of(table: Any, *order: Any) -> list[dict[str, Any]]:
            mine = select(table).where(table.c.tenant == self.prefix + tenant)
            return [dict(row) for row in conn.execute(mine.order_by(*order)).mappings()]

        names: dict[object, str] = {}
        found: list[Any] = [*of(tables.tenants), *of(tables.usage), *of(tables.collections)]
        for document in of(tables.documents, tables.documents.c.media_id):
            names[document["document_id"]] = f"document {document['media_id']}"
            document["cleanup"] = document["cleanup"] > 0
            document["patches"] = document["patches"] > 0
            found.append(document)
            for version in reversed(generations.generations_of(conn, document["document_id"])):
                names[version.generation_id] = f"generation {version.number} of {document['media_id']}"
                text = segments.get(conn, version.generation_id, 0)
                found += [
                    version.number,
                    version.state,
                    version.recipe,
                    version.written_metadata,
                    text and text.text,
                ]
        numbers = count(1)
        for job in of(tables.jobs, tables.jobs.c.created_at):
            names[job["job_id"]] = f"job {next(numbers)}"
            found.append(job)
        found += sorted(of(tables.events), key=lambda event: (names[event["job_id"]], event["run"]))
        for answer in self.answers:
            if isinstance(answer, list):
                answer[:] = [names.get(one, one) for one in answer]
        return [named(row, names) if isinstance(row, dict) else row for row in found]


# Columns with ids that have names, and columns that differ between two worlds.
IDS = {"job_id", "document_id", "generation_id"}
OWN = {"tenant_id", "collection_id", "event_id"}


def named(row: dict[str, Any], names: dict[object, str]) -> dict[str, Any]:
    return {
        column: value is not None if column.endswith("_at") else names[value] if column in IDS else value
        for column, value in row.items()
        if column not in OWN
    }


def complete(conn: Connection, job: jobs.Job, status: JobStatus, now: float) -> None:
    """End a job as its last worker does."""
    counted = update(tables.jobs).where(tables.jobs.c.job_id == job.job_id)
    conn.execute(counted.values(sealed=True, chunks_total=3, chunks_stored=3, coverage=1.0))
    job_completion.finish(conn, [job.job_id], status, reason="", now=now)
    generations.mark_live(conn, [(job.document_id, job.generation_id)])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(story=a_story)
def test_one_call_of_many_is_many_calls_of_one(
    engine: Engine, tmp_path: Path, story: list[list[Given] | Happening]
) -> None:
    limits = {"default_tier": "free", "tiers": {"free": LIMITS, "premium": WIDER}}
    system = make_settings(tmp_path, tenants=limits)
    catalogue = Catalogue(system.models)
    worlds = []
    for one_by_one in (True, False):
        clock = TickingClock()
        prefix = f"{next(WORLDS):06} "
        worlds.append(World(engine, Admission(system, catalogue, clock), clock, prefix, one_by_one))
        worlds[-1].live(story)
    assert worlds[1].rows() == worlds[0].rows()
    assert worlds[1].answers == worlds[0].answers


WORLDS = count()
