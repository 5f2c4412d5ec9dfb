"""Transformer encoders on ONNX Runtime, on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from embedfleet.errors import ModelError
from embedfleet.inference.backend import ModelInfo, TokenBatch
from embedfleet.inference.backends.admission import admit
from embedfleet.inference.backends.normalise import l2_normalised
from embedfleet.inference.tokenizer_file import TokenizerFacts

_DTYPES = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}
_INPUTS = {"input_ids", "attention_mask", "token_type_ids"}


class OnnxBackend:
    """One inference session: token ids in, last hidden state out, pooled here."""

    def __init__(
        self,
        model_file: Path,
        *,
        info: ModelInfo,
        tokenizer: TokenizerFacts,
        pooling: Literal["mean", "cls"],
        normalise: bool,
        threads: int,
    ) -> None:
        """Raises ModelError if the file cannot be loaded or is not an encoder of this shape."""
        self.info = info
        self._tokenizer = tokenizer
        self._pooling = pooling
        self._normalise = normalise
        self._session = _open_session(model_file, info, threads)
        self._inputs = {node.name: _DTYPES.get(node.type) for node in self._session.get_inputs()}
        self._output = self._hidden_state_output()
        self._require_known_inputs()

    def embed_tokens(self, batch: TokenBatch) -> NDArray[np.float32]:
        admit(batch, self.info, self._tokenizer.vocabulary_size)
        if not len(batch):
            return np.empty((0, self.info.dim), dtype=np.float32)
        ids, mask = pad(batch, self._tokenizer)
        hidden = self._run(ids, mask)
        vectors = hidden[:, 0] if self._pooling == "cls" else mean_pool(hidden, mask)
        return l2_normalised(vectors) if self._normalise else vectors

    def close(self) -> None:
        """Drop the session, which frees its threads and its memory."""
        del self._session

    def _run(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        arrays = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        feeds = {name: arrays[name].astype(dtype, copy=False) for name, dtype in self._inputs.items()}
        try:
            (hidden,) = self._session.run([self._output], feeds)
        except Exception as exc:  # its exceptions have no base of their own
            raise _translated(exc, self.info) from exc
        if hidden.shape != (*ids.shape, self.info.dim):
            raise ModelError(
                f"model {self.info.name}: output `{self._output}` has shape {hidden.shape}, expected "
                f"{(*ids.shape, self.info.dim)}: correct `dim` or the model's config.json"
            )
        return np.asarray(hidden, dtype=np.float32)

    def _hidden_state_output(self) -> str:
        """The first output with a vector a token; pooled outputs that exporters add are passed over."""
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


def pad(batch: TokenBatch, tokenizer: TokenizerFacts) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """`ids` and `mask`, int64 (n, longest): special tokens added, padded on the right."""
    before, after = len(tokenizer.prefix), len(tokenizer.suffix)
    columns = np.arange(before + int(batch.lengths.max()) + after)
    ends = batch.lengths[:, None] + before
    ids = np.full((len(batch), len(columns)), tokenizer.pad_id, dtype=np.int64)
    ids[:, :before] = tokenizer.prefix
    ids[(columns >= before) & (columns < ends)] = batch.token_ids
    for offset, token in enumerate(tokenizer.suffix):
        ids[np.arange(len(batch)), ends[:, 0] + offset] = token
    return ids, (columns < ends + after).astype(np.int64)


def mean_pool(hidden: NDArray[np.float32], mask: NDArray[np.int64]) -> NDArray[np.float32]:
    """Mean over a text's own tokens, special ones included: (n, longest, dim) to (n, dim)."""
    weights = mask.astype(np.float32)
    sums = np.einsum("ns,nsd->nd", weights, hidden)  # not matmul: OpenBLAS ends the process without memory
    means: NDArray[np.float32] = sums / np.maximum(weights.sum(axis=1, keepdims=True), 1)
    return means


def _open_session(model_file: Path, info: ModelInfo, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # errors come back as exceptions, which say the same
    # The arena stays: without it every run faults its buffers in anew (22 instead of 37 chunks/s).
    # A cached plan for every shape met costs 70 MB more and gains nothing; resident size levels off
    # at +169 MB over 300 shapes of 2,048 tokens.
    options.enable_mem_pattern = False
    # Threads that spin while they wait take the cores from chunking and storing: on two cores with
    # other work, 2.1 thousand tokens/s spinning, 2.9 waiting.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(model_file, options, providers=["CPUExecutionProvider"])
    except Exception as exc:  # its exceptions have no base of their own
        raise _translated(exc, info, f"{model_file} cannot be loaded") from exc


def _translated(exc: Exception, info: ModelInfo, what: str = "the model failed") -> Exception:
    """MemoryError when memory ran out, so that the caller can try less at once; else ModelError."""
    message = " ".join(str(exc).split())
    if isinstance(exc, MemoryError) or "Failed to allocate memory" in message or "bad_alloc" in message:
        return MemoryError(f"model {info.name}: {message}")
    return ModelError(f"model {info.name}: {what} ({message})")
