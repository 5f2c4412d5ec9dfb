"""Keeps the answers that people are shown, and what they click: for online experiments and the query log."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from functools import partial
from random import Random

from loguru import logger
from sqlalchemy import Connection

from embedfleet.clock import Clock
from embedfleet.errors import InvalidRequest, StorageFull, Transient, UnknownImpression, one_line
from embedfleet.evaluation.interleaving import Team, team_draft
from embedfleet.evaluation.questions import Passage, same_passage
from embedfleet.queue_schemas import Feedback, SearchHit
from embedfleet.records import experiments, identity, impressions
from embedfleet.records.experiments import Experiment
from embedfleet.records.impressions import ShownHit
from embedfleet.settings import ExperimentSettings
from embedfleet.sql.database import Database
from embedfleet.wording import readable_seconds

# People seldom look further, and what is kept of an answer stays small.
_MOST_PLACES = 100

Clicked = str | int
"""What was clicked: the id of a chunk, or its place in the answer, from 0."""


def mixed(
    a: Sequence[SearchHit], b: Sequence[SearchHit], *, length: int, rng: Random
) -> tuple[list[SearchHit], list[Team | None]]:
    """Return the hits of both models in turn, and whose each is. No hit says which model found it.

    A passage that both found is shown once (`same_passage`).
    """
    places = team_draft(a, b, length=length, rng=rng, same=_same)
    hits = [place.item.model_copy(update={"model": None}) for place in places]
    return hits, [place.team for place in places]


def _same(one: SearchHit, other: SearchHit) -> bool:
    return same_passage(
        Passage(one.media_id, one.start, one.end), Passage(other.media_id, other.start, other.end)
    )


class Impressions:
    """The answers that take feedback."""

    def __init__(self, database: Database, clock: Clock, settings: ExperimentSettings) -> None:
        self._database = database
        self._clock = clock
        self._settings = settings

    def showing(self, conn: Connection, tenant: str) -> Experiment | None:
        """Return the experiment whose models both answer the tenant's searches now; None if there is none."""
        return experiments.showing_of(conn, tenant, self._clock.now())

    async def keep(
        self,
        tenant: str,
        query: str,
        hits: Sequence[SearchHit],
        *,
        experiment: Experiment | None,
        teams: Sequence[Team | None],
    ) -> str | None:
        """Keep an answer if an experiment or the query log needs it. Return its id; None: it is not kept.

        The text of the query is kept only if the tenant's searches are logged. A search does not fail because
        its answer could not be kept.
        """
        logs = self._settings.logs(tenant)
        if not hits or not (logs or experiment):
            return None
        impression_id = secrets.token_hex(16)
        names = [*teams, *[None] * len(hits)]
        shown = [
            ShownHit(
                identity.document_id(tenant, hit.media_id), hit.chunk_id, hit.start, hit.end, team or "-"
            )
            for hit, team in zip(hits[:_MOST_PLACES], names, strict=False)
        ]
        add = partial(
            impressions.add,
            impression_id=impression_id,
            tenant=tenant,
            hits=shown,
            experiment_id=None if experiment is None else experiment.experiment_id,
            query=query if logs else None,
            now=self._clock.now(),
        )
        try:
            await self._database.write(add)
        except (Transient, StorageFull) as exc:
            logger.bind(tenant=tenant).warning("an answer takes no feedback: {}", one_line(exc))
            return None
        return impression_id

    async def take_feedback(self, tenant: str, impression_id: str, clicked: Sequence[Clicked]) -> Feedback:
        """Record what was clicked in an answer of the tenant. The same feedback again changes nothing.

        Raises UnknownImpression, also for an answer that was shown too long ago, and InvalidRequest for what
        is not in the answer.
        """

        def take(conn: Connection) -> Feedback:
            shown = impressions.lock(conn, tenant, impression_id)
            seconds = self._settings.feedback_seconds
            if shown is None or self._clock.now() >= shown.shown_at + seconds:
                raise UnknownImpression(
                    f"no answer `{impression_id}` takes feedback: take the id from an answer of the last "
                    f"{readable_seconds(seconds)}"
                )
            places = _places(conn, impression_id, clicked, length=len(shown.teams))
            every = sorted({*shown.clicks, *places})
            if every != list(shown.clicks):
                impressions.set_clicks(conn, impression_id, every)
            return Feedback(impression_id=impression_id, clicked=tuple(every))

        return await self._database.write(take)


def _places(conn: Connection, impression_id: str, clicked: Sequence[Clicked], *, length: int) -> list[int]:
    of_chunk = impressions.places_of(conn, impression_id, [one for one in clicked if isinstance(one, str)])
    places: list[int] = []
    for number, one in enumerate(clicked):
        place = of_chunk.get(one) if isinstance(one, str) else one
        if place is None or not 0 <= place < length:
            raise InvalidRequest(
                f"clicked.{number}: `{str(one)[:64]}` is not in the answer: give ids of its chunks, or "
                f"places from 0 to {length - 1}",
                field=f"clicked.{number}",
            )
        places.append(place)
    return places
