"""Asks one arm of a tenant a question, as a search would, and takes the time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter

from embedfleet.evaluation.questions import Passage
from embedfleet.records.arms import Arm, spaces_of
from embedfleet.records.scope_marks import ScopeMark, mark_of
from embedfleet.searching.scope import SearchScope, scope_of_spaces
from embedfleet.searching.search import SearchRequest, SpacesSearch
from embedfleet.sql.database import Database


@dataclass(frozen=True, slots=True)
class ArmAnswer:
    """The passages that an arm gave, nearest first, and how long the search took."""

    passages: Sequence[Passage]
    seconds: float


class ArmAsking:
    """Asks in the process that owns the vector store and the models."""

    def __init__(self, database: Database, spaces: SpacesSearch) -> None:
        self._database = database
        self._spaces = spaces

    async def ask(self, tenant: str, arm: Arm, text: str, *, most: int) -> ArmAnswer:
        """Return the `most` nearest passages.

        Raises as `QueryEmbedding.embed` does, also if only one of several models fails: an answer without a
        part of the documents would count against the arm.
        """
        request = SearchRequest(query=text, limit=most)
        while True:
            begun = perf_counter()
            mark, scope = await self._scope(tenant, arm)
            found = await self._spaces.find(tenant, request, scope)
            seconds = perf_counter() - begun
            # As in a search: the route may have got another space since it was decided where to look.
            if mark is None or await self._database.read(partial(mark_of, tenant=tenant)) == mark:
                break
        if found.errors:
            raise next(iter(found.errors.values()))
        return ArmAnswer([Passage(hit.media_id, hit.start, hit.end) for hit in found.hits], seconds)

    async def _scope(self, tenant: str, arm: Arm) -> tuple[ScopeMark | None, SearchScope]:
        """One space is searched with all that it has. Of the route, each search looks what is where."""
        if arm.collection is not None:
            return None, SearchScope([arm.collection])
        return await self._database.read(
            lambda conn: (mark_of(conn, tenant), scope_of_spaces(spaces_of(conn, arm)))
        )
