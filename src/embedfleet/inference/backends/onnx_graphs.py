"""Optimised once: the graph as ONNX Runtime would run it is kept on disk, for half the time to load."""

from __future__ import annotations

import hashlib
import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from loguru import logger

from embedfleet.inference.model_files import ModelFiles

if TYPE_CHECKING:
    import onnxruntime

_PROVIDERS = ["CPUExecutionProvider"]
_LARGEST_BYTES = 1_500_000_000  # a protobuf holds less than 2 GB, and 8-bit weights grow on the way


def open_graph(
    files: ModelFiles, options: onnxruntime.SessionOptions, cache_dir: Path
) -> onnxruntime.InferenceSession:
    """A session on the CPU; from the cache if it is there and can be read, else kept there.

    A cache that cannot be written costs nothing but the time it would save.
    """
    import onnxruntime

    level = onnxruntime.GraphOptimizationLevel
    kept = kept_graph(files, cache_dir)
    if kept.is_file():
        options.graph_optimization_level = level.ORT_DISABLE_ALL
        try:
            return onnxruntime.InferenceSession(kept, options, providers=_PROVIDERS)
        except Exception as exc:  # noqa: BLE001  whatever it says, the model's own file is the truth
            logger.warning("{} cannot be used, it is made anew ({})", kept, " ".join(str(exc).split()))
    options.graph_optimization_level = level.ORT_ENABLE_ALL
    fresh = _new_file(files, kept)
    if fresh is not None:
        options.optimized_model_filepath = str(fresh)
        try:
            session = onnxruntime.InferenceSession(files.weights[0], options, providers=_PROVIDERS)
            fresh.replace(kept)  # in one step: who reads meanwhile sees all of it or nothing
            return session
        except Exception as exc:  # noqa: BLE001  the model's fault shows below, a full disk is no reason to fail
            logger.debug("the optimised graph is not kept ({})", " ".join(str(exc).split()))
        finally:
            fresh.unlink(missing_ok=True)
        options.optimized_model_filepath = ""
    return onnxruntime.InferenceSession(files.weights[0], options, providers=_PROVIDERS)


def kept_graph(files: ModelFiles, cache_dir: Path) -> Path:
    """Where the graph of these weights is kept, if it is."""
    import onnxruntime

    return cache_dir / f"{_key(files, onnxruntime.__version__)}.onnx"


def _new_file(files: ModelFiles, kept: Path) -> Path | None:
    """Where to write it first; None: nowhere. Of external data the graph would have to be a folder."""
    if len(files.weights) > 1 or 4 * files.size_bytes > _LARGEST_BYTES:
        return None
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return kept.with_name(f".{uuid4().hex}.tmp") if os.access(kept.parent, os.W_OK) else None


def _key(files: ModelFiles, version: str) -> str:
    """Of the weights, and of all that decides how they are laid out for a machine."""
    machine = (files.weights_sha256, version, platform.system(), platform.machine(), _cpu())
    return hashlib.sha256("\0".join(machine).encode()).hexdigest()[:32]


def _cpu() -> str:
    """The processor's model and what it can do."""
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags"))}))
    return platform.processor()
