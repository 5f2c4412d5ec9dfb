"""The fingerprint is equal exactly when vectors may be compared."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from embedfleet.inference.space import Space

SPACE = Space(
    backend="onnx", weights_sha256="ab", tokenizer_sha256="cd", pooling="mean", normalise=True, dim=384
)


@pytest.mark.parametrize(
    "change",
    [
        {"backend": "static"},
        {"weights_sha256": "ac"},
        {"tokenizer_sha256": "ce"},
        {"pooling": "cls"},
        {"normalise": False},
        {"dim": 385},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_changes_a_vector_changes_the_fingerprint(change: dict[str, Any]) -> None:
    assert replace(SPACE, **change).fingerprint() != SPACE.fingerprint()


def test_the_fingerprint_outlives_the_process() -> None:
    """A stored collection carries it: a release that computes another one orphans every vector."""
    assert SPACE.fingerprint() == "81a3222d9216193c"
