"""Asks the rules of routing again for documents that are there: what would move, and moving it.

A document that moves is embedded from its stored text, by a job that queues in the line of the backfills of
switches. Until that job has ended, readers see the document where it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection

from embedfleet.chunking.chunker import PARTITION_VERSION
from embedfleet.chunking.counting import count_tokens
from embedfleet.chunking.tokenizers import load_tokenizer
from embedfleet.errors import NotReady
from embedfleet.inference.backend import ModelInfo
from embedfleet.inference.catalogue import Catalogue
from embedfleet.lifecycle.admission import new_job_id
from embedfleet.lifecycle.model_choice import routing_of
from embedfleet.queue_schemas import UserTier
from embedfleet.records import (
    collections,
    documents,
    jobs,
    live_versions,
    model_switches,
    segments,
    tenants,
    twins,
)
from embedfleet.records.collections import Wanted
from embedfleet.records.generations import Generation
from embedfleet.records.jobs import NewJob
from embedfleet.records.model_switches import BACKFILL_FLOW
from embedfleet.routing.choice import NOTHING_OWN, Content, Route, TenantRouting, choose
from embedfleet.settings import Settings
from embedfleet.sql import document_lock
from embedfleet.sql.database import Database

# Texts that are in memory together, and documents that one unit begins.
_AT_ONCE = 32
_PRIORITY = 10


@dataclass(frozen=True, slots=True)
class Looked:
    """A document that readers see, and where the rules send it. `tokens` are 0 if it stays."""

    shown: Generation
    route: Route
    model: ModelInfo
    tokens: int

    @property
    def moves(self) -> bool:
        return self.model.space != self.shown.collection.space


@dataclass(frozen=True, slots=True)
class Step:
    """What one step did. `after` is where the next one begins; None: it was the last."""

    looked_at: int
    begun: Sequence[str]
    left_out: int
    after: str | None


class Rerouting:
    """Routes the documents of a tenant again."""

    def __init__(self, database: Database, settings: Settings, catalogue: Catalogue, tenant: str) -> None:
        self._database = database
        self._settings = settings
        self._catalogue = catalogue
        self._tenant = tenant

    async def routing(self) -> TenantRouting:
        """Return the rules and the model that the tenant has."""
        return await self._database.read(
            lambda conn: routing_of(conn, [self._tenant]).get(self._tenant, NOTHING_OWN)
        )

    async def look(self, own: TenantRouting) -> AsyncIterator[list[Looked]]:
        """Yield all documents that readers see, some at a time, with where these rules send them.

        Nothing is changed. Raises UnknownModel.
        """
        after = ""
        while True:
            ids, found = await self._page(own, after, with_tokens=True)
            yield found
            if len(ids) < _AT_ONCE:
                return
            after = ids[-1]

    async def move(self, *, after: str, now: float, also: Callable[[Connection], None]) -> Step:
        """Look at the next documents, and begin a job for each that the tenant's rules send elsewhere.

        A document with an unfinished job is left out, and so is one that changed during the look: both were
        routed when they were submitted. Raises NotReady while the tenant is switched to another model, as
        that decides where its documents are. `also` writes in the same transaction.
        """
        own = await self.routing()
        ids, found = await self._page(own, after, with_tokens=False)
        moving = [one for one in found if one.moves]

        def begin(conn: Connection) -> list[str]:
            also(conn)
            return self._begin(conn, moving, own, now)

        begun = await self._database.write(begin)
        last = len(ids) < _AT_ONCE
        return Step(len(found), begun, len(moving) - len(begun), None if last else ids[-1])

    async def _page(
        self, own: TenantRouting, after: str, *, with_tokens: bool
    ) -> tuple[list[str], list[Looked]]:
        ids, stored = await self._database.read(partial(self._stored, after=after))

        def decide() -> list[Looked]:
            return [self._decided(shown, text, own, with_tokens=with_tokens) for shown, text in stored]

        return ids, await asyncio.to_thread(decide)

    def _stored(self, conn: Connection, after: str) -> tuple[list[str], list[tuple[Generation, str]]]:
        """Return the next ids, and those of these documents that readers see, with their texts."""
        ids = documents.ids_after(conn, self._tenant, after, _AT_ONCE)
        shown = list(_shown(conn, ids).values())
        texts = segments.texts_of(conn, [(one.generation_id, [(0, one.recipe.chars)]) for one in shown])
        return ids, [(one, text[0]) for one, text in zip(shown, texts, strict=True) if text is not None]

    def _decided(self, shown: Generation, text: str, own: TenantRouting, *, with_tokens: bool) -> Looked:
        content = Content(shown.recipe.content_type, text, shown.source, shown.metadata)
        route = choose(content, None, own, self._settings.models)
        model = self._catalogue.info(route.model)
        moves = model.space != shown.collection.space
        tokens = count_tokens(text, load_tokenizer(model.tokenizer_file)) if moves and with_tokens else 0
        return Looked(shown, route, model, tokens)

    def _begin(self, conn: Connection, moving: Sequence[Looked], by: TenantRouting, now: float) -> list[str]:
        tenants.lock(conn, [self._tenant])
        row = tenants.get_many(conn, [self._tenant])[self._tenant]
        if model_switches.running_of(conn, [self._tenant]):
            raise NotReady(
                f"tenant `{self._tenant}` is being switched to another model: route again when that has ended"
            )
        if row.routing != by:
            return []
        ids = sorted(one.shown.document_id for one in moving)
        document_lock.lock(conn, ids)
        live, busy = _shown(conn, ids), jobs.unfinished_of_documents(conn, ids)
        tier = row.tier or UserTier(self._settings.tenants.default_tier)
        begun: list[str] = []
        for one in moving:
            document_id = one.shown.document_id
            there = live.get(document_id)
            if there is None or there.generation_id != one.shown.generation_id or document_id in busy:
                continue
            wanted = Wanted(self._tenant, one.model.name, one.model.space, one.model.dim)
            target = collections.ensure(conn, [wanted])[wanted.key]
            for made in twins.add(
                conn,
                [document_id],
                source=there.collection,
                target=target,
                chunker_version=PARTITION_VERSION,
            ):
                new = NewJob(
                    new_job_id(now),
                    self._tenant,
                    document_id,
                    made.generation_id,
                    tier,
                    _PRIORITY,
                    now,
                    flow=BACKFILL_FLOW,
                    route=one.route.reason,
                )
                jobs.create(conn, [new])
                begun.append(new.job_id)
        return begun


def _shown(conn: Connection, document_ids: Sequence[str]) -> dict[str, Generation]:
    """Return the version of each document that readers see. One of which they see none is left out.

    A copy that a comparison made beside it, or a switch that is not done, does not say where a document is.
    """
    found = live_versions.of_documents(conn, document_ids)
    return {one.generation.document_id: one.generation for one in found}
