"""Admission decides whether a submitted document is accepted, and writes it to SQL.

`prepare` does the work that needs no transaction: it cuts, hashes and compresses the text. `admit` is one
transaction for any number of submissions. It reads what SQL holds of them, has `admission_plan` decide, and
writes documents, generations and jobs together.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from embedfleet.chunking.chunker import PARTITION_VERSION
from embedfleet.chunking.counting import count_tokens
from embedfleet.chunking.segments import segment_spans
from embedfleet.chunking.tokenizers import load_tokenizer
from embedfleet.clock import Clock
from embedfleet.errors import UnknownModel
from embedfleet.inference.backend import ModelInfo
from embedfleet.inference.catalogue import Catalogue
from embedfleet.lifecycle import describing, ending
from embedfleet.lifecycle.admission_plan import Begun, Known, Submission, Ticket, Twin, Unchanged, plan
from embedfleet.lifecycle.describing import NewMetadata
from embedfleet.lifecycle.model_choice import (
    KnownOfRouting,
    PlainTenants,
    is_current,
    model_for,
    read_known,
)
from embedfleet.places import NOWHERE, Places
from embedfleet.queue_schemas import ContentType, JobRequest, JobStatus, Stage, UserTier
from embedfleet.quota import Amount, Usage
from embedfleet.records import (
    collections,
    dead_letters,
    documents,
    generations,
    identity,
    job_completion,
    job_counts,
    jobs,
    model_switches,
    tenants,
    usage,
)
from embedfleet.records.collections import Collection
from embedfleet.records.dead_letters import DeadLetter
from embedfleet.records.documents import DocumentName
from embedfleet.records.generations import NewGeneration
from embedfleet.records.jobs import NewJob
from embedfleet.records.segments import Segment
from embedfleet.routing.choice import Route, TenantRouting, candidates, fallback
from embedfleet.settings import Settings
from embedfleet.sql import document_lock

USUAL_PRIORITY = 50
"""The priority of a job whose caller chooses none."""


@dataclass(frozen=True, slots=True)
class UnreadableSource:
    """A generation whose text could not be read. `source_hash` is the hash of its source's bytes.

    `route` says why it has its model; None: the caller named the model.
    """

    tenant: str
    media_id: str
    reason: str
    model: ModelInfo
    source: str | None
    source_hash: str | None
    route: str | None = None

    @property
    def document_id(self) -> str:
        return identity.document_id(self.tenant, self.media_id)


@dataclass(frozen=True, slots=True)
class StoredContent:
    """A text as SQL keeps it. `hash` is of text, title and places; `size_bytes` is the size of its UTF-8."""

    segments: Sequence[Segment]
    hash: str
    size_bytes: int


def stored_content(text: str, title: str | None, places: Places = NOWHERE) -> StoredContent:
    """Cut, compress and hash a text. This blocks."""
    digest = identity.ContentHash()
    segments: list[Segment] = []
    size_bytes = 0
    for ordinal, (start, end) in enumerate(segment_spans(text)):
        piece = text[start:end]
        digest.update(piece)
        size_bytes += len(piece.encode())
        segments.append(Segment.of(ordinal, start, piece, places))
    digest.update_source(title, places)
    return StoredContent(segments, digest.hexdigest(), size_bytes)


class RoutingChanged(Exception):
    """The rules of a tenant are not those by which a submission got its model: prepare it again."""


class Admission:
    """Admits documents. It needs SQL only, through the connections that its callers pass."""

    def __init__(self, settings: Settings, catalogue: Catalogue, clock: Clock) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._clock = clock
        self._plain = PlainTenants(settings.models)
        # The chunking configuration of jobs that name none. Read once, as each read makes a new one.
        self.default_chunking = settings.chunking.config
        self.prices = settings.prices
        self.tenants = settings.tenants
        self.caching = settings.embedding_cache.enabled

    def possible_models(self, name: str | None, own: TenantRouting) -> list[ModelInfo]:
        """Return the models that a document of a tenant may get, the likeliest of an unread one last.

        That is the one of this name; for None those of the rules, then the one that no rule chooses. Raises
        UnknownModel.
        """
        names = [name] if name is not None else candidates(own, self._settings.models)
        return [self._catalogue.info(one) for one in names]

    def knows(self, model: str) -> bool:
        """Return whether the model is configured."""
        return model in self._catalogue.names()

    def fallback(self, own: TenantRouting) -> str:
        """Say in words which model a document gets that no rule matches."""
        return fallback(own, self._settings.models)[1]

    def read_routing(self, conn: Connection, requests: Sequence[JobRequest]) -> KnownOfRouting:
        """Read what `prepare` must know to choose models."""
        known = read_known(conn, requests, self._settings.models)
        self._plain.learn(requests, known)
        return known

    def needs_routing(self, requests: Sequence[JobRequest]) -> bool:
        """Whether `read_routing` must be asked before these are prepared to be admitted.

        Otherwise `NOTHING_KNOWN` will do: admission looks whether it still holds.
        """
        return not self._plain.cover(requests)

    def prepare(self, request: JobRequest, known: KnownOfRouting, *, api_key: str = "") -> Submission:
        """Do the work that needs no transaction: choose the model; cut, hash and compress the text.

        It counts the tokens, too. `known` was read for this request. `api_key` is the prefix of the key that
        submits it. Raises UnknownModel.
        """
        route = model_for(request, known, self._settings.models)
        model = self._model_of(route)
        content = stored_content(request.content, request.title, request.places)
        recipe = generations.Recipe(
            content_hash=content.hash,
            source_hash=request.source_hash,
            content_type=request.content_type,
            chars=len(request.content),
            chunking=request.chunking_config or self.default_chunking,
            batch_chunks=self._settings.chunking.batch_chunks,
            title=request.title,
        )
        document_id = identity.document_id(request.user_id, request.media_id)
        tokens = count_tokens(request.content, load_tokenizer(model.tokenizer_file))
        amount = Amount(jobs=1, chars=recipe.chars, bytes=content.size_bytes, tokens=tokens)
        return Submission(
            request=request,
            document_id=document_id,
            model=model,
            recipe=recipe,
            segments=content.segments,
            amount=amount,
            route=route,
            routed_by=known.of(request.user_id),
            api_key=api_key,
        )

    def _model_of(self, route: Route) -> ModelInfo:
        try:
            return self._catalogue.info(route.model)
        except UnknownModel as exc:
            # A rule or a tenant's model may outlive the model in the settings.
            raise UnknownModel(str(exc) if route.reason is None else f"{route.reason}: {exc}") from None

    def admit(self, conn: Connection, submissions: Sequence[Submission]) -> list[str]:
        """Admit all submissions and return the ids of their jobs, in order. On QuotaExceeded admit none.

        It is as if each submission came in a transaction of its own, in this order. The number of statements
        does not grow with the number of submissions. Raises RoutingChanged, and admits none, if the rules of
        a tenant changed since its submissions were prepared.
        """
        now = self._clock.now()
        tickets = [Ticket(new_job_id(now), self._clock.now(), new_job_id(now)) for _ in submissions]
        # Tenants are locked before documents: see `document_lock`.
        tenants.lock(conn, [one.request.user_id for one in submissions])
        document_lock.lock(conn, [one.document_id for one in submissions])
        documents.ensure_documents(conn, [_name(one) for one in submissions], now)
        known = _known(conn, submissions, now)
        for one in submissions:
            if not is_current(one.route, one.routed_by, known.tenants[one.request.user_id]):
                self._plain.forget(one.request.user_id)
                raise RoutingChanged(one.request.user_id)
        decided = plan(submissions, tickets, known, self._settings.tenants)
        tenants.set_tiers(conn, decided.tiers)
        begun = _write_begun(conn, decided.begun, now)
        _write_unchanged(conn, decided.unchanged)
        later = {
            made: new
            for place, new in decided.begun_described.items()
            for made in begun[place].generation_ids
        }
        describing.describe(conn, _with_twins(known, decided.described) | later)
        # After the new jobs are written, as a later submission of this call may have superseded an earlier.
        ending.supersede(conn, decided.superseded, now)
        ending.leave_rest_to_cleanup(conn, decided.left_over)
        return decided.job_ids

    def note_unreadable(self, conn: Connection, what: UnreadableSource) -> str:
        """Write a failed job with a dead letter, and return its id.

        If the document's newest generation is of the same bytes, return the id of its job and write nothing.
        """
        document_lock.lock(conn, [what.document_id])
        now = self._clock.now()
        newest = next(iter(generations.generations_of(conn, what.document_id)), None)
        if newest is not None and newest.unreadable and newest.recipe.source_hash == what.source_hash:
            known = jobs.newest_of_generations(conn, [newest.generation_id]).get(newest.generation_id)
            if known is not None:
                return known.job_id
        job_id = self._create_unreadable(conn, what, 1 if newest is None else newest.number + 1, now)
        dead_letters.add(conn, {job_id: [DeadLetter(Stage.CHUNKING, what.reason)]}, now)
        job_completion.finish(conn, [job_id], JobStatus.FAILED, reason=what.reason, now=now)
        return job_id

    def _create_unreadable(self, conn: Connection, what: UnreadableSource, number: int, now: float) -> str:
        recipe = generations.Recipe(
            content_hash="",
            source_hash=what.source_hash,
            content_type=ContentType.TEXT,
            chars=0,
            chunking=self.default_chunking,
            batch_chunks=self._settings.chunking.batch_chunks,
        )
        wanted = _wanted(what.tenant, what.model)
        name = DocumentName(what.document_id, what.tenant, what.media_id, what.source)
        documents.ensure_documents(conn, [name], now)
        collection = collections.ensure(conn, [wanted])[wanted.key]
        new = NewGeneration(what.document_id, number, recipe, collection, (), PARTITION_VERSION)
        row = tenants.get_many(conn, [what.tenant]).get(what.tenant)
        tier = (row.tier if row is not None else None) or UserTier(self._settings.tenants.default_tier)
        generation_ids = generations.add_generations(conn, [new])
        generations.abandon(conn, generation_ids)
        job = NewJob(
            new_job_id(now),
            what.tenant,
            what.document_id,
            generation_ids[0],
            tier,
            USUAL_PRIORITY,
            now,
            route=what.route,
        )
        jobs.create(conn, [job])
        return job.job_id


@dataclass(frozen=True, slots=True)
class Written:
    """The ids of a generation that was written, and of its twin in the other space of a switch."""

    generation_id: int
    twin_id: int | None

    @property
    def generation_ids(self) -> Sequence[int]:
        return (self.generation_id,) if self.twin_id is None else (self.generation_id, self.twin_id)


def _with_twins(known: Known, described: Mapping[int, NewMetadata]) -> dict[int, NewMetadata]:
    """Add the generations of the same contents in other spaces: they have the same metadata."""
    wanted = dict(described)
    for new in described.values():
        made = known.generations[new.document_id]
        contents = {one.recipe.content_hash for one in made if one.generation_id in described}
        wanted |= {
            one.generation_id: new for one in made if one.in_use and one.recipe.content_hash in contents
        }
    return wanted


def _known(conn: Connection, submissions: Sequence[Submission], now: float) -> Known:
    """Read what the decisions on these submissions depend on. Their tenants and documents are locked."""
    document_ids = list({one.document_id for one in submissions})
    names = list({one.request.user_id for one in submissions})
    active, today = job_counts.count_unfinished(conn, names), usage.of_day(conn, names, now)
    wanted = {_wanted(one.request.user_id, one.model) for one in submissions}
    return Known(
        collections=collections.ensure(conn, list(wanted)),
        generations=generations.generations_of_many(conn, document_ids),
        unfinished=jobs.unfinished_of_documents(conn, document_ids),
        usage={name: Usage(active.get(name, 0), today.get(name, Amount())) for name in names},
        tenants=tenants.get_many(conn, names),
        switches=model_switches.running_of(conn, names),
    )


def _write_begun(conn: Connection, begun: Sequence[Begun], now: float) -> list[Written]:
    """Write new generations with their texts and jobs, and add them to the usage of their tenants.

    Returns the ids of the generations, in order.
    """
    twins = [(one, one.twin) for one in begun if one.twin is not None]
    generation_ids = generations.add_generations(
        conn,
        [_new_generation(one, one.collection, one.number) for one in begun]
        + [_new_generation(one, twin.collection, twin.number) for one, twin in twins],
    )
    twin_ids = {id(one): made for (one, _), made in zip(twins, generation_ids[len(begun) :], strict=True)}
    written = [
        Written(made, twin_ids.get(id(one)))
        for one, made in zip(begun, generation_ids[: len(begun)], strict=True)
    ]
    new = [_new_job(one, made.generation_id) for one, made in zip(begun, written, strict=True)]
    jobs.create(conn, new + [_twin_job(one, twin, twin_ids[id(one)]) for one, twin in twins])
    amounts: dict[usage.Line, Amount] = {}
    for submission in (one.submission for one in begun):
        line = usage.Line(submission.request.user_id, submission.model.name, submission.api_key)
        amounts[line] = amounts.get(line, Amount()) + submission.amount
    usage.reserve(conn, amounts, now)
    return written


def _new_generation(one: Begun, collection: Collection, number: int) -> NewGeneration:
    submission = one.submission
    return NewGeneration(
        submission.document_id,
        number,
        submission.recipe,
        collection,
        submission.segments,
        PARTITION_VERSION,
        submission.request.account,
        submission.request.strict,
        one.written_metadata,
    )


def _write_unchanged(conn: Connection, unchanged: Sequence[Unchanged]) -> None:
    """Write the completed jobs of submissions whose texts readers see already."""
    hashes = {
        one.generation_id: one.submission.recipe.source_hash
        for one in unchanged
        if one.submission.recipe.source_hash is not None
    }
    generations.set_source_hashes(conn, hashes)
    makers = jobs.newest_of_generations(conn, list({one.generation_id for one in unchanged}))
    new = [_new_job(one, one.generation_id) for one in unchanged]
    jobs.create_unchanged(conn, new, makers)


def _new_job(decided: Begun | Unchanged, generation_id: int) -> NewJob:
    submission, ticket = decided.submission, decided.ticket
    return NewJob(
        job_id=ticket.job_id,
        tenant=submission.request.user_id,
        document_id=submission.document_id,
        generation_id=generation_id,
        user_tier=decided.tier,
        priority=submission.request.priority,
        created_at=ticket.now,
        route=submission.route.reason,
    )


def _twin_job(begun: Begun, twin: Twin, generation_id: int) -> NewJob:
    """Return the job of a twin. It queues where the submitted job does: it is live work too."""
    return replace(_new_job(begun, generation_id), job_id=begun.ticket.twin_job_id, switch_id=twin.switch_id)


def _name(submission: Submission) -> DocumentName:
    request = submission.request
    return DocumentName(submission.document_id, request.user_id, request.media_id, request.source)


def _wanted(tenant: str, model: ModelInfo) -> collections.Wanted:
    return collections.Wanted(tenant, model.name, model.space, model.dim)


def new_job_id(now: float) -> str:
    """Return a new id: 12 hex digits of milliseconds, then 20 random ones.

    Ids of jobs that are submitted together are next to each other in indexes, so that their rows share pages.
    """
    return f"job_{int(now * 1000):012x}{secrets.token_hex(10)}"
