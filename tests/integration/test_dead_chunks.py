"""A text the model cannot embed costs itself and nothing else, and is named."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import numpy as np
from numpy.typing import NDArray

from embedfleet.chunking.tokenizers import load_tokenizer
from embedfleet.inference.backend import EmbeddingBackend, ModelInfo, TokenBatch
from embedfleet.inference.catalogue import Catalogue
from embedfleet.queue.broker import Task
from embedfleet.queue_schemas import CharRange, JobStatus, Stage
from embedfleet.searching.search import SearchRequest
from embedfleet.settings import Settings
from support.hangs import HANG_SECONDS
from support.system import ONE_EACH, TENANT, Running, paragraphs, running, take_ledger

POISON = "xylophone"


class PoisonableBackend:
    """Fails for every batch in which a text holds the poison, while it is ill."""

    def __init__(self, healthy: EmbeddingBackend, catalogue: PoisonableCatalogue) -> None:
        self._healthy = healthy
        self._catalogue = catalogue
        ids, _ = load_tokenizer(healthy.info.tokenizer_file).encode_batch([POISON])
        self._poison = ids[1]  # the word's second piece: the first, `x`, is common

    @property
    def info(self) -> ModelInfo:
        return self._healthy.info

    def embed_tokens(self, batch: TokenBatch) -> NDArray[np.float32]:
        if self._catalogue.ill and self._poison in batch.token_ids:
            raise RuntimeError("cannot stand this text")
        return self._healthy.embed_tokens(batch)

    def close(self) -> None:
        self._healthy.close()


class PoisonableCatalogue(Catalogue):
    ill = True

    def open(self, name: str, device: str | None = None) -> EmbeddingBackend:
        return PoisonableBackend(super().open(name, device), self)


@asynccontextmanager
async def poisonable(settings: Settings) -> AsyncIterator[tuple[Running, PoisonableCatalogue]]:
    catalogue = PoisonableCatalogue(settings.models)
    async with running(settings, catalogue=catalogue) as fleet:
        yield fleet, catalogue


def poisoned(name: str, count: int, bad: Sequence[int]) -> str:
    parts = paragraphs(name, count).split("\n\n")
    return "\n\n".join(f"{POISON} {part}" if n in bad else part for n, part in enumerate(parts))


async def test_neighbours_are_stored_and_the_missing_ranges_are_named(settings: Settings) -> None:
    content = poisoned("text", 50, bad=[7, 30])
    async with poisonable(settings) as (fleet, _):
        info = await fleet.ingest("1", content, chunking_config=ONE_EACH)
        hits = await fleet.system.search.search(TENANT, SearchRequest(query="x", limit=100))
    assert info.status is JobStatus.COMPLETED_WITH_ERRORS
    assert info.reason == "2 of 50 chunks failed"
    assert info.progress.chunks_stored == len(hits) == 48
    assert info.progress.chunks_dead == 2
    starts = [content.index(part) for part in content.split("\n\n") if part.startswith(POISON)]
    ends = [content.find("\n\n", start) for start in starts]
    assert list(info.missing) == [CharRange(start=s, end=e) for s, e in zip(starts, ends, strict=True)]
    assert not [hit for hit in hits if POISON in hit.text]


async def test_a_retry_embeds_what_failed_and_only_that(settings: Settings) -> None:
    async with poisonable(settings) as (fleet, catalogue):
        info = await fleet.ingest("1", poisoned("text", 200, bad=[7]), chunking_config=ONE_EACH)
        before = fleet.embedded()
        catalogue.ill = False
        await fleet.jobs.of(TENANT).retry(info.job_id)
        info = await fleet.jobs.wait(info.job_id, timeout_seconds=HANG_SECONDS)
        await fleet.settled()
        (await take_ledger(fleet.system)).assert_exact()
        assert fleet.embedded() - before == 1
    assert info.status is JobStatus.COMPLETED
    assert info.missing == ()
    assert info.progress.chunks_stored == 200


async def test_requeued_dead_letters_run_their_job_again_and_end(settings: Settings) -> None:
    async with poisonable(settings) as (fleet, catalogue):
        info = await fleet.ingest("1", poisoned("text", 50, bad=[7, 30]), chunking_config=ONE_EACH)
        letters = await fleet.jobs.of(TENANT).list_dead_letters(stage=Stage.EMBEDDING)
        assert [(one.start, one.end) for one in reversed(letters)] == [
            (gap.start, gap.end) for gap in info.missing
        ]
        catalogue.ill = False
        requeued = await fleet.jobs.of(TENANT).requeue_dead_letters([letters[0].dead_letter_id])
        assert requeued.jobs == (info.job_id,)
        again = await fleet.jobs.wait(info.job_id, timeout_seconds=HANG_SECONDS)
        await fleet.settled()
        (await take_ledger(fleet.system)).assert_exact()
        assert await fleet.jobs.of_all_tenants().list_dead_letters() == []
        history = await fleet.jobs.of_all_tenants().list_dead_letters(ended=True)
    assert (again.status, again.missing) == (JobStatus.COMPLETED, ())
    assert [(one.run, one.ended) for one in history] == [(1, "requeued"), (1, "requeued")]


async def test_a_version_none_of_whose_chunks_could_be_embedded_does_not_replace_the_old(
    settings: Settings,
) -> None:
    async with poisonable(settings) as (fleet, _):
        await fleet.ingest("1", "The old version.")
        info = await fleet.ingest("1", f"{POISON} alone")
        hits = await fleet.system.search.search(TENANT, SearchRequest(query="version"))
        (await take_ledger(fleet.system)).assert_exact()
    assert info.status is JobStatus.FAILED
    assert [hit.text for hit in hits] == ["The old version."]


async def test_an_unreadable_message_ends_in_the_dead_letters_and_its_job_ends(settings: Settings) -> None:
    async with running(settings) as fleet:
        for stage in (Stage.CHUNKING, Stage.EMBEDDING, Stage.STORAGE):
            job_id = await fleet.submit(str(stage), "Fine.")
            await fleet.jobs.wait(job_id, timeout_seconds=HANG_SECONDS)
            junk = Task(id=f"{job_id}:9:0", tenant=TENANT, job_id=job_id, cost=1, payload=b"\xc1junk")
            await fleet.system.broker.enqueue(stage, [junk])
            await _dead(fleet, stage)
            (dead,) = await fleet.system.broker.dead(stage)
            assert dead.task.payload == b"\xc1junk"
            assert "not msgpack" in dead.reason
            # What was completed stays completed.
            assert (await fleet.jobs.get_job_status(job_id)).status is JobStatus.COMPLETED


async def _dead(fleet: Running, stage: Stage) -> None:
    await fleet.eventually(lambda depths: depths[stage].dead > 0)
