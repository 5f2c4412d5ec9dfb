"""Searches for the passages nearest to a query, among those that readers may see and a filter allows."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from typing import Any, TypeVar

from pydantic import Field, field_validator
from sqlalchemy import Connection

from embedfleet.chunking.unknown import percent
from embedfleet.clock import Clock
from embedfleet.document_filter import PassageFilter
from embedfleet.errors import (
    DatabaseUnavailable,
    EmbedfleetError,
    InvalidRequest,
    ModelError,
    ModelUnavailable,
    Remedy,
    SpaceMismatch,
    UnknownModel,
    one_line,
)
from embedfleet.evaluation.interleaving import Team
from embedfleet.interactive.embedder import TextEmbedder
from embedfleet.metrics.search_times import SearchTimes
from embedfleet.queue_schemas import SearchHit, SearchHits
from embedfleet.records import collections, documents, job_counts, model_switches, searches, twins
from embedfleet.records.arms import Arm, spaces_of
from embedfleet.records.collections import Collection
from embedfleet.records.experiments import Experiment
from embedfleet.records.model_switches import ModelSwitch
from embedfleet.records.scope_marks import ScopeMark, mark_of
from embedfleet.searching.fusion import HitsOfSpace, fused_hits
from embedfleet.searching.impressions import Impressions, mixed
from embedfleet.searching.nearest_passages import Nearest, NearestPassages
from embedfleet.searching.query_embedding import QueryEmbedding
from embedfleet.searching.scope import SearchScope, scope_of_search, scope_of_spaces, sides_of
from embedfleet.searching.score_background import ScoreBackgrounds
from embedfleet.sql.database import Database
from embedfleet.vectors.port import VectorStore
from embedfleet.visible_text import shows_nothing
from embedfleet.wording import number_of

# A guest waits for its answer for seconds, so a search that is an hour old was abandoned.
_ABANDONED_AFTER_SECONDS = 3600.0

_MIXED = "the hits are of two models that are compared, in turn: their scores do not compare"
_MIXED_WITH_ROUTE = (
    "the hits are of the route and of a model that is compared with it, in turn: their scores do not compare"
)

T = TypeVar("T")
R = TypeVar("R")


class SearchRequest(PassageFilter):
    """A search, among the passages that the filter allows. A wrong value raises InvalidRequest.

    With `model` None, it looks into the documents of all models that the tenant has.
    """

    query: str
    limit: int = Field(default=5, ge=1, le=1000)
    model: str | None = Field(default=None, max_length=256)

    @field_validator("query", mode="before")
    @classmethod
    def _is_text(cls, value: Any) -> Any:
        """Before the type is checked, as Pydantic takes no text with a lone surrogate and does not say so."""
        if not isinstance(value, str):
            return value
        if shows_nothing(value):
            raise ValueError("is empty: say what to look for")
        try:
            value.encode()
        except UnicodeEncodeError as exc:
            raise ValueError(f"character {exc.start + 1} is not valid text: give the query in UTF-8") from exc
        return value


@dataclass(frozen=True, slots=True, eq=False)
class SpaceAnswer:
    """What a search found in one collection. `unknown` is as in `unknown_share`."""

    collection: Collection
    found: Nearest
    unknown: float


@dataclass(frozen=True, slots=True, eq=False)
class FoundInSpaces:
    """The hits, nearest or rarest first. `errors`: why a collection was not searched."""

    hits: Sequence[SearchHit]
    answers: Sequence[SpaceAnswer]
    errors: Mapping[Collection, EmbedfleetError]


class SpacesSearch:
    """Searches the spaces of a scope, and makes one list of their hits. Which they are, others decide."""

    def __init__(
        self,
        database: Database,
        store: VectorStore,
        embedder: TextEmbedder,
        *,
        exact_scan_rows: int,
        embedding_seconds: float | None = None,
    ) -> None:
        """`exact_scan_rows` is as in `NearestPassages`.

        `embedding_seconds`: the longest wait for the vector of a query. None: as long as it takes.
        """
        self._embedder = embedder
        self._passages = NearestPassages(database, store, exact_scan_rows=exact_scan_rows)
        self._queries = QueryEmbedding(embedder, longest_wait_seconds=embedding_seconds)
        self._backgrounds = ScoreBackgrounds(database, store, embedder, embedding_seconds=embedding_seconds)

    @property
    def loaded_models(self) -> list[str]:
        """The names of the models that are ready in this process, sorted."""
        return self._embedder.loaded_models

    def require_known(self, model: str) -> None:
        """Raise UnknownModel if no query can be embedded with a model of this name."""
        self._embedder.require_known(model)

    async def find(self, tenant: str, request: SearchRequest, scope: SearchScope) -> FoundInSpaces:
        """Search all collections at once. Raises the first error if all of them fail."""
        answers, errors = await _each(
            scope.collections, lambda one: self._in_one(tenant, request, one, scope)
        )
        filled = [one for one in answers if one.found.hits]
        hits = [hit for one in filled for hit in one.found.hits]
        if len(filled) > 1:
            spaces, failed = await _each(filled, lambda one: self._calibrated(tenant, one, scope))
            hits = fused_hits(spaces, most=request.limit)
            errors |= {one.collection: exc for one, exc in failed.items()}
            answers = [one for one in answers if one.collection not in errors]
        if errors and not answers:
            raise next(iter(errors.values()))
        return FoundInSpaces(hits, answers, errors)

    async def _in_one(
        self, tenant: str, request: SearchRequest, collection: Collection, scope: SearchScope
    ) -> SpaceAnswer:
        query = await self._queries.embed(tenant, request.query, collection)
        but_in = scope.beside.get(collection, ())
        found = await self._passages.find(
            collection, query.vector, request, most=request.limit, but_in=but_in
        )
        hits = [hit.model_copy(update={"model": collection.model}) for hit in found.hits]
        return SpaceAnswer(collection, replace(found, hits=hits), query.unknown_share)

    async def _calibrated(self, tenant: str, answer: SpaceAnswer, scope: SearchScope) -> HitsOfSpace:
        space = answer.collection
        background = await self._backgrounds.of(
            tenant, space, scope.collections, scope.documents, scope.beside
        )
        return HitsOfSpace(space.model, answer.found.hits, background)


class SearchService:
    """Answers searches in the process that owns the vector store."""

    def __init__(
        self, database: Database, spaces: SpacesSearch, *, impressions: Impressions | None = None
    ) -> None:
        """Without `impressions`, no answer takes feedback."""
        self._database = database
        self.spaces = spaces
        self._impressions = impressions
        self.times = SearchTimes()
        # By the switch and its collection that does not answer: the `divergences` with which it had no
        # document of its own. See `_holds_alone`.
        self._nothing_alone: dict[tuple[int, int], int] = {}

    async def search(self, tenant: str, request: SearchRequest) -> SearchHits:
        """Return the `limit` nearest live passages, nearest first, with what was searched and what was not.

        Passages of the same text are one hit. With a filter, there are fewer hits only if it allows fewer
        texts. Without one there may be fewer too if the 20,000 nearest passages are of fewer texts.

        Documents of several models are searched with each, and the hits are ordered by how rare their scores
        are for their model. A model that fails is named in `not_searched`, with the reason. While an online
        experiment compares two models, or a model with the route, both answer, and their hits take turns.

        Raises InvalidRequest if the query is too long for the only model. Raises UnknownModel and
        SpaceMismatch.
        """
        if request.model is not None:
            self.spaces.require_known(request.model)
        with self.times.timed():
            found = await self._found(tenant, request)
        hits = found.hits
        if self._impressions is not None:
            hits.impression_id = await self._impressions.keep(
                tenant, request.query, hits, experiment=found.experiment, teams=found.teams
            )
        return hits

    async def _found(self, tenant: str, request: SearchRequest) -> _Found:
        """Search where the tenant's documents are. If that has changed by the end, search again.

        A space may have been filled with copies since it was decided where to look, or emptied page by page.
        Each round of this loop is a switch that has begun, ended or entered another phase, so there are few.
        """

        def decide(conn: Connection) -> tuple[ScopeMark, SearchScope]:
            return mark_of(conn, tenant), self._scope(conn, tenant, request)

        while True:
            mark, scope = await self._database.read(decide)
            found = await self._in_scope(tenant, request, scope)
            if await self._database.read(partial(mark_of, tenant=tenant)) == mark:
                return found

    async def _in_scope(self, tenant: str, request: SearchRequest, scope: SearchScope) -> _Found:
        if scope.experiment is not None:
            mixed = await self._mixed(tenant, request, scope, scope.experiment)
            if mixed is not None:
                return mixed
        try:
            found = await self.spaces.find(tenant, request, scope)
        except (UnknownModel, SpaceMismatch, ModelError, ModelUnavailable) as exc:
            if scope.switch is None or request.model is not None:
                raise
            raise _while_switched(exc, scope.switch) from exc
        return _Found(_answer_of(found.hits, found.answers, _without(scope, found.errors), tenant, request))

    async def _mixed(
        self, tenant: str, request: SearchRequest, scope: SearchScope, experiment: Experiment
    ) -> _Found | None:
        """Ask both arms of an online experiment, and mix their hits. None: one of them did not answer."""
        look = partial(_scopes_of, arms=(experiment.arm_a, experiment.arm_b))
        scopes = await self._database.read(look)
        found, errors = await _each(range(2), lambda place: self.spaces.find(tenant, request, scopes[place]))
        if errors or any(one.errors for one in found):
            return None
        a, b = (one.hits for one in found)
        hits, teams = mixed(a, b, length=request.limit, rng=Random(uuid.uuid4().int))
        scope = scope.with_notice(_MIXED_WITH_ROUTE if experiment.has_route else _MIXED)
        answers = [answer for one in found for answer in one.answers]
        return _Found(_answer_of(hits, answers, scope, tenant, request), experiment, teams)

    @property
    def loaded_models(self) -> list[str]:
        """As `SpacesSearch.loaded_models`."""
        return self.spaces.loaded_models

    async def answer_waiting(self) -> int:
        """Answer the searches that other processes asked through SQL. Returns how many."""
        asked = await self._database.read(lambda conn: searches.unanswered(conn, 100))
        for search in asked:
            response = await self._respond(search)
            await self._database.write(
                partial(searches.answer, search_id=search.search_id, response=response)
            )
        return len(asked)

    async def forget_abandoned(self, now: float) -> None:
        """Drop the searches that are so old that the asking process no longer waits."""
        await self._database.write(
            partial(searches.remove_older, created_before=now - _ABANDONED_AFTER_SECONDS)
        )

    async def _respond(self, asked: searches.AskedSearch) -> str:
        try:
            hits = await self.search(asked.tenant, SearchRequest.model_validate_json(asked.request))
        except EmbedfleetError as exc:  # InvalidRequest too, if the guest is of another release
            return json.dumps({"error": one_line(exc), "remedy": exc.remedy})
        return json.dumps(hits.json_document())

    def _scope(self, conn: Connection, tenant: str, request: SearchRequest) -> SearchScope:
        mine = collections.of_tenant(conn, tenant)
        model = request.model
        beside: dict[Collection, Sequence[Collection]] = {}
        own: dict[int, int] = {}
        switch = model_switches.running_of(conn, [tenant]).get(tenant) if len(mine) > 1 else None
        if switch is not None:
            serving, hidden = sides_of(switch, request.query, model)
            for one in hidden:
                wanted = model is None or (switch.is_trial and model == one.model)
                if wanted and one in mine and (only := self._holds_alone(conn, switch, one, serving)):
                    beside[one], own[one.collection_id] = serving, only
            mine = [one for one in mine if one not in hidden or one in beside]
        elif len(mine) > 1:
            # A space that was left for another model has no documents: of one space, nothing need be counted.
            mine = [one for one in mine if documents.any_live_in(conn, one.collection_id)] or mine
        experiment = None if switch is None else self._experiment(conn, switch, model)
        one_space = len(mine) == 1 and not beside and model in (None, mine[0].model)
        if one_space and documents.any_live(conn, tenant):
            # Nothing is left out, so that nothing need be counted.
            return SearchScope(mine, switch=switch, experiment=experiment)
        scope = scope_of_search(
            tenant,
            mine,
            documents.live_by_collection(conn, tenant) | own,
            model=model,
            unfinished=job_counts.count_unfinished(conn, [tenant]).get(tenant, 0),
        )
        return replace(scope, switch=switch, beside=beside, experiment=experiment)

    def _holds_alone(
        self, conn: Connection, switch: ModelSwitch, hidden: Collection, serving: Sequence[Collection]
    ) -> int:
        """Count the documents of a collection that does not answer that none of those that do have.

        They were there before the switch began, as a tenant with rules may switch code to the model that its
        prose has; or their twins were given up; or they are of the space beside the route. The look reads all
        documents. So it is remembered for each side that there are none, until the switch says that another
        document came to be in one space only.
        """
        if any(hidden.model == one.model for one in serving):
            return 0  # only the newer of the two can be searched at all
        key = (switch.switch_id, hidden.collection_id)
        if self._nothing_alone.get(key) == switch.divergences:
            return 0
        only = twins.count_only_in(conn, hidden, serving)
        if not only:
            self._nothing_alone[key] = switch.divergences
        return only

    def _experiment(self, conn: Connection, switch: ModelSwitch, model: str | None) -> Experiment | None:
        """Return the online experiment that mixes the hits of this search. One that names a model is left."""
        if model is not None or self._impressions is None or not switch.writes_both:
            return None
        found = self._impressions.showing(conn, switch.tenant)
        return found if found is not None and found.is_of(switch.old, switch.new) else None


def _scopes_of(conn: Connection, arms: Sequence[Arm]) -> list[SearchScope]:
    return [scope_of_spaces(spaces_of(conn, arm)) for arm in arms]


class SearchClient:
    """Sends searches through SQL to the process that owns the vector store."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def search(
        self, tenant: str, request: SearchRequest, *, timeout_seconds: float = 30.0
    ) -> SearchHits:
        """Search as `SearchService.search` does.

        Raises InvalidRequest with the message of any error that the search met there, and DatabaseUnavailable
        if no orchestrator answers in time.
        """
        search_id = uuid.uuid4().hex
        now = self._clock.now()
        asked = request.model_dump_json()
        await self._database.write(lambda conn: searches.ask(conn, search_id, tenant, asked, now))
        try:
            response = json.loads(await self._response(search_id, timeout_seconds))
        except TimeoutError as exc:
            raise DatabaseUnavailable(
                f"no answer from the running orchestrator in {timeout_seconds:.0f} s: look whether it is "
                "stopped or stuck",
                remedy=Remedy.EXAMINE,
            ) from exc
        finally:
            await self._database.write(lambda conn: searches.remove(conn, search_id))
        if "error" in response:
            raise InvalidRequest(response["error"], remedy=Remedy.from_code(response.get("remedy")))
        return SearchHits.of_json(response)

    async def _response(self, search_id: str, timeout_seconds: float) -> str:
        async with asyncio.timeout(timeout_seconds):
            return await self._database.until(
                lambda: self._database.read(lambda conn: searches.response(conn, search_id))
            )


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """The answer of a search. If an online experiment has mixed it, `teams` says whose each hit is."""

    hits: SearchHits
    experiment: Experiment | None = None
    teams: Sequence[Team | None] = ()


