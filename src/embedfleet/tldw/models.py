"""What embedfleet's catalogue calls a model that tldw names by a provider and a name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from embedfleet.adoption.groups import BUILT_IN_NAMES

_OPENAI_URL = "https://api.openai.com/v1"
_LOCAL_URL = "http://localhost:8080/v1"
# As OpenAI documents its models. They take 8,191 tokens; a few less, as the server counts by itself.
_OPENAI_DIMENSIONS = {
    "text-embedding-3-small": 1536,
    "text-embedding-3-large": 3072,
    "text-embedding-ada-002": 1536,
}
_OPENAI_TOKENS = 8000


@dataclass(frozen=True, slots=True)
class NamedModel:
    """The name of a model in the catalogue; its entry, if it is not built in; and what is to be looked at.

    `known` is False if embedfleet cannot run it.
    """

    name: str
    entry: dict[str, Any] | None
    warnings: tuple[str, ...] = ()
    known: bool = True


def catalogue_name(model: str) -> str:
    """Return the last part of the name, with the characters that a name in the catalogue may have."""
    last = model.rstrip("/").rsplit("/", 1)[-1]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", last) or "model"


def bundled_name(model: str) -> str | None:
    """Return the built-in model with other weights of this one; None if there is none."""
    return BUILT_IN_NAMES.get(catalogue_name(model).lower())


def bundled_model(provider: str, model: str) -> NamedModel:
    """Return what `named_model` does, or the built-in model in its place: that one needs no download."""
    bundled = bundled_name(model)
    if bundled is None:
        return named_model(provider, model)
    return NamedModel(
        bundled,
        None,
        (
            f"model `{model}`: becomes `{bundled}`, the same model with 8-bit weights; vectors that tldw "
            "made are a little different",
        ),
    )


def named_model(provider: str, model: str, *, api_url: str | None = None) -> NamedModel:
    """Return the model of this provider (`huggingface`, `onnx`, `openai`, `local_api`) and name.

    Its vectors are those that tldw makes. `api_url` is the address of a `local_api`.
    """
    name = catalogue_name(model)
    match provider.strip().lower().replace("-", "_"):
        case "openai":
            return _remote(name, model, _base_url(api_url, _OPENAI_URL), key="OPENAI_API_KEY")
        case "local_api" | "local":
            return _remote(name, model, _base_url(api_url, _LOCAL_URL), key=None)
        case "onnx":
            return NamedModel(name, {"backend": "onnx", "hub": model}, _from_the_hub(name))
        case "huggingface" | "hf" | "sentence_transformers" | "transformers" | "":
            return NamedModel(name, {"backend": "torch", "hub": model}, _from_the_hub(name))
        case other:
            why = "embedfleet has no such provider: a server with an OpenAI-compatible route is `remote`"
            return NamedModel(name, None, (f"model `{model}` of provider `{other}`: {why}",), known=False)


def _remote(name: str, model: str, url: str, *, key: str | None) -> NamedModel:
    entry: dict[str, Any] = {
        "backend": "remote",
        "max_tokens": _OPENAI_TOKENS,
        "remote": {"url": url, "model": model} | ({"api_key_env": key} if key else {}),
    }
    dim = _OPENAI_DIMENSIONS.get(model)
    if dim is not None:
        return NamedModel(name, {**entry, "dim": dim})
    where = f"models.catalogue.{name}"
    return NamedModel(
        name, entry, (f"model `{model}`: set `{where}.dim` and `{where}.max_tokens` to what its server has",)
    )


def _from_the_hub(name: str) -> tuple[str, ...]:
    entry = f"models.catalogue.{name}"
    return (
        f"model `{name}`: download its files before the start; pin `{entry}.revision`, and set "
        f"`{entry}.max_tokens` to what it takes, as 256 is the default",
    )


def _base_url(api_url: str | None, usual: str) -> str:
    """Return the address up to and without `/embeddings`, as `remote.url` is."""
    return (api_url or usual).strip().rstrip("/").removesuffix("/embeddings")
