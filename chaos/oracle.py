"""The oracle: every input of the ledger against all that SQL, the vector store and the broker hold.

Exhaustive: each row of each collection is read and its vector compared. Chroma normalises what it is given
once more, which moves about one value in eight by one unit in the last place (measured; 1.5e-8 at most): so
vectors are compared to within `_ULPS`, and a change of the lowest two bits of a value goes unnoticed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any

import numpy as np
import redis
from numpy.typing import NDArray
from sqlalchemy import Connection, func, select

from chaos.inputs import Document, InputLedger
from embedfleet.queue.broker import Broker
from embedfleet.queue.keys import stage_key
from embedfleet.queue.shards import MAX_SHARDS
from embedfleet.queue_schemas import JobStatus, Stage
from embedfleet.records import collections
from embedfleet.records.scope import EveryTenant
from embedfleet.sql import tables
from embedfleet.sql.database import Database
from embedfleet.sql.states import BatchState, GenerationState, VectorState
from embedfleet.vectors.port import TenantSpace, VectorStore

_ULPS = 2
_MOST_NAMED = 20
_DRAINED_KEYS = ("meta", "shares")
"""What a queue in which nothing waits may keep (see `queue/keys.py`)."""
_DEAD_KEYS = ("dead", "tasks", "payloads")


class Kind(StrEnum):
    LOST = "lost"
    SURPLUS = "surplus"
    DOUBLED = "doubled"
    WRONG = "wrong"
    UNFINISHED = "unfinished"
    LEFT = "left behind"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it must be, in a line a person understands."""

    kind: Kind
    line: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.line}"


async def examine(
    inputs: InputLedger,
    *,
    database: Database,
    store: VectorStore,
    broker: Broker,
    redis_client: redis.Redis | None = None,
    key_prefix: str = "embedfleet",
) -> list[Finding]:
    """All findings; none means: nothing lost, nothing twice, nothing left. Call it when all is at rest."""
    findings = await database.read(lambda conn: list(in_sql(conn, inputs)))
    findings += await _vectors(inputs, database, store)
    findings += await _queues(broker, dead=inputs.dead)
    if redis_client is not None:
        findings += redis_keys(redis_client, key_prefix, dead=inputs.dead > 0)
    return findings


def told(findings: Sequence[Finding]) -> list[str]:
    """The findings as lines; of many of one kind the first ones, and how many there are."""
    lines = [str(finding) for finding in findings[:_MOST_NAMED]]
    if len(findings) > _MOST_NAMED:
        counts = Counter(finding.kind.value for finding in findings)
        lines.append("in all " + ", ".join(f"{count} {kind}" for kind, count in counts.items()))
    return lines


# --- SQL ---


def in_sql(conn: Connection, inputs: InputLedger) -> Iterator[Finding]:
    """What SQL alone gives away."""
    yield from _jobs(conn, inputs)
    yield from _events(conn, inputs)
    yield from _documents(conn, inputs)
    yield from _records(conn, inputs)


def _jobs(conn: Connection, inputs: InputLedger) -> Iterator[Finding]:
    rows = {row.job_id: row for row in conn.execute(select(tables.jobs))}
    newest = {document: job_id for job_id, document in inputs.jobs.items()}
    batches = {row.job_id: row for row in conn.execute(_BATCHES)}
    for job_id, document in inputs.jobs.items():
        row = rows.pop(job_id, None)
        if row is None:
            yield Finding(Kind.LOST, f"job {job_id} has no row")
        elif row.finished_at is None:
            yield Finding(Kind.UNFINISHED, f"job {job_id} is still {row.status}")
        elif newest[document] == job_id:
            yield from _completed(row, batches.get(job_id), inputs.documents[document])
    for job_id in rows:
        yield Finding(Kind.SURPLUS, f"job {job_id} was never submitted")


_BATCHES = select(
    tables.batches.c.job_id,
    func.count().label("total"),
    func.count().filter(tables.batches.c.state == BatchState.DONE).label("done"),
    func.sum(tables.batches.c.chunks).label("chunks"),
).group_by(tables.batches.c.job_id)


