"""The list of backends. A new backend is a module in `backends/` that defines what `BackendKind` asks for,
and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import cast

from embedfleet.errors import ModelError, hint
from embedfleet.inference.description import BackendKind

BACKENDS: Mapping[str, str] = {
    "onnx": "embedfleet.inference.backends.onnx",
    "remote": "embedfleet.inference.backends.remote",
    "static": "embedfleet.inference.backends.static",
    "stub": "embedfleet.inference.backends.stub",
    "torch": "embedfleet.inference.backends.torch",
}


def backend_kind(name: str) -> BackendKind:
    """The module of a backend, imported when it is first asked for. Raises ModelError, which names the
    nearest known backend, if there is none of this name."""
    if name not in BACKENDS:
        raise ModelError(f"unknown backend `{name}`: {hint(name, BACKENDS)}")
    return cast("BackendKind", import_module(BACKENDS[name]))
