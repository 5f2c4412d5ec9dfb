"""The space fingerprint: two vectors may be compared only if their fingerprints are equal."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Literal

_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Space:
    """Everything that decides a vector's value.

    Content stands for identity: the hash of the weights says more than a model id and a revision, and
    the hash of the tokenizer decides which rows of the weights a text meets. Neither names nor paths
    take part, so the fingerprint is the same in every process and on every machine.
    """

    backend: Literal["onnx", "static", "stub"]
    weights_sha256: str
    tokenizer_sha256: str
    pooling: Literal["mean", "cls"]
    normalise: bool
    dim: int

    def fingerprint(self) -> str:
        """16 hex digits."""
        canonical = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:_DIGITS]
