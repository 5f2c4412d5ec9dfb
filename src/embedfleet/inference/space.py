"""The space fingerprint: two vectors may be compared only if their fingerprints are equal."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from typing import Literal

Pooling = Literal["mean", "cls", "last"]
"""How the vectors of a text's tokens become one vector: their mean, the first of them, or the last."""

_HEX_DIGITS = 16
_ALWAYS_INCLUDED = {"backend", "weights_sha256", "tokenizer_sha256", "pooling", "normalise", "dim"}


@dataclass(frozen=True, slots=True)
class Space:
    """Everything that decides a vector's value.

    A model is identified by the content of its files: the hash of the weights is more exact than a model id
    and a revision, and the tokenizer decides which rows of the weights a text uses. (The hash of the
    tokenizer is empty for a model that reads strings, because such a model has its own.) Names and paths have
    no part, so the fingerprint is the same in every process and on every machine. Devices, threads and
    batches have no part either: they change the cosine by less than 0.00001.

    `dim` is the dimension of the vectors that callers get. A field with a default is included only if its
    value differs from it, so that a field added later leaves the existing fingerprints as they are.
    """

    backend: str
    weights_sha256: str
    tokenizer_sha256: str
    pooling: Pooling
    normalise: bool
    dim: int
    query_prefix: str = ""
    document_prefix: str = ""
    dtype: str = "float32"

    def fingerprint(self) -> str:
        """16 hex digits."""
        included = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name in _ALWAYS_INCLUDED or getattr(self, field.name) != field.default
        }
        canonical = json.dumps(included, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:_HEX_DIGITS]
