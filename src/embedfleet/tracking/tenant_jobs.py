"""The jobs and documents of one tenant."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from sqlalchemy import Connection

from embedfleet import document_metadata
from embedfleet.clock import Clock
from embedfleet.document_filter import DocumentFilter
from embedfleet.document_metadata import Metadata, Value
from embedfleet.errors import InvalidRequest, Remedy, UnknownDocument
from embedfleet.lifecycle import describing, ending, estimating
from embedfleet.lifecycle.admission import Admission, UnreadableSource
from embedfleet.lifecycle.estimates import Pace, pace_of_past, summed
from embedfleet.lifecycle.model_choice import routing_of
from embedfleet.paging import pages
from embedfleet.positions import MissingJob
from embedfleet.queue_schemas import (
    ChunkInfo,
    ChunkingConfig,
    DocumentEstimate,
    DocumentInfo,
    DocumentText,
    Estimate,
    JobInfo,
    JobRequest,
    RateSource,
)
from embedfleet.records import (
    document_content,
    document_info,
    documents,
    generations,
    identity,
    jobs,
    past_work,
)
from embedfleet.records.collections import Collection
from embedfleet.records.cursors import Page, require_limit
from embedfleet.records.generations import Generation
from embedfleet.records.job_info import job_infos
from embedfleet.records.scope import OneTenant
from embedfleet.routing.choice import NOTHING_OWN, TenantRouting
from embedfleet.sql import document_lock
from embedfleet.sql.database import Database
from embedfleet.sql.states import GenerationState
from embedfleet.tracking.scoped_jobs import ScopedJobs
from embedfleet.tracking.visibility import wait_until_visible
from embedfleet.tracking.workload import read_workload

T = TypeVar("T")

# Documents that one transaction deletes: other writers wait for it a fraction of a second.
_DELETED_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class DocumentChunks:
    """Chunks of one version of a document. The vectors are in `collection` under the ids of the chunks."""

    generation: int
    collection: Collection
    chunks: Page[ChunkInfo]


class TenantJobs(ScopedJobs):
    """The jobs and documents of one tenant. No id gives access to the rows of another tenant."""

    def __init__(self, database: Database, clock: Clock, admission: Admission, tenant: str) -> None:
        super().__init__(database, clock, OneTenant(tenant))
        self._admission = admission
        self._tenant = tenant

    async def find_job(
        self,
        *,
        media_id: str,
        source_hash: str,
        chunking_config: ChunkingConfig | None = None,
        model: str | None = None,
    ) -> JobInfo | None:
        """Find the job that made, or is making, a document from the same source, chunking and model.

        With it a caller can skip reading a file again. Returns None if the document is new, changed or
        deleted. Raises UnknownModel.
        """
        found = await self.find_jobs([(media_id, source_hash)], chunking_config=chunking_config, model=model)
        return found[0]

    async def find_jobs(
        self,
        sources: Sequence[tuple[str, str]],
        *,
        chunking_config: ChunkingConfig | None = None,
        model: str | None = None,
    ) -> list[JobInfo | None]:
        """Find the jobs of many documents in one read, as `find_job` does for one.

        `sources` are pairs of a media id and the hash of its source. The result has one entry for each pair,
        in order. Without a `model`, a job counts whose model could be chosen now for a caller who names none.
        Raises UnknownModel.
        """
        chunking = chunking_config or self._admission.default_chunking
        wanted = [(identity.document_id(self._tenant, media_id), digest) for media_id, digest in sources]

        def is_same(made: generations.Generation, digest: str, spaces: AbstractSet[str]) -> bool:
            same_input = made.recipe.source_hash == digest and made.recipe.chunking == chunking
            is_kept = made.state is not GenerationState.RETIRED
            return same_input and made.collection.space in spaces and is_kept

        def look(conn: Connection) -> list[JobInfo | None]:
            own = NOTHING_OWN if model is not None else self._routing(conn)
            spaces = {one.space for one in self._admission.possible_models(model, own)}
            document_ids = list({document_id for document_id, _ in wanted})
            deleted = documents.deleted_among(conn, document_ids)
            made = generations.generations_of_many(conn, [one for one in document_ids if one not in deleted])
            # The newest generation from the same input, or None, for each pair.
            chosen = [
                next((one for one in made.get(document_id, []) if is_same(one, digest, spaces)), None)
                for document_id, digest in wanted
            ]
            ids = list({one.generation_id for one in chosen if one is not None})
            newest = jobs.newest_of_generations(conn, ids)
            infos = dict(zip(newest, job_infos(conn, list(newest.values())), strict=True))
            return [None if one is None else infos.get(one.generation_id) for one in chosen]

        return await self._database.read(look)

    async def models_of(self, media_ids: Sequence[str]) -> dict[str, str]:
        """Return, by media id, the model of the version that readers see or that is being made.

        A document without such a version is left out. The model may not be configured any more.
        """
        by_document = {identity.document_id(self._tenant, one): one for one in media_ids}
        models = await self._database.read(lambda conn: generations.models_of(conn, list(by_document)))
        return {by_document[name]: model for name, model in models.items()}

    async def wait_until_visible(self, position: str, *, timeout_seconds: float) -> list[MissingJob]:
        """Return when a search finds what was submitted at this position, to read what one has written.

        The position of one submission is the id of its job; `positions.Position.of_jobs` makes that of
        several. Returns up to 20 jobs that ended and that searches do not find, or not all of. Raises
        InvalidRequest for another text, UnknownJob, and NotYetVisible after the timeout.
        """
        return await wait_until_visible(
            self._database, self._scope, position, timeout_seconds=timeout_seconds, now=self._clock.now()
        )

    # --- one document ---

    async def get_document(self, *, media_id: int | str) -> DocumentInfo:
        """Return the document. Raises UnknownDocument."""
        document_id = self._document_id(media_id)
        found = await self._database.read(lambda conn: document_info.get(conn, document_id))
        if found is None:
            raise unknown_document(self._tenant, media_id)
        return found

    async def read_text(self, *, media_id: int | str, start: int = 0, end: int | None = None) -> DocumentText:
        """Return the characters [start, end) of the document's text, as far as it goes.

        Raises UnknownDocument, and InvalidRequest for a range that is none.
        """
        if start < 0 or (end is not None and end < start):
            raise InvalidRequest(f"start, end: must be 0 <= start <= end (got {start} and {end})")

        def look(conn: Connection, shown: Generation) -> DocumentText:
            last = shown.recipe.chars if end is None else end
            return document_content.text_of(conn, shown, start, last)

        return await self._read_shown(media_id, look)

    async def list_chunks(
        self, *, media_id: int | str, limit: int = 100, after: str | None = None, with_text: bool = False
    ) -> DocumentChunks:
        """Return up to `limit` chunks of the document, in order; with their texts on request.

        For the next page, pass `chunks.next_cursor` as `after`. Raises UnknownDocument. Raises InvalidRequest
        for another text, and if the document has a newer version since the page before.
        """
        require_limit(limit)

        def look(conn: Connection, shown: Generation) -> DocumentChunks:
            page = document_content.chunks_of(conn, shown, limit=limit, after=after, with_text=with_text)
            return DocumentChunks(shown.number, shown.collection, page)

        return await self._read_shown(media_id, look)

    async def _read_shown(self, media_id: int | str, look: Callable[[Connection, Generation], T]) -> T:
        """Read from the version of the document that readers see, otherwise the newest."""
        document_id = self._document_id(media_id)

        def read(conn: Connection) -> T:
            shown = document_content.shown_generation(conn, document_id)
            if shown is None:
                raise unknown_document(self._tenant, media_id)
            return look(conn, shown)

        return await self._database.read(read)

    def _document_id(self, media_id: int | str) -> str:
        return identity.document_id(self._tenant, str(media_id))

    # --- change ---

    async def record_unreadable(
        self,
        *,
        media_id: str,
        reason: str,
        model: str | None = None,
        source: str | None = None,
        source_hash: str | None = None,
    ) -> str:
        """Record that a document could not be turned into text, as a failed job with a dead letter.

        Returns the id of the job. A second call for the same bytes returns the same id. Readers keep the
        generation they see. Raises UnknownModel, StorageFull, DatabaseUnavailable.
        """
        own = await self._database.read(self._routing)
        # No rule can look at a text that there is not, so the model is the one that no rule chooses.
        info = self._admission.possible_models(model, own)[-1]
        route = None if model is not None else f"no text to look at: {self._admission.fallback(own)}"
        what = UnreadableSource(self._tenant, media_id, reason, info, source, source_hash, route)
        return await self._database.write(lambda conn: self._admission.note_unreadable(conn, what))

    def _routing(self, conn: Connection) -> TenantRouting:
        """Return the tenant's rules and its model."""
        return routing_of(conn, [self._tenant]).get(self._tenant, NOTHING_OWN)

    async def set_metadata(
        self, *, media_id: int | str, patch: Mapping[str, Value | None]
    ) -> dict[str, Value]:
        """Change metadata of a document without embedding anything, and return all that it has then.

        A name with None is removed; names that `patch` does not have are kept. Searches count by it at once;
        the rows of the vector store follow soon. Raises UnknownDocument, and InvalidRequest for metadata that
        cannot be kept.
        """
        document_id = self._document_id(media_id)

        def patched(before: Metadata) -> Metadata:
            try:
                return document_metadata.patched(before, patch)
            except ValueError as exc:
                raise InvalidRequest(f"metadata: {exc}", field="metadata", reason=str(exc)) from exc

        changed = await self._database.write(lambda conn: describing.change(conn, {document_id: patched}))
        if document_id not in changed:
            raise unknown_document(self._tenant, media_id)
        return dict(changed[document_id])

    async def replace_metadata(self, metadata: Mapping[str, Metadata]) -> set[str]:
        """Give documents this metadata, by media id, in place of all that they have.

        Returns the media ids of those that exist. The metadata is as `JobRequest` takes it. Nothing is
        embedded.
        """

        def instead_of(new: Metadata) -> Callable[[Metadata], Metadata]:
            return lambda _before: new

        named = {self._document_id(media_id): media_id for media_id in metadata}
        wanted = {document_id: instead_of(metadata[media_id]) for document_id, media_id in named.items()}
        if not wanted:
            return set()
        changed = await self._database.write(lambda conn: describing.change(conn, wanted))
        return {named[document_id] for document_id in changed}

    async def estimate_documents(
        self, requests: Sequence[JobRequest], *, cut: bool = True
    ) -> list[DocumentEstimate]:
        """Say what each of these documents would cost if it were submitted alone, in order.

        Nothing is written, and the tenant's limits do not count. Without `cut`, only what would be charged is
        told, which takes far less time. Raises UnknownModel, and InvalidRequest for another tenant's request.
        """
        others = [one.user_id for one in requests if one.user_id != self._tenant]
        if others:
            raise InvalidRequest(
                f"user_id: is `{others[0]}`, but only documents of `{self._tenant}` are estimated here",
                field="user_id",
            )
        return await estimating.estimates_of(self._database, self._admission, requests, cut=cut)

    async def sum_of_estimates(self, estimates: Sequence[DocumentEstimate]) -> Estimate:
        """Return the sums, with the time that the workers would take at their present rate.

        If no worker runs, or none has measured its rate yet, the rate of the tenant's latest jobs counts.
        """
        now = self._clock.now()

        def look(conn: Connection) -> Pace | None:
            workload = read_workload(conn, self._admission.tenants, now)
            rate = workload.rate
            if rate is None:
                return pace_of_past(past_work.latest_jobs(conn, self._tenant))
            return Pace(rate, RateSource.WORKERS, workload.seconds_until_idle(self._tenant))

        pace = await self._database.read(look)
        return summed(estimates, currency=self._admission.prices.currency, pace=pace)

    async def delete_document(self, *, media_id: int | str) -> str | None:
        """Hide the document at once and request its deletion. Return None if there is no such document.

        Otherwise return the id of a receipt. It tells when nothing of the document is left (`receipt`).
        """
        document_id = self._document_id(media_id)

        def remove(conn: Connection) -> str | None:
            document_lock.lock(conn, [document_id])
            return ending.delete_documents(conn, [document_id], self._clock.now()).get(document_id)

        return await self._database.write(remove)

    async def delete_documents(self, *, matching: DocumentFilter) -> dict[str, str]:
        """Delete the documents that the filter means, as `delete_document` does. Return receipts by media id.

        A document that is submitted or changed during the call is deleted only if it was meant before and
        after. They are deleted in several transactions, so after an error some are deleted: repeat the call.
        Raises InvalidRequest for a filter that leaves nothing out, so that an omission deletes nothing.
        """
        if not matching.says_something:
            raise InvalidRequest("the filter leaves no document out: say which ones are to be deleted")
        meant = await self._database.read(
            lambda conn: document_info.ids_matching(conn, self._scope, matching)
        )
        deleted: dict[str, str] = {}
        for ids in pages(sorted(meant), _DELETED_AT_ONCE):
            deleted |= await self._database.write(
                partial(self._delete_matching, matching=matching, document_ids=ids)
            )
        return deleted

    def _delete_matching(
        self, conn: Connection, matching: DocumentFilter, document_ids: Sequence[str]
    ) -> dict[str, str]:
        document_lock.lock(conn, document_ids)
        # Looked at again under the lock: one of them may have been changed since.
        still = document_info.matching_among(conn, self._scope, matching, document_ids)
        made = ending.delete_documents(conn, list(still), self._clock.now())
        return {still[document_id]: receipt for document_id, receipt in made.items()}


def unknown_document(tenant: str, media_id: int | str) -> UnknownDocument:
    """Return the error for a document that the tenant does not have."""
    return UnknownDocument(
        f"tenant `{tenant}` has no document `{media_id}`: list its documents to see them",
        remedy=Remedy.LIST_DOCUMENTS,
    )
