"""Which models there are: the bundled ones and those of the settings."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import platformdirs

from embedfleet.errors import ModelError, UnknownModel, hint
from embedfleet.inference.backend import EmbeddingBackend, ModelInfo
from embedfleet.inference.calibration import DEFAULT_BUDGET_TOKENS, LARGEST_BUDGET_TOKENS, Calibrations
from embedfleet.inference.description import Description, Place
from embedfleet.inference.finishing import finished, most_prefix_tokens
from embedfleet.inference.model_files import ModelFiles, token_limit
from embedfleet.inference.registry import backend_kind
from embedfleet.inference.space import Space
from embedfleet.inference.tokenizer_file import read_tokenizer
from embedfleet.settings import ModelSettings, ModelsSettings

BUILT_IN: Mapping[str, ModelSettings] = {
    "minilm": ModelSettings(backend="onnx", description="all-MiniLM-L6-v2, English, 8-bit weights"),
    "static": ModelSettings(
        backend="static", max_tokens=512, description="wordllama token table: very fast, coarser"
    ),
    "stub": ModelSettings(backend="stub", dim=64, description="hashes, no meaning: for tests"),
}

# 8-bit weights are unpacked to 32, and activations come on top.
_GROWTH = 4
_RUNTIME_MB = 100


class Catalogue:
    """Describes and opens models by name. A model's files are read for `info` once per catalogue.

    An entry of the settings replaces a built-in of the same name; its space tells the two apart. In
    `cache_dir` is kept what is dear to make again.
    """

    def __init__(self, settings: ModelsSettings) -> None:
        self._models = {**BUILT_IN, **settings.catalogue}
        self._threads = settings.threads or available_cores()
        self.cache_dir = settings.cache_dir or Path(platformdirs.user_cache_dir("embedfleet")) / "models"
        self._microbatch_tokens = settings.microbatch_tokens
        self._calibrations = Calibrations(self.cache_dir)
        self._described: dict[str, Description] = {}

    def names(self) -> list[str]:
        """Every model's name, sorted."""
        return sorted(self._models)

    def info(self, name: str) -> ModelInfo:
        """What the model is, from its files alone: no model library imported, no weights loaded.

        Raises UnknownModel naming the nearest known one, ModelError when files are missing or wrong.
        """
        return self.describe(name).info

    def settings_of(self, name: str) -> ModelSettings:
        """Its entry. Raises UnknownModel naming the nearest known one."""
        if name in self._models:
            return self._models[name]
        raise UnknownModel(f"no model `{name}` in the catalogue: {hint(name, self._models)}")

    def threads(self, name: str) -> int:
        """Those of the CPU that each replica may use. Raises as `info` does."""
        return self._threads_each(self.describe(name))

    def devices(self, name: str) -> Sequence[str]:
        """Where the model's replicas run, one each. May import its library. Raises as `info` does."""
        settings = self.describe(name).settings
        return backend_kind(settings.backend).devices(settings)

    def open(self, name: str, device: str | None = None) -> EmbeddingBackend:
        """Load one replica; takes seconds, so call it on the thread that will own the backend.

        `device` None: the first of `devices`. Raises UnknownModel, or ModelError saying why it cannot be
        loaded and what to install or set.
        """
        model = self.describe(name)
        place = Place(device or self.devices(name)[0], self._threads_each(model), self.cache_dir)
        return finished(backend_kind(model.settings.backend).open_backend(model, place), model)

    def memory_mb(self, name: str) -> int:
        """What one replica takes of its device when loaded: as set, else estimated from its files."""
        model = self.describe(name)
        return model.settings.memory_mb or _RUNTIME_MB + int(_GROWTH * model.files.size_bytes / 2**20)

    def microbatch_tokens(self, backend: EmbeddingBackend, device: str, *, calibrating: bool) -> int:
        """Padded tokens a call should have: as set, as found by an earlier calibration, or by one now."""
        model = self.describe(backend.info.name)
        if backend.info.texts_per_call is not None:  # there that is what counts
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
        """As `info`, with what a backend must know."""
        if name not in self._described:
            self._described[name] = _describe(name, self.settings_of(name))
        return self._described[name]

    def _threads_each(self, model: Description) -> int:
        """Replicas on the CPU share its cores."""
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
    """The cores this process may run on, which in a container are fewer than the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
