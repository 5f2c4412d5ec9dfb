"""All settings: nested, frozen, validated; defaults < YAML file < environment < flags.

Every field says when to change it; `embeddings_config.yaml` shows them all. An environment variable
is named after the path to the field: `EMBEDFLEET_CHUNKING__CHUNK_SIZE=500`. Unknown keys are refused
with the nearest known name. Units are in the names.
"""

from __future__ import annotations

import difflib
import os
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import platformdirs
import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_core import ErrorDetails

from embedfleet.errors import ConfigError

ENV_PREFIX = "EMBEDFLEET_"
ENV_SEPARATOR = "__"
DEBUG_ENV = "EMBEDFLEET_DEBUG"
"""Not a setting: makes the command line show where an internal error came from."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class PoolSettings(_Section):
    """One pool of workers."""

    workers: int = Field(
        default=1,
        ge=1,
        le=1024,
        description="Claims worked on at the same time. Raise when the stage's backlog grows.",
    )
    batch_tasks: int = Field(
        default=8, ge=1, le=1000, description="Tasks claimed at once. Raise for many small documents."
    )
    batch_tokens: int = Field(
        default=16_384,
        ge=1,
        description="Tokens claimed at once. Lower on a machine short of memory.",
    )
    lease_seconds: float = Field(
        default=60.0,
        ge=1,
        description="A silent worker's tasks are given to another after this. Renewed while working.",
    )
    max_attempts: int = Field(
        default=3, ge=1, description="Deliveries of one task before it goes to the dead letters."
    )
    max_queued_tasks: int = Field(
        default=64,
        ge=1,
        description="High-water mark: the stage before pauses while more tasks wait here.",
    )


class PoolsSettings(_Section):
    """The four pools."""

    # Many chunking workers, as one that waits for room in the embedding queue keeps its document.
    chunking: PoolSettings = PoolSettings(workers=32, batch_tasks=1, max_queued_tasks=100_000)
    # Two: while the model works on one claim, the next is fetched and prepared.
    embedding: PoolSettings = PoolSettings(workers=2)
    storage: PoolSettings = PoolSettings(batch_tokens=65_536)
    deletion: PoolSettings = PoolSettings()


class RedisSettings(_Section):
    """The shared broker of a fleet."""

    url: SecretStr | None = Field(
        default=None,
        description="None: queues in process. Set it when workers run on several hosts.",
    )


class AutoScalingSettings(_Section):
    """How pools grow and shrink by themselves."""

    enabled: bool = Field(default=False, description="Embedded pools have a fixed size: leave it off.")


class MonitoringSettings(_Section):
    """Logs and metrics."""

    log_level: Literal["TRACE", "DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="DEBUG when following one job through the stages."
    )
    log_json: bool = Field(default=False, description="True when a log collector reads stderr.")
    metrics_port: int = Field(
        default=9090, ge=0, le=65_535, description="Prometheus port of the orchestrator; 0 turns it off."
    )
    metrics_host: str = Field(
        default="127.0.0.1", description="0.0.0.0 when Prometheus scrapes from another host."
    )


class DatabaseSettings(_Section):
    """SQL, the truth."""

    url: SecretStr | None = Field(
        default=None,
        description="None: SQLite in the data directory. postgresql://USER@HOST/DATABASE: for a fleet.",
    )
    synchronous: Literal["full", "normal"] = Field(
        default="full",
        description="SQLite: `normal` is faster, and a power cut may lose the last acknowledged jobs.",
    )
    busy_timeout_seconds: float = Field(
        default=30.0, gt=0, description="Raise if other programs hold long write locks."
    )
    pool_size: int = Field(
        default=8,
        ge=2,
        le=100,
        description="PostgreSQL: connections of one process. Lower if the server runs out of them.",
    )
    connect_timeout_seconds: float = Field(
        default=5.0, ge=2, description="PostgreSQL: raise on a slow network."
    )


class VectorStoreSettings(_Section):
    """Chroma."""

    url: str | None = Field(default=None, description="None: Chroma in process, in the data directory.")
    store_documents: bool = Field(
        default=True,
        description="False: texts stay in SQL only; storing is faster, Chroma's own text filters are lost.",
    )


class ModelSettings(_Section):
    """One entry of the catalogue. All of it but the threads decides the vectors."""

    backend: Literal["onnx", "static", "stub"] = Field(description="What runs the model.")
    path: Path | None = Field(
        default=None,
        description="Folder with `model.onnx` (or a model2vec folder) and `tokenizer.json`; None: bundled.",
    )
    pooling: Literal["mean", "cls"] = "mean"
    normalise: bool = True
    max_tokens: int = Field(default=256, ge=8, description="The model's limit, special tokens included.")
    dim: int | None = Field(default=None, ge=1, description="Checked against the model when given.")
    description: str = ""


class ModelsSettings(_Section):
    """Which models there are and how they run."""

    default: str = Field(default="minilm", description="The model of jobs that name none.")
    threads: int = Field(default=0, ge=0, description="CPU threads a model may use; 0: one a core.")
    microbatch_tokens: int = Field(
        default=2048,
        ge=16,
        description="Padded tokens per model call. Lower if the machine runs out of memory.",
    )
    catalogue: dict[str, ModelSettings] = Field(
        default_factory=dict, description="Models of your own, beside the built-in ones."
    )


class ChunkingSettings(_Section):
    """Defaults of jobs that bring no chunking config."""

    chunk_size: int = Field(default=1000, ge=1, description="Smaller: sharper hits, more vectors.")
    overlap: int = Field(default=200, ge=0, description="Raise if answers straddle chunk borders.")
    unit: Literal["chars", "tokens"] = Field(default="chars", description="What sizes are counted in.")
    method: Literal["recursive", "sentences", "paragraphs", "tokens"] = Field(
        default="recursive", description="`sentences` or `paragraphs` to never cut inside one that fits."
    )
    batch_chunks: int = Field(
        default=64, ge=1, le=1000, description="Chunks per embedding task, the unit of retry."
    )

    @model_validator(mode="after")
    def _overlap_below_size(self) -> Self:
        if self.overlap >= self.chunk_size:
            raise ValueError(f"overlap ({self.overlap}) must be smaller than chunk_size ({self.chunk_size})")
        return self


class ParsingSettings(_Section):
    """Limits of the child process that reads files."""

    memory_mb: int = Field(default=2048, ge=128, description="Raise if large PDFs are refused.")
    cpu_seconds: int = Field(default=120, ge=1, description="Raise if slow files are given up.")
    timeout_seconds: float = Field(default=180.0, gt=0, description="Wall clock; above cpu_seconds.")
    max_output_chars: int = Field(
        default=500_000_000, ge=1, description="Text one file may become; a bomb is stopped here."
    )
    max_file_bytes: int = Field(
        default=1_000_000_000, ge=1, description="Larger files are refused before they are read."
    )


class TierSettings(_Section):
    """What a tier may do."""

    weight: float = Field(
        ge=0.01, le=100, description="Share of the workers relative to other tenants at work."
    )
    max_active_jobs: int = Field(ge=1, description="Unfinished jobs a tenant may have.")
    max_document_chars: int = Field(ge=1, description="Largest document.")
    daily_chars: int = Field(ge=1, description="Characters a tenant may submit a day (UTC).")
    max_in_flight: int | None = Field(
        default=16,
        ge=1,
        description="Tasks of one tenant at work at once, per stage; None: no cap. Keep it below the "
        "chunking workers, so that one tenant's huge documents leave room for others.",
    )


def _default_tiers() -> dict[str, TierSettings]:
    million = 1_000_000
    return {
        "free": TierSettings(
            weight=1, max_active_jobs=1_000, max_document_chars=10 * million, daily_chars=200 * million
        ),
        "basic": TierSettings(
            weight=2, max_active_jobs=10_000, max_document_chars=100 * million, daily_chars=2_000 * million
        ),
        "premium": TierSettings(
            weight=4,
            max_active_jobs=100_000,
            max_document_chars=1_000 * million,
            daily_chars=20_000 * million,
        ),
        "enterprise": TierSettings(
            weight=8,
            max_active_jobs=1_000_000,
            max_document_chars=1_000 * million,
            daily_chars=1_000_000 * million,
        ),
    }


class TenantsSettings(_Section):
    """Tiers, and the tenant of the command line."""

    default_tenant: str = Field(default="local", description="The tenant when the command names none.")
    default_tier: Literal["free", "basic", "premium", "enterprise"] = Field(
        default="enterprise", description="The tier of jobs submitted from the command line."
    )
    tiers: dict[Literal["free", "basic", "premium", "enterprise"], TierSettings] = Field(
        default_factory=_default_tiers  # type: ignore[arg-type]  # keys are the literals
    )


class Settings(_Section):
    """The whole configuration of a process."""

    data_dir: Path = Field(
        default_factory=lambda: Path(platformdirs.user_data_dir("embedfleet", appauthor=False)),
        description="Where SQLite, Chroma and the lock are. One directory, one running orchestrator.",
    )
    worker_pools: PoolsSettings = PoolsSettings()
    redis: RedisSettings = RedisSettings()
    auto_scaling: AutoScalingSettings = AutoScalingSettings()
    monitoring: MonitoringSettings = MonitoringSettings()
    database: DatabaseSettings = DatabaseSettings()
    vector_store: VectorStoreSettings = VectorStoreSettings()
    models: ModelsSettings = ModelsSettings()
    chunking: ChunkingSettings = ChunkingSettings()
    parsing: ParsingSettings = ParsingSettings()
    tenants: TenantsSettings = TenantsSettings()

    @property
    def database_url(self) -> str:
        if self.database.url is not None:
            return self.database.url.get_secret_value()
        return f"sqlite:///{self.data_dir / 'embedfleet.db'}"

    @property
    def chroma_dir(self) -> Path:
        return self.data_dir / "chroma"


def load_settings(
    config_file: Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Settings:
    """Merge the sources and validate. `overrides` is nested like the YAML and wins.

    Raises ConfigError with the source of the wrong value, its path, and what would be right.
    """
    file = [] if config_file is None else [_Source(str(config_file), _read_yaml(config_file))]
    sources = [
        *file,
        _Source(ENV_PREFIX, _read_environment(os.environ if environ is None else environ)),
        _Source("command line", overrides or {}),
    ]
    # On top of the defaults in full: a pool's differ from those of its class.
    merged = Settings().model_dump()
    for source in sources:
        _merge(merged, source.values)
    try:
        return Settings.model_validate(merged)
    except ValidationError as exc:
        raise ConfigError(_first_problem(exc, sources)) from exc


@dataclass(frozen=True, slots=True)
class _Source:
    """Where values come from: a file's name, the prefix of environment variables, or the command line."""

    name: str
    values: Mapping[str, Any]

    def sets(self, path: list[str]) -> bool:
        below: Any = self.values
        for part in path:
            if not isinstance(below, Mapping) or part not in below:
                return False
            below = below[part]
        return True

    def place(self, path: list[str]) -> str:
        """The source as a user knows it."""
        return ENV_PREFIX + ENV_SEPARATOR.join(path).upper() if self.name == ENV_PREFIX else self.name


