"""The synchronous path and the path to the fleet: both make the same of a document, each in its store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import pytest_asyncio
from numpy.typing import NDArray

from embedfleet.api.opening import parts_of_owner
from embedfleet.bootstrap import open_store, open_synchronous_embedder
from embedfleet.client import AsyncClient
from embedfleet.clock import SystemClock
from embedfleet.errors import (
    ConfigError,
    InvalidRequest,
    ModelError,
    Permanent,
    UnknownDocument,
    VectorStoreUnavailable,
)
from embedfleet.inference.backend import EmbeddingBackend, TokenBatch
from embedfleet.inference.catalogue import Catalogue
from embedfleet.inference.pool import ModelPool
from embedfleet.queue_schemas import ChunkingConfig, ChunkMethod
from embedfleet.records import removals
from embedfleet.settings import Settings
from embedfleet.tokenising import tokenised
from embedfleet.traffic.administration import TrafficAdministration
from embedfleet.traffic.fleet_path import FleetPath
from embedfleet.traffic.paths import IngestRequest, RemovingPath
from embedfleet.traffic.router import TrafficRouter
from embedfleet.traffic.synchronous import SynchronousEmbedder
from embedfleet.vectors.port import CollectionKey, TenantSpace, VectorRows, VectorStore
from support.api import serving_parts
from support.hangs import HANG_SECONDS
from support.system import ONE_EACH, TENANT, Running, make_settings, paragraphs, running, until
from support.warm_chroma import ForkedChild

pytestmark = pytest.mark.asyncio(loop_scope="module")

MARKDOWN = (
    "# Pumps\n\nThey move water.\n\n## Valves\n\n| part | mm |\n|---|---|\n| seat | 12 |\n\nThey stop it.\n"
)
CODE = "def pump(litres):\n    return litres * 2\n\n\nclass Valve:\n    def close(self):\n        pass\n" * 20
SAME = "The same paragraph. " * 14 + "\n\n"
DOCUMENTS = [
    IngestRequest(TENANT, "short", "Pumps move water."),
    IngestRequest(TENANT, "long", paragraphs("river", 40), chunking_config=ONE_EACH),
    IngestRequest(TENANT, "repeated", SAME * 30, chunking_config=ONE_EACH),
    IngestRequest(TENANT, "markdown", MARKDOWN, content_type="markdown", title="A manual"),
    IngestRequest(TENANT, "code", CODE, content_type="code"),
    IngestRequest(TENANT, "cjk ünïcode 😀", "水泵输送水。阀门阻止它。" * 40 + "e\u0301" * 50),
    IngestRequest(
        "bob/../alice",
        "short",
        "Pumps move water.",
        source="manual.pdf",
        metadata={"language": "en", "tags": ["a", "b"], "empty": [], "pages": 3},
    ),
    IngestRequest(
        TENANT,
        "sentences",
        "One is here. Two is there. " * 60,
        chunking_config=ChunkingConfig(chunk_size=90, overlap=20, method=ChunkMethod.SENTENCES),
    ),
]


class RecordingStore:
    """A store that remembers the rows that were written to it.

    `refuses`: the next write fails in its middle. `written` is set after each write.
    """

    def __init__(self, store: VectorStore) -> None:
        self._store = store
        self.metadata: dict[str, Mapping[str, Any]] = {}
        self.texts: dict[str, str] = {}
        self.refuses = False
        self.written = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def upsert(self, collection: CollectionKey, rows: VectorRows) -> None:
        if self.refuses:
            self.refuses = False
            await self._store.upsert(collection, rows.part(0, 1))
            raise VectorStoreUnavailable("the store went away in the middle of a write")
        await self._store.upsert(collection, rows)
        self.metadata.update(zip(rows.ids, rows.metadatas, strict=True))
        self.texts.update(zip(rows.ids, rows.documents or (), strict=True))
        self.written.set()


@dataclass(frozen=True, slots=True)
class Paths:
    """Both paths, each with its store. `running` is the fleet."""

    running: Running
    fleet: FleetPath
    fleet_store: RecordingStore
    embedder: SynchronousEmbedder
    store: RecordingStore
    models: FailingModels

    async def held(self, store: VectorStore, request: IngestRequest, model: str = "stub") -> dict[str, bytes]:
        """Return the bits of the document's rows in a store, by id."""
        info = self.running.system.catalogue.info(model)
        collection = TenantSpace(request.tenant, info.space, info.dim)
        ids = (await store.ids_with(collection, "media_id", [request.media_id])).get(request.media_id, [])
        found, vectors = await store.vectors(collection, ids)
        return {row_id: vector.tobytes() for row_id, vector in zip(found, vectors, strict=True)}

    async def old(self, request: IngestRequest, model: str = "stub") -> dict[str, bytes]:
        return await self.held(cast("VectorStore", self.store), request, model)

    async def new(self, request: IngestRequest, model: str = "stub") -> dict[str, bytes]:
        return await self.held(cast("VectorStore", self.fleet_store), request, model)


