"""Asks both arms the questions of an experiment, and records what each answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from embedfleet.clock import Clock
from embedfleet.evaluation.questions import Passage, Question
from embedfleet.evaluation.rankings import overlap_at
from embedfleet.experiments.metrics import ComparedMetric
from embedfleet.model_switching.arm_asking import ArmAnswer, ArmAsking
from embedfleet.records import experiment_questions, identity
from embedfleet.records.arms import Arm
from embedfleet.records.experiment_questions import TEAMS, FoundPassage, StoredQuestion
from embedfleet.records.experiments import Experiment
from embedfleet.sql.database import Database

# What the results show side by side. More of a question would seldom be read.
_HITS_KEPT = 5


@dataclass(frozen=True, slots=True)
class Asker:
    """Asks one question after the other, each recorded in a unit of its own.

    So a process that dies loses the question that it was at, and no question is counted twice.
    """

    database: Database
    asking: ArmAsking
    clock: Clock

    async def ask(self, experiment: Experiment, stored: StoredQuestion, *, twice: bool = False) -> None:
        """Ask both arms a question; `twice`: A again, and note whether its answer is the same.

        Raises InvalidRequest, UnknownModel, SpaceMismatch and ModelError if a model cannot be asked.
        """
        result: dict[str, Any] | None = None
        hits: dict[str, Sequence[FoundPassage]] = {}
        if stored.question is not None:
            result, hits = await self._asked(experiment, stored.question, twice=twice)
        await self.database.write(
            partial(
                experiment_questions.record,
                experiment=experiment,
                place=stored.place,
                now=self.clock.now(),
                result=result,
                hits=hits,
            )
        )

    async def warm(self, experiment: Experiment, text: str) -> None:
        """Load all models and open all spaces, so that the first question is not slower than the others."""
        for arm in experiment.arms:
            await self.asking.ask(experiment.tenant, arm, text, most=1)

    async def _asked(
        self, experiment: Experiment, question: Question, *, twice: bool
    ) -> tuple[dict[str, Any], dict[str, Sequence[FoundPassage]]]:
        metric = ComparedMetric.parse(experiment.rule["metric"])
        most = metric.passages(question)
        answers = [await self._answer(experiment.tenant, arm, question, most) for arm in experiment.arms]
        a, b = ([_named(experiment.tenant, hit) for hit in one.passages] for one in answers)
        result: dict[str, Any] = {
            "a": metric.scores_of(question, a),
            "b": metric.scores_of(question, b),
            "overlap": overlap_at(metric.depth, a, b),
            "seconds_a": answers[0].seconds,
            "seconds_b": answers[1].seconds,
            "chars": len(question.text),
        }
        if twice:
            again = await self._answer(experiment.tenant, experiment.arm_a, question, most)
            result["equal"] = list(again.passages) == list(answers[0].passages)
        return result, {team: _found(question, found) for team, found in zip(TEAMS, (a, b), strict=True)}

    async def _answer(self, tenant: str, arm: Arm, question: Question, most: int) -> ArmAnswer:
        return await self.asking.ask(tenant, arm, question.text, most=most)


def _named(tenant: str, passage: Passage) -> Passage:
    """Return the passage with the id of its document, as answers have it."""
    return Passage(identity.document_id(tenant, passage.document), passage.start, passage.end)


def _found(question: Question, passages: Sequence[Passage]) -> list[FoundPassage]:
    return [
        FoundPassage(
            one.document, one.start, one.end, any(answer.is_met_by(one) for answer in question.answers)
        )
        for one in passages[:_HITS_KEPT]
    ]