def _read_yaml(path: Path) -> Mapping[str, Any]:
    try:
        content = _parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be read ({exc.strerror or exc})") from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{path}: not valid YAML (byte {exc.start} is not UTF-8)") from exc
    if content is None:
        return {}
    if not isinstance(content, Mapping):
        raise ConfigError(f"{path}: must hold sections such as `chunking:`, not a {type(content).__name__}")
    return content


def _parse_yaml(text: str, place: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as exc:
        # Not all of its message: that quotes the line, which may hold a password.
        mark = getattr(exc, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark else ""
        problem = getattr(exc, "problem", None) or getattr(exc, "reason", None) or "unreadable"
        raise ConfigError(f"{place}: not valid YAML ({line}{problem})") from None


def _read_environment(environ: Mapping[str, str]) -> Mapping[str, Any]:
    nested: dict[str, Any] = {}
    for name, raw in environ.items():
        if not name.startswith(ENV_PREFIX) or name == DEBUG_ENV:
            continue
        path = name.removeprefix(ENV_PREFIX).lower().split(ENV_SEPARATOR)
        value = (raw or None) if path == ["data_dir"] else _parse_yaml(raw, name)
        for part in reversed(path[1:]):
            value = {part: value}
        _merge(nested, {path[0]: value})
    return nested


def _merge(into: dict[str, Any], extra: Mapping[str, Any]) -> None:
    """Lay `extra` over `into`, section by section; a section left empty sets nothing."""
    for key, value in extra.items():
        below = into.get(key)
        if isinstance(value, Mapping):
            target = dict(below) if isinstance(below, Mapping) else {}
            _merge(target, value)
            into[key] = target
        elif value is not None or not isinstance(below, Mapping):
            into[key] = value


def _first_problem(exc: ValidationError, sources: Sequence[_Source]) -> str:
    problem = exc.errors()[0]
    path = [str(part) for part in problem["loc"] if part != "[key]"]
    places = [source.place(path) for source in reversed(sources) if source.sets(path)]
    return f"{places[0]}: {_explain(problem, path)}" if places else _explain(problem, path)


def _explain(problem: ErrorDetails, path: list[str]) -> str:
    name = ".".join(path)
    if problem["type"] == "extra_forbidden":
        known = _known_keys(path[:-1])
        nearest = difflib.get_close_matches(path[-1], known, n=1)
        hint = f"did you mean `{nearest[0]}`?" if nearest else f"known are: {', '.join(sorted(known))}"
        return f"unknown setting `{name}`: {hint}"
    message = problem["msg"].removeprefix("Value error, ")
    given = problem.get("input")
    shown = f" (got {given!r})" if isinstance(given, str | int | float | bool) else ""
    return f"setting `{name}`: {message}{shown}"


def _known_keys(path: list[str]) -> list[str]:
    """The field names of the section at `path`."""
    section: Any = Settings
    for part in path:
        if typing.get_origin(section) is dict:  # `part` is a key of the user's, e.g. a model's name
            section = typing.get_args(section)[1]
        elif isinstance(section, type) and issubclass(section, BaseModel):
            section = section.model_fields[part].annotation
    return list(section.model_fields) if isinstance(section, type) and issubclass(section, BaseModel) else []
