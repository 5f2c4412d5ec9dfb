"""Generations. A generation is one version of a document.

These are plain functions over a connection. The caller owns the transaction. It holds the document's lock
(`document_lock`) when it changes a document.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, select, update

from embedfleet import document_metadata
from embedfleet.account import NOTHING_SAID, Account
from embedfleet.document_metadata import Metadata
from embedfleet.queue_schemas import ChunkingConfig
from embedfleet.records import segments
from embedfleet.records.collections import Collection
from embedfleet.records.documents import ONE_IF_THERE_ARE_VIEWS
from embedfleet.records.segments import Segment
from embedfleet.sql import document_lock
from embedfleet.sql.paging import key_pages
from embedfleet.sql.rows import RowsStatement
from embedfleet.sql.sql_text import storable
from embedfleet.sql.states import GenerationState
from embedfleet.sql.tables import collections, documents, generations

CUT_ELSEWHERE = 0
"""The `chunker_version` of a generation whose chunks another system has cut. No chunker has this version."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """The input of a generation: its content, and how it is cut. `content_hash` is of the text, the title and
    the places.

    In one collection, recipes of the same outcome give equal chunks and vectors.
    """

    content_hash: str
    source_hash: str | None
    content_type: str
    chars: int
    chunking: ChunkingConfig
    batch_chunks: int
    title: str | None = None

    def same_outcome(self, other: Recipe) -> bool:
        """Whether this recipe would give the same chunks and vectors in the same collection."""
        return (
            other.content_hash == self.content_hash
            and other.content_type == self.content_type
            and other.chunking == self.chunking
        )


@dataclass(frozen=True, slots=True)
class Generation:
    """One version of a document. `number` counts the generations of the document from 1."""

    generation_id: int
    document_id: str
    tenant: str
    media_id: str
    source: str | None
    number: int
    state: GenerationState
    recipe: Recipe
    collection: Collection
    chunker_version: int
    deletions: int
    """The number of deletions of its document's vectors at the time of the read (see `changes`)."""
    patches: int
    """The number of changes of its document's metadata at the time of the read (see `changes`)."""
    written_account: str | None = None
    """The account of its source as JSON; None if nothing was left out."""
    strict: bool = False
    """Whether the version must not be made if content of the source is lost."""
    written_metadata: str | None = None
    """The metadata that the caller gave, as JSON; None if there is none."""

    @property
    def account(self) -> Account:
        """What of its source is not in its text."""
        return NOTHING_SAID if self.written_account is None else Account.of_json(self.written_account)

    @property
    def metadata(self) -> Metadata:
        """The metadata that the caller gave."""
        return document_metadata.read(self.written_metadata)

    @property
    def cut_elsewhere(self) -> bool:
        """Whether another system has cut its chunks, so that its recipe would give others."""
        return self.chunker_version == CUT_ELSEWHERE

    @property
    def in_use(self) -> bool:
        """Whether readers see it, or a job makes it."""
        return self.state is not GenerationState.RETIRED

    @property
    def begun_elsewhere(self) -> bool:
        """Whether it is made of chunks that another system has cut, and is not complete."""
        return self.cut_elsewhere and self.state is GenerationState.BUILDING

    @property
    def unreadable(self) -> bool:
        """Whether its source could not be turned into text, so that only a failed job records it."""
        return self.recipe.chars == 0


@dataclass(frozen=True, slots=True)
class NewGeneration:
    """A generation to write, with its text."""

    document_id: str
    number: int
    recipe: Recipe
    collection: Collection
    texts: Sequence[Segment]
    chunker_version: int
    account: Account = NOTHING_SAID
    strict: bool = False
    written_metadata: str | None = None


def add_generations(conn: Connection, new: Sequence[NewGeneration]) -> list[int]:
    """Write these generations, which are being built, with their texts. Return their ids, in order."""
    rows = []
    for one in new:
        document_lock.require(conn, one.document_id)
        recipe = one.recipe
        rows.append(
            (
                one.document_id,
                one.number,
                GenerationState.BUILDING.value,
                one.collection.collection_id,
                recipe.content_hash,
                recipe.source_hash,
                recipe.content_type,
                recipe.chars,
                _written(recipe.chunking),
                recipe.batch_chunks,
                one.chunker_version,
                None if recipe.title is None else storable(recipe.title),
                one.account.written(),
                one.strict,
                one.written_metadata,
            )
        )
    # No database promises that the rows come back in order, so they are told by their key.
    ids = {(row.document_id, row.number): int(row.generation_id) for row in _ADD_GENERATIONS.run(conn, rows)}
    generation_ids = [ids[one.document_id, one.number] for one in new]
    segments.add(conn, {id_: one.texts for id_, one in zip(generation_ids, new, strict=True)})
    return generation_ids


