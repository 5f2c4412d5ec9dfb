"""Which models there are: the bundled ones and those of the settings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from embedfleet.errors import ModelError, UnknownModel, hint
from embedfleet.inference.backend import EmbeddingBackend, ModelInfo
from embedfleet.inference.model_files import (
    ModelFiles,
    bundled_tokenizer,
    find_bundled_minilm,
    find_bundled_static,
    read_onnx_folder,
    read_static_folder,
    token_limit,
)
from embedfleet.inference.space import Space
from embedfleet.inference.tokenizer_file import TokenizerFacts, read_tokenizer
from embedfleet.settings import ModelSettings, ModelsSettings

BUILT_IN: Mapping[str, ModelSettings] = {
    "minilm": ModelSettings(backend="onnx", description="all-MiniLM-L6-v2, English, 8-bit weights"),
    "static": ModelSettings(
        backend="static", max_tokens=512, description="wordllama token table: very fast, coarser"
    ),
    "stub": ModelSettings(backend="stub", dim=64, description="hashes, no meaning: for tests"),
}

_STUB_DIM = 64


@dataclass(frozen=True, slots=True)
class _Described:
    settings: ModelSettings
    files: ModelFiles
    tokenizer: TokenizerFacts
    info: ModelInfo


class Catalogue:
    """Describes and opens models by name. A model's files are read for `info` once per catalogue.

    An entry of the settings replaces a built-in of the same name; its space tells the two apart.
    """

    def __init__(self, settings: ModelsSettings) -> None:
        self._models = {**BUILT_IN, **settings.catalogue}
        self._threads = settings.threads or _available_cores()
        self._described: dict[str, _Described] = {}

    def names(self) -> list[str]:
        """Every model's name, sorted."""
        return sorted(self._models)

    def info(self, name: str) -> ModelInfo:
        """What the model is, from its files alone: no model library imported, no weights loaded.

        Raises UnknownModel naming the nearest known one, ModelError when files are missing or wrong.
        """
        return self._describe(name).info

    def open(self, name: str) -> EmbeddingBackend:
        """Load the model; takes seconds, so call it on the thread that will own the backend.

        Raises UnknownModel, or ModelError saying why it cannot be loaded and what to install or set.
        """
        model = self._describe(name)
        match model.settings.backend:
            case "onnx":
                from embedfleet.inference.backends.onnx import OnnxBackend

                return OnnxBackend(
                    model.files.weights[0],
                    info=model.info,
                    tokenizer=model.tokenizer,
                    pooling=model.settings.pooling,
                    normalise=model.settings.normalise,
                    threads=self._threads,
                )
            case "static":
                from embedfleet.inference.backends.static import StaticBackend

                return StaticBackend(
                    model.files.weights[0], info=model.info, normalise=model.settings.normalise
                )
            case "stub":
                from embedfleet.inference.backends.stub import StubBackend

                return StubBackend(model.info)

    def _describe(self, name: str) -> _Described:
        if name not in self._described:
            self._described[name] = _describe(name, self._settings_of(name))
        return self._described[name]

    def _settings_of(self, name: str) -> ModelSettings:
        if name in self._models:
            return self._models[name]
        raise UnknownModel(f"no model `{name}` in the catalogue: {hint(name, self._models)}")


def _describe(name: str, settings: ModelSettings) -> _Described:
    try:
        files = _find_files(settings)
        tokenizer = read_tokenizer(files.tokenizer)
        dim = _dimension(settings, files)
    except ModelError as exc:
        raise ModelError(f"model `{name}`: {exc}") from exc
    special = tokenizer.special_tokens if settings.backend == "onnx" else 0
    info = ModelInfo(
        name=name,
        dim=dim,
        max_tokens=token_limit(settings, files) - special,
        space=Space(
            backend=settings.backend,
            weights_sha256=files.weights_sha256,
            tokenizer_sha256=tokenizer.sha256,
            pooling=_pooling(settings),
            normalise=settings.normalise,
            dim=dim,
        ).fingerprint(),
        tokenizer_file=files.tokenizer,
        description=settings.description,
        size_bytes=files.size_bytes,
    )
    return _Described(settings, files, tokenizer, info)


def _find_files(settings: ModelSettings) -> ModelFiles:
    match settings.backend:
        case "onnx":
            return read_onnx_folder(settings.path) if settings.path else find_bundled_minilm()
        case "static":
            return read_static_folder(settings.path) if settings.path else find_bundled_static()
        case "stub":
            return ModelFiles((), "stub", bundled_tokenizer(), settings.dim or _STUB_DIM, None)


def _dimension(settings: ModelSettings, files: ModelFiles) -> int:
    if files.dim is None and settings.dim is None:
        raise ModelError("dimension unknown: set `dim`, or put the model's config.json beside model.onnx")
    if files.dim and settings.dim and files.dim != settings.dim:
        raise ModelError(f"`dim` is set to {settings.dim}, its files say {files.dim}: correct or drop it")
    return files.dim or settings.dim or 0


def _pooling(settings: ModelSettings) -> Literal["mean", "cls"]:
    if settings.backend != "onnx" and settings.pooling != "mean":
        raise ModelError(f"`pooling: {settings.pooling}` needs `backend: onnx`")
    return settings.pooling


def _available_cores() -> int:
    """The cores this process may run on, which in a container are fewer than the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
