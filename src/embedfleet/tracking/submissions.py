"""Submits documents: one implementation for the documented API and for a tenant's own access."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeAlias

from sqlalchemy import Connection

from embedfleet.errors import EmbedfleetError, InputError, QuotaExceeded
from embedfleet.lifecycle.admission import Admission, RoutingChanged
from embedfleet.lifecycle.admission_plan import Submission
from embedfleet.lifecycle.model_choice import NOTHING_KNOWN, KnownOfRouting
from embedfleet.paging import halves
from embedfleet.queue_schemas import JobRequest
from embedfleet.sql.database import Database

AlsoWrite: TypeAlias = Callable[[Connection, list[str]], None]
"""Gets the ids of new jobs, and writes in the same transaction what must not be there without the jobs."""


class Submissions:
    """Submits documents of any tenants. `api_key` is the prefix of the key that submits, for the ledger."""

    def __init__(self, database: Database, admission: Admission, *, api_key: str = "") -> None:
        self._database = database
        self._admission = admission
        self._prepare = partial(admission.prepare, api_key=api_key)

    async def create_jobs(
        self, requests: Sequence[JobRequest], *, also: AlsoWrite | None = None
    ) -> list[str]:
        """Submit documents in one transaction, and return the ids of their jobs, in order.

        All documents are admitted or, on any error, none. `also` runs in the same transaction.
        """
        while True:
            submissions = await self._prepared(requests)
            with suppress(RoutingChanged):
                return await self._database.write(partial(self._admit, submissions=submissions, also=also))

    async def _prepared(self, requests: Sequence[JobRequest]) -> list[Submission]:
        known = await self._known(requests)
        return await asyncio.to_thread(lambda: [self._prepare(one, known) for one in requests])

    def _admit(
        self, conn: Connection, submissions: Sequence[Submission], also: AlsoWrite | None
    ) -> list[str]:
        job_ids = self._admission.admit(conn, submissions)
        if also is not None:
            also(conn, job_ids)
        return job_ids

    async def create_each(self, requests: Sequence[JobRequest]) -> list[str | EmbedfleetError]:
        """Submit documents, each for itself. Returns for each, in order, the id of its job or its error.

        It takes one transaction if all are admitted. If one of them is refused, it takes more.
        """
        known = await self._known(requests)

        def prepare() -> list[Submission | EmbedfleetError]:
            return [_or_error(self._prepare, request, known) for request in requests]

        prepared = await asyncio.to_thread(prepare)
        outcomes = iter(await self._admit_each([one for one in prepared if isinstance(one, Submission)]))
        return [next(outcomes) if isinstance(one, Submission) else one for one in prepared]

    async def _known(self, requests: Sequence[JobRequest]) -> KnownOfRouting:
        """Read what decides the models, if need be."""
        if not self._admission.needs_routing(requests):
            return NOTHING_KNOWN
        return await self._database.read(partial(self._admission.read_routing, requests=requests))

    async def _admit_each(self, submissions: Sequence[Submission]) -> list[str | EmbedfleetError]:
        """Admit in one transaction; if one of them is refused, in smaller and smaller ones."""
        if not submissions:
            return []
        try:
            return [*await self._database.write(lambda conn: self._admission.admit(conn, submissions))]
        except RoutingChanged:
            return await self.create_each([one.request for one in submissions])
        except EmbedfleetError as exc:  # nothing was admitted
            refused = isinstance(exc, InputError | QuotaExceeded)
            if len(submissions) == 1 or not refused:
                return [exc] * len(submissions)
        first, second = halves(submissions)
        # One after the other: of documents over a quota, the first ones are admitted.
        return [*await self._admit_each(first), *await self._admit_each(second)]


def _or_error(
    prepare: Callable[[JobRequest, KnownOfRouting], Submission], request: JobRequest, known: KnownOfRouting
) -> Submission | EmbedfleetError:
    try:
        return prepare(request, known)
    except EmbedfleetError as exc:
        return exc
