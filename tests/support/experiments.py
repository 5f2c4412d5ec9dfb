"""Comparisons of two quick models in a running system."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from time import time
from typing import Any

from sqlalchemy import Connection, select

from embedfleet.clock import SystemClock
from embedfleet.experiments.administration import ExperimentAdministration
from embedfleet.experiments.schemas import (
    ExperimentInfo,
    ExperimentRequest,
    LabelledAnswer,
    LabelledQuestion,
)
from embedfleet.records import experiments, impressions
from embedfleet.records.experiments import Experiment
from embedfleet.records.impressions import ShownHit
from embedfleet.sql import experiment_tables
from embedfleet.sql.database import Database
from support.model_switches import NEW, OLD, document
from support.stages_by_hand import StagesByHand
from support.system import TENANT, Running, until

_WAYS = (
    "{}",
    "tell me of {}",
    "{} in winter",
    "what are {}",
    "about {} please",
    "{} of the north",
    "who has {}",
    "old {}",
    "we look for {}",
    "where are {}",
)


def questions(documents: int, ways: int = len(_WAYS)) -> tuple[LabelledQuestion, ...]:
    """Ask for each of the documents in some ways; the document is the right answer."""
    found = []
    for number in range(documents):
        one = document(number)
        subject = one["title"].removeprefix("All about the ")
        for way in _WAYS[:ways]:
            answer = LabelledAnswer(media_id=one["media_id"])
            found.append(LabelledQuestion(text=way.format(subject), answers=(answer,)))
    return tuple(found)


def administration(fleet: Running | StagesByHand, actor: str = "op") -> ExperimentAdministration:
    system = fleet.system
    return ExperimentAdministration(
        system.database, SystemClock(), system.catalogue, system.settings, actor=actor
    )


def wanted(**more: Any) -> ExperimentRequest:
    """The request of a comparison of both models."""
    fields: dict[str, Any] = {"tenant": TENANT, "model_a": OLD, "model_b": NEW, "owner": "Ada"}
    return ExperimentRequest(**(fields | more))


async def begin(fleet: Running, **more: Any) -> ExperimentInfo:
    return await administration(fleet).begin(wanted(**more))


async def ended(fleet: Running, experiment_id: str) -> Experiment:
    """Return the experiment when it has ended."""

    async def is_over() -> bool:
        return not (await row(fleet, experiment_id)).running

    await until(is_over, fleet.system.database)
    return await row(fleet, experiment_id)


async def row(fleet: Running, experiment_id: str) -> Experiment:
    found = await fleet.system.database.read(partial(experiments.get, experiment_id=experiment_id))
    assert found is not None
    return found


async def keep_answer(
    database: Database,
    tenant: str,
    impression_id: str,
    *,
    teams: str = "a",
    clicks: Sequence[int] = (),
    experiment_id: str | None = None,
    query: str | None = None,
    shown_seconds_ago: float = 0.0,
) -> None:
    """Plant an answer that was shown, a passage a place."""
    hits = [ShownHit(f"document {place}", f"{place:032x}", 0, 9, team) for place, team in enumerate(teams)]

    def keep(conn: Connection) -> None:
        now = time() - shown_seconds_ago
        impressions.add(conn, impression_id, tenant, hits, experiment_id=experiment_id, query=query, now=now)
        impressions.set_clicks(conn, impression_id, clicks)

    await database.write(keep)


async def clicks_of(database: Database, impression_id: str) -> str:
    table = experiment_tables.impressions.c
    query = select(table.clicks).where(table.impression_id == impression_id)
    return str(await database.read(lambda conn: conn.execute(query).scalar_one()))
