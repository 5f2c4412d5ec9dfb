"""The ONNX backend on graphs small enough to compute by hand, in the real runtime."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer

from embedfleet.errors import ModelError
from embedfleet.inference.backend import EmbeddingBackend, TokenBatch
from embedfleet.inference.backends.padding import pad
from embedfleet.inference.catalogue import Catalogue
from embedfleet.inference.model_files import bundled_tokenizer
from embedfleet.inference.tokenizer_file import TokenizerFacts, read_tokenizer
from embedfleet.settings import ModelSettings, ModelsSettings
from support.short_of_memory import embed_short_of_memory

DIM = 3
CLS, SEP = 101, 102
TABLE: NDArray[np.float32] = np.random.default_rng(0).normal(size=(30_522, DIM)).astype(np.float32)

HIDDEN = helper.make_tensor_value_info("hidden", TensorProto.FLOAT, ["batch", "sequence", DIM])
POOLED = helper.make_tensor_value_info("pooled", TensorProto.FLOAT, ["batch", DIM])


def table_model(
    folder: Path,
    *,
    inputs: tuple[str, ...] = ("input_ids", "attention_mask", "token_type_ids"),
    integer: int = TensorProto.INT64,
    outputs: tuple[Any, ...] = (HIDDEN,),
) -> Path:
    """A folder with a model whose hidden state is its token table, and MiniLM's tokenizer."""
    table = numpy_helper.from_array(TABLE, "table")
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "input_ids"], ["hidden"]),
            helper.make_node("ReduceMax", ["hidden"], ["pooled"], axes=[1], keepdims=0),
        ],
        "table",
        [helper.make_tensor_value_info(name, integer, ["batch", "sequence"]) for name in inputs],
        list(outputs),
        [table],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "model.onnx")
    (folder / "tokenizer.json").write_bytes(bundled_tokenizer().read_bytes())
    return folder


def opened(path: Path, **settings: Any) -> EmbeddingBackend:
    own = ModelSettings(**{"backend": "onnx", "path": path, "dim": DIM, "normalise": False, **settings})
    return Catalogue(ModelsSettings(catalogue={"own": own}, threads=1)).open("own")


def batch_of(*texts: list[int]) -> TokenBatch:
    ids = np.array([token for text in texts for token in text], dtype=np.uint32)
    return TokenBatch(ids, np.array([len(text) for text in texts], dtype=np.int64))


def mean_of(*tokens: int) -> NDArray[np.float32]:
    mean: NDArray[np.float32] = TABLE[list(tokens)].mean(axis=0)
    return mean


# --- values ----------------------------------------------------------------------------------------


def test_a_vector_is_the_mean_of_its_own_tokens_special_ones_included_and_no_padding(
    tmp_path: Path,
) -> None:
    vectors = opened(table_model(tmp_path)).embed_tokens(batch_of([5], [6, 7, 8, 9], []))
    expected = [mean_of(CLS, 5, SEP), mean_of(CLS, 6, 7, 8, 9, SEP), mean_of(CLS, SEP)]
    np.testing.assert_allclose(vectors, expected, rtol=1e-5)


def test_cls_pooling_takes_the_first_token(tmp_path: Path) -> None:
    vectors = opened(table_model(tmp_path), pooling="cls").embed_tokens(batch_of([5], [6, 7]))
    np.testing.assert_array_equal(vectors, [TABLE[CLS], TABLE[CLS]])


def test_normalising_gives_unit_length_in_the_same_direction(tmp_path: Path) -> None:
    vectors = opened(table_model(tmp_path), normalise=True).embed_tokens(batch_of([5]))
    mean = mean_of(CLS, 5, SEP)
    np.testing.assert_allclose(vectors, [mean / np.linalg.norm(mean)], rtol=1e-5)


# --- what exporters vary ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "variant",
    [
        {"inputs": ("input_ids", "attention_mask")},
        {"inputs": ("attention_mask", "input_ids")},
        {"integer": TensorProto.INT32},
        {"outputs": (POOLED, HIDDEN)},
    ],
    ids=["no token types", "other order", "int32", "a pooled output first"],
)
def test_exports_of_the_same_model_give_the_same_vectors(tmp_path: Path, variant: dict[str, Any]) -> None:
    vectors = opened(table_model(tmp_path, **variant)).embed_tokens(batch_of([5], [6, 7]))
    np.testing.assert_allclose(vectors, [mean_of(CLS, 5, SEP), mean_of(CLS, 6, 7, SEP)], rtol=1e-5)


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        ({"outputs": (POOLED,)}, "no output of shape"),
        ({"inputs": ("input_ids", "pixel_values")}, "unknown input `pixel_values`"),
    ],
)
def test_a_model_of_another_kind_is_refused_when_opened(
    tmp_path: Path, variant: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        opened(table_model(tmp_path, **variant))


def test_a_dimension_that_is_not_the_models_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"expected \(1, 3, 5\): correct `dim`"):
        opened(table_model(tmp_path), dim=5).embed_tokens(batch_of([5]))


# --- padding ---------------------------------------------------------------------------------------


def test_padding_agrees_with_the_tokenizers_library() -> None:
    """On the same texts the library pads on the right with the same special tokens and mask."""
    texts = ["", "one", "Some longer text, with punctuation!", "naïve café"]
    tokenizer = Tokenizer.from_file(str(bundled_tokenizer()))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    batch = batch_of(*(tokenizer.encode(text, add_special_tokens=False).ids for text in texts))
    ids, mask = pad(batch, read_tokenizer(bundled_tokenizer()))
    tokenizer.enable_padding()
    encodings = tokenizer.encode_batch(texts)
    assert ids.tolist() == [encoding.ids for encoding in encodings]
    assert mask.tolist() == [encoding.attention_mask for encoding in encodings]


def test_a_tokenizer_without_special_tokens_leaves_texts_bare() -> None:
    bare = TokenizerFacts(prefix=(), suffix=(), pad_id=9, vocabulary_size=10, sha256="")
    ids, mask = pad(batch_of([1, 2], [3]), bare)
    assert ids.tolist() == [[1, 2], [3, 9]]
    assert mask.tolist() == [[1, 1], [1, 0]]


# --- memory ----------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on the address space")
def test_a_runtime_that_cannot_allocate_embeds_less_at_once() -> None:
    """In a child process whose memory really ends."""
    told = embed_short_of_memory(None, texts=48, budget_tokens=100_000, spare_mb=400)
    assert told == "{} True True"
