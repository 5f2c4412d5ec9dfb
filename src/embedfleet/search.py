"""Searches for the passages nearest to a query, among those that readers may see and a filter allows."""

from __future__ import annotations

import asyncio
import json
import uuid
from dataclasses import replace
from functools import partial
from typing import Any

from pydantic import Field, field_validator
from sqlalchemy import Connection

from embedfleet.chunking.unknown import percent
from embedfleet.clock import Clock
from embedfleet.document_filter import PassageFilter
from embedfleet.errors import (
    DatabaseUnavailable,
    EmbedfleetError,
    InvalidRequest,
    Remedy,
    one_line,
)
from embedfleet.interactive.embedder import TextEmbedder
from embedfleet.nearest_passages import Nearest, NearestPassages
from embedfleet.query_embedding import QueryEmbedding
from embedfleet.queue_schemas import SearchHits
from embedfleet.records import collections, documents, job_counts, model_switches, searches
from embedfleet.records.collections import Collection
from embedfleet.search_scope import SearchScope, scope_of_search, without_hidden
from embedfleet.sql.database import Database
from embedfleet.vectors.port import VectorStore
from embedfleet.visible_text import shows_nothing

# A guest waits for its answer for seconds, so a search that is an hour old was abandoned.
_ABANDONED_AFTER_SECONDS = 3600.0


class SearchRequest(PassageFilter):
    """A search, among the passages that the filter allows. A wrong value raises InvalidRequest.

    With `model` None, it uses the default model, or the tenant's only one.
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


class SearchService:
    """Answers searches in the process that owns the vector store."""

    def __init__(
        self,
        *,
        database: Database,
        store: VectorStore,
        embedder: TextEmbedder,
        default_model: str,
        exact_scan_rows: int,
        embedding_seconds: float | None = None,
    ) -> None:
        """`exact_scan_rows` is as in `NearestPassages`.

        `embedding_seconds`: the longest wait for the vector of a query. None: as long as it takes.
        """
        self._database = database
        self._passages = NearestPassages(database, store, exact_scan_rows=exact_scan_rows)
        self._embedder = embedder
        self._default_model = default_model
        self._queries = QueryEmbedding(embedder, longest_wait_seconds=embedding_seconds)

    async def search(self, tenant: str, request: SearchRequest) -> SearchHits:
        """Return the `limit` nearest live passages, nearest first, with what was searched and what was not.

        Passages of the same text are one hit. With a filter, there are fewer hits only if it allows fewer
        texts. Without one there may be fewer too if the 20,000 nearest passages are of fewer texts.

        Raises InvalidRequest if the query is too long for the model, or if the tenant has several models and
        none was chosen. Raises UnknownModel and SpaceMismatch.
        """
        if request.model is not None:
            self._embedder.require_known(request.model)
        scope = await self._database.read(lambda conn: self._scope(conn, tenant, request))
        collection = scope.collection
        if collection is None:
            return _with_scope(Nearest([], exact=True, candidates=0), scope)
        query = await self._queries.embed(tenant, request.query, collection)
        found = await self._passages.find(collection, query.vector, request, most=request.limit)
        if found.lost or not (found.hits or request.says_something):
            scope = _with_lost_vectors(tenant, scope)
        elif not found.hits:
            scope = replace(scope, notice=f"the filter allows no passage of tenant `{tenant}`")
        return _with_scope(found, _with_unknown(scope, collection, query.unknown_share))

    @property
    def loaded_models(self) -> list[str]:
        """The names of the models that are ready in this process, sorted."""
        return self._embedder.loaded_models

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
        if len(mine) > 1:
            switch = model_switches.running_of(conn, [tenant]).get(tenant)
            mine = mine if switch is None else without_hidden(mine, switch, request.query, request.model)
        model = request.model
        if len(mine) == 1 and model in (None, mine[0].model) and documents.any_live(conn, tenant):
            return SearchScope(mine[0])  # nothing is left out, so that nothing need be counted
        return scope_of_search(
            tenant,
            mine,
            documents.live_by_collection(conn, tenant),
            model=model,
            default_model=self._default_model,
            unfinished=job_counts.count_unfinished(conn, [tenant]).get(tenant, 0),
        )


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


def _with_scope(found: Nearest, scope: SearchScope) -> SearchHits:
    return SearchHits(
        found.hits,
        model=None if scope.collection is None else scope.collection.model,
        not_searched=scope.not_searched,
        notice=scope.notice,
        remedy=scope.remedy,
        exact=found.exact,
        candidates=found.candidates,
    )


def _with_unknown(scope: SearchScope, collection: Collection, unknown: float) -> SearchScope:
    """The scope of a search by a query of which the model does not know a share of the characters."""
    if not unknown:
        return scope
    notice = (
        f"model `{collection.model}` does not know {percent(unknown)} of the query's characters, so the hits "
        "may mean nothing: embed and search with a model that knows them, such as a multilingual one"
    )
    return replace(scope, notice=notice if scope.notice is None else f"{scope.notice}; {notice}")


def _with_lost_vectors(tenant: str, scope: SearchScope) -> SearchScope:
    """The scope of a search that found no passage, or not all, though the documents have them."""
    return replace(
        scope,
        notice=f"the vector store lacks passages of documents of tenant `{tenant}`: examine it",
        remedy=Remedy.EXAMINE,
    )
