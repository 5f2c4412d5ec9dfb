"""Tokenises queries, canary texts and other texts that do not come from the chunker.

The chunker tokenises documents itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np

from embedfleet.chunking.tokenizers import load_reference, load_tokenizer
from embedfleet.inference.backend import ModelInfo, Role, TokenBatch
from embedfleet.visible_text import letters_in


def tokenised(texts: Sequence[str], info: ModelInfo, *, role: Role = "document") -> TokenBatch:
    """Return the texts as a batch for the model. This blocks, and the first call for a tokenizer loads it.

    A text may have more tokens than the model takes. Queries are few and short, so the reference tokenises
    them: it gives the same tokens, and the fast one takes ten times as long to load, with its self-check.
    """
    load = load_reference if role == "query" else load_tokenizer
    token_ids, lengths = load(info.tokenizer_file).encode_batch(list(texts))
    return TokenBatch(token_ids, lengths, tuple(texts) if info.needs_texts else None, role)


def unknown_share(query: str, info: ModelInfo) -> float:
    """Return the share, 0 to 1, of the query's characters that the model does not know. Blanks do not count.

    This blocks.
    """
    pieces = set(load_reference(info.tokenizer_file).unknown_spans(query))
    unknown = sum(letters_in(query[start:end]) for start, end in pieces)
    return unknown / max(letters_in(query), 1)


@dataclass(frozen=True, slots=True)
class KnownLanguages:
    """What a tokenizer knows of everyday sentences in many languages: by language, the share of their
    characters that are in tokens it knows, 0 to 1.

    `spells_in_bytes`: it takes any text, character by character if need be. Then the shares are all 1, and do
    not tell how well the model knows a language.
    """

    shares: Mapping[str, float]
    spells_in_bytes: bool


def known_languages(info: ModelInfo) -> KnownLanguages:
    """Measure which languages the tokenizer of a model knows. This blocks."""
    written = (resources.files("embedfleet.data") / "languages.json").read_text(encoding="utf-8")
    shares = {name: 1 - unknown_share(sentences, info) for name, sentences in json.loads(written).items()}
    return KnownLanguages(shares, load_reference(info.tokenizer_file).spells_in_bytes)


def cut(batch: TokenBatch, info: ModelInfo) -> TokenBatch:
    """Return the batch with each text cut to the tokens that the model takes.

    Use it for texts whose end does not matter.
    """
    starts = np.cumsum(batch.lengths) - batch.lengths
    kept = np.minimum(batch.lengths, info.max_tokens)
    spans = zip(starts.tolist(), kept.tolist(), strict=True)
    ids = np.concatenate([batch.token_ids[start : start + length] for start, length in spans])
    return TokenBatch(ids, kept, batch.texts, batch.role)
