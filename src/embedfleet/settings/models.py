"""The section of models: how they run, and the catalogue of those that are not built in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator

from embedfleet.settings.routing import RoutingSettings
from embedfleet.settings.section import Section
from embedfleet.validation import is_encoded


class RemoteSettings(Section):
    """A server with an OpenAI-compatible `POST /embeddings`: OpenAI, TEI, infinity, vLLM, Ollama and more."""

    url: str = Field(description="Up to and without `/embeddings`: https://api.openai.com/v1")
    model: str = Field(min_length=1, description="The name of the model on the server.")
    answers_as: str | None = Field(
        default=None,
        description="The name in the server's answers. Set it if the server answers under another name "
        "for the same model. Answers under any other name are refused, so that vectors of two "
        "models are not mixed.",
    )
    api_key: SecretStr | None = Field(
        default=None, description="Sent as a bearer token. Better set by the environment than in a file."
    )
    api_key_env: str | None = Field(
        default=None,
        description="Environment variable with the api_key. Set it to keep the key out of the settings.",
    )
    send_dimensions: bool = Field(
        default=False,
        description="True: ask the server for vectors of `dim` values (Matryoshka models of OpenAI).",
    )
    batch_texts: int = Field(
        default=64,
        ge=1,
        description="Texts in one request; lowered automatically if the server takes fewer. Raise for "
        "many short texts.",
    )
    concurrency: int = Field(
        default=4,
        ge=1,
        le=256,
        description="Requests of one process at the same time. Raise if the server has capacity left, and "
        "raise `worker_pools.embedding.concurrency` too, as a claim fills few requests.",
    )
    requests_per_minute: float | None = Field(
        default=None,
        gt=0,
        description="Most requests of each process. Set it to your contract's limit; None: as many as the "
        "server takes before it says 429.",
    )
    tokens_per_minute: float | None = Field(
        default=None, gt=0, description="Most tokens of each process. Set it as requests_per_minute."
    )
    timeout_seconds: float = Field(
        default=60.0,
        gt=0,
        description="Longest wait for an answer. Raise for a slow server, and raise "
        "models.stuck_after_seconds too.",
    )
    tls_ca_file: Path | None = Field(
        default=None,
        description="CA certificates for an https:// server. Set it if no public CA signed the server's.",
    )

    @model_validator(mode="before")
    @classmethod
    def _key_from_environment(cls, given: Any) -> Any:
        """Read the key here, so that worker processes get it with their settings, not by the environment."""
        if (
            not isinstance(given, dict)
            or given.get("api_key")
            or not isinstance(given.get("api_key_env"), str)
        ):
            return given
        return {**given, "api_key": os.environ.get(given["api_key_env"])}

    @model_validator(mode="after")
    def _http(self) -> Self:
        # With a special character in it, a password is not where `urlsplit` looks for it, and may be in the
        # message of the error that `urlsplit` raises.
        if not is_encoded(self.url):
            raise ValueError("url must not hold user or password: use api_key")
        try:
            parts = urlsplit(self.url)
        except ValueError:
            raise ValueError("url must be http(s)://HOST[:PORT]/...") from None
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
        default=None, description="Folder with the model's files; None: those of `hub`, or the bundled ones."
    )
    hub: str | None = Field(
        default=None, description="Hugging Face id. Its files are downloaded beforehand, never by a worker."
    )
    revision: str | None = Field(default=None, description="Commit or tag of `hub`. Pin it in production.")
    weights_file: str | None = Field(
        default=None,
        description="The ONNX file within the folder, such as `onnx/model_quantized.onnx`. Set it if "
        "there are several.",
    )
    remote: RemoteSettings | None = Field(default=None, description="For `backend: remote`.")
    pooling: Literal["mean", "cls", "last"] | None = Field(
        default=None,
        description="How the vectors of the tokens become one; None: as the model's files say, or mean. "
        "Set it if they do not say.",
    )
    normalise: bool = Field(
        default=True,
        description="True: vectors have length 1. False for a model that must not be normalised.",
    )
    query_prefix: str = Field(
        default="",
        description="Text before every query, such as `query: `. Set it if the model was trained with one.",
    )
    document_prefix: str = Field(
        default="",
        description="Text before every chunk, such as `passage: `. Set it if the model was trained with one.",
    )
    dimensions: int | None = Field(
        default=None, ge=1, description="Keep only this many first values of a vector. For Matryoshka models."
    )
    matryoshka: bool = Field(
        default=False,
        description="True: embeddings requests may ask for fewer dimensions. Set it for models trained for "
        "that.",
    )
    accepts_token_ids: bool = Field(
        default=False,
        description="True: embeddings requests may hold token ids. Set it only if all clients use this "
        "model's own tokenizer: ids of another one mean other words.",
    )
    max_tokens: int = Field(
        default=256,
        ge=8,
        description="The limit of the model, special tokens included. Raise if the model takes more.",
    )
    dim: int | None = Field(
        default=None,
        ge=1,
        description="Dimension of the vectors. When set, it is checked against the model's.",
    )
    dtype: Literal["float32", "float16", "bfloat16"] = Field(
        default="float32", description="torch: a half-precision type where the device is faster with it."
    )
    devices: tuple[str, ...] = Field(
        default=("auto",),
        min_length=1,
        description="A replica for each: auto, cpu, cuda, cuda:1, mps. Name a device twice for two replicas.",
    )
    attention: Literal["auto", "eager", "sdpa", "flash_attention_2"] = Field(
        default="auto", description="torch: flash_attention_2 is faster where its package is installed."
    )
    compile: bool = Field(
        default=False, description="torch: True compiles the model. It loads slowly and then runs faster."
    )
    microbatch_tokens: int | None = Field(
        default=None,
        ge=16,
        description="Padded tokens in one call; None: `models.microbatch_tokens`. Set it for a model of "
        "another size.",
    )
    memory_mb: int | None = Field(
        default=None,
        ge=1,
        description="Memory of the loaded model; None: an estimate from its files. Set it if the estimate "
        "is wrong.",
    )
    description: str = ""


class ModelsSettings(Section):
    """The models, and how they run."""

    default: str = Field(default="minilm", description="The model of jobs that name none.")
    threads: int = Field(
        default=0,
        ge=0,
        description="CPU threads of a model; 0: one for each core. Lower if the machine has other work.",
    )
    microbatch_tokens: int | None = Field(
        default=None,
        ge=16,
        description="Padded tokens in one call of a model; None: a short calibration decides. Lower if "
        "queries wait too long behind bulk work, or the machine runs out of memory.",
    )
    memory_mb: dict[str, int] = Field(
        default_factory=dict,
        description="Memory for models, by device (`cpu`, `cuda:0`); the model idle for longest makes "
        "room. Set it where not all models fit.",
    )
    on_load_failure: Literal["dead_letter", "wait"] = Field(
        default="dead_letter",
        description="What happens to tasks whose model cannot be loaded. `wait` in a fleet where one host "
        "may lack a model that others have.",
    )
    cache_dir: Path | None = Field(
        default=None,
        description="Folder of optimised graphs and calibrations; None: the user's cache folder. Set it "
        "if that cannot be written.",
    )
    canary_every_batches: int = Field(
        default=200,
        ge=0,
        description="Known texts are embedded at the start and every this many batches; 0: never. Lower "
        "on unreliable hardware.",
    )
    canary_least_cosine: float = Field(
        default=0.99,
        gt=0,
        lt=1,
        description="A model stops writing when its known texts give vectors less alike than this. Lower "
        "for low precision.",
    )
    stuck_after_seconds: float = Field(
        default=300.0,
        gt=0,
        description="A call of a model that takes longer counts as hung. Raise for very slow hardware.",
    )
    routing: RoutingSettings = RoutingSettings()
    catalogue: dict[str, ModelSettings] = Field(
        default_factory=dict, description="Your own models, besides the built-in ones."
    )
