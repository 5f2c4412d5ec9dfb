"""Decides which model a group of vectors is of, and whether its vectors are right. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from embedfleet.adoption.survey import Group
from embedfleet.inference.backend import ModelInfo
from embedfleet.settings import ModelSettings

# What other systems call the models that are built in.
BUILT_IN_NAMES = {"all-minilm-l6-v2": "minilm"}
_CONFIDENCE = 0.95
# all-MiniLM-L6-v2 with 8-bit weights has at least 0.998 to the same model with 32-bit ones, on 97 passages.
# Other models of the same dimension are near 0.
_OTHER_PRECISION = 0.98


class GroupOutcome(StrEnum):
    """`take`: its vectors are right. `embed`: its documents are embedded again. `refuse`: it is left out."""

    TAKE = "take"
    EMBED = "embed"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Sample:
    """What the comparison with vectors that were made just now has shown.

    `compared` counts the rows, `same` those whose vector is the same up to length and rounding, and `lowest`
    is the lowest cosine of all; 1.0 if nothing was compared.
    """

    compared: int = 0
    same: int = 0
    lowest: float = 1.0

    def __add__(self, more: Sample) -> Sample:
        return Sample(self.compared + more.compared, self.same + more.same, min(self.lowest, more.lowest))

    @property
    def most_wrong(self) -> float:
        """The largest share of wrong rows in the group that this sample leaves likely, if it found none.

        A group with a larger share shows at least one wrong row in 95 of 100 samples: `1 - 0.05 ** (1 / n)`.
        """
        return 1.0 if not self.compared else 1 - (1 - _CONFIDENCE) ** (1 / self.compared)


@dataclass(frozen=True, slots=True)
class GroupFinding:
    """What becomes of a group. `model` is the configured model, None if there is none for it."""

    group: Group
    rows: int
    outcome: GroupOutcome
    model: str | None
    sample: Sample
    reason: str


def model_of(group: Group, given: Mapping[str, str], catalogue: Mapping[str, ModelSettings]) -> str | None:
    """Return the configured model that made the vectors of the group, as far as names tell; None if unknown.

    `given` is what the caller says: configured models by what the source calls them; "" stands for every
    group that is not named.
    """
    called = group.model
    for name in (f"{group.provider}/{called}", called, ""):
        if name in given:
            return given[name]
    if called in catalogue:
        return called
    short = called.rsplit("/", 1)[-1].casefold()
    if not short:
        return None
    for name, settings in catalogue.items():
        remote = None if settings.remote is None else settings.remote.model
        others = (name, settings.hub, remote)
        if any(short == other.rsplit("/", 1)[-1].casefold() for other in others if other):
            return name
    return BUILT_IN_NAMES.get(short)


def finding(group: Group, rows: int, model: ModelInfo, sample: Sample, *, embed_wrong: bool) -> GroupFinding:
    """Decide a group whose model is known: it is taken if no row of the sample is wrong.

    `embed_wrong`: a wrong group is embedded again, and not refused.
    """
    if model.dim != group.dim:
        reason = f"the model has {model.dim} dimensions"
    elif not sample.compared:
        reason = "no row has a text to compare its vector with"
    elif sample.same < sample.compared:
        wrong = sample.compared - sample.same
        reason = f"{wrong} of {sample.compared} rows have another vector (lowest cosine {sample.lowest:.3f})"
        if sample.lowest >= _OTHER_PRECISION:
            reason += ": that of the same model with another precision, if you accept a lower cosine"
    else:
        unseen = "all are right" if sample.compared == rows else f"up to {sample.most_wrong:.1%} may be wrong"
        reason = f"{sample.compared} rows compared (lowest cosine {sample.lowest:.5f}), {unseen}"
        return GroupFinding(group, rows, GroupOutcome.TAKE, model.name, sample, reason)
    outcome = GroupOutcome.EMBED if embed_wrong else GroupOutcome.REFUSE
    return GroupFinding(group, rows, outcome, model.name, sample, reason)
