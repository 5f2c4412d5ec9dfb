"""What it takes to compare vectors with those of a reference implementation."""

from __future__ import annotations

import inspect
import unicodedata
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tokenizers import Tokenizer

from embedfleet.inference.backend import EmbeddingBackend, Role, TokenBatch
from embedfleet.inference.batching import plan_batches

MODULES = ("argparse", "asyncio.tasks", "collections", "csv", "decimal", "email.message", "functools",
           "heapq", "http.client", "inspect", "itertools", "json", "logging", "pathlib", "statistics",
           "subprocess", "tarfile", "threading", "unittest.mock", "zipfile")  # fmt: skip
ODD = (
    "",
    " \t\n ",
    "a",
    "word " * 254,
    "word " * 400,
    "naïve café, Ångström, ﬁligree",
    unicodedata.normalize("NFD", "naïve café, Ångström"),
    "日本語のテキストと、ひらがなとカタカナ。",
    "Кириллица, ελληνικά, עברית, العربية, हिन्दी",
    "👩‍👩‍👧‍👦 🏳️‍🌈 zero\u200bwidth \u202eright to left\u202c \ufeff",
    "\x00\x07 control \x1b[31m characters \x7f",
    "[CLS] special [MASK] tokens [SEP] [PAD] in the text",
    "x" * 300,
    "!?" * 60,
    "def f(x): return {k: v ** 2 for k, v in x.items()}  # code",
)


def many_texts() -> list[str]:
    """At least 200: docstrings of the standard library, short to long, and odd ones."""
    found: list[str] = []
    for name in MODULES:
        module = import_module(name)
        members = [module, *(getattr(module, member) for member in sorted(vars(module)))]
        docs = [inspect.getdoc(member) for member in members if callable(member) or member is module]
        found += [doc[: 60 * (i % 20 + 1)] for i, doc in enumerate(doc for doc in docs if doc)][:11]
    texts = [*dict.fromkeys(found), *ODD]
    assert len(texts) >= 200
    return texts


def sentence_transformer(folder: Path, **settings: Any) -> Any:
    """The reference, in torch on the CPU; it warns on import, and would ask the hub about the folder.

    One thread, as tests run side by side: more wait for each other, spinning.
    """
    import torch

    torch.set_num_threads(1)
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        patch.setenv("HF_HUB_OFFLINE", "1")
        from sentence_transformers import SentenceTransformer

        return SentenceTransformer(str(folder), device="cpu", **settings)


def tokenise(backend: EmbeddingBackend, texts: Sequence[str], role: Role = "document") -> TokenBatch:
    """By the model's own tokenizer file, cut at the model's limit as the references do."""
    tokenizer = Tokenizer.from_file(str(backend.info.tokenizer_file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    encodings = tokenizer.encode_batch(texts, add_special_tokens=False)
    ids = [encoding.ids[: backend.info.max_tokens] for encoding in encodings]
    return TokenBatch(
        np.array([token for text in ids for token in text], dtype=np.uint32),
        np.array([len(text) for text in ids], dtype=np.int64),
        role=role,
    )


def embed(backend: EmbeddingBackend, batch: TokenBatch) -> NDArray[np.float32]:
    vectors = np.empty((len(batch), backend.info.dim), dtype=np.float32)
    for positions in plan_batches(batch.lengths, budget_tokens=2048):
        vectors[positions] = backend.embed_tokens(batch.take(positions))
    return vectors


def cosines(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> NDArray[np.float32]:
    norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    similarity: NDArray[np.float32] = (ours * theirs).sum(axis=1) / norms
    return similarity