def generation(conn: Connection, generation_id: int) -> Generation | None:
    """Return the generation with this id; None if it is gone."""
    row = conn.execute(_GENERATION_BY_ID, {"id": generation_id}).one_or_none()
    return None if row is None else _generation(row)


def generations_by_id(conn: Connection, generation_ids: Sequence[int]) -> dict[int, Generation]:
    """Return the generations with these ids, by id. Generations that are gone are left out."""
    found: dict[int, Generation] = {}
    for ids in key_pages(generation_ids):
        for row in conn.execute(_GENERATIONS_BY_ID, {"ids": ids}).all():
            found[row.generation_id] = _generation(row)
    return found


def generations_of(conn: Connection, document_id: str) -> list[Generation]:
    """Return the generations of a document, newest first."""
    return generations_of_many(conn, [document_id]).get(document_id, [])


def generations_of_many(conn: Connection, document_ids: Sequence[str]) -> dict[str, list[Generation]]:
    """Return the generations of each document, newest first. A document without any is left out."""
    found: dict[str, list[Generation]] = {}
    for ids in key_pages(document_ids):
        for row in conn.execute(_GENERATIONS_OF, {"ids": ids}):
            found.setdefault(row.document_id, []).append(_generation(row))
    return found


def models_of(conn: Connection, document_ids: Sequence[str]) -> dict[str, str]:
    """Return, by document, the model of the version that readers see or that is being made, the newest one.

    A document that has neither, or is deleted, is left out.
    """
    found: dict[str, str] = {}
    for ids in key_pages(document_ids):
        for row in conn.execute(_MODELS_OF, {"ids": ids}):
            found[row.document_id] = row.model
    return found


@dataclass(frozen=True, slots=True)
class Shown:
    """What `mark_live` did. `shown`: the documents of which readers see a generation that was given.

    `replacing`: those of them that have retired generations before it, of which something may be left.
    """

    shown: frozenset[str]
    replacing: frozenset[str]


def mark_live(conn: Connection, made: Sequence[tuple[str, int]]) -> Shown:
    """Make generations the ones that readers see in their spaces, and retire those before them.

    `made` are pairs of a document id and a generation id, in the order of the generation ids. A generation
    stays as it is if its document is deleted, or if a newer one is live that replaces it. A generation in the
    other space of a switch to another model replaces nothing and is not replaced (`model_switches`).
    """
    for document_id, _ in made:
        document_lock.require(conn, document_id)
    shown: set[str] = set()
    replacing: set[str] = set()
    for several in _apart(made):
        live = _GO_LIVE.run(conn, several, live=GenerationState.LIVE)
        if live:
            keys = [(row.document_id, row.number, row.collection_id) for row in live]
            now_live = [(row.document_id, row.generation_id) for row in live]
            _SHOW.run(conn, now_live, live=GenerationState.LIVE)
            shown.update(row.document_id for row in live)
            # A first generation has none before it.
            later = [key for key in keys if key[1] > 1]
            older = _RETIRE_OLDER.run(conn, later, retired=GenerationState.RETIRED)
            replacing.update(row.document_id for row in older)
    return Shown(frozenset(shown), frozenset(replacing))


def _apart(made: Sequence[tuple[str, int]]) -> list[list[tuple[str, int]]]:
    """Divide them so that no part has two generations of one document: a statement changes a row once."""
    parts: list[dict[str, int]] = []
    for document_id, generation_id in made:
        for part in parts:
            if document_id not in part:
                part[document_id] = generation_id
                break
        else:
            parts.append({document_id: generation_id})
    return [list(part.items()) for part in parts]


def set_generation_state(conn: Connection, generation_ids: Sequence[int], state: GenerationState) -> None:
    """Set the state of these generations, whatever their states were before."""
    for ids in key_pages(generation_ids):
        conn.execute(_SET_STATE, {"ids": ids, "new": state})


def make_newest(conn: Connection, generation: Generation) -> None:
    """Give the generation the highest number of its document, unless it has it already. It must not be live.

    Numbers tell which version is newer, also between the two spaces of a switch to another model.
    """
    document_lock.require(conn, generation.document_id)
    there = select(func.max(generations.c.number)).where(generations.c.document_id == generation.document_id)
    highest = conn.execute(there).scalar_one()
    if highest > generation.number:
        mine = update(generations).where(generations.c.generation_id == generation.generation_id)
        conn.execute(mine.values(number=highest + 1))


