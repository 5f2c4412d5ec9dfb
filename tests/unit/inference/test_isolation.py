"""One bad text does not cost its batch-mates their vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from embedfleet.errors import ModelExhausted
from embedfleet.inference.backend import TokenBatch
from embedfleet.inference.isolation import NOT_FINITE, embed_isolated

Texts = Callable[..., TokenBatch]


def test_a_good_batch_is_one_call(backend: Any, texts: Texts) -> None:
    outcome = embed_isolated(backend, texts(1, 2, 3))
    assert outcome.vectors[:, 0].tolist() == [1, 2, 3]
    assert not outcome.failed
    assert not outcome.ran_out_of_memory
    assert backend.calls == [[1, 2, 3]]


def test_an_empty_batch_is_no_call(backend: Any, texts: Texts) -> None:
    assert embed_isolated(backend, texts()).vectors.shape == (0, backend.info.dim)
    assert backend.calls == []


@pytest.mark.parametrize("place", range(5))
def test_a_poisonous_text_fails_alone_wherever_it_stands(backend: Any, texts: Texts, place: int) -> None:
    firsts = [1, 2, 3, 4, 5]
    firsts[place] = 13
    outcome = embed_isolated(backend, texts(*firsts))
    assert outcome.failed == {place: "poison"}
    assert outcome.vectors[:, 0].tolist() == [0 if first == 13 else first for first in firsts]


def test_several_poisonous_texts_are_all_named(backend: Any, texts: Texts) -> None:
    outcome = embed_isolated(backend, texts(13, 1, 2, 13, 3, 13))
    assert sorted(outcome.failed) == [0, 3, 5]
    assert outcome.vectors[:, 0].tolist() == [0, 1, 2, 0, 3, 0]


def test_finding_one_poisonous_text_costs_calls_by_the_logarithm(backend: Any, texts: Texts) -> None:
    embed_isolated(backend, texts(13, *range(100, 163)))
    assert len(backend.calls) == 1 + 2 * 6  # 64 texts: six halvings


def test_a_row_that_is_not_finite_fails_without_a_second_run(backend: Any, texts: Texts) -> None:
    outcome = embed_isolated(backend, texts(1, 666, 2))
    assert outcome.failed == {1: NOT_FINITE}
    assert outcome.vectors[:, 0].tolist() == [1, 0, 2]
    assert np.isfinite(outcome.vectors).all()
    assert len(backend.calls) == 1


def test_a_batch_too_large_for_the_memory_is_halved_and_embedded_whole(backend: Any, texts: Texts) -> None:
    backend.memory_tokens = 16
    outcome = embed_isolated(backend, texts(1, 2, 3, 4, 5))
    assert outcome.ran_out_of_memory
    assert not outcome.failed
    assert outcome.vectors[:, 0].tolist() == [1, 2, 3, 4, 5]


def test_memory_short_of_a_single_text_is_said_as_such(backend: Any, texts: Texts) -> None:
    backend.memory_tokens = 4
    with pytest.raises(ModelExhausted, match="a single text of 8 tokens"):
        embed_isolated(backend, texts(1, 2))


def test_vectors_of_another_shape_are_refused(backend: Any, texts: Texts) -> None:
    class WrongDimension(type(backend)):  # type: ignore[misc]  # the fixture's class is not importable
        def embed_tokens(self, batch: TokenBatch) -> Any:
            return super().embed_tokens(batch)[:, :-1]

    outcome = embed_isolated(WrongDimension(), texts(1))
    assert "dimension" in outcome.failed[0]
