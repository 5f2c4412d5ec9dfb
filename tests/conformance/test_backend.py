"""What `EmbeddingBackend` promises, for every bundled backend, and for a server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from embedfleet.errors import ModelError
from embedfleet.inference.backend import EmbeddingBackend, TokenBatch
from embedfleet.inference.catalogue import Catalogue
from embedfleet.settings import ModelSettings, ModelsSettings
from support.embedding_server import EmbeddingServer

BIT_FOR_BIT = {"remote", "static", "stub"}
ANY_TOKEN = {"remote", "stub"}


@pytest.fixture(params=["stub", "static", "minilm", "torch", "remote"], scope="module")
def backend(request: pytest.FixtureRequest) -> Iterator[EmbeddingBackend]:
    own: dict[str, ModelSettings] = {}
    if request.param == "torch":
        folder: Path = request.getfixturevalue("minilm_folder")
        own["torch"] = ModelSettings(backend="torch", path=folder, devices=("cpu",))
    with EmbeddingServer() as server:
        own["remote"] = server.settings()
        backend = Catalogue(ModelsSettings(catalogue=own, threads=1)).open(request.param)
        yield backend
        backend.close()


def texts_of(*lengths: int, seed: int = 0) -> TokenBatch:
    """Random tokens, all of them words in every bundled vocabulary, and texts that differ as they do."""
    ids = np.random.default_rng(seed).integers(1000, 29_000, sum(lengths), dtype=np.uint32)
    ends = np.cumsum(lengths, dtype=np.int64)
    texts = tuple(
        f"text {ids[end - length : end].tolist()}" for length, end in zip(lengths, ends, strict=True)
    )
    return TokenBatch(ids, np.array(lengths, dtype=np.int64), texts)


def alone(backend: EmbeddingBackend, batch: TokenBatch, position: int) -> NDArray[np.float32]:
    (vector,) = backend.embed_tokens(batch.take(np.array([position])))
    return np.asarray(vector)


def test_vectors_are_float32_rows_of_unit_length(backend: EmbeddingBackend) -> None:
    vectors = backend.embed_tokens(texts_of(3, 50, 1))
    assert vectors.dtype == np.float32
    assert vectors.shape == (3, backend.info.dim)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


def test_no_texts_give_no_rows(backend: EmbeddingBackend) -> None:
    assert backend.embed_tokens(texts_of()).shape == (0, backend.info.dim)


def test_a_text_without_tokens_has_a_finite_vector(backend: EmbeddingBackend) -> None:
    vectors = backend.embed_tokens(texts_of(0, 4, 0))
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(vectors[0], vectors[2], atol=1e-6)


def test_a_text_of_exactly_the_limit_is_embedded(backend: EmbeddingBackend) -> None:
    assert np.isfinite(backend.embed_tokens(texts_of(backend.info.max_tokens))).all()


def test_a_text_over_the_limit_is_refused_not_truncated(backend: EmbeddingBackend) -> None:
    with pytest.raises(ModelError, match=f"{backend.info.max_tokens + 1} tokens.*chunk it smaller"):
        backend.embed_tokens(texts_of(3, backend.info.max_tokens + 1))


def test_a_token_outside_the_vocabulary_is_refused(backend: EmbeddingBackend) -> None:
    if backend.info.name in ANY_TOKEN:
        pytest.skip("knows no vocabulary")
    batch = TokenBatch(np.array([1, 40_000], dtype=np.uint32), np.array([2]))
    with pytest.raises(ModelError, match="token id 40000 is outside the vocabulary"):
        backend.embed_tokens(batch)


def test_different_texts_have_different_vectors(backend: EmbeddingBackend) -> None:
    vectors = backend.embed_tokens(texts_of(10, 10, 10))
    cosines = vectors @ vectors.T
    assert (cosines[~np.eye(3, dtype=bool)] < 0.999).all()


def test_the_same_batch_gives_the_same_bytes(backend: EmbeddingBackend) -> None:
    batch = texts_of(7, 80, 3)
    assert backend.embed_tokens(batch).tobytes() == backend.embed_tokens(batch).tobytes()


@pytest.mark.parametrize("length", [0, 1, 7, 33, 128, 250])
@pytest.mark.parametrize("longest", [0, 64, 254])
def test_a_vector_does_not_depend_on_batch_mates_nor_on_padding(
    backend: EmbeddingBackend, length: int, longest: int
) -> None:
    batch = texts_of(3, length, longest, 17, seed=length)
    together = backend.embed_tokens(batch)[1]
    by_itself = alone(backend, batch, 1)
    if backend.info.name in BIT_FOR_BIT:
        assert together.tobytes() == by_itself.tobytes()
    else:
        assert float(together @ by_itself) >= 0.99999


def test_rows_follow_the_order_of_the_texts(backend: EmbeddingBackend) -> None:
    batch = texts_of(5, 60, 20, 1)
    order = np.array([2, 0, 3, 1])
    shuffled = backend.embed_tokens(batch.take(order))
    np.testing.assert_allclose(shuffled, backend.embed_tokens(batch)[order], atol=1e-5)