class FailingModels(Catalogue):
    """The models of the settings, but each fails on texts that have the token `poison`."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings.models)
        self.poison: int | None = None

    def open(self, name: str, device: str | None = None) -> EmbeddingBackend:
        return _Failing(super().open(name, device), self)


class _Failing:
    def __init__(self, backend: EmbeddingBackend, models: FailingModels) -> None:
        self._backend = backend
        self._models = models

    @property
    def info(self) -> Any:
        return self._backend.info

    def embed_tokens(self, batch: TokenBatch) -> NDArray[np.float32]:
        vectors = self._backend.embed_tokens(batch)
        ends = np.cumsum(batch.lengths)
        for row, end in enumerate(ends):
            if self._models.poison in batch.token_ids[end - batch.lengths[row] : end].tolist():
                vectors[row] = np.nan
        return vectors

    def close(self) -> None:
        self._backend.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def paths(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Paths]:
    # The fixtures of a function that make a start cheap come too late for a module.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("embedfleet.vectors.chroma.process.start", ForkedChild)
        async with _opened(tmp_path_factory) as both:
            yield both


@asynccontextmanager
async def _opened(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Paths]:
    rule = {"model": "static", "where": {"routed": True}}
    models_of_both = {"default": "stub", "routing": {"rules": [rule]}}
    old = make_settings(tmp_path_factory.mktemp("old"), models=models_of_both)
    new = make_settings(tmp_path_factory.mktemp("new"), models=models_of_both)
    catalogue = FailingModels(old)
    models = ModelPool(catalogue, old.models)
    store = RecordingStore(await open_store(old))
    fleet_store = RecordingStore(await open_store(new))
    embedder = SynchronousEmbedder(
        cast("VectorStore", store), catalogue, models, old, further_models=["static", "minilm"]
    )
    try:
        async with running(new, store=cast("VectorStore", fleet_store)) as fleet:
            path = FleetPath(fleet.jobs.of, wait_seconds=HANG_SECONDS)
            yield Paths(fleet, path, fleet_store, embedder, store, catalogue)
    finally:
        await models.close()
        await store.close()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda one: f"{one.tenant} {one.media_id}")
async def test_both_paths_write_the_same_rows(paths: Paths, document: IngestRequest) -> None:
    old = await paths.embedder(document)
    new = await paths.fleet(document)

    rows = await paths.old(document)
    assert rows == await paths.new(document)
    assert old.chunks == new.chunks == len(rows) > 0
    assert old.visible
    assert new.visible
    for row_id in rows:
        written = dict(paths.fleet_store.metadata[row_id])
        assert written.pop("job_id") == new.job_id
        assert paths.store.metadata[row_id] == {**written, "job_id": ""}
        assert paths.store.texts[row_id] == paths.fleet_store.texts[row_id]


@pytest.mark.parametrize("document", DOCUMENTS[:5], ids=lambda one: one.media_id)
async def test_a_model_of_tokens_gives_both_paths_the_same_bits(
    paths: Paths, document: IngestRequest
) -> None:
    document = replace(document, model="static", media_id=f"static {document.media_id}")
    await paths.embedder(document)
    await paths.fleet(document)

    assert await paths.old(document, "static") == await paths.new(document, "static") != {}


@pytest.mark.slow
async def test_a_transformer_gives_both_paths_the_same_ids_and_directions(paths: Paths) -> None:
    """What else is in a call of the model may change the last bits of a vector, and never its direction."""
    for document in DOCUMENTS[:6]:
        document = replace(document, model="minilm", media_id=f"minilm {document.media_id}")
        await paths.embedder(document)
        await paths.fleet(document)

        old, new = await paths.old(document, "minilm"), await paths.new(document, "minilm")
        assert old.keys() == new.keys() != set()
        for row_id, vector in old.items():
            ours, theirs = (np.frombuffer(one, np.float32) for one in (vector, new[row_id]))
            assert float(ours @ theirs) > 0.99999


async def test_the_result_tells_the_chunks_as_they_are_stored(paths: Paths) -> None:
    document = IngestRequest(TENANT, "told", paragraphs("told", 3), chunking_config=ONE_EACH)
    result = await paths.embedder(document)

    assert result.stored is not None
    assert {one.chunk_id for one in result.stored} == (await paths.old(document)).keys()
    assert [document.content[one.start : one.end] for one in result.stored] == document.content.split("\n\n")
    for one in result.stored:
        assert one.vector is not None
        stored = np.frombuffer((await paths.old(document))[one.chunk_id], dtype=np.float32)
        assert float(one.vector @ stored) > 0.99999


async def test_a_document_that_shrinks_keeps_no_chunk_of_its_older_version(paths: Paths) -> None:
    document = IngestRequest(TENANT, "shrinks", paragraphs("shrinks", 5), chunking_config=ONE_EACH)
    await paths.embedder(document)
    before = await paths.old(document)
    await paths.embedder(replace(document, content=paragraphs("shrinks", 1)))
    after = await paths.old(document)

    assert len(before) == 5
    assert len(after) == 1
    assert after.items() < before.items()


async def test_a_document_that_changes_its_model_is_in_one_collection(paths: Paths) -> None:
    document = IngestRequest(TENANT, "moves", "Pumps move water.")
    await paths.embedder(replace(document, model="static"))
    await paths.embedder(document)

    assert await paths.old(document, "static") == {}
    assert len(await paths.old(document)) == 1


async def test_a_rule_of_the_settings_sends_a_document_to_the_same_model_on_both_paths(paths: Paths) -> None:
    document = IngestRequest(TENANT, "routed", "Pumps move water.", metadata={"routed": True})
    await paths.embedder(document)
    await paths.fleet(document)

    assert await paths.old(document) == await paths.new(document) == {}
    assert (await paths.old(document, "static")).keys() == (await paths.new(document, "static")).keys()
    assert len(await paths.old(document, "static")) == 1


async def test_a_removal_leaves_other_documents_and_tenants_alone(paths: Paths) -> None:
    document = IngestRequest(TENANT, "goes", "Pumps move water.")
    others = [replace(document, tenant="bob"), replace(document, media_id="stays")]
    for one in (document, *others):
        await paths.embedder(one)
        await paths.fleet(one)
    path: RemovingPath
    for path in (paths.embedder, paths.fleet):
        await path.remove(TENANT, "goes")
        await path.remove(TENANT, "goes")
        await path.remove(TENANT, "was never there")

    assert await paths.old(document) == {}
    with pytest.raises(UnknownDocument):
        await paths.running.jobs.of(TENANT).get_document(media_id="goes")
    await paths.running.settled()
    assert await paths.new(document) == {}
    for one in others:
        assert await paths.old(one) == await paths.new(one) != {}


async def test_two_versions_at_once_leave_the_later_one(paths: Paths) -> None:
    document = IngestRequest(TENANT, "twice", paragraphs("first", 4), chunking_config=ONE_EACH)
    later = replace(document, content=paragraphs("second", 3))
    await asyncio.gather(paths.embedder(document), paths.embedder(later))

    assert len(await paths.old(document)) == 3
    assert all("second" in paths.store.texts[row_id] for row_id in await paths.old(document))


async def test_a_failing_chunk_leaves_the_older_version_as_it_is(paths: Paths) -> None:
    document = IngestRequest(TENANT, "fails", paragraphs("older", 2), chunking_config=ONE_EACH)
    await paths.embedder(document)
    before = await paths.old(document)
    paths.models.poison = _token_of(paths, "zebra")
    try:
        with pytest.raises(ModelError, match=r"fails on 1 of 2 chunks of document `fails`"):
            await paths.embedder(replace(document, content=paragraphs("newer", 2) + "\n\nzebra"))
    finally:
        paths.models.poison = None

    assert await paths.old(document) == before


async def test_a_repetition_mends_a_write_that_failed(paths: Paths) -> None:
    document = IngestRequest(TENANT, "mended", paragraphs("older", 3), chunking_config=ONE_EACH)
    await paths.embedder(document)
    newer = replace(document, content=paragraphs("newer", 2))
    paths.store.refuses = True
    with pytest.raises(VectorStoreUnavailable):
        await paths.embedder(newer)
    await paths.embedder(newer)

    assert len(await paths.old(document)) == 2
    assert all("newer" in paths.store.texts[row_id] for row_id in await paths.old(document))


async def test_a_caller_that_is_cancelled_leaves_one_version(paths: Paths) -> None:
    document = IngestRequest(TENANT, "cancelled", paragraphs("older", 3), chunking_config=ONE_EACH)
    await paths.embedder(document)
    paths.store.written = asyncio.Event()
    ingest = asyncio.create_task(paths.embedder(replace(document, content=paragraphs("newer", 2))))
    await asyncio.wait_for(paths.store.written.wait(), HANG_SECONDS)
    ingest.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ingest

    assert len(await paths.old(document)) == 2
    assert all("newer" in paths.store.texts[row_id] for row_id in await paths.old(document))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"content": " \n "}, "content: is empty"),
        ({"content_type": "pdf"}, r"content_type: `pdf` is unknown: .*text"),
        ({"priority": 101}, "priority"),
        ({"metadata": {"job_id": "x"}}, "metadata: name `job_id`"),
        ({"media_id": ""}, "media_id"),
    ],
)
async def test_both_paths_refuse_the_same_requests(
    paths: Paths, change: Mapping[str, Any], message: str
) -> None:
    request = replace(IngestRequest(TENANT, "refused", "Pumps."), **change)
    for path in (paths.embedder, paths.fleet):
        with pytest.raises(InvalidRequest, match=message):
            await path(request)


async def test_the_synchronous_path_has_only_the_models_that_it_was_given(paths: Paths) -> None:
    with pytest.raises(InvalidRequest, match=r"model: `stab` is not a model .*: did you mean `stub`"):
        await paths.embedder(IngestRequest(TENANT, "other", "Pumps.", model="stab"))


async def test_a_fleet_that_is_slow_answers_that_it_goes_on(paths: Paths) -> None:
    hurried = FleetPath(paths.running.jobs.of, wait_seconds=0.0)
    request = IngestRequest(TENANT, "slow", paragraphs("slow", 8), chunking_config=ONE_EACH)
    result = await hurried(request)

    assert (result.visible, result.chunks) == (False, 0)
    assert result.job_id is not None
    ended = await paths.fleet.until_ended(TENANT, result.job_id)
    assert (ended.visible, ended.chunks) == (True, 8)


async def test_a_document_that_the_fleet_gives_up_is_an_error(paths: Paths) -> None:
    jobs = paths.running.jobs.of(TENANT)
    job_id = await jobs.record_unreadable(media_id="given up", reason="it is broken")

    with pytest.raises(Permanent, match=r"the fleet gave up document `given up` .*: it is broken"):
        await paths.fleet.until_ended(TENANT, job_id)


async def test_a_job_whose_document_was_deleted_is_not_visible(paths: Paths) -> None:
    result = await paths.fleet(IngestRequest(TENANT, "deleted", "Pumps move water."))
    assert result.job_id is not None
    await paths.fleet.remove(TENANT, "deleted")
    await paths.running.settled()

    assert not (await paths.fleet.until_ended(TENANT, result.job_id)).visible


async def test_the_path_to_the_fleet_works_over_http_too(paths: Paths) -> None:
    serving = serving_parts(parts_of_owner(paths.running.system))
    async with serving as (url, _), AsyncClient(url) as client:
        path = FleetPath(client.of, wait_seconds=HANG_SECONDS)
        document = replace(DOCUMENTS[6], tenant="carol", media_id="over/http", content_type="markdown")
        result = await path(document)
        await paths.embedder(document)

        assert result.visible
        assert await paths.new(document) == await paths.old(document) != {}
        await path.remove("carol", "over/http")
        await paths.running.settled()
        assert await paths.new(document) == {}


@pytest.mark.slow  # `test_traffic_real_paths.py` moves one document to and fro in every run
async def test_documents_that_move_to_and_fro_are_whole_and_on_one_path(paths: Paths) -> None:
    """Real stores on both sides, and requests that are under way while the percentage changes."""
    database = paths.running.system.database
    administration = TrafficAdministration(database, SystemClock(), actor="local")
    last = {n: IngestRequest(f"tenant {n % 4}", f"moves {n}", "", chunking_config=ONE_EACH) for n in range(6)}
    async with TrafficRouter(paths.embedder, paths.fleet, database=database) as router:
        for version, percent in enumerate((0, 100, 0, 60)):
            for n, request in last.items():
                last[n] = replace(request, content=paragraphs(f"version{version}", 1 + (version + n) % 3))
            await administration.set(percent=percent)

            async def change_holds(percent: float = percent) -> bool | None:
                await asyncio.gather(*map(router.ingest, last.values()))
                return router._states.present().state.percent == percent or None

            # Requests are under way when the change begins to hold, half a second after it was made.
            async with asyncio.timeout(HANG_SECONDS):
                await database.until(change_holds, every_seconds=0.01)
        # Those of the last round may all have been served just before the change.
        await asyncio.gather(*map(router.ingest, last.values()))
        await until(lambda: database.read(lambda conn: not removals.numbers(conn)), database)
        await paths.running.settled()

        used: set[str] = set()
        for request in last.values():
            old, new = await paths.old(request), await paths.new(request)
            assert len(old) + len(new) == len(request.content.split("\n\n"))
            assert not (old and new), "visible on both paths"
            store = paths.store if old else paths.fleet_store
            assert all("version3" in store.texts[row_id] for row_id in old | new)
            used |= {"old"} if old else {"new"}
            await router.remove(request.tenant, request.media_id)
        assert used == {"old", "new"}
        await paths.running.settled()
        for request in last.values():
            assert await paths.old(request) == await paths.new(request) == {}


async def test_the_synchronous_path_and_a_fleet_refuse_each_others_store(tmp_path: Path) -> None:
    old, new = make_settings(tmp_path / "old"), make_settings(tmp_path / "new")
    async with open_synchronous_embedder(old) as embedder:
        assert (await embedder(DOCUMENTS[0])).visible
    async with open_synchronous_embedder(old) as embedder:
        await embedder.remove(TENANT, DOCUMENTS[0].media_id)
    with pytest.raises(ConfigError, match="belong to another system"):
        async with running(old):
            pass
    async with running(new):
        pass
    with pytest.raises(ConfigError, match="needs a store of its own"):
        async with open_synchronous_embedder(new):
            pass


def _token_of(paths: Paths, word: str) -> int:
    return int(tokenised([word], paths.running.system.catalogue.info("stub")).token_ids[0])