def _completed(row: Any, batches: Any, document: Document) -> Iterator[Finding]:
    """A finished job's own arithmetic."""
    chunks, dead = len(document.chunk_ids), len(document.dead)
    if row.status != (JobStatus.COMPLETED_WITH_ERRORS if dead else JobStatus.COMPLETED):
        yield Finding(Kind.LOST, f"job {row.job_id} ended as {row.status}: {row.reason}")
        return
    counted = {
        "in batches": int(batches.chunks) if batches else 0,
        "total": row.chunks_total,
        "embedded": row.chunks_embedded,
        "stored or dead": row.chunks_stored + row.chunks_dead,
    }
    if batches and batches.done < batches.total:
        yield Finding(
            Kind.WRONG,
            f"job {row.job_id} was completed early: {batches.done} of {batches.total} batches are done",
        )
    for what, count in counted.items():
        if count != chunks:
            kind = Kind.DOUBLED if count > chunks else Kind.WRONG
            yield Finding(kind, f"job {row.job_id} counts {count} chunks {what}, it has {chunks}")
    if row.chunks_dead != dead:
        yield Finding(Kind.LOST, f"job {row.job_id} gave up {row.chunks_dead} chunks, not {dead}")


def _events(conn: Connection, inputs: InputLedger) -> Iterator[Finding]:
    """One completion a job and run. A release that writes none has an empty table."""
    query = select(tables.events.c.job_id, tables.events.c.run, func.count().label("events"))
    rows = list(conn.execute(query.group_by(tables.events.c.job_id, tables.events.c.run)))
    for row in rows:
        if row.events != 1:
            yield Finding(Kind.DOUBLED, f"job {row.job_id} run {row.run} has {row.events} completion events")
    if rows:
        for job_id in sorted(set(inputs.jobs) - {row.job_id for row in rows}):
            yield Finding(Kind.LOST, f"job {job_id} has no completion event")


def _documents(conn: Connection, inputs: InputLedger) -> Iterator[Finding]:
    """Each document shows its last text, cut as expected."""
    generations = {
        row.document_id: row
        for row in conn.execute(
            select(tables.generations).where(tables.generations.c.state == GenerationState.LIVE)
        )
    }
    cuts: dict[int, list[str]] = {}
    ordered = select(tables.chunks.c.generation_id, tables.chunks.c.chunk_id)
    for row in conn.execute(ordered.order_by(tables.chunks.c.generation_id, tables.chunks.c.chunk_index)):
        cuts.setdefault(row.generation_id, []).append(row.chunk_id.hex())
    for document in inputs:
        live = generations.get(document.document_id)
        name = f"document {document.tenant}/{document.media_id}"
        if live is None:
            yield Finding(Kind.LOST, f"{name} has no live version")
        elif live.content_hash != document.content_sha256:
            yield Finding(Kind.WRONG, f"{name} shows another text than the last one submitted")
        elif cuts.get(live.generation_id, []) != list(document.chunk_ids):
            yield Finding(Kind.WRONG, f"{name} is cut into other chunks than its text makes")


def _records(conn: Connection, inputs: InputLedger) -> Iterator[Finding]:
    """SQL's record of what the vector store holds, and what must not be left."""
    expected = {chunk_id for document in inputs for chunk_id in document.stored_ids}
    stored = select(tables.vectors.c.chunk_id).where(tables.vectors.c.state == VectorState.STORED)
    recorded = {value.hex() for value in conn.execute(stored).scalars()}
    yield from _differences("SQL's record of stored vectors", expected, recorded)
    marked = select(func.count()).where(tables.vectors.c.state == VectorState.DELETING)
    for what, query in (
        ("vectors are still to be deleted", marked),
        ("documents wait for a clean-up", select(func.count()).where(tables.documents.c.cleanup > 0)),
    ):
        if count := conn.execute(query).scalar_one():
            yield Finding(Kind.LEFT, f"{count} {what}")
    letters = conn.execute(select(func.count()).select_from(tables.dead_letters)).scalar_one()
    if letters != inputs.dead:
        yield Finding(Kind.LEFT, f"{letters} dead letters, there must be {inputs.dead}")


