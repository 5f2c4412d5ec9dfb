"""The torch backend gives sentence-transformers' vectors, however a folder says it pools and prompts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from embedfleet.inference.backend import EmbeddingBackend, Role
from embedfleet.inference.catalogue import Catalogue
from embedfleet.settings import ModelSettings, ModelsSettings
from support.right_vectors import cosines, embed, many_texts, sentence_transformer, tokenise

pytestmark = pytest.mark.timeout(300)  # torch and hundreds of texts, on a busy machine

FEW = 40
Opened = Callable[..., EmbeddingBackend]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return many_texts()


@pytest.fixture(scope="module")
def few_texts(texts: list[str]) -> list[str]:
    """Far from the limit, where prompts would be cut differently."""
    return [text for text in texts if len(text) < 400][-FEW:]


@pytest.fixture(scope="module")
def reference(minilm_folder: Path) -> Any:
    return sentence_transformer(minilm_folder)


@pytest.fixture(scope="module")
def reference_vectors(reference: Any, texts: list[str]) -> NDArray[np.float32]:
    vectors: NDArray[np.float32] = reference.encode(texts, normalize_embeddings=True)
    return vectors


def opened(folder: Path, **settings: Any) -> EmbeddingBackend:
    own = ModelSettings(backend="torch", path=folder, devices=("cpu",), **settings)
    return Catalogue(ModelsSettings(catalogue={"own": own}, threads=1)).open("own")


def ours(folder: Path, texts: list[str], role: Role = "document", **settings: Any) -> NDArray[np.float32]:
    backend = opened(folder, **settings)
    vectors = embed(backend, tokenise(backend, texts, role))
    backend.close()
    return vectors


def pooling_folder(minilm_folder: Path, folder: Path, pooling: dict[str, Any]) -> Path:
    """MiniLM's files, but for how it says to pool."""
    for file in minilm_folder.iterdir():
        if file.name != "1_Pooling":
            (folder / file.name).symlink_to(file)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": 384, **pooling})
    )
    return folder


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_float32_gives_the_reference_vectors(
    minilm_folder: Path, texts: list[str], reference_vectors: NDArray[np.float32], attention: str
) -> None:
    similarity = cosines(ours(minilm_folder, texts, attention=attention), reference_vectors)
    print(f"torch float32, {attention}: cosine min {similarity.min():.7f}")
    assert similarity.min() >= 0.9999


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_stays_within_a_thousandth(
    minilm_folder: Path, texts: list[str], reference_vectors: NDArray[np.float32], dtype: str
) -> None:
    vectors = ours(minilm_folder, texts[-FEW:], dtype=dtype)
    similarity = cosines(vectors, reference_vectors[-FEW:])
    print(f"torch {dtype}: cosine mean {similarity.mean():.6f}, min {similarity.min():.6f}")
    assert vectors.dtype == np.float32
    assert similarity.mean() >= 0.999


@pytest.mark.parametrize(
    "pooling",
    [{"pooling_mode_cls_token": True}, {"pooling_mode_lasttoken": True}, {"pooling_mode": "lasttoken"}],
    ids=["cls", "last", "last, as written today"],
)
def test_a_folder_pools_as_it_says(
    minilm_folder: Path, tmp_path: Path, few_texts: list[str], pooling: dict[str, Any]
) -> None:
    folder = pooling_folder(minilm_folder, tmp_path, pooling)
    theirs = sentence_transformer(folder).encode(few_texts, normalize_embeddings=True)
    assert cosines(ours(folder, few_texts), theirs).min() >= 0.9999
    assert cosines(ours(minilm_folder, few_texts), theirs).mean() < 0.9


@pytest.mark.parametrize(("setting", "named"), [("cls", "cls"), ("last", "lasttoken")])
def test_the_settings_pooling_goes_before_the_folders(
    minilm_folder: Path, tmp_path: Path, few_texts: list[str], setting: str, named: str
) -> None:
    folder = pooling_folder(minilm_folder, tmp_path, {"pooling_mode": named})
    np.testing.assert_array_equal(ours(minilm_folder, few_texts, pooling=setting), ours(folder, few_texts))


def test_a_folder_saved_by_todays_sentence_transformers_is_the_same_model(
    reference: Any, minilm_folder: Path, tmp_path: Path, few_texts: list[str]
) -> None:
    """It writes other files than the release that made the packaged one."""
    reference.save(str(tmp_path))
    resaved, packaged = opened(tmp_path), opened(minilm_folder)
    assert resaved.info.max_tokens == packaged.info.max_tokens == 254
    np.testing.assert_allclose(
        embed(resaved, tokenise(resaved, few_texts)),
        embed(packaged, tokenise(packaged, few_texts)),
        atol=1e-5,
    )


@pytest.mark.parametrize("role", ["query", "document"])
def test_a_prefix_is_sentence_transformers_prompt(
    reference: Any, minilm_folder: Path, few_texts: list[str], role: Role
) -> None:
    prompts = {"query": "query: ", "document": "title: none | text: "}
    theirs = reference.encode(few_texts, prompt=prompts[role], normalize_embeddings=True)
    vectors = ours(
        minilm_folder,
        few_texts,
        role,
        query_prefix=prompts["query"],
        document_prefix=prompts["document"],
    )
    assert cosines(vectors, theirs).min() >= 0.9999
    unprompted = reference.encode(few_texts, normalize_embeddings=True)
    assert cosines(unprompted, theirs).min() < 0.99


def test_fewer_dimensions_are_the_first_ones_of_length_one(
    reference: Any, minilm_folder: Path, few_texts: list[str]
) -> None:
    theirs = reference.encode(few_texts, truncate_dim=128, normalize_embeddings=True)
    vectors = ours(minilm_folder, few_texts, dimensions=128)
    assert vectors.shape == (len(few_texts), 128)
    np.testing.assert_allclose(vectors, theirs, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