async def _each(
    items: Sequence[T], act: Callable[[T], Awaitable[R]]
) -> tuple[list[R], dict[T, EmbedfleetError]]:
    """Do this for all items at once. Returns the results in order, and the errors of items that have none."""

    async def outcome(item: T) -> R | EmbedfleetError:
        try:
            return await act(item)
        except EmbedfleetError as exc:
            return exc

    outcomes = dict(zip(items, await asyncio.gather(*map(outcome, items)), strict=True))
    results = [one for one in outcomes.values() if not isinstance(one, EmbedfleetError)]
    return results, {item: one for item, one in outcomes.items() if isinstance(one, EmbedfleetError)}


def _while_switched(failure: EmbedfleetError, switch: ModelSwitch) -> EmbedfleetError:
    """Return the failure of the model that answers, with the way out: the tenant has another one."""
    told = (
        f"{one_line(failure)}; tenant `{switch.tenant}` is being switched from `{switch.old.name}` to "
        f"`{switch.new.name}`: an operator can have the other one answer"
    )
    remedy = failure.remedy or Remedy.LIST_SWITCHES
    if isinstance(failure, ModelUnavailable):
        return ModelUnavailable(told, remedy=remedy, retry_after_seconds=failure.retry_after_seconds)
    return type(failure)(told, remedy=remedy)


