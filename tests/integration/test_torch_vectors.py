"""The torch backend gives sentence-transformers' vectors, however a folder says it pools and prompts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from embedfleet.inference.backend import EmbeddingBackend, Role
from embedfleet.inference.catalogue import Catalogue
from embedfleet.settings import ModelSettings, ModelsSettings
from support.right_vectors import cosines, embed, many_texts, sentence_transformer, tokenise

FEW = 20


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return many_texts()


@pytest.fixture(scope="module")
def few_texts(texts: list[str]) -> list[str]:
    """Far from the limit, where prompts would be cut differently; odd ones among them."""
    return [text for text in texts if len(text) < 300][-FEW:]


@pytest.fixture(scope="module")
def reference(minilm_folder: Path) -> Any:
    return sentence_transformer(minilm_folder)


@pytest.fixture(scope="module")
def few_vectors(reference: Any, few_texts: list[str]) -> NDArray[np.float32]:
    vectors: NDArray[np.float32] = reference.encode(few_texts, normalize_embeddings=True)
    return vectors


def opened(folder: Path, **settings: Any) -> EmbeddingBackend:
    own = ModelSettings(backend="torch", path=folder, devices=("cpu",), **settings)
    return Catalogue(ModelsSettings(catalogue={"own": own}, threads=1)).open("own")


def ours(folder: Path, texts: list[str], **settings: Any) -> NDArray[np.float32]:
    backend = opened(folder, **settings)
    vectors = embed(backend, tokenise(backend, texts))
    backend.close()
    return vectors


def pooling_folder(minilm_folder: Path, folder: Path, pooling: dict[str, Any]) -> Path:
    """MiniLM's files, but for how it says to pool."""
    for file in minilm_folder.iterdir():
        if file.name != "1_Pooling":
            (folder / file.name).symlink_to(file)
    config = folder / "1_Pooling" / "config.json"
    config.parent.mkdir()
    config.write_text(json.dumps({"word_embedding_dimension": 384, **pooling}))
    return folder


def test_float32_gives_the_reference_vectors(minilm_folder: Path, reference: Any, texts: list[str]) -> None:
    half = texts[::2]  # all of them are compared where the ONNX export is
    theirs = reference.encode(half, normalize_embeddings=True)
    similarity = cosines(ours(minilm_folder, half), theirs)
    print(f"torch float32: cosine min {similarity.min():.7f}")
    assert similarity.min() >= 0.9999


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_every_attention_gives_them(
    minilm_folder: Path, few_texts: list[str], few_vectors: NDArray[np.float32], attention: str
) -> None:
    assert cosines(ours(minilm_folder, few_texts, attention=attention), few_vectors).min() >= 0.9999


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_stays_within_a_thousandth(
    minilm_folder: Path, few_texts: list[str], few_vectors: NDArray[np.float32], dtype: str
) -> None:
    vectors = ours(minilm_folder, few_texts, dtype=dtype)
    similarity = cosines(vectors, few_vectors)
    print(f"torch {dtype}: cosine mean {similarity.mean():.6f}, min {similarity.min():.6f}")
    assert vectors.dtype == np.float32
    assert similarity.mean() >= 0.999
    assert not np.array_equal(vectors, ours(minilm_folder, few_texts))


@pytest.mark.parametrize(
    ("setting", "pooling"),
    [("cls", {"pooling_mode_cls_token": True}), ("last", {"pooling_mode": "lasttoken"})],
    ids=["cls, as written before", "last, as written today"],
)
def test_a_folder_pools_as_it_says_and_the_settings_go_before_it(
    minilm_folder: Path,
    tmp_path: Path,
    few_texts: list[str],
    few_vectors: NDArray[np.float32],
    setting: str,
    pooling: dict[str, Any],
) -> None:
    folder = pooling_folder(minilm_folder, tmp_path, pooling)
    theirs = sentence_transformer(folder).encode(few_texts, normalize_embeddings=True)
    vectors = ours(folder, few_texts)
    assert cosines(vectors, theirs).min() >= 0.9999
    assert cosines(vectors, few_vectors).mean() < 0.9
    np.testing.assert_array_equal(ours(minilm_folder, few_texts, pooling=setting), vectors)


def test_a_folder_saved_by_todays_sentence_transformers_is_the_same_model(
    reference: Any, tmp_path: Path, few_texts: list[str], few_vectors: NDArray[np.float32]
) -> None:
    """It writes other files than the release that made the packaged one."""
    reference.save(str(tmp_path))
    backend = opened(tmp_path)
    assert backend.info.max_tokens == 254
    assert cosines(embed(backend, tokenise(backend, few_texts)), few_vectors).min() >= 0.9999


def test_a_prefix_is_sentence_transformers_prompt(
    reference: Any, minilm_folder: Path, few_texts: list[str], few_vectors: NDArray[np.float32]
) -> None:
    prompts: dict[Role, str] = {"query": "query: ", "document": "title: none | text: "}
    backend = opened(minilm_folder, query_prefix=prompts["query"], document_prefix=prompts["document"])
    for role, prompt in prompts.items():
        theirs = reference.encode(few_texts, prompt=prompt, normalize_embeddings=True)
        vectors = embed(backend, tokenise(backend, few_texts, role))
        assert cosines(vectors, theirs).min() >= 0.9999
        assert cosines(vectors, few_vectors).min() < 0.99


def test_fewer_dimensions_are_the_first_ones_of_length_one(
    reference: Any, minilm_folder: Path, few_texts: list[str]
) -> None:
    theirs = reference.encode(few_texts, truncate_dim=128, normalize_embeddings=True)
    vectors = ours(minilm_folder, few_texts, dimensions=128)
    assert vectors.shape == (len(few_texts), 128)
    np.testing.assert_allclose(vectors, theirs, atol=1e-5)