def _differences(where: str, expected: set[str], found: set[str]) -> Iterator[Finding]:
    for chunk_id in sorted(expected - found):
        yield Finding(Kind.LOST, f"{where}: chunk {chunk_id} is missing")
    for chunk_id in sorted(found - expected):
        yield Finding(Kind.SURPLUS, f"{where}: chunk {chunk_id} belongs to no input")


# --- the vector store ---


async def _vectors(inputs: InputLedger, database: Database, store: VectorStore) -> list[Finding]:
    expected = _by_collection(inputs)
    recorded = await database.read(partial(collections.within, scope=EveryTenant()))
    keys = {TenantSpace(one.tenant, one.space, one.dim) for one in recorded}
    findings: list[Finding] = []
    for collection in sorted(keys | set(expected), key=store.name_in_store):
        name = store.name_in_store(collection)
        wanted = expected.get(collection, {})
        seen: Counter[str] = Counter()
        async for ids, vectors in store.scan(collection):
            seen.update(ids)
            findings += _wrong(name, wanted, ids, vectors)
        findings += _differences(f"vector store, {name}", set(wanted), set(seen))
        findings += [
            Finding(Kind.DOUBLED, f"vector store, {name}: chunk {chunk_id} is there {times} times")
            for chunk_id, times in seen.items()
            if times > 1
        ]
    return findings


def _by_collection(inputs: Iterable[Document]) -> dict[TenantSpace, dict[str, NDArray[np.float32]]]:
    expected: dict[TenantSpace, dict[str, NDArray[np.float32]]] = {}
    for document in inputs:
        rows = zip(document.stored_ids, document.stored_vectors(), strict=True)
        expected.setdefault(document.collection, {}).update(rows)
    return expected


def _wrong(
    name: str, wanted: dict[str, NDArray[np.float32]], ids: Sequence[str], vectors: NDArray[np.float32]
) -> Iterator[Finding]:
    known = [row for row, chunk_id in enumerate(ids) if chunk_id in wanted]
    if not known:
        return
    right = np.stack([wanted[ids[row]] for row in known])
    found = np.asarray(vectors, dtype=np.float32)[known]
    if right.shape != found.shape:
        yield Finding(Kind.WRONG, f"vector store, {name}: vectors of {found.shape[1]} dimensions")
        return
    apart = np.abs(_steps(right) - _steps(found)).max(axis=1)
    for position in np.flatnonzero(apart > _ULPS):
        chunk_id = ids[known[position]]
        yield Finding(Kind.WRONG, f"vector store, {name}: chunk {chunk_id} has another vector")


def _steps(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """float32 values numbered in their order, so that neighbours differ by one."""
    bits = np.ascontiguousarray(values).view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)


# --- the broker ---


async def _queues(broker: Broker, *, dead: int) -> list[Finding]:
    """`dead`: tasks that may be kept as dead ones: one for each chunk that must be given up."""
    findings = []
    for stage in Stage:
        depth = await broker.depth(stage)
        counts = {"ready": depth.ready, "leased": depth.leased, "delayed": depth.delayed, "dead": depth.dead}
        findings += [
            Finding(Kind.LEFT, f"queue {stage.value}: {count} tasks are {state}")
            for state, count in counts.items()
            if count > (dead if state == "dead" and stage is Stage.EMBEDDING else 0)
        ]
    return findings


def redis_keys(client: redis.Redis, prefix: str, *, dead: bool = False) -> Iterator[Finding]:
    """Keys of an idle broker that should not be there; `dead`: it may hold dead tasks."""
    names = (*_DRAINED_KEYS, *(_DEAD_KEYS if dead else ()))
    allowed = {
        stage_key(prefix, stage, name, shard)
        for stage in Stage
        for name in names
        for shard in range(MAX_SHARDS)
    }
    for key in sorted(key.decode(errors="replace") for key in client.scan_iter(count=1000)):
        if key not in allowed:
            yield Finding(Kind.LEFT, f"Redis key {key}")
