"""fastembed with the 8-bit ONNX file that embedfleet runs, a custom model from a local folder."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from encoders.serve import Encode, serve

NAME = "local/all-minilm-l6-v2-int8"


@contextmanager
def opened(folder: Path) -> Iterator[Encode]:
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    TextEmbedding.add_custom_model(
        NAME,
        pooling=PoolingType.MEAN,
        normalization=True,
        sources=ModelSource(hf=NAME),  # required, never asked
        dim=384,
        model_file="model.onnx",
    )
    model = TextEmbedding(
        NAME, specific_model_path=str(folder), threads=len(os.sched_getaffinity(0)), cuda=False
    )

    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        return np.stack(list(model.embed(texts))).astype(np.float32)

    yield encode


if __name__ == "__main__":
    serve(opened, ["fastembed", "onnxruntime", "tokenizers"])
