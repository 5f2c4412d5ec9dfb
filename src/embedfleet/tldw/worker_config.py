"""tldw's settings of workers: its classes, its YAML file, and the same in embedfleet's settings.

A file is read and written as it is; nothing is lost by that. `OrchestrationConfig.translated` turns it into
embedfleet's settings, and says of every key that was given what has no counterpart.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, ValidationError, field_validator

from embedfleet.errors import ConfigError
from embedfleet.settings.yaml_text import parse_sections, read_text
from embedfleet.tldw.draft import Translation
from embedfleet.tldw.settings import REDIS_ENV
from embedfleet.tldw.translation import translate_workers
from embedfleet.validation import first_problem
from embedfleet.whole_file import written_whole


def _redis_url() -> str:
    return os.environ.get(REDIS_ENV) or "redis://localhost:6379"


class _Kept(BaseModel):
    """A section that keeps keys of other releases of tldw, so that a translation can name them."""

    model_config = ConfigDict(extra="allow")


class RedisConfig(_Kept):
    """The Redis of the queues."""

    url: str = Field(default_factory=_redis_url)
    max_connections: int = Field(default=50, ge=1)
    decode_responses: bool = True


class WorkerPoolConfig(_Kept):
    """A pool of workers."""

    worker_type: str
    num_workers: int = Field(default=1, ge=1)
    queue_name: str
    consumer_group: str
    batch_size: int = Field(default=1, ge=1)
    poll_interval_ms: int = Field(default=100, ge=10)
    max_retries: int = Field(default=3, ge=0)
    heartbeat_interval: int = Field(default=30, ge=10)
    shutdown_timeout: int = Field(default=30, ge=10)
    metrics_interval: int = Field(default=60, ge=30)


class ChunkingWorkerPoolConfig(WorkerPoolConfig):
    """The pool that cuts documents."""

    worker_type: str = "chunking"
    queue_name: str = "embeddings:chunking"
    consumer_group: str = "chunking-workers"
    default_chunk_size: int = Field(default=1000, ge=100)
    default_overlap: int = Field(default=200, ge=0)


class EmbeddingWorkerPoolConfig(WorkerPoolConfig):
    """The pool that runs models."""

    worker_type: str = "embedding"
    queue_name: str = "embeddings:embedding"
    consumer_group: str = "embedding-workers"
    batch_size: int = Field(default=16, ge=1)
    gpu_allocation: list[int] | None = None
    default_model_provider: str = "huggingface"
    default_model_name: str = "sentence-transformers/all-MiniLM-L6-v2"
    max_model_cache_size: int = Field(default=5, ge=1)
    model_unload_timeout: int = Field(default=300, ge=60)


class StorageWorkerPoolConfig(WorkerPoolConfig):
    """The pool that writes vectors."""

    worker_type: str = "storage"
    queue_name: str = "embeddings:storage"
    consumer_group: str = "storage-workers"
    batch_size: int = Field(default=100, ge=1)
    chroma_batch_size: int = Field(default=100, ge=1)
    transaction_timeout: int = Field(default=30, ge=10)


_POOLS: dict[str, type[WorkerPoolConfig]] = {
    "chunking": ChunkingWorkerPoolConfig,
    "embedding": EmbeddingWorkerPoolConfig,
    "storage": StorageWorkerPoolConfig,
}


class OrchestrationConfig(_Kept):
    """All of it: Redis, the pools, monitoring and scaling."""

    redis: RedisConfig = Field(default_factory=RedisConfig)
    # Any: a pool is written with the fields of its kind, too.
    worker_pools: dict[str, SerializeAsAny[WorkerPoolConfig]] = Field(default_factory=dict)
    enable_monitoring: bool = True
    monitoring_port: int = 9090
    log_level: str = "INFO"
    enable_autoscaling: bool = False
    scale_up_threshold: float = Field(default=0.8, ge=0.1, le=1.0)
    scale_down_threshold: float = Field(default=0.2, ge=0.1, le=1.0)
    scale_check_interval: int = Field(default=60, ge=30)
    max_total_workers: int = Field(default=50, ge=1)
    max_memory_gb: float = Field(default=32.0, ge=1.0)

    @field_validator("worker_pools", mode="before")
    @classmethod
    def _each_of_its_kind(cls, given: Any) -> Any:
        """Read each pool as the kind that its `worker_type` or else its name says, with that one's fields."""
        if not isinstance(given, dict):
            return given
        return {name: _pool(name, values) for name, values in given.items()}

    @classmethod
    def default_config(cls) -> Self:
        """Return tldw's defaults: 2 workers that cut, 2 that embed on the first two GPUs, 1 that stores."""
        pools = {
            "chunking": ChunkingWorkerPoolConfig(num_workers=2),
            "embedding": EmbeddingWorkerPoolConfig(num_workers=2, gpu_allocation=[0, 1]),
            "storage": StorageWorkerPoolConfig(num_workers=1),
        }
        return cls(worker_pools=pools)

    @classmethod
    def from_yaml(cls, path: str | os.PathLike[str]) -> Self:
        """Read a file of tldw. Raises ConfigError for one that cannot be read, or has a wrong value."""
        file = Path(path)
        try:
            return cls(**parse_sections(read_text(file), str(file)))
        except ValidationError as exc:
            problem = first_problem(exc)
            raise ConfigError(f"{file}: `{problem.field}`: {problem.message}") from exc

    def to_yaml(self, path: str | os.PathLike[str]) -> None:
        """Write a file of tldw, which appears whole or not at all."""
        import yaml

        with written_whole(Path(path)) as fresh:
            fresh.write_text(yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False))

    def translated(self) -> Translation:
        """Return the same in embedfleet's settings, and a warning for each key that has no counterpart.

        Only what was given counts. What was not given keeps embedfleet's default.
        """
        given = self.model_dump(exclude_unset=True)
        for name, pool in self.worker_pools.items():
            given["worker_pools"][name]["worker_type"] = pool.worker_type
        return translate_workers(given)


def _pool(name: str, values: Any) -> Any:
    if not isinstance(values, dict):
        return values
    kind = _POOLS.get(values.get("worker_type", name), WorkerPoolConfig)
    return kind(**values)


class WorkerConfig(BaseModel):
    """One worker, as tldw makes it. embedfleet's workers are made by its orchestrator (`worker_pools`)."""

    worker_id: str
    worker_type: str
    redis_url: str = Field(default_factory=_redis_url)
    queue_name: str
    consumer_group: str
    batch_size: int = 1
    poll_interval_ms: int = 100
    max_retries: int = 3
    heartbeat_interval: int = 30
    shutdown_timeout: int = 30
    metrics_interval: int = 60


class EmbeddingWorkerConfig(WorkerConfig):
    """One worker that runs models."""

    default_model_provider: str = "huggingface"
    default_model_name: str = "sentence-transformers/all-MiniLM-L6-v2"
    max_batch_size: int = 32
    gpu_id: int | None = None
