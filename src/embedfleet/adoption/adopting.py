"""Takes over the collections of a source, page by page."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from embedfleet.adoption.beginning import TakenDocument
from embedfleet.adoption.groups import GroupOutcome
from embedfleet.adoption.judging import Outcome, Reason
from embedfleet.adoption.layout import SourceLayout
from embedfleet.adoption.options import AdoptOptions
from embedfleet.adoption.preparing import Candidate, Cutting, prepared
from embedfleet.adoption.reading import ChosenDocument, ReadDocument, Reading, chosen_pages
from embedfleet.adoption.report import Report
from embedfleet.adoption.sampling import Sampling
from embedfleet.adoption.survey import DocumentKey, Survey, survey
from embedfleet.adoption.texts import TextSource
from embedfleet.adoption.writing import Writing
from embedfleet.errors import EmbedfleetError, InvalidRequest
from embedfleet.inference.catalogue import Catalogue
from embedfleet.inference.pool import ModelPool
from embedfleet.lifecycle.admission import Admission
from embedfleet.lifecycle.estimates import summed
from embedfleet.lifecycle.estimating import estimates_of
from embedfleet.queue_schemas import DocumentEstimate, JobRequest
from embedfleet.records import generations as generation_records
from embedfleet.records import identity, receipts
from embedfleet.settings import Settings
from embedfleet.sql.database import Database
from embedfleet.tracking.submissions import Submissions
from embedfleet.vectors.source import Source
from embedfleet.waiting import one_ahead

Progress = Callable[[int, int], None]
"""Is called with the number of documents that are done, and of all."""


@dataclass(frozen=True, slots=True)
class Target:
    """The system that takes over. `writing` None: a dry run, which writes nothing."""

    settings: Settings
    database: Database
    catalogue: Catalogue
    models: ModelPool
    admission: Admission
    writing: Writing | None


@dataclass(frozen=True, slots=True)
class _ToEmbed:
    """A document whose vectors are not taken, what is submitted of it, and why."""

    document: ReadDocument
    request: JobRequest
    reason: Reason


@dataclass(frozen=True, slots=True)
class _SortedPage:
    """A page of `documents` documents: those to write, and those to embed again."""

    documents: int
    taken: Sequence[TakenDocument]
    embed: Sequence[_ToEmbed]


class Adoption:
    """One adoption of a source."""

    def __init__(
        self,
        source: Source,
        layout: SourceLayout,
        target: Target,
        options: AdoptOptions,
        *,
        texts: TextSource | None = None,
    ) -> None:
        """`texts` has the texts of the documents; None: they are made of the rows."""
        self._source = source
        self._layout = layout
        self._target = target
        self._options = options
        self._reading = Reading(source, layout, texts)
        batch_chunks = target.settings.chunking.batch_chunks
        self._cutting = Cutting(target.admission.default_chunking, batch_chunks)
        self._estimates: list[DocumentEstimate] = []

    async def run(self, progress: Progress | None = None) -> Report:
        """Take over everything, and return what became of it. It may be interrupted and run again.

        A document that is here already is left alone. Raises InvalidRequest for an unknown collection,
        UnknownModel, ModelError, and what the source, the database, the vector store and the texts raise.
        """
        target = self._target
        found = await survey(self._source, self._layout, self._options.collections)
        sampling = Sampling(self._source, target.catalogue, target.models, self._options)
        findings = await sampling.findings(found)
        report = Report(
            place=self._source.place,
            dry_run=target.writing is None,
            collections=[one.name for one in found.collections],
            distances=sorted({one.distance for one in found.collections if one.distance}),
            left_alone=found.left_alone,
            rows=found.rows,
            unattributed_rows=found.unattributed,
            view_rows=found.of_views,
            groups=findings,
        )
        was_deleted = await self._deletions(found)
        done = 0
        pages = chosen_pages(found, {one.group: one for one in findings})
        # The source is read while the page before is written: each waits mostly for a store.
        async with aclosing(one_ahead(pages, lambda page: self._read(page, report, was_deleted))) as sorted_:
            async for page in sorted_:
                await self._write(page.taken, report)
                await self._embed(page.embed, report)
                done += page.documents
                if progress is not None:
                    progress(done, len(found.documents))
        if target.writing is not None:
            await target.writing.note(report.deed())
        if report.dry_run:
            currency = target.settings.prices.currency
            report.estimate = summed(self._estimates, currency=currency, pace=None)
        return report

    async def _read(
        self, page: Sequence[ChosenDocument], report: Report, was_deleted: Callable[[DocumentKey], bool]
    ) -> _SortedPage:
        """Read the documents of a page and sort them. Count those of which nothing is written."""
        there = await self._there([one.key for one in page])
        wanted: list[ChosenDocument] = []
        for one in page:
            if one.key in there:
                report.add(one.key, Outcome.THERE, Reason.THERE, len(one.rows))
            elif self._options.leave_deleted and was_deleted(one.key):
                report.add(one.key, Outcome.DROP, Reason.DELETED, len(one.rows))
            elif one.finding.outcome is GroupOutcome.REFUSE:
                report.add(one.key, Outcome.REFUSE, Reason.GROUP_REFUSED, len(one.rows))
            else:
                report.restored += was_deleted(one.key)
                wanted.append(one)
        taken, embed = await self._sorted(await self._reading.read(wanted), report)
        return _SortedPage(len(page), taken, embed)

    async def _deletions(self, found: Survey) -> Callable[[DocumentKey], bool]:
        """Return what says of a document whether it, or its tenant, was ever deleted here."""
        names = sorted({key.tenant for key in found.documents})
        deleted, gone = await self._target.database.read(lambda conn: receipts.deleted_of(conn, names))
        return lambda key: key.tenant in gone or identity.document_id(*key) in deleted

    async def _there(self, keys: Sequence[DocumentKey]) -> set[DocumentKey]:
        """Return which of these documents readers see here, or a job makes.

        Those that only an earlier adoption has begun are not among them.
        """
        by_id = {identity.document_id(*key): key for key in keys}
        known = await self._target.database.read(
            lambda conn: generation_records.generations_of_many(conn, list(by_id))
        )
        return {
            by_id[document_id]
            for document_id, generations in known.items()
            if any(one.in_use and not one.begun_elsewhere for one in generations)
        }

    async def _sorted(
        self, read: Sequence[ReadDocument], report: Report
    ) -> tuple[list[TakenDocument], list[_ToEmbed]]:
        """Return the documents to write, and those to embed again. Count those that are neither."""
        embed: list[_ToEmbed] = []
        candidates: list[tuple[ReadDocument, JobRequest, Candidate]] = []
        for one in read:
            key, verdict, model = one.chosen.key, one.judged, one.chosen.finding.model
            assert model is not None, "only a refused group has no model"
            if verdict.outcome in (Outcome.DROP, Outcome.REFUSE):
                report.add(key, verdict.outcome, verdict.reason, len(one.chosen.rows))
                continue
            try:
                request = _request(one)
            except InvalidRequest as exc:
                report.add(key, Outcome.REFUSE, Reason.NOT_ADMITTED, len(one.chosen.rows))
                report.refusals.append(f"tenant `{key.tenant}`, media `{key.media_id}`: {exc}")
                continue
            report.lose(verdict.lost_metadata)
            if one.chosen.finding.outcome is GroupOutcome.EMBED:
                embed.append(_ToEmbed(one, request, Reason.GROUP_WRONG))
            elif verdict.outcome is Outcome.EMBED:
                embed.append(_ToEmbed(one, request, verdict.reason))
            else:
                info = self._target.catalogue.info(model)
                normalise = self._target.catalogue.settings_of(model).normalise
                candidate = Candidate(key, verdict, one.vectors, info, normalise)
                candidates.append((one, request, candidate))
        made = await asyncio.to_thread(
            lambda: list(prepared([candidate for *_, candidate in candidates], self._cutting))
        )
        taken: list[TakenDocument] = []
        for (one, request, candidate), result in zip(candidates, made, strict=True):
            if isinstance(result, TakenDocument):
                taken.append(result)
                report.stale_rows += candidate.judged.stale + one.chosen.others
            else:
                embed.append(_ToEmbed(one, request, result.reason))
        return taken, embed

    async def _write(self, taken: Sequence[TakenDocument], report: Report) -> None:
        writing = self._target.writing
        if writing is None or not taken:
            seen = {one.document_id for one in taken}
        else:
            seen = await writing.write(taken)
        there = await self._there([one.key for one in taken if one.document_id not in seen])
        for one in taken:
            if one.document_id in seen:
                report.add(one.key, Outcome.TAKE, Reason.RIGHT, len(one.chunks))
                report.tokens_taken += sum(row.tokens for row in one.chunks)
            elif one.key in there:  # it came another way since this page was begun
                report.add(one.key, Outcome.THERE, Reason.THERE, len(one.chunks))
            else:
                report.add(one.key, Outcome.REFUSE, Reason.CHANGING, len(one.chunks))

    async def _embed(self, embed: Sequence[_ToEmbed], report: Report) -> None:
        """Submit the documents whose vectors are not taken; in a dry run, only estimate them."""
        if not embed:
            return
        requests = [one.request for one in embed]
        target = self._target
        outcomes: Sequence[str | EmbedfleetError]
        if target.writing is None:
            self._estimates += await estimates_of(target.database, target.admission, requests, cut=True)
            outcomes = [""] * len(requests)
        else:
            outcomes = await Submissions(target.database, target.admission).create_each(requests)
        for one, outcome in zip(embed, outcomes, strict=True):
            chosen = one.document.chosen
            if isinstance(outcome, EmbedfleetError):
                report.add(chosen.key, Outcome.REFUSE, Reason.NOT_ADMITTED, len(chosen.rows))
                report.refusals.append(str(outcome))
            else:
                report.add(chosen.key, Outcome.EMBED, one.reason, len(chosen.rows))
                report.job_ids += [outcome] if outcome else []


def _request(one: ReadDocument) -> JobRequest:
    judged, key = one.judged, one.chosen.key
    return JobRequest(
        media_id=key.media_id,
        user_id=key.tenant,
        content=judged.text,
        model=one.chosen.finding.model,
        source=judged.source,
        title=judged.title,
        metadata=dict(judged.metadata),
    )
