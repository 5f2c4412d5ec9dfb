"""Decides what becomes of submitted documents. It is pure: rows that were read go in, rows to write come out.

The submissions of one call are decided in their order, and each decision counts for the next. So one call
with N submissions plans what N calls with one submission each would do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from embedfleet import document_metadata, quota
from embedfleet.errors import InvalidRequest
from embedfleet.inference.backend import ModelInfo
from embedfleet.lifecycle.describing import NewMetadata
from embedfleet.queue_schemas import JobRequest, UserTier
from embedfleet.quota import Amount, TenantLimits, Usage
from embedfleet.records.collections import Collection
from embedfleet.records.generations import Generation, Recipe
from embedfleet.records.jobs import Job
from embedfleet.records.model_switches import ModelSwitch
from embedfleet.records.segments import Segment
from embedfleet.records.tenants import TenantRow
from embedfleet.routing.choice import NOTHING_OWN, Route, TenantRouting
from embedfleet.settings import TenantsSettings
from embedfleet.sql.states import GenerationState


@dataclass(frozen=True, slots=True)
class Submission:
    """A request, and everything about it that was prepared outside a transaction.

    `amount` is what it adds to the ledger if it begins a job. `api_key` is the prefix of the key that submits
    it, empty without one. `route` has the reason for the model, `routed_by` what the
    tenant's share in it was.
    """

    request: JobRequest
    document_id: str
    model: ModelInfo
    recipe: Recipe
    segments: Sequence[Segment]
    amount: Amount
    route: Route
    routed_by: TenantRouting = NOTHING_OWN
    api_key: str = ""


@dataclass(frozen=True, slots=True)
class Known:
    """What SQL holds of the submitted documents and their tenants, read under their locks.

    `collections` are by tenant and space. `generations` (newest first) and `unfinished` jobs are by document
    id, and a document may have none. `usage` and `tenants` are by tenant, and have every tenant. `switches`
    to another model that are under way are by tenant.
    """

    collections: Mapping[tuple[str, str], Collection]
    generations: Mapping[str, Sequence[Generation]]
    unfinished: Mapping[str, Sequence[Job]]
    usage: Mapping[str, Usage]
    tenants: Mapping[str, TenantRow]
    switches: Mapping[str, ModelSwitch] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ticket:
    """What is given to each submission in advance: the id of its job, should it get one, and its instant.

    Each job has an instant of its own, since jobs are offered, and listed in pages, in the order of creation.
    `twin_job_id` is for the job that makes it in the other space of a switch to another model.
    """

    job_id: str
    now: float
    twin_job_id: str = ""


@dataclass(frozen=True, slots=True)
class Twin:
    """The same version in the other space of a switch to another model. `number` is of its generation."""

    switch_id: int
    collection: Collection
    number: int


@dataclass(frozen=True, slots=True)
class Begun:
    """A new generation and the pending job that makes it."""

    submission: Submission
    ticket: Ticket
    tier: UserTier
    collection: Collection
    number: int
    written_metadata: str | None
    twin: Twin | None = None


@dataclass(frozen=True, slots=True)
class Unchanged:
    """A job that is completed at once, because readers see this generation already."""

    submission: Submission
    ticket: Ticket
    tier: UserTier
    generation_id: int


@dataclass(slots=True)
class Plan:
    """What is to be written.

    `job_ids` answers the submissions in order. `superseded` are jobs that end, among them perhaps jobs that
    this plan begins. `left_over` are documents whose superseded job may have stored vectors and has no newer
    job whose end requests their cleanup. `tiers` are the tiers that change, by tenant. `described` are
    generations that get other metadata, by their ids; `begun_described` are those of `begun`, by their place
    there.
    """

    job_ids: list[str] = field(default_factory=list)
    begun: list[Begun] = field(default_factory=list)
    unchanged: list[Unchanged] = field(default_factory=list)
    superseded: list[str] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)
    tiers: dict[str, UserTier] = field(default_factory=dict)
    described: dict[int, NewMetadata] = field(default_factory=dict)
    begun_described: dict[int, NewMetadata] = field(default_factory=dict)


def plan(
    submissions: Sequence[Submission], tickets: Sequence[Ticket], known: Known, settings: TenantsSettings
) -> Plan:
    """Decide the submissions in order, each with its ticket.

    Raises QuotaExceeded for the first one that its tenant's limits do not allow, counting those before it.
    Raises InvalidRequest for one whose priority is higher than its tenant may give.
    """
    planner = _Planner(known, settings)
    for submission, ticket in zip(submissions, tickets, strict=True):
        planner.decide(submission, ticket)
    return planner.plan


@dataclass(slots=True)
class _Version:
    """A generation that readers see (`live`), or that an unfinished job (`job_id`) makes, or both.

    `generation_id` is None if this plan begins it; then `begun` is its place in the plan. `may_lose`: content
    of its source is lost, or may be found to be when it is cut. `cut_elsewhere`: another system has cut it,
    so its recipe does not say what its chunks are.
    """

    recipe: Recipe
    collection_id: int
    generation_id: int | None
    live: bool
    job_id: str | None
    may_lose: bool
    written_metadata: str | None
    begun: int | None = None
    cut_elsewhere: bool = False


@dataclass(slots=True)
class _Document:
    """A document after the decisions so far. `versions` are newest first.

    `twins` are the unfinished jobs that a switch to another model made for it.
    """

    versions: list[_Version]
    unfinished: list[str]
    twins: list[str]
    next_number: int

    @classmethod
    def of(cls, generations: Sequence[Generation], unfinished: Sequence[Job]) -> _Document:
        submitted = [job for job in unfinished if job.switch_id is None]
        twins = [job.job_id for job in unfinished if job.switch_id is not None]
        makers: dict[int, str] = {}
        for job in submitted:
            makers.setdefault(job.generation_id, job.job_id)
        versions = [
            _Version(
                one.recipe,
                one.collection.collection_id,
                one.generation_id,
                one.state is GenerationState.LIVE,
                makers.get(one.generation_id),
                _may_lose(one),
                one.written_metadata,
                cut_elsewhere=one.cut_elsewhere,
            )
            for one in generations
            if one.state is GenerationState.LIVE or one.generation_id in makers
        ]
        number = generations[0].number + 1 if generations else 1
        return cls(versions, [job.job_id for job in submitted], twins, number)

    def version_of(self, recipe: Recipe, collection: Collection, *, strict: bool) -> _Version | None:
        """Return the newest version with the chunks and vectors that this recipe would give.

        With `strict`, a version that may have lost content does not count.
        """
        for one in self.versions:
            if one.cut_elsewhere or (strict and one.may_lose):
                continue
            if one.collection_id == collection.collection_id and recipe.same_outcome(one.recipe):
                return one
        return None

    def supersede(self) -> tuple[list[str], list[str]]:
        """Forget the unfinished jobs and what only they were making.

        Returns the ids of these jobs: those that were submitted, and their twins.
        """
        ended = self.unfinished, self.twins
        self.unfinished, self.twins = [], []
        self.versions = [one for one in self.versions if one.live]
        for one in self.versions:
            one.job_id = None
        return ended

    @property
    def written_metadata(self) -> str | None:
        """The metadata of the newest version."""
        return self.versions[0].written_metadata if self.versions else None

    def begin(self, version: _Version, job_id: str) -> int:
        """Add a new version and its job. Return the number of the generation."""
        self.versions.insert(0, version)
        self.unfinished.append(job_id)
        self.next_number += 1
        return self.next_number - 1

    def begin_twin(self, job_id: str) -> int:
        """Add the job of a new twin. Return the number of its generation, which is below the version's."""
        self.twins.append(job_id)
        self.next_number += 1
        return self.next_number - 1


