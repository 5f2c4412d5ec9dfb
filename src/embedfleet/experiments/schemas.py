"""What an experiment looks for, and how it is told."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import ConfigDict, Field, field_validator

from embedfleet.evaluation.planning import DEFAULT_POWER
from embedfleet.evaluation.verdicts import Finding
from embedfleet.experiments.metrics import ComparedMetric
from embedfleet.model_switching.schemas import SwitchEstimate
from embedfleet.queue_schemas.vocabulary import Frozen, TenantId
from embedfleet.sql.states import ExperimentPhase, QuestionSource
from embedfleet.validation import Checked

MOST_QUESTIONS = 10_000


class LabelledAnswer(Frozen):
    """A right answer to a question: a document of the tenant."""

    media_id: str = Field(min_length=1, max_length=1_000)
    gain: int = Field(default=1, ge=1, le=100, description="How right it is.")


class LabelledQuestion(Frozen):
    """A question whose right answers are known."""

    text: str = Field(min_length=1, max_length=10_000, description="The question.")
    answers: tuple[LabelledAnswer, ...] = Field(
        min_length=1, max_length=1_000, description="The right answers."
    )


class ExperimentRequest(Checked):
    """A comparison that is wanted. A wrong value raises InvalidRequest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tenant: TenantId
    model_a: str = Field(
        max_length=256, description="The model of the tenant's documents, or `route`: what the tenant has."
    )
    model_b: str = Field(
        max_length=256, description="The model to compare with it, or `route` if A is a model for everything."
    )
    owner: str = Field(max_length=200, description="Who decides by it.")
    source: QuestionSource = Field(
        default=QuestionSource.KNOWN_ITEMS, description="Where the questions come from."
    )
    questions: tuple[LabelledQuestion, ...] = Field(
        default=(), max_length=MOST_QUESTIONS, description="With the source `labelled`: the questions."
    )
    metric: str = Field(
        default="ndcg@10",
        description="What decides: ndcg, recall or mrr at a depth, or overlap, which only describes.",
    )
    smallest_difference: float | None = Field(
        default=None,
        ge=0.001,
        lt=1,
        description="The smallest difference of interest; None: 0.02, online 0.1.",
    )
    power: float = Field(
        default=DEFAULT_POWER, ge=0.5, lt=1, description="With what probability such a difference is found."
    )
    days: float = Field(default=7.0, gt=0, le=90, description="It ends after this time in any case.")
    keep: bool = Field(default=False, description="Keep the second space after the end, until it is ended.")

    @field_validator("owner")
    @classmethod
    def _says_who(cls, owner: str) -> str:
        if not owner.strip() or not owner.isprintable():
            raise ValueError("must be printable characters that say who decides by this experiment")
        return owner.strip()

    @field_validator("metric")
    @classmethod
    def _is_known(cls, metric: str) -> str:
        return str(ComparedMetric.parse(metric))

    @property
    def online(self) -> bool:
        return self.source is QuestionSource.CLICKS

    @property
    def rule(self) -> ExperimentRule:
        return ExperimentRule(
            metric=self.metric,
            smallest_difference=self.smallest_difference or (0.1 if self.online else 0.02),
            power=self.power,
        )


class ExperimentRule(Frozen):
    """What decides. `smallest_difference` is found with the probability `power`, if it is there."""

    metric: str = Field(description="What decides.")
    smallest_difference: float
    power: float


class PlanInfo(Frozen):
    """How many questions, or answers with clicks, are needed. `deviation`: of the paired differences.

    `by_pilot`: the deviation was measured by the first questions; otherwise it is a cautious guess. To show
    that two models are the same takes up to one and a half times as many.
    """

    queries: int = Field(description="How many questions, or answers with clicks, are needed.")
    deviation: float = Field(description="The standard deviation of the paired differences.")
    by_pilot: bool = Field(
        description="Whether the first questions measured it; otherwise it is a cautious guess."
    )


