"""Backend `torch`: transformer encoders in PyTorch, on the CPU, on CUDA and on Apple's mps."""

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
    load_encoder,
    mapped_errors,
    prepared_mask,
    release,
    require_libraries,
    resolve_device,
    takes_prepared_masks,
)
from embedfleet.inference.description import Description, Place
from embedfleet.inference.model_files import ModelFiles, model_folder, read_torch_folder
from embedfleet.inference.space import Pooling
from embedfleet.settings import ModelSettings

if TYPE_CHECKING:
    import torch

adds_special_tokens = True
pools = True
pads = True

_TENSOR_CORE_COLUMNS = 8  # tensor cores are fast on sizes that are multiples of this


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
    """One encoder. Its output is pooled, and normalised in float32, on the device it runs on."""

    def __init__(self, model: Description, place: Place) -> None:
        """Raises ModelError if the model cannot be loaded as its settings say, MemoryError if it does not
        fit into memory."""
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
            # This holds for the calling thread, because torch has run on it by now, and for threads that
            # begin later. Each replica sets its share of the cores on its own thread, so that the replicas do
            # not compete for them.
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
        with mapped_errors(self.info), torch.inference_mode():
            return self._fetch(self._vectors(self._send(ids), self._send(mask)))

    def _columns(self, longest: int) -> int:
        """Columns of a micro-batch whose longest text has `longest` tokens. At least one: an encoder takes no
        empty rows, which empty texts without special tokens would be."""
        return max(1, longest + self._tokenizer.special_tokens)

    def _send(self, array: NDArray[np.int64]) -> torch.Tensor:
        import torch

        return torch.from_numpy(array).to(self._device)

    def _fetch(self, vectors: torch.Tensor) -> Callable[[], NDArray[np.float32]]:
        fetched: NDArray[np.float32] = vectors.cpu().numpy()
        return lambda: fetched

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
        """The mask to give the encoder, made of the padding mask (n, longest)."""
        return mask

    def _compile(self) -> None:
        """Compile for any shape, and run once with two texts and once with one: torch compiles for a batch of
        one separately, and no query should wait for that."""
        import torch

        length = min(8, self.info.max_tokens)
        try:
            with mapped_errors(self.info, "cannot be compiled"):
                self._encoder = torch.compile(self._encoder, dynamic=True)
            for texts in (2, 1):
                ids = np.zeros(texts * length, dtype=np.uint32)
                self.embed_tokens(TokenBatch(ids, np.full(texts, length, dtype=np.int64)))
        except ModelError as exc:
            raise ModelError(f"{exc}: `compile: true` needs a compiler: install one, or drop it") from exc


class CudaTorchBackend(TorchBackend):
    """On a CUDA stream of its own: the next micro-batch is padded and sent while the device runs this one."""

    _masks_prepared = False

    def __init__(self, model: Description, place: Place) -> None:
        import torch

        # For the whole process. cuDNN's attention makes a new plan for each shape of a batch, which takes
        # half a second or more (pytorch/pytorch #155958), and the shapes of micro-batches hardly ever repeat.
        # The other kernels take any shape.
        torch.backends.cuda.enable_cudnn_sdp(False)
        with mapped_errors(model.core, f"{place.device} cannot be used"):
            self._stream = torch.cuda.Stream(torch.device(place.device))
        # The weights are sent on the same stream, so they arrive before the first run uses them.
        with torch.cuda.stream(self._stream):
            super().__init__(model, place)
            with mapped_errors(model.core):
                longest = self._columns(self.info.max_tokens)
                # A compiled encoder does not look into the mask, so it needs no prepared one.
                compiled = model.settings.compile
                self._masks_prepared = not compiled and takes_prepared_masks(self._encoder, longest)

    def start(self, batch: TokenBatch) -> Callable[[], NDArray[np.float32]]:
        return self._begin(batch)

    def _begin(self, batch: TokenBatch) -> Callable[[], NDArray[np.float32]]:
        import torch

        with torch.cuda.stream(self._stream):
            return super()._begin(batch)

    def _attended(self, mask: torch.Tensor) -> torch.Tensor:
        """A prepared mask, if the encoder takes one. Given a padding mask, the encoder asks the device
        whether it masks anything, and so waits for the micro-batch before: in that time the device could be
        given its next work."""
        return prepared_mask(mask) if self._masks_prepared else mask

    def _columns(self, longest: int) -> int:
        limit = self.info.max_tokens + self._tokenizer.special_tokens
        return tensor_core_columns(super()._columns(longest), limit)

    def _send(self, array: NDArray[np.int64]) -> torch.Tensor:
        import torch

        return torch.from_numpy(array).pin_memory().to(self._device, non_blocking=True)

    def _fetch(self, vectors: torch.Tensor) -> Callable[[], NDArray[np.float32]]:
        import torch

        # Only a copy into pinned memory runs beside the host.
        fetched = torch.empty(vectors.shape, dtype=vectors.dtype, pin_memory=True)
        fetched.copy_(vectors, non_blocking=True)
        # `blocking` lets the thread sleep while it waits: the cores are needed for chunking and storing.
        arrived = torch.cuda.Event(blocking=True)
        arrived.record()  # after the copy: the event happens when the copy is complete

        def wait() -> NDArray[np.float32]:
            with mapped_errors(self.info):
                arrived.synchronize()
            result: NDArray[np.float32] = fetched.numpy()
            return result

        return wait


def tensor_core_columns(needed: int, limit: int) -> int:
    """`needed` rounded up to a multiple of 8, where tensor cores are fast, but at most `limit`, the number of
    the model's positions."""
    rounded = -(-needed // _TENSOR_CORE_COLUMNS) * _TENSOR_CORE_COLUMNS
    return max(needed, min(rounded, limit))


def _pooled(hidden: torch.Tensor, mask: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """(n, longest, dim), padded on the right where `mask` (n, longest) is 0, to float32 (n, dim). A text
    without tokens gets a zero vector."""
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
