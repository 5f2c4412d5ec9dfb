"""Comparisons of two quick models in a running system."""

from __future__ import annotations

from functools import partial
from typing import Any

from embedfleet.clock import SystemClock
from embedfleet.experiments.administration import ExperimentAdministration
from embedfleet.experiments.schemas import (
    ExperimentInfo,
    ExperimentRequest,
    LabelledAnswer,
    LabelledQuestion,
)
from embedfleet.records import experiments
from embedfleet.records.experiments import Experiment
from support.model_switches import NEW, OLD, document
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


def administration(fleet: Running, actor: str = "op") -> ExperimentAdministration:
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