def abandon(conn: Connection, generation_ids: Sequence[int]) -> None:
    """Retire generations that are still being built. A live one stays live, as that of a retried job does."""
    for ids in key_pages(generation_ids):
        conn.execute(_ABANDON, {"ids": ids})


def set_source_hashes(conn: Connection, hashes: Mapping[int, str]) -> None:
    """Record, by generation id, the new hashes of sources that changed but still give the same text."""
    rows = [{"id": generation_id, "digest": digest} for generation_id, digest in sorted(hashes.items())]
    if rows:
        conn.execute(_SET_SOURCE_HASH, rows)


def set_accounts(conn: Connection, accounts: Mapping[int, Account]) -> None:
    """Record, by generation id, what of the sources is not in the texts."""
    rows = [{"id": generation_id, "json": one.written()} for generation_id, one in sorted(accounts.items())]
    if rows:
        conn.execute(_SET_ACCOUNT, rows)


def set_metadata(conn: Connection, written: Mapping[int, str | None]) -> None:
    """Record, by generation id, new metadata as JSON. It goes with the rest of `describing.describe`."""
    rows = [{"id": generation_id, "json": json_text} for generation_id, json_text in sorted(written.items())]
    if rows:
        conn.execute(_SET_METADATA, rows)


def set_chunker_version(conn: Connection, generation_id: int, version: int) -> None:
    """Record the version of the chunker that cuts this generation."""
    conn.execute(
        update(generations)
        .where(generations.c.generation_id == generation_id)
        .values(chunker_version=version)
    )


_SELECT_GENERATION = (
    select(
        generations,
        documents.c.tenant,
        documents.c.media_id,
        documents.c.source,
        documents.c.deletions,
        documents.c.patches,
        collections.c.model,
        collections.c.space,
        collections.c.dim,
    )
    .join(documents, documents.c.document_id == generations.c.document_id)
    .join(collections, collections.c.collection_id == generations.c.collection_id)
)

_ADD_GENERATIONS = RowsStatement(
    "INSERT INTO generations (document_id, number, state, collection_id, content_hash, source_hash, "
    "content_type, chars, chunking, batch_chunks, chunker_version, title, account, strict, "
    "metadata) VALUES {rows} "
    "RETURNING generation_id, document_id, number"
)

_SET_SOURCE_HASH = (
    update(generations)
    .where(generations.c.generation_id == bindparam("id"))
    .values(source_hash=bindparam("digest"))
)

_SET_ACCOUNT = (
    update(generations)
    .where(generations.c.generation_id == bindparam("id"))
    .values(account=bindparam("json"))
)

_SET_METADATA = (
    update(generations)
    .where(generations.c.generation_id == bindparam("id"))
    .values(metadata=bindparam("json"))
)

_GENERATION_BY_ID = _SELECT_GENERATION.where(generations.c.generation_id == bindparam("id"))

_GENERATIONS_OF = _SELECT_GENERATION.where(
    generations.c.document_id.in_(bindparam("ids", expanding=True))
).order_by(generations.c.number.desc())

_GENERATIONS_BY_ID = _SELECT_GENERATION.where(
    generations.c.generation_id.in_(bindparam("ids", expanding=True))
)


def _beside(one: str, other: str) -> str:
    """Return SQL that is true if these collections are on the two sides of a switch that is under way.

    Both are of one tenant: that of a document. So a switch from the route, which has no `from_collection`,
    has all but the new one on its old side.
    """
    return (
        "EXISTS (SELECT 1 FROM model_switches WHERE model_switches.running = 1 AND "
        f"((model_switches.from_collection = {one} AND model_switches.to_collection = {other}) OR "
        f"(model_switches.from_collection = {other} AND model_switches.to_collection = {one}) OR "
        f"(model_switches.from_collection IS NULL AND {one} <> {other} AND "
        f"model_switches.to_collection IN ({one}, {other}))))"
    )


def _is_of(side: str, collection: str) -> str:
    """Return SQL that is true if the collection is on this side of `model_switches`, `old` or `new`."""
    if side == "new":
        return f"model_switches.to_collection = {collection}"
    return (
        f"CASE WHEN model_switches.from_collection IS NULL THEN model_switches.to_collection <> {collection} "
        f"ELSE model_switches.from_collection = {collection} END"
    )


