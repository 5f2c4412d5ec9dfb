"""What embedfleet's catalogue calls a model that tldw names by a provider and a name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

_MINILM = "all-minilm-l6-v2"
_OPENAI_URL = "https://api.openai.com/v1"
# As OpenAI documents its models. All take 8,192 tokens; a few less, as the server counts by itself.
_OPENAI_DIMENSIONS = {
    "text-embedding-3-small": 1536,
    "text-embedding-3-large": 3072,
    "text-embedding-ada-002": 1536,
}
_OPENAI_TOKENS = 8000


@dataclass(frozen=True, slots=True)
class NamedModel:
    """The name of a model in the catalogue; its entry, if it is not built in; and what is to be looked at."""

    name: str
    entry: dict[str, Any] | None
    warnings: tuple[str, ...] = ()


def named_model(provider: str, model: str, *, api_url: str | None = None) -> NamedModel:
    """Return the model of this provider (`huggingface`, `onnx`, `openai`, `local_api`) and name."""
    name = _catalogue_name(model)
    match provider.lower().replace("-", "_"):
        case "openai":
            return _remote(name, model, _OPENAI_URL, key="OPENAI_API_KEY", dim=_OPENAI_DIMENSIONS.get(model))
        case "local_api" | "local" | "tei" | "ollama":
            return _remote(name, model, _base_url(api_url), key=None, dim=None)
        case "onnx":
            return NamedModel(name, {"backend": "onnx", "hub": model}, _hub_warning(name))
        case "huggingface" | "hf" | "sentence_transformers" | "transformers" | "":
            return _local(name, model)
        case other:
            warning = f"provider `{other}` of model `{model}`: give `models.catalogue` an entry of its own"
            return NamedModel("minilm", None, (warning,))


def _local(name: str, model: str) -> NamedModel:
    if name.lower() == _MINILM:
        warning = (
            f"model `{model}`: becomes `minilm`, which has the same model with 8-bit weights; vectors that "
            "tldw made differ from its vectors a little"
        )
        return NamedModel("minilm", None, (warning,))
    return NamedModel(name, {"backend": "torch", "hub": model}, _hub_warning(name))


def _remote(name: str, model: str, url: str, *, key: str | None, dim: int | None) -> NamedModel:
    entry: dict[str, Any] = {
        "backend": "remote",
        "dim": dim or 0,
        "max_tokens": _OPENAI_TOKENS,
        "remote": {"url": url, "model": model} | ({"api_key_env": key} if key else {}),
    }
    if dim is not None:
        return NamedModel(name, entry)
    del entry["dim"]
    return NamedModel(name, entry, (f"model `{model}`: set `models.catalogue.{name}.dim`, its dimensions",))


def _hub_warning(name: str) -> tuple[str, ...]:
    return (f"model `{name}`: its files are downloaded beforehand, and `revision` should be pinned",)


def _catalogue_name(model: str) -> str:
    """Return the last part of the name, with the characters that a name in the catalogue may have."""
    last = model.rstrip("/").rsplit("/", 1)[-1]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", last) or "model"


def _base_url(api_url: str | None) -> str:
    """Return the address up to and without `/embeddings`, as `remote.url` is."""
    url = (api_url or "http://localhost:8080/v1/embeddings").rstrip("/")
    return url.removesuffix("/embeddings")
