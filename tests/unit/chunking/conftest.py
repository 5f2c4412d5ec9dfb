"""The bundled tokeniser, and short ways to see atoms and chunks."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from embedfleet.chunking.atoms import find_atoms
from embedfleet.chunking.chunker import Chunk, Chunker
from embedfleet.chunking.strength import Strength
from embedfleet.chunking.tokenizers import Tokenizer, load_tokenizer
from embedfleet.queue_schemas import ChunkingConfig, ChunkMethod

MINILM = Path(str(resources.files("embedfleet.data") / "minilm_tokenizer.json"))


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return load_tokenizer(MINILM)


AtomFinder = Callable[..., list[tuple[str, Strength]]]
Splitter = Callable[..., list[Chunk]]


@pytest.fixture
def atoms() -> AtomFinder:
    """The atoms of a text with the strength of the boundary before each."""

    def find(text: str, content_type: str = "text") -> list[tuple[str, Strength]]:
        runs = list(find_atoms([text], content_type=content_type, method=ChunkMethod.RECURSIVE))
        return [
            (run.text[start:end], Strength(strength))
            for run in runs
            for start, end, strength in zip(
                run.starts.tolist(), run.ends.tolist(), run.strengths.tolist(), strict=True
            )
        ]

    return find


@pytest.fixture
def split(tokenizer: Tokenizer) -> Splitter:
    """The chunks of a text under a config given by keywords."""

    def split_text(
        text: str,
        *,
        content_type: str = "text",
        max_tokens: int = 254,
        title: str | None = None,
        **config: Any,
    ) -> list[Chunk]:
        chunker = Chunker(
            tokenizer, ChunkingConfig(**config), max_tokens=max_tokens, content_type=content_type
        )
        return [chunk for chunks in chunker.split([text], title=title) for chunk in chunks]

    return split_text
