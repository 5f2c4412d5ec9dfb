"""A model that calculates otherwise than at first writes nothing, and its tasks wait for a sound one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest
from numpy.typing import NDArray

from embedfleet.errors import ModelUnavailable
from embedfleet.inference.backend import EmbeddingBackend, ModelInfo, TokenBatch
from embedfleet.inference.catalogue import Catalogue
from embedfleet.queue_schemas import JobStatus
from embedfleet.searching.search import SearchRequest
from embedfleet.settings import Settings
from embedfleet.vectors.checksums import cosines
from support.databases import on_both_databases
from support.hangs import HANG_SECONDS
from support.system import ONE_EACH, TENANT, Configure, Running, paragraphs, running, take_ledger


class DriftingBackend:
    """Right until its catalogue says otherwise; then each vector has another direction."""

    def __init__(self, sound: EmbeddingBackend, catalogue: DriftingCatalogue) -> None:
        self._sound = sound
        self._catalogue = catalogue
        self.info: ModelInfo = sound.info

    def embed_tokens(self, batch: TokenBatch) -> NDArray[np.float32]:
        vectors = self._sound.embed_tokens(batch)
        return np.roll(vectors, 1, axis=1) if self._catalogue.drifted else vectors

    def close(self) -> None:
        self._sound.close()


class DriftingCatalogue(Catalogue):
    drifted = False

    def open(self, name: str, device: str | None = None) -> EmbeddingBackend:
        return DriftingBackend(super().open(name, device), self)


@asynccontextmanager
async def drifting(
    settings: Settings, *, drifted: bool = False
) -> AsyncIterator[tuple[Running, DriftingCatalogue]]:
    catalogue = DriftingCatalogue(settings.models)
    catalogue.drifted = drifted
    async with running(settings, catalogue=catalogue) as fleet:
        yield fleet, catalogue


async def until_quarantined(fleet: Running, times: int = 1) -> None:
    """A quarantine is counted before the tasks are put off, so that is what tells of it."""
    name = "embedding_model_quarantines_total"

    def happened() -> bool:
        return (fleet.system.metrics.registry.get_sample_value(name, {"model": "stub"}) or 0) >= times

    await fleet.eventually(lambda depths: happened())


@on_both_databases
async def test_a_model_that_drifted_since_its_space_was_first_used_writes_nothing(
    configure: Configure,
) -> None:
    settings = configure()
    async with drifting(settings) as (fleet, _):
        await fleet.ingest("1", paragraphs("sound", 5), chunking_config=ONE_EACH)
    async with drifting(settings, drifted=True) as (fleet, catalogue):
        job_id = await fleet.submit("2", paragraphs("later", 5), chunking_config=ONE_EACH)
        await until_quarantined(fleet)
        info = await fleet.jobs.get_job_status(job_id)
        assert not info.status.terminal
        assert info.progress.chunks_stored == 0
        with pytest.raises(ModelUnavailable, match="model stub is in quarantine: known texts have"):
            await fleet.system.models.get("stub")
        catalogue.drifted = False  # the device is mended: the model that is loaded next is sound
        info = await fleet.jobs.wait(job_id, timeout_seconds=HANG_SECONDS)
        assert info.status is JobStatus.COMPLETED
        await fleet.settled()
        (await take_ledger(fleet.system)).assert_exact()
        hits = await fleet.system.search.search(TENANT, SearchRequest(query="paragraph", limit=20))
        assert len(hits) == 10


async def test_it_is_looked_at_again_every_so_many_batches(configure: Configure) -> None:
    settings = configure(models={"default": "stub", "canary_every_batches": 2})
    async with drifting(settings) as (fleet, catalogue):
        await fleet.ingest("0", paragraphs("sound", 1), chunking_config=ONE_EACH)
        await fleet.ingest("1", paragraphs("sound again", 1), chunking_config=ONE_EACH)
        catalogue.drifted = True
        job_id = await fleet.submit("2", paragraphs("later", 1), chunking_config=ONE_EACH)
        await until_quarantined(fleet)
        assert (await fleet.jobs.get_job_status(job_id)).progress.chunks_stored == 0
        catalogue.drifted = False
        assert (await fleet.jobs.wait(job_id, timeout_seconds=HANG_SECONDS)).status is JobStatus.COMPLETED


async def test_it_can_be_switched_off(configure: Configure) -> None:
    settings = configure(models={"default": "stub", "canary_every_batches": 0})
    async with drifting(settings) as (fleet, catalogue):
        await fleet.ingest("1", paragraphs("sound", 1), chunking_config=ONE_EACH)
        catalogue.drifted = True
        info = await fleet.ingest("2", paragraphs("later", 1), chunking_config=ONE_EACH)
        assert info.status is JobStatus.COMPLETED


@pytest.mark.parametrize(
    ("other", "cosine"),
    [([3, 4], 1), ([-3, -4], -1), ([-4, 3], 0), ([0, 0], 0)],
    ids=["the same", "opposite", "at right angles", "nothing"],
)
def test_the_cosine_needs_no_unit_length(other: list[float], cosine: float) -> None:
    some = np.array([[6, 8]], dtype=np.float32)
    assert cosines(some, np.array([other], dtype=np.float32))[0] == pytest.approx(cosine)