def _without(scope: SearchScope, errors: Mapping[Collection, EmbedfleetError]) -> SearchScope:
    """The scope of a search for which some collections could not be searched."""
    for space, exc in errors.items():
        failed = scope.left_out(space, one_line(exc))
        told = number_of(failed.documents, "document")
        scope = scope.with_notice(f"{told} of model `{failed.model}` not searched: {failed.reason}")
        scope = replace(scope, not_searched=[*scope.not_searched, failed])
    return scope


def _answer_of(
    hits: Sequence[SearchHit],
    answers: Sequence[SpaceAnswer],
    scope: SearchScope,
    tenant: str,
    request: SearchRequest,
) -> SearchHits:
    if any(one.found.lost for one in answers) or (answers and not (hits or request.says_something)):
        scope = _with_lost_vectors(tenant, scope)
    elif answers and not hits:
        scope = scope.with_notice(f"the filter allows no passage of tenant `{tenant}`")
    for one in answers:
        scope = _with_unknown(scope, one.collection, one.unknown)
    return SearchHits(
        hits,
        models=[one.collection.model for one in answers],
        not_searched=scope.not_searched,
        notice=scope.notice,
        remedy=scope.remedy,
        exact=all(one.found.exact for one in answers),
        candidates=sum(one.found.candidates for one in answers),
    )


def _with_unknown(scope: SearchScope, collection: Collection, unknown: float) -> SearchScope:
    """The scope of a search by a query of which the model does not know a share of the characters."""
    if not unknown:
        return scope
    notice = (
        f"model `{collection.model}` does not know {percent(unknown)} of the query's characters, so the hits "
        "may mean nothing: embed and search with a model that knows them, such as a multilingual one"
    )
    return scope.with_notice(notice)


def _with_lost_vectors(tenant: str, scope: SearchScope) -> SearchScope:
    """The scope of a search that found no passage, or not all, though the documents have them."""
    lacking = f"the vector store lacks passages of documents of tenant `{tenant}`: examine it"
    return replace(scope.with_notice(lacking), remedy=Remedy.EXAMINE)
