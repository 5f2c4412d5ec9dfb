"""Loads a transformers encoder: chooses device, precision and attention, and maps torch's errors."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from embedfleet.errors import EmbedfleetError, ModelError, ModelUnavailable, one_line
from embedfleet.inference.backend import ModelInfo
from embedfleet.inference.description import Description
from embedfleet.settings import ModelSettings

if TYPE_CHECKING:
    import torch

# While transformers builds a model, it sets torch's default dtype for the whole process. Without the lock,
# two models that load at the same time in two threads would each be built with the other's dtype.
_LOADING = threading.Lock()

_MAX_MESSAGE_CHARACTERS = 500  # compilers quote the whole source in their messages
# Parts of the messages by which memory shortage is known where no class of exception says so.
_OUT_OF_MEMORY_SIGNS = (
    "not enough memory",  # the allocator of the CPU
    "can't allocate memory",
    "bad_alloc",
    "out of memory",  # CUDA outside torch's own allocator, and MPS
    "CUBLAS_STATUS_ALLOC_FAILED",
)


def require_libraries() -> None:
    """Raises ModelError, which says what to install, if torch or transformers cannot be imported."""
    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except (ImportError, OSError) as exc:  # OSError: a shared library is missing
        raise ModelError(
            f"the torch backend cannot import its libraries ({exc}): install the extra `torch` of embedfleet"
        ) from exc


def resolve_device(wanted: str) -> Sequence[str]:
    """The devices that a name in the settings stands for. `auto`: the first CUDA device, else mps, else the
    CPU. `cuda`: every CUDA device that this process may see.

    Raises ModelError for a device that is unknown or not on this machine.
    """
    import torch

    cuda = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    mps = ["mps"] if torch.backends.mps.is_available() else []
    if wanted == "auto":
        return [*cuda, *mps, "cpu"][:1]
    if wanted.partition(":")[0] not in ("cpu", "cuda", "mps"):
        raise ModelError(f"`devices: {wanted}`: the torch backend runs on cpu, cuda, cuda:<number> and mps")
    available = [*cuda, *mps, "cpu"]
    found = cuda if wanted == "cuda" else [device for device in available if device == wanted]
    if not found:
        raise ModelError(
            f"`devices: {wanted}`: not on this machine, which has {', '.join(available)}: name one"
        )
    return found


def load_encoder(model: Description, device: torch.device) -> Any:
    """The module, ready to run on `device`. Only safetensors files are read, nothing is downloaded, and code
    that comes with a model is never run.

    Raises ModelError saying why the model cannot be loaded, MemoryError when it does not fit into memory.
    """
    attention = _attention(model, device)
    # The lock comes before `_quietly`, whose settings of transformers also hold for the whole process.
    with mapped_errors(model.core, f"{_folder(model)} cannot be loaded"), _LOADING, _quietly():
        encoder, report = _from_folder(model, attention)
        _require_complete(model, report)
        _require_supported(model, encoder)
        encoder.requires_grad_(False)
        return encoder.to(device)


@contextmanager
def mapped_errors(info: ModelInfo, what: str = "the model failed") -> Iterator[None]:
    """Maps the exceptions that torch raises in the block to our own errors.

    MemoryError when memory ran out, so that the caller can try less at once; ModelUnavailable when the device
    is lost, which is no text's fault; otherwise ModelError. `what` says in its message what failed.
    """
    try:
        yield
    except (EmbedfleetError, MemoryError):
        raise
    except Exception as exc:
        raise _mapped(exc, info, what) from exc


def prepared_mask(mask: torch.Tensor) -> torch.Tensor:
    """The attention mask that transformers makes of a padding mask (n, longest): bool (n, 1, longest,
    longest), true where the token of a row may see the token of a column."""
    longest = mask.shape[1]
    return mask.bool()[:, None, None, :].expand(-1, 1, longest, longest)


def takes_prepared_masks(encoder: Any, longest: int) -> bool:
    """Whether the encoder gives the same result with a `prepared_mask` as with the padding mask itself.

    It is tried on two texts, one of `longest` tokens and one of at most 8. An encoder whose tokens see only
    their neighbours makes another mask, for example.
    """
    import torch

    device = encoder.get_input_embeddings().weight.device
    # Any ids will do, if they differ and lie in the vocabulary.
    ids = torch.arange(2 * longest, device=device).reshape(2, longest) % min(1000, encoder.config.vocab_size)
    mask = torch.ones_like(ids)
    mask[1, min(8, longest - 1) :] = 0
    with torch.inference_mode():
        expected = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        try:
            found = encoder(input_ids=ids, attention_mask=prepared_mask(mask)).last_hidden_state
        except (RuntimeError, TypeError, ValueError):  # it takes only masks of another shape
            return False
    real = mask.bool()  # results at padding are never used, so they may differ
    return bool(torch.equal(expected[real], found[real]))


def release(device: torch.device) -> None:
    """Return to the device the memory that torch keeps for later use."""
    import torch

    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def _attention(model: Description, device: torch.device) -> str | None:
    """The implementation of attention to ask for; None: transformers chooses sdpa where the model has it,
    else eager. Raises ModelError if flash attention is asked for and cannot be had."""
    wanted = model.settings.attention
    obstacle = _flash_obstacle(model.settings, device)
    if wanted == "auto":
        return None if obstacle else "flash_attention_2"
    # Checked here, because transformers may otherwise look for another build of it on the network.
    if wanted == "flash_attention_2" and obstacle:
        raise ModelError(f"model {model.name}: `attention: flash_attention_2` {obstacle}, or say `auto`")
    return wanted


def _flash_obstacle(settings: ModelSettings, device: torch.device) -> str:
    """Why flash attention cannot be used here; empty if it can."""
    if device.type != "cuda":
        return f"needs CUDA, not {device.type}: set `devices: [cuda]`"
    if settings.dtype == "float32":
        return "needs half precision: set `dtype: bfloat16`"
    return "" if find_spec("flash_attn") else "needs the package flash-attn: install it"


def _from_folder(model: Description, attention: str | None) -> tuple[Any, dict[str, Any]]:
    """The module, and transformers' report on which weights the module has and the files lack."""
    import torch
    from transformers import AutoModel

    try:
        encoder, report = AutoModel.from_pretrained(
            _folder(model),
            dtype=getattr(torch, model.settings.dtype),
            attn_implementation=attention,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except (ImportError, ValueError):
        if model.settings.attention != "auto" or attention is None:
            raise
        return _from_folder(model, None)  # `auto` tried flash attention, which not every model supports
    return encoder, report


def _require_complete(model: Description, report: dict[str, Any]) -> None:
    """Raises ModelError if the files lack weights: transformers fills those with random numbers. The pooler's
    weights may be missing, because it is not used here."""
    missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise ModelError(
            f"model {model.name}: {_folder(model)} lacks {len(missing)} of its weights, as {missing[0]}: "
            "download it again, or use a model that transformers knows"
        )


def _require_supported(model: Description, encoder: Any) -> None:
    """Raises ModelError for a model that is not an encoder, or that has not the attention asked for."""
    if encoder.config.is_encoder_decoder:
        raise ModelError(f"model {model.name}: it also decodes, the torch backend runs encoders: use another")
    wanted, got = model.settings.attention, encoder.config._attn_implementation
    if wanted not in ("auto", got):
        raise ModelError(f"model {model.name}: `attention: {wanted}`: it has only {got}: say that, or `auto`")


def _folder(model: Description) -> str:
    return str(model.files.weights[0].parent)


@contextmanager
def _quietly() -> Iterator[None]:
    """transformers shows no progress bar and logs no warnings in the block: the terminal belongs to the
    program that uses embedfleet."""
    from transformers.utils import logging

    bars, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _mapped(exc: Exception, info: ModelInfo, what: str) -> Exception:
    import torch

    message = one_line(exc)[:_MAX_MESSAGE_CHARACTERS]
    out_of_memory = any(sign in message for sign in _OUT_OF_MEMORY_SIGNS)
    if isinstance(exc, torch.OutOfMemoryError) or out_of_memory:
        # The exception refers to the frames that failed, and these to their tensors: without this the memory
        # would not be free when the caller tries less.
        traceback.clear_frames(exc.__traceback__)
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        return MemoryError(f"model {info.name}: {message}")
    if message.startswith("CUDA error"):
        return ModelUnavailable(
            f"model {info.name}: its CUDA device is lost to this process ({message}): restart the worker"
        )
    return ModelError(f"model {info.name}: {what} ({message})")