class Standing(StrEnum):
    """What there is of a submitted version already: readers see it, a job makes it, or neither."""

    NEW = "new"
    LIVE = "live"
    UNDER_WAY = "under_way"


def standing_of(
    submission: Submission, generations: Sequence[Generation], unfinished: Sequence[Job]
) -> Standing:
    """Return how `plan` would find a submission that comes alone, without its tenant's limits.

    `generations` (newest first) and `unfinished` jobs are those of its document.
    """
    space = submission.model.space
    mine = [one for one in generations if one.collection.space == space]
    if not mine:
        return Standing.NEW
    document = _Document.of(mine, unfinished)
    same = document.version_of(submission.recipe, mine[0].collection, strict=submission.request.strict)
    if same is None:
        return Standing.NEW
    return Standing.LIVE if same.job_id is None else Standing.UNDER_WAY


def _may_lose(generation: Generation) -> bool:
    if generation.strict:
        return False
    return generation.state is not GenerationState.LIVE or bool(generation.account.lost)


def _written_metadata(submission: Submission, before: str | None) -> str | None:
    """The metadata of a version: that of the submission, or that of before if the submission says none."""
    given = submission.request.metadata
    return before if given is None else document_metadata.written(given)


class _Planner:
    def __init__(self, known: Known, settings: TenantsSettings) -> None:
        self.plan = Plan()
        self._known = known
        self._settings = settings
        self._documents: dict[str, _Document] = {}
        self._usage = dict(known.usage)
        self._limits: dict[str, TenantLimits] = {}

    def decide(self, submission: Submission, ticket: Ticket) -> None:
        request = submission.request
        tier = self._tier(request)
        self._check_priority(request)
        document = self._document(submission.document_id)
        collection, beside = self._places(request.user_id, submission.model, document)
        same = document.version_of(submission.recipe, collection, strict=request.strict)
        if same is not None:
            self._describe(submission, same)
        if same is not None and same.job_id is not None:
            self.plan.job_ids.append(same.job_id)
            return
        self.plan.job_ids.append(ticket.job_id)
        if same is None:
            self._begin(submission, ticket, tier, collection, beside, document)
            return
        assert same.generation_id is not None, "what this plan begins has an unfinished job"
        if document.unfinished:
            self._supersede(request.user_id, document)
            self.plan.left_over.append(submission.document_id)
        self.plan.unchanged.append(Unchanged(submission, ticket, tier, same.generation_id))

    def _places(
        self, tenant: str, model: ModelInfo, document: _Document
    ) -> tuple[Collection, Collection | None]:
        """Return the collection of the version, and that of its twin, as a switch that is under way says."""
        collection = self._known.collections[tenant, model.space]
        switch = self._known.switches.get(tenant)
        if switch is None:
            return collection, None
        by_id = {one.collection_id: one for one in (*switch.sources, switch.to_collection)}
        there = [by_id[one.collection_id] for one in document.versions if one.collection_id in by_id]
        place, beside = switch.places(collection, there)
        return place, beside if switch.writes_both else None

    def _tier(self, request: JobRequest) -> UserTier:
        """Return the tier of the tenant. A tier that the request names is the tenant's from then on."""
        tenant = request.user_id
        row = self._known.tenants[tenant]
        before = self.plan.tiers.get(tenant, row.tier)
        tier = request.user_tier or before or UserTier(self._settings.default_tier)
        if request.user_tier is not None and tier is not before:
            self.plan.tiers[tenant] = tier
        if tenant not in self._limits or self._limits[tenant].tier != tier.value:
            self._limits[tenant] = quota.limits_of(self._settings, tier.value, row.limits)
        return tier

    def _check_priority(self, request: JobRequest) -> None:
        limits = self._limits[request.user_id]
        most = limits.values.max_priority
        if request.priority > most:
            raise InvalidRequest(
                f"priority: is {request.priority}, {limits.holder('max_priority')} allows up to {most}: "
                f"lower it, or {limits.advice('max_priority')}",
                field="priority",
            )

    def _begin(
        self,
        submission: Submission,
        ticket: Ticket,
        tier: UserTier,
        collection: Collection,
        beside: Collection | None,
        document: _Document,
    ) -> None:
        request = submission.request
        self._check_quota(submission, ticket.now)
        metadata = _written_metadata(submission, document.written_metadata)
        self._supersede(request.user_id, document)
        self._usage[request.user_id] = self._usage[request.user_id].after(1, submission.amount)
        version = _Version(
            submission.recipe,
            collection.collection_id,
            None,
            False,
            ticket.job_id,
            not request.strict,
            metadata,
            begun=len(self.plan.begun),
        )
        twin = None if beside is None else self._twin(request.user_id, beside, document, ticket)
        number = document.begin(version, ticket.job_id)
        self.plan.begun.append(Begun(submission, ticket, tier, collection, number, metadata, twin))

    def _twin(self, tenant: str, beside: Collection, document: _Document, ticket: Ticket) -> Twin:
        """Begin what the other side of the tenant's switch gets."""
        switch = self._known.switches[tenant]
        return Twin(switch.switch_id, beside, document.begin_twin(ticket.twin_job_id))

    def _describe(self, submission: Submission, version: _Version) -> None:
        """Give a version, which need not be made again, the metadata of the submission."""
        metadata = _written_metadata(submission, version.written_metadata)
        if metadata == version.written_metadata:
            return
        version.written_metadata = metadata
        new = NewMetadata(submission.document_id, metadata)
        if version.generation_id is not None:
            self.plan.described[version.generation_id] = new
        elif version.begun is not None:
            self.plan.begun_described[version.begun] = new

    def _check_quota(self, submission: Submission, now: float) -> None:
        request = submission.request
        limits, used = self._limits[request.user_id], self._usage[request.user_id]
        refused = quota.refusal(limits, used, submission.amount, now)
        if refused is not None:
            raise refused.error(f"tenant `{request.user_id}`, media `{request.media_id}`")

    def _supersede(self, tenant: str, document: _Document) -> None:
        submitted, twins = document.supersede()
        self.plan.superseded += submitted + twins
        # Twins are not counted among the tenant's jobs.
        self._usage[tenant] = self._usage[tenant].after(-len(submitted), Amount())

    def _document(self, document_id: str) -> _Document:
        found = self._documents.get(document_id)
        if found is None:
            found = _Document.of(
                self._known.generations.get(document_id, ()), self._known.unfinished.get(document_id, ())
            )
            self._documents[document_id] = found
        return found
