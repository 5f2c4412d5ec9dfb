"""Finds out which groups of vectors are right: embeds some of their rows again and compares."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from embedfleet.adoption.groups import GroupFinding, GroupOutcome, Sample, finding, model_of
from embedfleet.adoption.options import AdoptOptions
from embedfleet.adoption.survey import Group, RowRef, Survey, by_collection
from embedfleet.errors import ModelError, UnknownModel
from embedfleet.inference.backend import ModelInfo
from embedfleet.inference.catalogue import Catalogue
from embedfleet.inference.pool import ModelPool
from embedfleet.paging import pages
from embedfleet.tokenising import cut, tokenised
from embedfleet.vectors.checksums import cosines
from embedfleet.vectors.source import Source, SourceRows

# The same rows at every run, so that a dry run and the run after it decide alike.
_SEED = 16
# Rows of a sample that are in memory at once.
_ROWS = 1_000


class Sampling:
    """Compares vectors of a source with those that the configured models make now."""

    def __init__(
        self, source: Source, catalogue: Catalogue, models: ModelPool, options: AdoptOptions
    ) -> None:
        self._source = source
        self._catalogue = catalogue
        self._models = models
        self._options = options

    async def findings(self, found: Survey) -> list[GroupFinding]:
        """Decide every group.

        Raises UnknownModel for a model that the caller names, ModelError and ModelUnavailable for one that
        cannot be used, and what `Source` raises.
        """
        entries = {name: self._catalogue.settings_of(name) for name in self._catalogue.names()}
        for name in self._options.models.values():
            self._catalogue.settings_of(name)  # an unknown one is refused before any work
        return [
            await self._finding(group, rows, model_of(group, self._options.models, entries))
            for group, rows in found.rows_of_groups().items()
        ]

    async def _finding(self, group: Group, rows: Sequence[RowRef], model: str | None) -> GroupFinding:
        if model is None:
            reason = "no configured model has this name: say which one it is"
            return GroupFinding(group, len(rows), GroupOutcome.REFUSE, None, Sample(), reason)
        try:
            info = await asyncio.to_thread(self._catalogue.info, model)
        except (UnknownModel, ModelError) as exc:
            raise type(exc)(f"{group.label}: {exc}", remedy=exc.remedy) from exc
        sample = Sample() if info.dim != group.dim else await self._compare(rows, info)
        return finding(group, len(rows), info, sample, embed_wrong=self._options.embed_wrong)

    async def _compare(self, rows: Sequence[RowRef], info: ModelInfo) -> Sample:
        """Compare a sample of these rows, all of the model's dimension.

        Rows that are longer than the model takes count only if the sample has no other. The other system has
        cut them off, perhaps elsewhere than the model here, and their documents are embedded again anyway.
        """
        chosen = random.Random(_SEED).sample(rows, min(self._options.sample, len(rows)))
        whole = cut_off = Sample()
        parts = ((name, part) for name, ids in by_collection(chosen).items() for part in pages(ids, _ROWS))
        for collection, ids in parts:
            nearness, fits = await self._nearness(await self._source.rows(collection, ids), info)
            whole += self._sample(nearness[fits])
            cut_off += self._sample(nearness[~fits])
        return whole if whole.compared else cut_off

    async def _nearness(
        self, found: SourceRows, info: ModelInfo
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return the cosine of each row to a new vector of its text, and whether the model takes all of it.

        A row without a text, or without a token, is left out.
        """
        texts = {place: text for place, text in enumerate(found.texts) if text}
        tokens = await asyncio.to_thread(tokenised, list(texts.values()), info)
        rows = np.flatnonzero(tokens.lengths)
        if not len(rows):
            return np.empty(0), np.empty(0, dtype=np.bool_)
        batch = tokens.take(rows)
        async with self._models.using(info.name) as runner:
            outcome = await runner.embed(cut(batch, info))
        good = [row for row in range(len(rows)) if row not in outcome.failed]
        places = list(texts)
        theirs = found.vectors[[places[rows[row]] for row in good]]
        return cosines(theirs, outcome.vectors[good]), batch.lengths[good] <= info.max_tokens

    def _sample(self, nearness: NDArray[np.float64]) -> Sample:
        same = int(np.count_nonzero(nearness >= self._options.least_cosine))
        return Sample(len(nearness), same, float(nearness.min(initial=1.0)))