_GO_LIVE = RowsStatement(
    "WITH given(document_id, generation_id) AS (VALUES {rows}) "
    "UPDATE generations SET state = {live} FROM given "
    "JOIN documents ON documents.document_id = given.document_id AND documents.deleted_at IS NULL "
    "WHERE generations.generation_id = given.generation_id AND NOT EXISTS ("
    "SELECT 1 FROM generations AS newer WHERE newer.document_id = given.document_id "
    "AND newer.number > generations.number AND newer.state = {live} "
    f"AND NOT {_beside('newer.collection_id', 'generations.collection_id')}) "
    "RETURNING generations.document_id, generations.generation_id, generations.number, "
    "generations.collection_id"
)

# The document is described by its newest live generation. But while a switch is under way, it is by that of
# the side of most queries, unless only the other one has one.
_SHOW = RowsStatement(
    "WITH given(document_id, generation_id) AS (VALUES {rows}) "
    "UPDATE documents SET live_generation = CASE WHEN EXISTS ("
    "SELECT 1 FROM generations AS main JOIN model_switches ON model_switches.running = 1 "
    "AND ((model_switches.percent >= 100 "
    f"AND {_is_of('new', 'main.collection_id')} AND {_is_of('old', 'generations.collection_id')}) "
    "OR (model_switches.percent < 100 "
    f"AND {_is_of('old', 'main.collection_id')} AND {_is_of('new', 'generations.collection_id')})) "
    "WHERE main.document_id = documents.document_id AND main.number = documents.live_generation "
    "AND main.state = {live}) "
    "THEN documents.live_generation ELSE generations.number END, "
    # A row that was written while the metadata changed gets the metadata of now from a cleanup. That
    # describes the generation that readers see, so it comes after the flip.
    "cleanup = documents.cleanup + CASE WHEN documents.patches > 0 THEN 1 ELSE 0 END, "
    f"view_marks = documents.view_marks + {ONE_IF_THERE_ARE_VIEWS} "
    "FROM given JOIN generations ON generations.generation_id = given.generation_id "
    "WHERE documents.document_id = given.document_id"
)

_RETIRE_OLDER = RowsStatement(
    "WITH given(document_id, number, collection_id) AS (VALUES {rows}) "
    "UPDATE generations SET state = {retired} FROM given "
    "WHERE generations.document_id = given.document_id AND generations.number < given.number "
    f"AND NOT {_beside('generations.collection_id', 'given.collection_id')} "
    "RETURNING generations.document_id"
)

_SET_STATE = (
    update(generations)
    .where(generations.c.generation_id.in_(bindparam("ids", expanding=True)))
    .values(state=bindparam("new"))
)

_ABANDON = (
    update(generations)
    .where(
        generations.c.generation_id.in_(bindparam("ids", expanding=True)),
        generations.c.state == GenerationState.BUILDING,
    )
    .values(state=GenerationState.RETIRED)
)


@lru_cache(maxsize=64)
def _written(chunking: ChunkingConfig) -> str:
    """Write a chunking configuration. The result is cached, as most generations share a few of them."""
    return chunking.model_dump_json()


@lru_cache(maxsize=64)
def _chunking(written: str) -> ChunkingConfig:
    """Parse a chunking configuration. The result is cached, too.

    One that says nothing of contexts was written before chunks had them.
    """
    return ChunkingConfig.model_validate({"context": False} | json.loads(written))


def _generation(row: Row[Any]) -> Generation:
    """Build the generation from a row of `_SELECT_GENERATION`. By position, which is faster than by name."""
    columns: Sequence[Any] = row
    generation_id, document_id, number, state, collection_id = columns[:5]
    content_hash, source_hash, content_type, chars, chunking, batch_chunks, version = columns[5:12]
    title, written_account, strict, written_metadata = columns[12:16]
    tenant, media_id, source, deletions, patches, model, space, dim = columns[16:]
    cut = _chunking(chunking)
    return Generation(
        generation_id=generation_id,
        document_id=document_id,
        tenant=tenant,
        media_id=media_id,
        source=source,
        number=number,
        state=GenerationState(state),
        recipe=Recipe(content_hash, source_hash, content_type, chars, cut, batch_chunks, title),
        collection=Collection(collection_id, tenant, model, space, dim),
        chunker_version=version,
        deletions=deletions,
        patches=patches,
        written_account=written_account,
        strict=bool(strict),
        written_metadata=written_metadata,
    )


_MODELS_OF = (
    select(generations.c.document_id, collections.c.model)
    .join(collections, collections.c.collection_id == generations.c.collection_id)
    .join(documents, documents.c.document_id == generations.c.document_id)
    .where(
        generations.c.document_id.in_(bindparam("ids", expanding=True)),
        generations.c.state != GenerationState.RETIRED,
        documents.c.deleted_at.is_(None),
    )
    .order_by(generations.c.number)
)
