"""Which model a group of vectors is of, and whether a sample shows that they are right."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedfleet.adoption.groups import GroupOutcome, Sample, finding, model_of
from embedfleet.adoption.survey import Group
from embedfleet.inference.backend import ModelInfo
from embedfleet.settings import ModelSettings

CATALOGUE = {
    "minilm": ModelSettings(backend="onnx"),
    "mine": ModelSettings.model_validate({"backend": "torch", "hub": "BAAI/bge-small-en"}),
    "openai": ModelSettings.model_validate(
        {
            "backend": "remote",
            "dim": 8,
            "remote": {"url": "https://api.openai.com/v1", "model": "text-embedding-3-small"},
        }
    ),
}
INFO = ModelInfo("minilm", 384, 254, "space", Path("tokenizer.json"), "", 0)
GROUP = Group("huggingface", "sentence-transformers/all-MiniLM-L6-v2", 384)


@pytest.mark.parametrize(
    ("called", "model"),
    [
        ("minilm", "minilm"),
        ("sentence-transformers/all-MiniLM-L6-v2", "minilm"),
        ("bge-small-en", "mine"),
        ("text-embedding-3-small", "openai"),
        ("unheard-of", None),
        ("", None),
    ],
)
def test_a_model_is_found_by_its_name_and_by_what_it_is_called_elsewhere(
    called: str, model: str | None
) -> None:
    assert model_of(Group("p", called, 8), {}, CATALOGUE) == model


def test_what_the_caller_says_counts_more_than_names() -> None:
    given = {"p/minilm": "a", "minilm": "b", "": "c"}
    assert model_of(Group("p", "minilm", 8), given, CATALOGUE) == "a"
    assert model_of(Group("q", "minilm", 8), given, CATALOGUE) == "b"
    assert model_of(Group("q", "other", 8), given, CATALOGUE) == "c"


@pytest.mark.parametrize("embed_wrong", [False, True])
@pytest.mark.parametrize(
    ("group", "sample", "taken", "reason"),
    [
        (
            GROUP,
            Sample(100, 100, 0.9999),
            True,
            "100 rows compared (lowest cosine 0.99990), up to 3.0% may be wrong",
        ),
        (GROUP, Sample(100, 99, 0.2), False, "1 of 100 rows have another vector (lowest cosine 0.200)"),
        (
            GROUP,
            Sample(100, 98, 0.9982),
            False,
            "2 of 100 rows have another vector (lowest cosine 0.998): that of the same model with another "
            "precision, if you accept a lower cosine",
        ),
        (GROUP, Sample(), False, "no row has a text to compare its vector with"),
        (GROUP._replace(dim=768), Sample(), False, "the model has 384 dimensions"),
    ],
)
def test_a_group_is_taken_only_if_no_row_of_its_sample_is_wrong(
    group: Group, sample: Sample, taken: bool, reason: str, embed_wrong: bool
) -> None:
    found = finding(group, 1_000, INFO, sample, embed_wrong=embed_wrong)
    wrong = GroupOutcome.EMBED if embed_wrong else GroupOutcome.REFUSE
    assert (found.outcome, found.reason) == (GroupOutcome.TAKE if taken else wrong, reason)


def test_a_larger_sample_leaves_less_unseen() -> None:
    # 95 of 100 samples of 100 rows find a wrong row if 3% are wrong: the "rule of three".
    assert Sample(100, 100).most_wrong == pytest.approx(0.03, abs=0.001)
    assert Sample(1_000, 1_000).most_wrong == pytest.approx(0.003, abs=0.0001)
    assert Sample().most_wrong == 1.0
