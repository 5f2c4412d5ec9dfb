"""The models that can be used: the bundled ones and those of the settings."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import platformdirs

from embedfleet.errors import ConfigError, ModelError, UnknownModel, hint
from embedfleet.inference.backend import EmbeddingBackend, ModelInfo
from embedfleet.inference.calibration import DEFAULT_BUDGET_TOKENS, LARGEST_BUDGET_TOKENS, Calibrations
from embedfleet.inference.description import Description, Place
from embedfleet.inference.finishing import finished, most_prefix_tokens
from embedfleet.inference.model_files import ModelFiles, token_limit
from embedfleet.inference.registry import backend_kind
from embedfleet.inference.space import Space
from embedfleet.inference.tokenizer_file import read_tokenizer
from embedfleet.settings import ModelSettings, ModelsSettings
from embedfleet.settings.routing import unknown_model

BUILT_IN: Mapping[str, ModelSettings] = {
    "minilm": ModelSettings(backend="onnx", description="all-MiniLM-L6-v2, English, 8-bit weights"),
    "static": ModelSettings(
        backend="static",
        max_tokens=512,
        matryoshka=True,
        description="wordllama token table: very fast, coarser",
    ),
    "stub": ModelSettings(backend="stub", dim=64, description="hashes, no meaning: for tests"),
}

# The estimate of what a loaded model takes: 8-bit weights may be unpacked to 32 bits, and the runtime and the
# activations come on top.
_GROWTH = 4
_RUNTIME_MB = 100


class Catalogue:
    """Describes and opens models by name. A model's files are read once per catalogue, when it is first
    described.

    An entry of the settings replaces the built-in model of the same name; the two have different spaces.
    `cache_dir` holds optimised graphs and calibrations, which take long to make again.
    """

    def __init__(self, settings: ModelsSettings) -> None:
        """Raises ConfigError if a rule of the settings names a model that there is not."""
        self._models = {**BUILT_IN, **settings.catalogue}
        if wrong := unknown_model(settings.routing.rules, self.names()):
            raise ConfigError(f"setting `models.routing`: {wrong}")
        self._threads = settings.threads or available_cores()
        self.cache_dir = settings.cache_dir or Path(platformdirs.user_cache_dir("embedfleet")) / "models"
        self._microbatch_tokens = settings.microbatch_tokens
        self._calibrations = Calibrations(self.cache_dir)
        self._described: dict[str, Description] = {}

    def names(self) -> list[str]:
        """Every model's name, sorted."""
        return sorted(self._models)

    def info(self, name: str) -> ModelInfo:
        """What the model is, from its files alone: without a model library and without its weights.

        Raises UnknownModel, which names the nearest known model, and ModelError when files are missing or
        wrong.
        """
        return self.describe(name).info

    def settings_of(self, name: str) -> ModelSettings:
        """The model's entry. Raises UnknownModel, which names the nearest known model."""
        if name in self._models:
            return self._models[name]
        raise UnknownModel(f"no model `{name}` in the catalogue: {hint(name, self._models)}")

    def threads(self, name: str) -> int:
        """CPU threads that each replica may use. Raises as `info` does."""
        return self._threads_each(self.describe(name))

    def devices(self, name: str) -> Sequence[str]:
        """The device of each of the model's replicas. May import the model library. Raises as `info` does."""
        settings = self.describe(name).settings
        return backend_kind(settings.backend).devices(settings)

    def open(self, name: str, device: str | None = None) -> EmbeddingBackend:
        """Load one replica; blocking, for seconds. Call it on the thread that will own the backend.

        `device` None: the first of `devices`. Raises UnknownModel, or ModelError saying why the model cannot
        be loaded and what to install or set.
        """
        model = self.describe(name)
        place = Place(device or self.devices(name)[0], self._threads_each(model), self.cache_dir)
        return finished(backend_kind(model.settings.backend).open_backend(model, place), model)

    def memory_mb(self, name: str) -> int:
        """MiB that one replica takes of its device when loaded: as set, else estimated from the files."""
        model = self.describe(name)
        return model.settings.memory_mb or _RUNTIME_MB + int(_GROWTH * model.files.size_bytes / 2**20)

    def microbatch_tokens(self, backend: EmbeddingBackend, device: str, *, calibrating: bool) -> int:
        """Padded tokens that a call should have: as set, else as found by an earlier calibration, else by a
        new one if `calibrating`, else the default."""
        model = self.describe(backend.info.name)
        if backend.info.texts_per_call is not None:  # a server, whose calls the number of texts limits
            return model.settings.microbatch_tokens or LARGEST_BUDGET_TOKENS
        fixed = model.settings.microbatch_tokens or self._microbatch_tokens
        if fixed is not None:
            return fixed
        threads = self._threads_each(model)
        found = self._calibrations.find(backend.info, device, threads)
        if found is None and calibrating:
            found = self._calibrations.calibrate(backend, device, threads)
        return found or DEFAULT_BUDGET_TOKENS

    def describe(self, name: str) -> Description:
        """The model's full description, for a backend. Raises as `info` does."""
        if name not in self._described:
            self._described[name] = _describe(name, self.settings_of(name))
        return self._described[name]

    def _threads_each(self, model: Description) -> int:
        """CPU threads of each replica: the replicas share the cores."""
        return max(1, self._threads // len(model.settings.devices))


def _describe(name: str, settings: ModelSettings) -> Description:
    try:
        return _description(name, settings)
    except ModelError as exc:
        raise ModelError(f"model `{name}`: {exc}", remedy=exc.remedy) from exc


def _description(name: str, settings: ModelSettings) -> Description:
    kind = backend_kind(settings.backend)
    if settings.pooling and not kind.pools:
        raise ModelError(f"`pooling: {settings.pooling}`: the {settings.backend} backend pools by itself")
    files = kind.find_files(settings)
    tokenizer = read_tokenizer(files.tokenizer)
    pooling = settings.pooling or files.pooling or "mean"
    full_dim = _dimension(settings, files)
    dim = _kept_dimensions(settings, full_dim)
    limit = token_limit(settings, files) - (tokenizer.special_tokens if kind.adds_special_tokens else 0)
    space = Space(
        backend=settings.backend,
        weights_sha256=files.weights_sha256,
        tokenizer_sha256="" if files.needs_texts else tokenizer.sha256,
        pooling=pooling,
        normalise=settings.normalise,
        dim=dim,
        query_prefix=settings.query_prefix,
        document_prefix=settings.document_prefix,
        dtype=settings.dtype,
    )
    info = ModelInfo(
        name=name,
        dim=dim,
        max_tokens=limit - most_prefix_tokens(settings),
        space=space.fingerprint(),
        tokenizer_file=files.tokenizer,
        description=settings.description,
        size_bytes=files.size_bytes,
        needs_texts=files.needs_texts,
        pads=kind.pads,
        texts_per_call=files.texts_per_call,
        matryoshka=settings.matryoshka,
        accepts_ids_below=tokenizer.vocabulary_size if settings.accepts_token_ids else 0,
    )
    if info.max_tokens < 1:
        raise ModelError(f"its prefixes leave no room for text in {limit} tokens: shorten them")
    core = replace(info, dim=full_dim, max_tokens=limit)
    return Description(name, settings, files, tokenizer, pooling, info, core)


def _dimension(settings: ModelSettings, files: ModelFiles) -> int:
    if files.dim is None and settings.dim is None:
        raise ModelError("dimension unknown: set `dim`, or put the model's config.json beside its weights")
    if files.dim and settings.dim and files.dim != settings.dim:
        raise ModelError(f"`dim` is set to {settings.dim}, its files say {files.dim}: correct or drop it")
    return files.dim or settings.dim or 0


def _kept_dimensions(settings: ModelSettings, full_dim: int) -> int:
    if settings.dimensions is not None and settings.dimensions > full_dim:
        raise ModelError(f"`dimensions` is set to {settings.dimensions}, the model has {full_dim}")
    return settings.dimensions or full_dim


def available_cores() -> int:
    """The cores that this process may use. In a container these may be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
