"""What is known of a model before it is loaded, and what a way of running models must offer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from embedfleet.inference.backend import EmbeddingBackend, ModelInfo
from embedfleet.inference.model_files import ModelFiles
from embedfleet.inference.tokenizer_file import TokenizerFacts
from embedfleet.settings import ModelSettings

Pooling = Literal["mean", "cls", "last"]


@dataclass(frozen=True, slots=True)
class Description:
    """A model of the catalogue, read from its files: no model library imported, no weights loaded.

    `info` is what callers see. `core` is the same of the backend alone, before prefixes are added to its
    input (`max_tokens` counts them) and its vectors are cut to fewer `dimensions`.
    """

    name: str
    settings: ModelSettings
    files: ModelFiles
    tokenizer: TokenizerFacts
    pooling: Pooling
    info: ModelInfo
    core: ModelInfo


@dataclass(frozen=True, slots=True)
class Place:
    """Where a replica runs. `device` may be `auto`: the backend chooses. `threads` are those of the CPU;
    `cache_dir` is where it may keep what is dear to make and can be made again."""

    device: str
    threads: int
    cache_dir: Path


class BackendKind(Protocol):
    """One way to run models: what a module of `backends/` defines. Importing it must be cheap: model
    libraries are imported by `open_backend`."""

    adds_special_tokens: bool
    """The backend puts the tokenizer's special tokens around each text."""

    pools: bool
    """It makes one vector of many, so `pooling` means something."""

    pads: bool
    """In a call, each text is as long as the longest."""

    def find_files(self, settings: ModelSettings) -> ModelFiles:
        """Raises ModelError naming what is missing, and what to do."""
        ...

    def devices(self, settings: ModelSettings) -> Sequence[str]:
        """One for each replica: `cpu`, `cuda:0`, `mps`, `remote`. `auto` is resolved here."""
        ...

    def open_backend(self, model: Description, place: Place) -> EmbeddingBackend:
        """Load the model. Its `info` is `model.core`. Raises ModelError saying why it cannot be loaded and
        what to install or set."""
        ...
