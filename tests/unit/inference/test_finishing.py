"""Prefixes and fewer dimensions, whatever runs the model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from embedfleet.errors import ModelError
from embedfleet.inference.backend import Role, TokenBatch
from embedfleet.inference.catalogue import Catalogue
from embedfleet.inference.finishing import with_prefix
from embedfleet.inference.model_files import bundled_tokenizer
from embedfleet.settings import ModelSettings, ModelsSettings


def opened(**settings: Any) -> Any:
    return catalogue(**settings).open("own")


def catalogue(**settings: Any) -> Catalogue:
    own = ModelSettings(**{"backend": "stub", "dim": 64, **settings})
    return Catalogue(ModelsSettings(catalogue={"own": own}))


def encoded(*texts: str, role: Role = "document") -> TokenBatch:
    tokenizer = Tokenizer.from_file(str(bundled_tokenizer()))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    flat = np.array([token for one in ids for token in one], dtype=np.uint32)
    return TokenBatch(flat, np.array([len(one) for one in ids], dtype=np.int64), role=role)


def test_a_prefix_goes_before_each_text_empty_ones_too() -> None:
    batch = TokenBatch(np.array([1, 2, 3], dtype=np.uint32), np.array([2, 0, 1]))
    prefixed = with_prefix(batch, np.array([8, 9], dtype=np.uint32))
    assert prefixed.token_ids.tolist() == [8, 9, 1, 2, 8, 9, 8, 9, 3]
    assert prefixed.lengths.tolist() == [4, 2, 3]
    assert prefixed.token_ids.dtype == np.uint32


def test_a_text_with_prefix_has_the_vector_of_both_together() -> None:
    plain = opened()
    model = opened(query_prefix="query: ", document_prefix="passage: ")
    prefixes: dict[Role, str] = {"query": "query: ", "document": "passage: "}
    for role, prefix in prefixes.items():
        vector = model.embed_tokens(encoded("how do ships float", role=role))
        np.testing.assert_array_equal(vector, plain.embed_tokens(encoded(f"{prefix}how do ships float")))


def test_queries_and_documents_may_differ_in_one_prefix_only() -> None:
    model = opened(query_prefix="search for: ")
    documents = model.embed_tokens(encoded("ships"))
    np.testing.assert_array_equal(documents, opened().embed_tokens(encoded("ships")))
    assert not np.array_equal(documents, model.embed_tokens(encoded("ships", role="query")))


def test_a_prefix_takes_its_room_from_the_chunks_and_a_full_one_is_still_taken() -> None:
    model = opened(document_prefix="passage: ")
    assert model.info.max_tokens < opened().info.max_tokens
    full = TokenBatch(np.ones(model.info.max_tokens, dtype=np.uint32), np.array([model.info.max_tokens]))
    assert model.embed_tokens(full).shape == (1, 64)


def test_a_prefix_that_leaves_no_room_is_refused() -> None:
    with pytest.raises(ModelError, match="its prefixes leave no room for text in 16 tokens"):
        catalogue(max_tokens=16, query_prefix="a very long prefix indeed: ").info("own")


def test_a_tokenizer_that_joins_the_prefix_with_the_text_is_refused(tmp_path: Path) -> None:
    """A byte-level BPE has tokens across the border: chunks tokenised alone would get other vectors."""
    letters = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    bpe = models.BPE(vocab=letters | {"Ġw": len(letters)}, merges=[("Ġ", "w")])
    tokenizer = Tokenizer(bpe)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    folder = tmp_path / "model"
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text("{}", encoding="utf-8")
    from safetensors.numpy import save_file

    save_file({"embeddings": np.ones((len(letters) + 1, 8), dtype=np.float32)}, folder / "model.safetensors")
    with pytest.raises(
        ModelError, match=r"joins the prefix 'query: ' with what follows it, as in 'query: word'"
    ):
        opened(backend="static", dim=8, path=folder, query_prefix="query: ")


def test_fewer_dimensions_are_the_first_ones_of_length_1() -> None:
    full, short = opened(), opened(dimensions=16)
    batch = encoded("ships", "harbours")
    expected = full.embed_tokens(batch)[:, :16]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(short.embed_tokens(batch), expected, rtol=1e-6)
    assert short.info.dim == 16


def test_more_dimensions_than_there_are_are_refused() -> None:
    with pytest.raises(ModelError, match="`dimensions` is set to 65, the model has 64"):
        catalogue(dimensions=65).info("own")


@pytest.mark.parametrize(
    "change",
    [{"query_prefix": "q: "}, {"document_prefix": "p: "}, {"dimensions": 32}, {"dtype": "float16"}],
)
def test_whatever_changes_a_vector_changes_the_space(change: dict[str, Any]) -> None:
    assert catalogue(**change).info("own").space != catalogue().info("own").space


@pytest.mark.parametrize(
    "change",
    [{"devices": ("cpu", "cpu")}, {"microbatch_tokens": 99}, {"memory_mb": 7}, {"attention": "eager"}],
)
def test_what_does_not_leaves_it(change: dict[str, Any]) -> None:
    assert catalogue(**change).info("own").space == catalogue().info("own").space


def test_pooling_is_read_from_the_folder_and_unknown_modules_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"weights")
    shutil.copy(bundled_tokenizer(), folder / "tokenizer.json")
    (folder / "1_Pooling" / "config.json").write_text(
        json.dumps(
            {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False, "word_embedding_dimension": 8}
        )
    )
    models = catalogue(backend="onnx", path=folder, dim=8)
    assert models.describe("own").pooling == "cls"
    (folder / "modules.json").write_text(json.dumps([{"type": "sentence_transformers.models.Dense"}]))
    with pytest.raises(ModelError, match=r"has a module `.*Dense`, which would be left out"):
        catalogue(backend="onnx", path=folder, dim=8).info("own")
