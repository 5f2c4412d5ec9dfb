"""Keeps optimised ONNX graphs on disk: a graph that is optimised already loads in half the time."""

from __future__ import annotations

import hashlib
import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from loguru import logger

from embedfleet.errors import one_line
from embedfleet.inference.model_files import ModelFiles
from embedfleet.whole_file import written_whole

if TYPE_CHECKING:
    import onnxruntime

_PROVIDERS = ["CPUExecutionProvider"]
# Of an optimised graph. A protobuf holds less than 2 GB; this leaves room for what the estimate misses.
_LARGEST_BYTES = 1_500_000_000
# Optimising may unpack 8-bit weights to 32 bits.
_GROWTH = 4


def open_graph(
    files: ModelFiles, options: onnxruntime.SessionOptions, cache_dir: Path
) -> onnxruntime.InferenceSession:
    """A session on the CPU: of the kept graph if there is a readable one, otherwise of the model's own file,
    whose optimised graph is then kept.

    A cache that cannot be written is no error: the next load takes as long as this one.
    """
    kept = kept_graph(files, cache_dir)
    session = _open_kept(kept, options)
    return _open_and_keep(files, options, kept) if session is None else session


def _open_kept(kept: Path, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession | None:
    import onnxruntime

    if not kept.is_file():
        return None
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return onnxruntime.InferenceSession(kept, options, providers=_PROVIDERS)
    except Exception as exc:  # noqa: BLE001  any failure: the model's own file can always be used instead
        logger.warning("{} cannot be used, it is made again ({})", kept, one_line(exc))
        return None


def _open_and_keep(
    files: ModelFiles, options: onnxruntime.SessionOptions, kept: Path
) -> onnxruntime.InferenceSession:
    import onnxruntime

    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    if _can_be_kept(files, kept):
        try:
            # Another process that loads the same model sees a whole file or none.
            with written_whole(kept) as draft:
                options.optimized_model_filepath = str(draft)
                return onnxruntime.InferenceSession(files.weights[0], options, providers=_PROVIDERS)
        except Exception as exc:  # noqa: BLE001  a full disk is no reason to fail; a bad model fails again below
            logger.debug("the optimised graph is not kept ({})", one_line(exc))
        options.optimized_model_filepath = ""
    return onnxruntime.InferenceSession(files.weights[0], options, providers=_PROVIDERS)


def kept_graph(files: ModelFiles, cache_dir: Path) -> Path:
    """The file of the optimised graph of these weights, whether it exists or not."""
    import onnxruntime

    return cache_dir / f"{_key(files, onnxruntime.__version__)}.onnx"


def _can_be_kept(files: ModelFiles, kept: Path) -> bool:
    """Whether the optimised graph can be written to `kept`, whose folder is made if it does not exist. A
    model with external data has several files, and its graph would need a folder."""
    has_external_data = len(files.weights) > 1
    if has_external_data or _GROWTH * files.size_bytes > _LARGEST_BYTES:
        return False
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(kept.parent, os.W_OK)


def _key(files: ModelFiles, version: str) -> str:
    """Hash of the weights, and of everything that decides how ONNX Runtime optimises for a machine."""
    machine = (files.weights_sha256, version, platform.system(), platform.machine(), _cpu())
    return hashlib.sha256("\0".join(machine).encode()).hexdigest()[:32]


def _cpu() -> str:
    """The processor's model and features."""
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags"))}))
    return platform.processor()
