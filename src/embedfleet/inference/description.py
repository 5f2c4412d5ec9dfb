"""What is known of a model before it is loaded, and what the module of a backend must define."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from embedfleet.inference.backend import EmbeddingBackend, ModelInfo
from embedfleet.inference.model_files import ModelFiles
from embedfleet.inference.space import Pooling
from embedfleet.inference.tokenizer_file import TokenizerFacts
from embedfleet.settings import ModelSettings


@dataclass(frozen=True, slots=True)
class Description:
    """A model of the catalogue, read from its files without a model library and without its weights.

    `info` is what callers see. `core` describes the backend alone: its `max_tokens` includes the prefixes,
    and its `dim` is that of the vectors before they are cut to fewer `dimensions`.
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
    """Where a replica runs. `device` may be `auto`: then the backend chooses. `threads`: the CPU threads that
    it may use. `cache_dir`: where it may keep files that take long to make and can be made again."""

    device: str
    threads: int
    cache_dir: Path


class BackendKind(Protocol):
    """One way to run models: what a module of `backends/` defines. `registry` lists these modules. Importing
    one must be cheap: its functions import the model libraries."""

    adds_special_tokens: bool
    """Whether the backend puts the tokenizer's special tokens around each text."""

    pools: bool
    """Whether it makes one vector of the vectors of all tokens, so that `pooling` has a meaning."""

    pads: bool
    """Whether each text of a call costs as much as the longest."""

    def find_files(self, settings: ModelSettings) -> ModelFiles:
        """The model's files. Raises ModelError saying which file is missing and what to do."""
        ...

    def devices(self, settings: ModelSettings) -> Sequence[str]:
        """The device of each replica: `cpu`, `cuda:0`, `mps` or `remote`. Resolves `auto`. Raises ModelError
        for a device that this backend or this machine does not have."""
        ...

    def open_backend(self, model: Description, place: Place) -> EmbeddingBackend:
        """Load the model; blocking. The `info` of the backend is `model.core`. Raises ModelError saying why
        the model cannot be loaded and what to install or set."""
        ...
