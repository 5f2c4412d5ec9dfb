"""A transformers folder as a module in memory: on which device, in which precision, with which attention."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from embedfleet.errors import EmbedfleetError, ModelError, ModelUnavailable
from embedfleet.inference.backend import ModelInfo
from embedfleet.inference.description import Description
from embedfleet.settings import ModelSettings

if TYPE_CHECKING:
    import torch

# transformers builds a model with the default dtype of the whole process set to the model's: two threads
# that load at once would get each other's.
_LOADING = threading.Lock()

_MOST_CHARACTERS = 500  # of a message: compilers quote what they were given
_OUT_OF_MEMORY = (
    "not enough memory",  # the CPU's allocator
    "can't allocate memory",
    "bad_alloc",
    "out of memory",  # CUDA beyond its own allocator, and MPS
    "CUBLAS_STATUS_ALLOC_FAILED",
)


def require_libraries() -> None:
    """Raises ModelError saying what to install."""
    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except (ImportError, OSError) as exc:  # OSError: a shared library of theirs
        raise ModelError(
            f"the torch backend cannot import its libraries ({exc}): pip install 'embedfleet[torch]'"
        ) from exc


def resolve_device(wanted: str) -> Sequence[str]:
    """`auto`: the first CUDA device, else mps, else the CPU. `cuda`: every one this process may see.

    Raises ModelError for a device that is unknown or not here.
    """
    import torch

    cuda = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    mps = ["mps"] if torch.backends.mps.is_available() else []
    if wanted == "auto":
        return [*cuda, *mps, "cpu"][:1]
    if wanted.partition(":")[0] not in ("cpu", "cuda", "mps"):
        raise ModelError(f"`devices: {wanted}`: the torch backend runs on cpu, cuda, cuda:<number> and mps")
    there = [*cuda, *mps, "cpu"]
    found = cuda if wanted == "cuda" else [device for device in there if device == wanted]
    if not found:
        raise ModelError(f"`devices: {wanted}`: not on this machine, which has {', '.join(there)}: name one")
    return found


def load_encoder(model: Description, device: torch.device) -> Any:
    """The module, ready to run on `device`. Only safetensors are read, nothing is downloaded, and no code
    that comes with a model is run.

    Raises ModelError saying why it cannot be loaded, MemoryError when it does not fit.
    """
    attention = _attention(model, device)
    with as_ours(model.core, f"{_folder(model)} cannot be loaded"), _LOADING, _quietly():
        encoder, report = _from_folder(model, attention)
        _require_complete(model, report)
        _require_as_asked(model, encoder)
        encoder.requires_grad_(False)
        return encoder.to(device)


@contextmanager
def as_ours(info: ModelInfo, what: str = "the model failed") -> Iterator[None]:
    """What torch raises inside, as our errors: MemoryError when memory ran out, so that the caller can try
    less at once; ModelUnavailable when the device is lost, which is no text's fault; else ModelError."""
    try:
        yield
    except (EmbedfleetError, MemoryError):
        raise
    except Exception as exc:
        raise _translated(exc, info, what) from exc


def prepared_mask(mask: torch.Tensor) -> torch.Tensor:
    """bool (n, 1, longest, longest) of a padding mask (n, longest): which tokens each token may see."""
    longest = mask.shape[1]
    return mask.bool()[:, None, None, :].expand(-1, 1, longest, longest)


def takes_prepared_masks(encoder: Any, longest: int) -> bool:
    """Whether the encoder makes of a padding mask just what `prepared_mask` does: seen from what comes out
    for two texts, one of `longest` tokens and one of a few. Not so where a token sees its neighbours only."""
    import torch

    device = encoder.get_input_embeddings().weight.device
    ids = torch.arange(2 * longest, device=device).reshape(2, longest) % min(1000, encoder.config.vocab_size)
    mask = torch.ones_like(ids)
    mask[1, min(8, longest - 1) :] = 0
    with torch.inference_mode():
        expected = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        try:
            found = encoder(input_ids=ids, attention_mask=prepared_mask(mask)).last_hidden_state
        except (RuntimeError, TypeError, ValueError):  # it has a use of its own for masks
            return False
    real = mask.bool()
    return bool(torch.equal(expected[real], found[real]))


def release(device: torch.device) -> None:
    """Give back what torch keeps of the device's memory for later."""
    import torch

    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def _attention(model: Description, device: torch.device) -> str | None:
    """None: transformers chooses sdpa where the model has it, else eager."""
    wanted = model.settings.attention
    obstacle = _flash_obstacle(model.settings, device)
    if wanted == "auto":
        return None if obstacle else "flash_attention_2"
    # Checked here, as transformers may look for another build of it on the network.
    if wanted == "flash_attention_2" and obstacle:
        raise ModelError(f"model {model.name}: `attention: flash_attention_2` {obstacle}, or say `auto`")
    return wanted


def _flash_obstacle(settings: ModelSettings, device: torch.device) -> str:
    if device.type != "cuda":
        return f"needs CUDA, not {device.type}: set `devices: [cuda]`"
    if settings.dtype == "float32":
        return "needs half precision: set `dtype: bfloat16`"
    return "" if find_spec("flash_attn") else "needs the package flash-attn: install it"


def _from_folder(model: Description, attention: str | None) -> tuple[Any, dict[str, Any]]:
    """The module, and what transformers says about how the weights fitted."""
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
        return _from_folder(model, None)  # not every model can have flash attention
    return encoder, report


def _require_complete(model: Description, report: dict[str, Any]) -> None:
    """What a file lacks transformers fills with random numbers. The pooler is not used here."""
    missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise ModelError(
            f"model {model.name}: {_folder(model)} lacks {len(missing)} of its weights, as {missing[0]}: "
            "download it again, or use a model that transformers knows"
        )


def _require_as_asked(model: Description, encoder: Any) -> None:
    if encoder.config.is_encoder_decoder:
        raise ModelError(f"model {model.name}: it also decodes, the torch backend runs encoders: use another")
    wanted, got = model.settings.attention, encoder.config._attn_implementation
    if wanted not in ("auto", got):
        raise ModelError(f"model {model.name}: `attention: {wanted}`: it has only {got}: say that, or `auto`")


def _folder(model: Description) -> str:
    return str(model.files.weights[0].parent)


@contextmanager
def _quietly() -> Iterator[None]:
    """No progress bar on the terminal of whoever embeds us, no table of weights that are of no use here."""
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


def _translated(exc: Exception, info: ModelInfo, what: str) -> Exception:
    import torch

    message = " ".join(str(exc).split())[:_MOST_CHARACTERS]
    if isinstance(exc, torch.OutOfMemoryError) or any(sign in message for sign in _OUT_OF_MEMORY):
        # The frames that failed hold all they had made, and the exception holds them.
        traceback.clear_frames(exc.__traceback__)
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        return MemoryError(f"model {info.name}: {message}")
    if message.startswith("CUDA error"):
        return ModelUnavailable(
            f"model {info.name}: its CUDA device is lost to this process ({message}): restart the worker"
        )
    return ModelError(f"model {info.name}: {what} ({message})")
