"""Transformer encoders in PyTorch: on the CPU, on CUDA and on Apple's mps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embedfleet.errors import ModelError
from embedfleet.inference.backend import TokenBatch
from embedfleet.inference.backends.admission import admit
from embedfleet.inference.backends.padding import pad
from embedfleet.inference.backends.torch_encoders import (
    as_ours,
    load_encoder,
    prepared_mask,
    release,
    require_libraries,
    resolve_device,
    takes_prepared_masks,
)
from embedfleet.inference.description import Description, Place, Pooling
from embedfleet.inference.model_files import ModelFiles, model_folder, read_torch_folder
from embedfleet.settings import ModelSettings

if TYPE_CHECKING:
    import torch

adds_special_tokens = True
pools = True
pads = True

_TENSOR_CORE_COLUMNS = 8


def find_files(settings: ModelSettings) -> ModelFiles:
    folder = model_folder(settings)
    if folder is None:
        raise ModelError("no torch model is bundled: set `path` to a model's folder, or `hub` to its id")
    return read_torch_folder(folder)


def devices(settings: ModelSettings) -> Sequence[str]:
    """`auto`: the first CUDA device, else mps, else the CPU. `cuda`: a replica on every CUDA device."""
    require_libraries()
    return tuple(device for wanted in settings.devices for device in resolve_device(wanted))


def open_backend(model: Description, place: Place) -> TorchBackend:
    require_libraries()
    return CudaTorchBackend(model, place) if place.device.startswith("cuda") else TorchBackend(model, place)


class TorchBackend:
    """One encoder: token ids in; pooled, and normalised in float32, where it runs; vectors out."""

    def __init__(self, model: Description, place: Place) -> None:
        """Raises ModelError if it cannot be loaded as its settings say, MemoryError if it does not fit."""
        import torch

        self.info = model.core
        self._tokenizer = model.tokenizer
        self._pooling = model.pooling
        self._normalise = model.settings.normalise
        self._device = torch.device(place.device)
        self._encoder = load_encoder(model, self._device)
        rows = self._encoder.get_input_embeddings().num_embeddings
        self._vocabulary_size = min(model.tokenizer.vocabulary_size, rows)
        if self._device.type == "cpu":
            # Of this thread, now that torch has begun to run on it, and of threads that begin later: so
            # replicas on threads of their own, told their share each, do not fight for the cores.
            torch.set_num_threads(place.threads)
        if model.settings.compile:
            self._compile()

    def embed_tokens(self, batch: TokenBatch) -> NDArray[np.float32]:
        return self._begin(batch)()

    def close(self) -> None:
        """Drop the weights, and give what torch keeps for later back to the device."""
        del self._encoder
        release(self._device)

    def _begin(self, batch: TokenBatch) -> Callable[[], NDArray[np.float32]]:
        """Run the encoder; the result is there when asked for."""
        import torch

        admit(batch, self.info, self._vocabulary_size)
        if not len(batch):
            return lambda: np.empty((0, self.info.dim), dtype=np.float32)
        ids, mask = pad(batch, self._tokenizer, least_columns=self._columns(int(batch.lengths.max())))
        with as_ours(self.info), torch.inference_mode():
            return self._fetch(self._vectors(self._send(ids), self._send(mask)))

    def _columns(self, longest: int) -> int:
        """At least one: an encoder takes no empty rows, as texts without special tokens may be."""
        return max(1, longest + self._tokenizer.special_tokens)

    def _send(self, array: NDArray[np.int64]) -> torch.Tensor:
        import torch

        return torch.from_numpy(array).to(self._device)

    def _fetch(self, vectors: torch.Tensor) -> Callable[[], NDArray[np.float32]]:
        there: NDArray[np.float32] = vectors.cpu().numpy()
        return lambda: there

    def _vectors(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """float32 (n, dim)."""
        import torch

        hidden = self._encoder(input_ids=ids, attention_mask=self._attended(mask)).last_hidden_state
        if hidden.shape != (*ids.shape, self.info.dim):
            raise ModelError(
                f"model {self.info.name}: its hidden state has shape {tuple(hidden.shape)}, expected "
                f"{(*ids.shape, self.info.dim)}: correct `dim` or the model's config.json"
            )
        vectors = _pooled(hidden, mask, self._pooling)
        return torch.nn.functional.normalize(vectors, dim=1) if self._normalise else vectors

    def _attended(self, mask: torch.Tensor) -> torch.Tensor:
        """What the encoder is told of `mask` (n, longest)."""
        return mask

    def _compile(self) -> None:
        """For any shape; a single text is compiled apart, as torch does it, and no query waits for that."""
        import torch

        length = min(8, self.info.max_tokens)
        try:
            with as_ours(self.info, "cannot be compiled"):
                self._encoder = torch.compile(self._encoder, dynamic=True)
            for texts in (2, 1):
                ids = np.zeros(texts * length, dtype=np.uint32)
                self.embed_tokens(TokenBatch(ids, np.full(texts, length, dtype=np.int64)))
        except ModelError as exc:
            raise ModelError(f"{exc}: `compile: true` needs a compiler: install one, or drop it") from exc


class CudaTorchBackend(TorchBackend):
    """On a stream of its own: the next micro-batch is padded and sent while the device runs this one."""

    _masks_prepared = False

    def __init__(self, model: Description, place: Place) -> None:
        import torch

        # Of the whole process. cuDNN's attention plans anew for each shape of a batch, half a second and more
        # (pytorch/pytorch #155958), and no two micro-batches are alike; the other kernels take any.
        torch.backends.cuda.enable_cudnn_sdp(False)
        with as_ours(model.core, f"{place.device} cannot be used"):
            self._stream = torch.cuda.Stream(torch.device(place.device))
        with torch.cuda.stream(self._stream):  # weights come over it, too, and are there before they are used
            super().__init__(model, place)
            with as_ours(model.core):
                longest = self._columns(self.info.max_tokens)
                compiled = model.settings.compile  # which looks into no mask
                self._masks_prepared = not compiled and takes_prepared_masks(self._encoder, longest)

    def start(self, batch: TokenBatch) -> Callable[[], NDArray[np.float32]]:
        return self._begin(batch)

    def _begin(self, batch: TokenBatch) -> Callable[[], NDArray[np.float32]]:
        import torch

        with torch.cuda.stream(self._stream):
            return super()._begin(batch)

    def _attended(self, mask: torch.Tensor) -> torch.Tensor:
        """Given a mask as it is, the encoder would wait for the device to see whether it masks anything: so
        for the micro-batch before, while the device could be told what to do next."""
        return prepared_mask(mask) if self._masks_prepared else mask

    def _columns(self, longest: int) -> int:
        limit = self.info.max_tokens + self._tokenizer.special_tokens
        return tensor_core_columns(super()._columns(longest), limit)

    def _send(self, array: NDArray[np.int64]) -> torch.Tensor:
        import torch

        return torch.from_numpy(array).pin_memory().to(self._device, non_blocking=True)

    def _fetch(self, vectors: torch.Tensor) -> Callable[[], NDArray[np.float32]]:
        import torch

        there = torch.empty(vectors.shape, dtype=vectors.dtype, pin_memory=True)
        there.copy_(vectors, non_blocking=True)
        arrived = torch.cuda.Event(blocking=True)  # waits asleep: the cores are for chunking and storing
        arrived.record()

        def wait() -> NDArray[np.float32]:
            with as_ours(self.info):
                arrived.synchronize()
            result: NDArray[np.float32] = there.numpy()
            return result

        return wait


def tensor_core_columns(needed: int, limit: int) -> int:
    """The next multiple of 8, at which tensor cores are fast; no more than `limit`, the model's positions."""
    rounded = -(-needed // _TENSOR_CORE_COLUMNS) * _TENSOR_CORE_COLUMNS
    return max(needed, min(rounded, limit))


def _pooled(hidden: torch.Tensor, mask: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """(n, longest, dim), padded on the right where `mask` (n, longest) is 0, to float32 (n, dim); zero for
    a text without any token."""
    import torch

    counts = mask.sum(dim=1, keepdim=True)
    match pooling:
        case "mean":
            own = hidden.masked_fill(mask.unsqueeze(-1) == 0, 0)
            vectors = own.sum(dim=1, dtype=torch.float32) / counts.clamp(min=1)
        case "cls":
            vectors = hidden[:, 0].float()
        case "last":
            rows = torch.arange(len(hidden), device=hidden.device)
            vectors = hidden[rows, counts[:, 0].clamp(min=1) - 1].float()
    return vectors.masked_fill(counts == 0, 0)