class Promotion(Checked):
    """Which arm of a comparison the tenant is to have. A wrong value raises InvalidRequest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    arm: str | None = Field(
        default=None, max_length=256, description="A model of the comparison, or `route`; null: B."
    )


class PlannedExperiment(Frozen):
    """What an experiment would do. `questions`: that can be asked, of which `left_out` cannot, by reason."""

    tenant: TenantId
    model_a: str
    model_b: str
    source: QuestionSource
    rule: ExperimentRule
    plan: PlanInfo = Field(description="How many are needed.")
    questions: int = Field(description="Questions that can be asked.")
    left_out: dict[str, int]
    to_embed: SwitchEstimate = Field(description="What filling the second space takes.")
    warnings: tuple[str, ...] = ()

    def json_document(self) -> dict[str, Any]:
        """Return the stable form that `--json` prints."""
        return self.model_dump(mode="json", by_alias=True)


class VerdictInfo(Frozen):
    """What was found so far, or in the end. `difference` is B minus A, and `low` to `high` bound it.

    The bounds hold at every look, with the probability `confidence`. `queries` were compared;
    `more_queries` is about how many more would decide.
    """

    finding: Finding
    sentence: str
    difference: float
    low: float
    high: float
    confidence: float
    queries: int = Field(description="Questions, or answers with clicks, that were compared.")
    more_queries: int


class Checks(Frozen):
    """Why the comparison can be trusted: A was asked `repeated` questions twice, of which `unequal` differed.

    `alarms` of `experiments` comparisons of a model with itself found a difference, `allowed` may.
    """

    repeated: int
    unequal: int
    experiments: int
    alarms: int
    allowed: int
    passed: bool


class ExperimentInfo(Frozen):
    """A comparison of two models, or of a model with the route.

    `asked` of the `questions` were asked; online: answers that count.
    `reason` says why it ended. `space_kept_until`: when the second space is freed; None: it is not kept, or
    until the experiment is ended by hand (`keep`).
    """

    experiment_id: str
    tenant: TenantId
    owner: str
    model_a: str
    model_b: str
    source: QuestionSource
    phase: ExperimentPhase
    rule: ExperimentRule
    plan: PlanInfo
    checks: Checks | None
    verdict: VerdictInfo | None
    reason: str | None
    questions: int = Field(description="Questions that can be asked.")
    asked: int = Field(description="Questions that were asked; online: answers that were shown.")
    begun_at: datetime
    expires_at: datetime = Field(description="When it ends in any case.")
    ended_at: datetime | None
    keep: bool
    space_kept_until: datetime | None
    promoted: str | None = Field(default=None, description="The arm that the tenant was given; null: none.")
    warnings: tuple[str, ...] = ()

    def json_document(self) -> dict[str, Any]:
        """Return the stable form that `--json` prints."""
        return self.model_dump(mode="json", by_alias=True)


class Figures(Frozen):
    """Both arms by one metric, or on one kind of questions. `low` to `high` bound B minus A.

    The bounds are of one look: read them when the experiment has ended.
    """

    name: str
    value: str = Field(description="Which metric, or which questions.")
    queries: int
    a: float = Field(description="The mean score of A.")
    b: float = Field(description="The mean score of B.")
    difference: float
    low: float
    high: float


class SpaceFigures(Frozen):
    """What a model costs: of the tenant's documents in its space, and of one search (p95).

    The route has a space for each of `models`.
    """

    model: str = Field(description="The model, or `route`.")
    models: tuple[str, ...] = Field(description="The models of its spaces.")
    documents: int
    chunks: int
    tokens: int
    cost: float | None = Field(description="What the tokens cost; null: a model has no price.")
    currency: str
    bytes_per_vector: int = Field(description="Of several spaces: the average, weighted by their chunks.")
    p95_seconds: float | None


class PassageInfo(Frozen):
    """A passage that an arm found. `text` is None if its document has changed since."""

    media_id: str
    source: str | None
    start: int
    end: int
    is_right: bool
    text: str | None = Field(description="The text; null: its document has changed since.")


class QuestionInfo(Frozen):
    """A question with the first hits of both arms, side by side."""

    text: str | None = Field(description="The question; null: it is gone.")
    right: tuple[str, ...]
    score_a: float
    score_b: float
    a: tuple[PassageInfo, ...] = Field(description="The first hits of A.")
    b: tuple[PassageInfo, ...] = Field(description="The first hits of B.")


class ExperimentResults(Frozen):
    """All that is known of an experiment. `worst`: questions on which B loses most; `best`: gains most.

    `overlap` is the mean share of hits that both models have in common.
    """

    experiment: ExperimentInfo
    metrics: tuple[Figures, ...]
    slices: tuple[Figures, ...]
    overlap: float | None
    spaces: tuple[SpaceFigures, SpaceFigures]
    worst: tuple[QuestionInfo, ...]
    best: tuple[QuestionInfo, ...]

    def json_document(self) -> dict[str, Any]:
        """Return the stable form that `--json` prints."""
        return self.model_dump(mode="json", by_alias=True)


def rule_of(rule: Mapping[str, Any]) -> ExperimentRule:
    """Return the rule as it is kept."""
    return ExperimentRule.model_validate(rule, extra="ignore")
