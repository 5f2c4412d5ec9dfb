"""The section of models: how they run, and the catalogue of those that are not built in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator

from embedfleet.settings.section import Section


class RemoteSettings(Section):
    """A server with an OpenAI-compatible `POST /embeddings`: OpenAI, TEI, infinity, vLLM, Ollama and more."""

    url: str = Field(description="Up to and without `/embeddings`: https://api.openai.com/v1")
    model: str = Field(min_length=1, description="The model's name there.")
    answers_as: str | None = Field(
        default=None,
        description="The name in its answers, if it is another one for the same model. Answers under any "
        "other name are refused: vectors of two models must not be mixed.",
    )
    api_key: SecretStr | None = Field(
        default=None, description="Sent as a bearer token. Better given by the environment."
    )
    api_key_env: str | None = Field(
        default=None, description="Environment variable that holds the api_key, if none is given here."
    )
    send_dimensions: bool = Field(
        default=False, description="Ask the server for vectors of `dim` values (Matryoshka models of OpenAI)."
    )
    batch_texts: int = Field(
        default=64,
        ge=1,
        description="Texts per request; lowered by itself where the server takes fewer.",
    )
    concurrency: int = Field(
        default=4,
        ge=1,
        le=256,
        description="Requests under way at once, for each process. A claim fills few: raise "
        "`worker_pools.embedding.concurrency` along with it.",
    )
    requests_per_minute: float | None = Field(
        default=None,
        gt=0,
        description="What your contract allows each process; None: until the server says 429.",
    )
    tokens_per_minute: float | None = Field(default=None, gt=0, description="As requests_per_minute.")
    timeout_seconds: float = Field(
        default=60.0,
        gt=0,
        description="Longest wait for an answer. Raise for slow servers, models.stuck_after_seconds with it.",
    )
    tls_ca_file: Path | None = Field(default=None, description="CA of an https:// server of your own.")

    @model_validator(mode="before")
    @classmethod
    def _key_from_environment(cls, given: Any) -> Any:
        """Here, so that worker processes get the key with their settings, whatever their environment."""
        if (
            not isinstance(given, dict)
            or given.get("api_key")
            or not isinstance(given.get("api_key_env"), str)
        ):
            return given
        return {**given, "api_key": os.environ.get(given["api_key_env"])}

    @model_validator(mode="after")
    def _http(self) -> Self:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("url must be http(s)://HOST[:PORT]/...")
        if parts.username or parts.password:
            raise ValueError("url must not hold user or password: use api_key")
        if parts.query or parts.fragment or parts.path.rstrip("/").endswith("/embeddings"):
            raise ValueError("url must end before `/embeddings`, and hold no query")
        key = "" if self.api_key is None else self.api_key.get_secret_value().strip()
        if not key.isascii() or any(not character.isprintable() or character == " " for character in key):
            raise ValueError("api_key has characters that no header can hold: look at what was pasted")
        return self


class ModelSettings(Section):
    """One entry of the catalogue."""

    backend: str = Field(description="What runs the model: onnx, torch, static, remote or stub.")
    path: Path | None = Field(
        default=None, description="Folder with the model's files; None: from `hub`, else bundled."
    )
    hub: str | None = Field(
        default=None, description="Hugging Face id. Its files are downloaded beforehand, never by a worker."
    )
    revision: str | None = Field(default=None, description="Commit or tag of `hub`. Pin it in production.")
    weights_file: str | None = Field(
        default=None, description="Which of the folder's ONNX files: `onnx/model_quantized.onnx`."
    )
    remote: RemoteSettings | None = Field(default=None, description="For `backend: remote`.")
    pooling: Literal["mean", "cls", "last"] | None = Field(
        default=None, description="Tokens' vectors to one; None: as the model's files say, else mean."
    )
    normalise: bool = Field(default=True, description="Vectors of length 1.")
    query_prefix: str = Field(default="", description="Put before every query: `query: `.")
    document_prefix: str = Field(default="", description="Put before every chunk: `passage: `.")
    dimensions: int | None = Field(
        default=None, ge=1, description="Keep only the first values of a vector (Matryoshka models)."
    )
    max_tokens: int = Field(default=256, ge=8, description="The model's limit, special tokens included.")
    dim: int | None = Field(default=None, ge=1, description="Checked against the model when given.")
    dtype: Literal["float32", "float16", "bfloat16"] = Field(
        default="float32", description="torch: half precision where the device is fast at it."
    )
    devices: tuple[str, ...] = Field(
        default=("auto",),
        min_length=1,
        description="One replica for each: auto, cpu, cuda, cuda:1, mps. Name one twice for two replicas.",
    )
    attention: Literal["auto", "eager", "sdpa", "flash_attention_2"] = Field(
        default="auto", description="torch: flash_attention_2 where that package is installed."
    )
    compile: bool = Field(default=False, description="torch: compile the model; slow to load, then faster.")
    microbatch_tokens: int | None = Field(
        default=None, ge=16, description="Padded tokens per call; None: `models.microbatch_tokens`."
    )
    memory_mb: int | None = Field(
        default=None, ge=1, description="What it takes when loaded; None: estimated from its files."
    )
    description: str = ""


class ModelsSettings(Section):
    """Which models there are and how they run."""

    default: str = Field(default="minilm", description="The model of jobs that name none.")
    threads: int = Field(default=0, ge=0, description="CPU threads a model may use; 0: one a core.")
    microbatch_tokens: int | None = Field(
        default=None,
        ge=16,
        description="Padded tokens per model call; None: found by a short calibration. Lower if queries "
        "wait too long behind bulk work, or the machine runs out of memory.",
    )
    memory_mb: dict[str, int] = Field(
        default_factory=dict,
        description="What models may take of a device, `cpu` or `cuda:0`: the longest idle one makes room.",
    )
    on_load_failure: Literal["dead_letter", "wait"] = Field(
        default="dead_letter",
        description="What becomes of tasks whose model cannot be loaded. `wait` in a fleet where one host "
        "may lack what others have.",
    )
    cache_dir: Path | None = Field(
        default=None,
        description="Where optimised graphs and calibrations are kept; None: the user's cache folder.",
    )
    canary_every_batches: int = Field(
        default=200, ge=0, description="Known texts are embedded at the start and so often; 0: never."
    )
    canary_least_cosine: float = Field(
        default=0.99, gt=0, lt=1, description="A model whose known texts turn out less alike stops writing."
    )
    stuck_after_seconds: float = Field(
        default=300.0,
        gt=0,
        description="A model call that takes longer counts as hung. Raise for very slow hardware.",
    )
    catalogue: dict[str, ModelSettings] = Field(
        default_factory=dict, description="Models of your own, beside the built-in ones."
    )
