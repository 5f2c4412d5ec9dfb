"""The vectors are the right ones: compared with the reference implementations on the same token ids.

The reference is sentence-transformers with the fp32 weights, in torch on the CPU. An fp32 ONNX file is
not bundled, so the fp32 proof exports those weights and runs them as a model of one's own.
"""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tokenizers import Tokenizer

from embedfleet.inference.backend import EmbeddingBackend
from embedfleet.inference.catalogue import Catalogue
from embedfleet.settings import ModelSettings, ModelsSettings
from support.right_vectors import cosines, embed, many_texts, sentence_transformer, tokenise


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return many_texts()


@pytest.fixture(scope="module")
def reference(minilm_folder: Path) -> Any:
    """sentence-transformers, fp32."""
    return sentence_transformer(minilm_folder)


@pytest.fixture(scope="module")
def reference_vectors(reference: Any, texts: list[str]) -> NDArray[np.float32]:
    vectors: NDArray[np.float32] = reference.encode(texts, normalize_embeddings=True)
    return vectors


@pytest.fixture(scope="module")
def fp32_folder(minilm_folder: Path, reference: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of `minilm_folder` beside an fp32 `model.onnx`."""
    import torch

    folder = tmp_path_factory.mktemp("onnx")
    for file in minilm_folder.iterdir():
        (folder / file.name).symlink_to(file)

    class Encoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bert = reference[0].auto_model

        def forward(self, ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
            hidden: torch.Tensor = self.bert(
                input_ids=ids, attention_mask=mask, token_type_ids=types
            ).last_hidden_state
            return hidden

    shape = {0: torch.export.Dim("batch", max=1024), 1: torch.export.Dim("sequence", max=512)}
    # Three tensors: an exporter that meets the same one twice wires both inputs to the first.
    ids, mask, types = (torch.ones((2, 8), dtype=torch.int64) for _ in range(3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Encoder().eval(),
            (ids, mask, types),
            folder / "model.onnx",
            input_names=["input_ids", "attention_mask", "token_type_ids"],
            output_names=["last_hidden_state"],
            dynamic_shapes=(shape, shape, shape),
            dynamo=True,
            verbose=False,
        )
    return folder


def test_the_models_vectors_are_those_of_the_reference(
    reference: Any, reference_vectors: NDArray[np.float32], texts: list[str]
) -> None:
    bundled = Catalogue(ModelsSettings()).open("minilm")
    assert_same_tokens(bundled, reference, texts)
    similarity = cosines(embed(bundled, tokenise(bundled, texts)), reference_vectors)
    print(f"minilm int8 weights: cosine mean {similarity.mean():.6f}, min {similarity.min():.6f}")
    assert similarity.mean() >= 0.999


@pytest.mark.slow
def test_the_vectors_of_exported_weights_are_those_of_the_reference(
    reference_vectors: NDArray[np.float32], fp32_folder: Path, texts: list[str]
) -> None:
    own = ModelSettings(backend="onnx", path=fp32_folder)
    exported = Catalogue(ModelsSettings(catalogue={"own": own})).open("own")
    assert (exported.info.dim, exported.info.max_tokens) == (384, 254)
    similarity = cosines(embed(exported, tokenise(exported, texts)), reference_vectors)
    print(f"minilm fp32: cosine min {similarity.min():.7f}")
    assert similarity.min() >= 0.9999


def assert_same_tokens(backend: EmbeddingBackend, reference: Any, texts: list[str]) -> None:
    """Without this the comparisons would measure tokenisers."""
    ours = tokenise(backend, texts)
    theirs = reference.tokenizer(texts, truncation=True, max_length=256, add_special_tokens=True)
    assert [len(ids) - 2 for ids in theirs["input_ids"]] == ours.lengths.tolist()
    assert [token for ids in theirs["input_ids"] for token in ids[1:-1]] == ours.token_ids.tolist()
    assert {0, 1, 254} <= set(ours.lengths.tolist())


def test_the_static_model_gives_model2vecs_vectors(texts: list[str]) -> None:
    from model2vec import StaticModel
    from safetensors.numpy import load_file

    backend = Catalogue(ModelsSettings()).open("static")
    spec = find_spec("wordllama")
    assert spec is not None
    assert spec.origin is not None
    table = load_file(Path(spec.origin).parent / "weights" / "l2_supercat_256.safetensors")
    theirs = StaticModel(table["embedding.weight"], Tokenizer.from_file(str(backend.info.tokenizer_file)))
    batch = tokenise(backend, texts)
    ours = embed(backend, batch)
    expected = theirs.encode(texts, max_length=None).astype(np.float32)
    comparable = (batch.lengths > 0) & (batch.lengths < backend.info.max_tokens)
    assert comparable.sum() >= 200
    similarity = cosines(ours[comparable], expected[comparable])
    print(f"static: cosine min {similarity.min():.7f}")
    assert similarity.min() >= 0.9999
    assert not ours[batch.lengths == 0].any()
