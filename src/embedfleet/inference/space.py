"""The space fingerprint: two vectors may be compared only if their fingerprints are equal."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from typing import Literal

_DIGITS = 16
_ALWAYS = {"backend", "weights_sha256", "tokenizer_sha256", "pooling", "normalise", "dim"}


@dataclass(frozen=True, slots=True)
class Space:
    """Everything that decides a vector's value.

    Content stands for identity: the hash of the weights says more than a model id and a revision, and
    the hash of the tokenizer decides which rows of the weights a text meets (a model that reads texts has its
    own, and it is empty). Neither names nor paths
    take part, so the fingerprint is the same in every process and on every machine. Nor do devices,
    threads and batches: what they change is below 0.00001 of the cosine.

    `dim` is what comes out. The fields with defaults take part only where they differ from them, so that
    a field added later leaves the spaces of before as they were.
    """

    backend: str
    weights_sha256: str
    tokenizer_sha256: str
    pooling: Literal["mean", "cls", "last"]
    normalise: bool
    dim: int
    query_prefix: str = ""
    document_prefix: str = ""
    dtype: str = "float32"

    def fingerprint(self) -> str:
        """16 hex digits."""
        said = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name in _ALWAYS or getattr(self, field.name) != field.default
        }
        canonical = json.dumps(said, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:_DIGITS]
