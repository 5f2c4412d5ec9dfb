"""Comparisons of two models, or of a model and the route, for operators, and feedback on searches.

The contracts are those of `experiments.administration.ExperimentAdministration`.
"""

from __future__ import annotations

from embedfleet.client.calls.listing import listed
from embedfleet.client.calls.reading import document, record, segment
from embedfleet.client.steps import Ask, Steps
from embedfleet.experiments.schemas import (
    ExperimentInfo,
    ExperimentRequest,
    ExperimentResults,
    PlannedExperiment,
    Promotion,
)
from embedfleet.records.cursors import Page

_PATH = "/v1/experiments"


def plan_experiment(request: ExperimentRequest) -> Steps[PlannedExperiment]:
    """Return what a comparison would do, and begin nothing. Raises as `begin_experiment` does."""
    return record(
        PlannedExperiment, (yield Ask("POST", f"{_PATH}:plan", json=document(request), repeats=True))
    )


def begin_experiment(request: ExperimentRequest) -> Steps[ExperimentInfo]:
    """Begin a comparison, which ends by itself. Raises InvalidRequest, UnknownModel and ConfigError.

    If the answer is lost on the way, it may have begun: list the comparisons.
    """
    return record(ExperimentInfo, (yield Ask("POST", _PATH, json=document(request))))


def list_experiments(*, limit: int = 100, after: str | None = None) -> Steps[Page[ExperimentInfo]]:
    """Return up to `limit` comparisons, newest first.

    For the next page, pass `next_cursor` of this page as `after`. Raises InvalidRequest for another text.
    """
    return (yield from listed(ExperimentInfo, _PATH, "experiments", limit=limit, after=after))


def get_experiment(experiment_id: str) -> Steps[ExperimentResults]:
    """Return all that is known of a comparison. Raises UnknownExperiment."""
    return record(ExperimentResults, (yield Ask("GET", f"{_PATH}/{segment(experiment_id)}")))


def end_experiment(experiment_id: str) -> Steps[ExperimentInfo]:
    """End a comparison with what is known by now, or free the space of an ended one.

    Raises UnknownExperiment.
    """
    # Not repeated: of one that has ended, a second request would free the space that the first one kept.
    return record(ExperimentInfo, (yield Ask("POST", f"{_PATH}/{segment(experiment_id)}/end")))


def promote_experiment(experiment_id: str, arm: str | None = None) -> Steps[ExperimentInfo]:
    """Give the tenant an arm of a comparison: a model, or `route`; None: B.

    Raises UnknownExperiment, InvalidRequest for another arm, and NotReady if the other arm is better.
    """
    path = f"{_PATH}/{segment(experiment_id)}/promote"
    return record(ExperimentInfo, (yield Ask("POST", path, json=document(Promotion(arm=arm)))))
