"""The whole pipeline, one module a contestant: documents in memory to vectors in an embedded store on disk.

Each runs in a process of its own and imports its libraries when it is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal, Protocol, cast

ModelName = Literal["static", "minilm"]
Documents = Sequence[tuple[str, str]]
"""(name, text) each."""

Ingest = Callable[[Documents], int]
"""Returns the vectors it says it stored, once they are."""

CONTESTANTS: Mapping[str, str] = {
    "embedfleet": "embedfleet_pipeline",
    "embedfleet, store_documents: false": "embedfleet_pipeline",
    "embedfleet into LanceDB": "embedfleet_pipeline",
    "langchain index()": "langchain_index",
    "langchain index() into LanceDB": "langchain_index",
    "llama_index IngestionPipeline": "llama_index_pipeline",
    "haystack Pipeline": "haystack_pipeline",
    "plain script": "plain_script",
}
"""Whose module it is, by the name in the figures."""


@dataclass(frozen=True, slots=True)
class Contest:
    """Chunks have at most about `chunk_chars` characters and no overlap; `directory` is empty at first."""

    contestant: str
    model: ModelName
    chunk_chars: int
    directory: Path

    @property
    def into_lancedb(self) -> bool:
        """Whether the vectors belong into LanceDB, and not into Chroma."""
        return self.contestant.endswith("into LanceDB")

    @property
    def lancedb(self) -> str:
        """Where they belong then."""
        return str(self.directory / "lancedb")

    @property
    def chroma(self) -> str:
        """Where the vectors belong."""
        return str(self.directory / "chroma")


class Contestant(Protocol):
    """What a module of this package offers."""

    SETTINGS: str
    """What is worth knowing of its settings."""

    def opened(self, contest: Contest) -> AbstractContextManager[Ingest]:
        """Model and store are ready."""
        ...


def contestant(name: str) -> Contestant:
    return cast("Contestant", import_module(f"contestants.{CONTESTANTS[name]}"))
