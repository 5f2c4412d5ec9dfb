"""The ways of running models. One more is one file in `backends/` and one line here."""

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
    """Raises ModelError naming the nearest known one."""
    if name not in BACKENDS:
        raise ModelError(f"unknown backend `{name}`: {hint(name, BACKENDS)}")
    return cast("BackendKind", import_module(BACKENDS[name]))
