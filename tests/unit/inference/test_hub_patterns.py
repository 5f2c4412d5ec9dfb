"""Of a repository no more is fetched than the model needs."""

from __future__ import annotations

from fnmatch import fnmatch

import pytest

from embedfleet.inference.model_files import hub_patterns
from embedfleet.settings import ModelSettings

REPOSITORY = [
    "README.md",
    "1_Pooling/config.json",
    "config.json",
    "config_sentence_transformers.json",
    "model.onnx",
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
    "modules.json",
    "onnx/model.onnx",
    "onnx/model.onnx_data",
    "onnx/model_quantized.onnx",
    "pytorch_model.bin",
    "sentence_bert_config.json",
    "tokenizer.json",
    "training_args.bin",
    "vocab.txt",
]
ABOUT = {name for name in REPOSITORY if name.endswith(".json")}
SAFETENSORS = {name for name in REPOSITORY if name.endswith(".safetensors")}


@pytest.mark.parametrize(
    ("settings", "weights"),
    [
        ({"backend": "onnx"}, {"model.onnx", "onnx/model.onnx", "onnx/model.onnx_data"}),
        (
            {"backend": "onnx", "weights_file": "onnx/model_quantized.onnx"},
            {"onnx/model_quantized.onnx"},
        ),
        ({"backend": "torch"}, SAFETENSORS),
        ({"backend": "static"}, SAFETENSORS),
        ({"backend": "remote"}, set()),
    ],
)
def test_the_weights_of_the_backend_and_what_describes_the_model(
    settings: dict[str, str], weights: set[str]
) -> None:
    patterns = hub_patterns(ModelSettings.model_validate(settings))
    fetched = {name for name in REPOSITORY if any(fnmatch(name, pattern) for pattern in patterns)}
    assert fetched == ABOUT | weights
