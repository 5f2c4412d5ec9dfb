"""Backend `onnx`: transformer encoders on ONNX Runtime, on the CPU, and on CUDA where its provider is
installed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embedfleet.errors import ModelError, one_line
from embedfleet.inference.backend import ModelInfo, TokenBatch
from embedfleet.inference.backends.admission import admit
from embedfleet.inference.backends.normalise import l2_normalised
from embedfleet.inference.backends.onnx_graphs import open_graph
from embedfleet.inference.backends.padding import pad
from embedfleet.inference.backends.pooling import pool
from embedfleet.inference.description import Description, Place
from embedfleet.inference.model_files import (
    ModelFiles,
    find_bundled_minilm,
    model_folder,
    read_onnx_folder,
)
from embedfleet.settings import ModelSettings

if TYPE_CHECKING:
    import onnxruntime

adds_special_tokens = True
pools = True
pads = True

_DTYPES = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}
_INPUTS = {"input_ids", "attention_mask", "token_type_ids"}


def find_files(settings: ModelSettings) -> ModelFiles:
    folder = model_folder(settings)
    return read_onnx_folder(folder, settings.weights_file) if folder else find_bundled_minilm()


def devices(settings: ModelSettings) -> Sequence[str]:
    """`auto`: CUDA where its provider is installed, else the CPU."""
    return tuple(_resolved(device) for device in settings.devices)


def open_backend(model: Description, place: Place) -> OnnxBackend:
    return OnnxBackend(model, place)


class OnnxBackend:
    """One inference session, whose output, the last hidden state, is pooled here."""

    def __init__(self, model: Description, place: Place) -> None:
        """Raises ModelError if the file cannot be loaded or its inputs and outputs are not an encoder's."""
        self.info = model.core
        self._tokenizer = model.tokenizer
        self._pooling = model.pooling
        self._normalise = model.settings.normalise
        self._session = _open_session(model, place)
        self._inputs = {node.name: _DTYPES.get(node.type) for node in self._session.get_inputs()}
        self._output = self._hidden_state_output()
        self._require_known_inputs()

    def embed_tokens(self, batch: TokenBatch) -> NDArray[np.float32]:
        admit(batch, self.info, self._tokenizer.vocabulary_size)
        if not len(batch):
            return np.empty((0, self.info.dim), dtype=np.float32)
        ids, mask = pad(batch, self._tokenizer)
        hidden = self._run(ids, mask)
        vectors = pool(hidden, mask, self._pooling)
        return l2_normalised(vectors) if self._normalise else vectors

    def close(self) -> None:
        """Drop the session, which frees its threads and its memory."""
        del self._session

    def _run(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        arrays = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        feeds = {name: arrays[name].astype(dtype, copy=False) for name, dtype in self._inputs.items()}
        try:
            (hidden,) = self._session.run([self._output], feeds)
        except Exception as exc:  # ONNX Runtime's exceptions have no base class of their own
            raise _mapped(exc, self.info) from exc
        if hidden.shape != (*ids.shape, self.info.dim):
            raise ModelError(
                f"model {self.info.name}: output `{self._output}` has shape {hidden.shape}, expected "
                f"{(*ids.shape, self.info.dim)}: correct `dim` or the model's config.json"
            )
        return np.asarray(hidden, dtype=np.float32)

    def _hidden_state_output(self) -> str:
        """The name of the first output that has a vector for each token. Exporters may add pooled outputs,
        which have another shape."""
        for node in self._session.get_outputs():
            if len(node.shape) == 3:
                return str(node.name)
        raise ModelError(
            f"model {self.info.name}: no output of shape (batch, sequence, dim): export the encoder "
            "with its last hidden state"
        )

    def _require_known_inputs(self) -> None:
        for name, dtype in self._inputs.items():
            if name not in _INPUTS or dtype is None:
                raise ModelError(
                    f"model {self.info.name}: unknown input `{name}`: export it with "
                    f"{', '.join(sorted(_INPUTS))} as integers"
                )


def _resolved(device: str) -> str:
    import onnxruntime

    has_cuda = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    if device == "auto":
        return "cuda:0" if has_cuda else "cpu"
    kind, _, _ = device.partition(":")
    if kind not in ("cpu", "cuda"):
        raise ModelError(f"`devices: {device}`: the onnx backend runs on cpu and cuda")
    if kind == "cuda" and not has_cuda:
        raise ModelError(
            f"`devices: {device}`: no CUDA here: install the extra `gpu` of embedfleet, or say cpu"
        )
    return "cuda:0" if device == "cuda" else device


def _open_session(model: Description, place: Place) -> onnxruntime.InferenceSession:
    import onnxruntime

    # For a program that imported onnxruntime before us, with its reports on: it makes no more of them.
    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = place.threads
    options.log_severity_level = 4  # only fatal ones: errors come as exceptions with the same message
    # The memory arena stays on: without it every run maps its buffers again (22 instead of 37 chunks/s).
    # Memory patterns are off: a plan kept for every shape costs 70 MB more and gains nothing. So set, the
    # resident size levels off at +169 MB after 300 shapes of 2,048 tokens.
    options.enable_mem_pattern = False
    # Threads that spin while they wait take the cores from chunking and storing: on two cores with other
    # work, 2.1 thousand tokens/s with spinning, 2.9 without.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    weights = model.files.weights[0]
    try:
        if place.device != "cpu":
            index = int(place.device.partition(":")[2] or 0)
            providers = [("CUDAExecutionProvider", {"device_id": index}), "CPUExecutionProvider"]
            return onnxruntime.InferenceSession(weights, options, providers=providers)
        return open_graph(model.files, options, place.cache_dir)
    except Exception as exc:  # ONNX Runtime's exceptions have no base class of their own
        raise _mapped(exc, model.core, f"{weights} cannot be loaded") from exc


def _mapped(exc: Exception, info: ModelInfo, what: str = "the model failed") -> Exception:
    """Our error for an exception of ONNX Runtime: MemoryError when memory ran out, so that the caller can try
    less at once; otherwise ModelError."""
    message = one_line(exc)
    allocation_failed = "Failed to allocate memory" in message or "bad_alloc" in message
    if isinstance(exc, MemoryError) or allocation_failed:
        return MemoryError(f"model {info.name}: {message}")
    return ModelError(f"model {info.name}: {what} ({message})")
