"""The sections but that of models. Every field says when to change it; units are in the names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

import platformdirs
from pydantic import Field, SecretStr, model_validator

from embedfleet.settings.chunking import ChunkingSettings
from embedfleet.settings.models import ModelsSettings
from embedfleet.settings.section import Section

MOST_WORKERS = 1024


DEFAULT_BATCH_TOKENS = 16_384


class PoolSettings(Section):
    """One pool of workers."""

    workers: int = Field(
        default=1,
        ge=0,
        le=MOST_WORKERS,
        description="Workers at the start. Raise when the stage's backlog grows.",
    )
    min_workers: int = Field(
        default=1,
        ge=0,
        le=MOST_WORKERS,
        description="Auto-scaling keeps at least these. 0: none while idle; the first task waits for one.",
    )
    max_workers: int = Field(
        default=8,
        ge=0,
        le=MOST_WORKERS,
        description="Auto-scaling starts at most these. Bound it by the machine; 0: this host has none.",
    )
    concurrency: int = Field(
        default=1,
        ge=1,
        le=1024,
        description="Claims one worker has in hand at a time. Raise when a worker waits more than it works.",
    )
    batch_tasks: int = Field(
        default=8, ge=1, le=1000, description="Tasks claimed at once. Raise for many small documents."
    )
    batch_tokens: int | None = Field(
        default=DEFAULT_BATCH_TOKENS,
        ge=1,
        description="Tokens claimed at once. Lower on a machine short of memory. None: 16,384, and when "
        "embedding on a fast device as many as fill four calls of the model.",
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
    memory_limit_mb: int | None = Field(
        default=None,
        ge=64,
        description="A worker process above this is replaced between tasks. Set it if workers grow.",
    )

    @model_validator(mode="after")
    def _limits_in_order(self) -> Self:
        if self.min_workers > self.max_workers:
            raise ValueError(
                f"min_workers ({self.min_workers}) must not be above max_workers ({self.max_workers})"
            )
        return self


class EmbeddingPoolSettings(PoolSettings):
    """The pool that runs models."""

    models: tuple[str, ...] = Field(
        default=(), description="Loaded before the first claim; others when first needed."
    )
    devices: tuple[str, ...] = Field(
        default=(),
        description="Accelerators dealt out to the workers, e.g. `cuda:0`; empty: CPU.",
    )
    workers_per_device: int = Field(
        default=1, ge=1, description="Raise only if one worker leaves its device idle."
    )


class PoolsSettings(Section):
    """The four pools."""

    # Many claims at once, as one that waits for room in the embedding queue keeps its document.
    chunking: PoolSettings = PoolSettings(concurrency=32, batch_tasks=1, max_queued_tasks=100_000)
    # Two: while the model works on one claim, the next is fetched and prepared.
    embedding: EmbeddingPoolSettings = EmbeddingPoolSettings(
        concurrency=2, batch_tasks=64, batch_tokens=None, max_queued_tasks=256
    )
    # Large claims: what a write to the vector store and a transaction cost is shared by all of a claim.
    storage: PoolSettings = PoolSettings(batch_tasks=32, batch_tokens=131_072)
    deletion: PoolSettings = PoolSettings()

    def of(self, stage: str) -> PoolSettings:
        """The pool of a stage."""
        pool: PoolSettings = getattr(self, stage)
        return pool


class OrchestratorSettings(Section):
    """The process that starts, watches and stops the workers of a host."""

    launcher: Literal["auto", "inline", "process"] = Field(
        default="auto",
        description="Workers in this process, or each in its own; auto: processes when `redis.url` is set.",
    )
    drain_seconds: float = Field(
        default=30.0,
        ge=0,
        description="At a stop, batches in hand may take this long; then they are handed back. Below your "
        "supervisor's kill timeout.",
    )
    heartbeat_seconds: float = Field(
        default=2.0, gt=0, description="How often it says in SQL that it lives, and looks for orders."
    )
    leader_lease_seconds: float = Field(
        default=10.0, gt=0, description="A silent leader is replaced after this. Several heartbeats long."
    )
    reconcile_seconds: float = Field(
        default=5.0,
        gt=0,
        description="How often the leader looks for jobs whose tasks the broker lost, and how long ago a job "
        "must have been offered. Raise when hundreds of thousands of jobs are unfinished.",
    )
    restart_backoff_seconds: float = Field(
        default=1.0, gt=0, description="Pause before a crashed worker starts again; doubles with each crash."
    )
    restart_backoff_max_seconds: float = Field(default=60.0, gt=0, description="The longest such pause.")
    crash_loop_after: int = Field(
        default=5, ge=2, description="Crashes in a row after which a worker is reported as crash-looping."
    )

    @model_validator(mode="after")
    def _lease_outlives_heartbeats(self) -> Self:
        if self.leader_lease_seconds < 2 * self.heartbeat_seconds:
            raise ValueError("leader_lease_seconds must be at least two heartbeats (heartbeat_seconds)")
        return self


class RedisSettings(Section):
    """The shared broker of a fleet."""

    url: SecretStr | None = Field(
        default=None,
        description="None: queues in process. redis://, rediss://, unix://, redis+sentinel:// or "
        "redis+cluster://: workers on any number of hosts.",
    )
    username: str | None = Field(default=None, description="ACL user; instead of one in the url.")
    password: SecretStr | None = Field(default=None, description="Instead of one in the url.")
    sentinel_username: str | None = Field(
        default=None, description="ACL user of the sentinels, where they ask for one of their own."
    )
    sentinel_password: SecretStr | None = Field(
        default=None, description="Password of the sentinels, where they ask for one of their own."
    )
    key_prefix: str = Field(
        default="embedfleet",
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
        description="Begins every key. Change it when several fleets share one Redis.",
    )
    connect_timeout_seconds: float = Field(default=5.0, gt=0, description="Raise on a slow network.")
    socket_timeout_seconds: float = Field(
        default=10.0, gt=0, description="An answer that takes longer counts as a lost connection."
    )
    max_connections: int = Field(default=32, ge=2, description="Per process.")
    tls_ca_file: Path | None = Field(default=None, description="CA of a rediss:// server of your own.")


class ScalingPolicy(Section):
    """When a pool changes its size, and by how much. `scaling` says how the numbers work together.

    The head-room of `target_busy_fraction` swallows noise: at 0.8, load may rise by a quarter before anything
    waits. `grow_cooldown_seconds` is counted from the last growth, `shrink_cooldown_seconds` from the last
    change of either kind.
    """

    target_backlog_seconds: float = Field(
        default=10.0,
        gt=0,
        description="A pool grows when its queue would take longer. Lower: faster, dearer.",
    )
    shrink_below_backlog_seconds: float = Field(
        default=2.0, ge=0, description="A pool may shrink below this; the gap to the target is hysteresis."
    )
    target_busy_fraction: float = Field(
        default=0.8, gt=0, le=1, description="Head-room for load that varies. Lower if load jumps often."
    )
    max_growth_factor: float = Field(
        default=2.0, gt=1, description="Largest step up: a pool is at most this many times as large at once."
    )
    max_shrink_fraction: float = Field(
        default=0.25, gt=0, le=1, description="Largest step down, as a share of the pool."
    )
    grow_cooldown_seconds: float = Field(
        default=5.0, ge=0, description="Pause between steps up. About as long as a worker takes to start."
    )
    shrink_cooldown_seconds: float = Field(
        default=30.0, ge=0, description="Pause before a step down. Raise if pools swing."
    )
    stabilisation_seconds: float = Field(
        default=60.0, ge=0, description="A pool shrinks only to the most it needed in this time."
    )
    idle_seconds: float = Field(
        default=300.0, ge=0, description="A pool with min_workers 0 ends its last worker after this."
    )

    @model_validator(mode="after")
    def _hysteresis(self) -> Self:
        if self.shrink_below_backlog_seconds >= self.target_backlog_seconds:
            raise ValueError(
                f"shrink_below_backlog_seconds ({self.shrink_below_backlog_seconds}) must be less than "
                f"target_backlog_seconds ({self.target_backlog_seconds})"
            )
        return self


class AutoScalingSettings(ScalingPolicy):
    """How pools grow and shrink by themselves, between `min_workers` and `max_workers`."""

    enabled: bool = Field(
        default=False, description="True when load varies and the machine has other uses for idle memory."
    )
    interval_seconds: float = Field(default=1.0, gt=0, description="How often a pool is looked at.")


class MonitoringSettings(Section):
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
    max_tenants: int = Field(
        default=50,
        ge=0,
        description="Tenants with time series of their own, those seen first; the others share `_other`.",
    )


class EventsSettings(Section):
    """How others learn that jobs have ended."""

    webhook_url: SecretStr | None = Field(
        default=None,
        description="None: events are only read. http(s)://HOST/PATH when somebody wants them POSTed.",
    )
    webhook_secret: SecretStr | None = Field(
        default=None,
        description="Signs what is delivered (HMAC-SHA256). Set it if others can post there.",
    )
    webhook_timeout_seconds: float = Field(
        default=10.0,
        gt=0,
        description="A slower delivery is tried again. Raise for slow receivers.",
    )
    retry_base_seconds: float = Field(
        default=1.0, gt=0, description="Pause after a failed delivery; doubles with each failure."
    )
    retry_max_seconds: float = Field(
        default=60.0,
        gt=0,
        description="The longest such pause. Raise to spare a receiver often away.",
    )
    keep_days: float = Field(
        default=7.0,
        gt=0,
        description="How long events can be read again. Raise if readers are away longer.",
    )

    @model_validator(mode="after")
    def _can_be_posted_to(self) -> Self:
        if self.webhook_url is not None:
            address = urlsplit(self.webhook_url.get_secret_value())
            if address.scheme not in ("http", "https") or not address.hostname:
                raise ValueError("webhook_url must be http://HOST/PATH or https://HOST/PATH")
        if self.retry_base_seconds > self.retry_max_seconds:
            raise ValueError("retry_base_seconds must not be above retry_max_seconds")
        return self


class DatabaseSettings(Section):
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


class VectorStoreSettings(Section):
    """What makes vectors searchable."""

    kind: str = Field(default="chroma", description="Which vector store: `chroma` is the only one so far.")
    url: str | None = Field(
        default=None,
        description="None: Chroma of our own, in the data directory. http(s)://HOST:PORT of a Chroma server.",
    )
    token: SecretStr | None = Field(
        default=None, description="Sent with every request, for a proxy that guards the server."
    )
    token_header: Literal["Authorization", "X-Chroma-Token"] = Field(
        default="Authorization", description="Where the token goes; `Authorization: Bearer TOKEN` by default."
    )
    timeout_seconds: float = Field(
        default=60.0, gt=0, description="Longest request to the server. Raise for slow disks."
    )
    store_documents: bool = Field(
        default=True,
        description="False: texts stay in SQL only; storing is faster, Chroma's own text filters are lost.",
    )


class EmbeddingCacheSettings(Section):
    """Vectors kept in SQL, by tenant, model and text."""

    enabled: bool = Field(
        default=True,
        description="False: nothing is read or written, what is there stays. For texts that never repeat.",
    )
    max_mb_per_tenant: int = Field(
        default=1024,
        ge=1,
        description="What was not used for longest goes first. Raise to rebuild more without a model.",
    )


class ParsingSettings(Section):
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


class TierSettings(Section):
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


class TenantsSettings(Section):
    """Tiers, and the tenant of the command line."""

    default_tenant: str = Field(default="local", description="The tenant when the command names none.")
    default_tier: Literal["free", "basic", "premium", "enterprise"] = Field(
        default="enterprise", description="The tier of jobs submitted from the command line."
    )
    tiers: dict[Literal["free", "basic", "premium", "enterprise"], TierSettings] = Field(
        default_factory=_default_tiers  # type: ignore[arg-type]  # keys are the literals
    )


class Settings(Section):
    """The whole configuration of a process."""

    data_dir: Path = Field(
        default_factory=lambda: Path(platformdirs.user_data_dir("embedfleet", appauthor=False)),
        description="Where SQLite, Chroma and the lock are. One directory, one running orchestrator.",
    )
    worker_pools: PoolsSettings = PoolsSettings()
    orchestrator: OrchestratorSettings = OrchestratorSettings()
    redis: RedisSettings = RedisSettings()
    auto_scaling: AutoScalingSettings = AutoScalingSettings()
    monitoring: MonitoringSettings = MonitoringSettings()
    events: EventsSettings = EventsSettings()
    database: DatabaseSettings = DatabaseSettings()
    vector_store: VectorStoreSettings = VectorStoreSettings()
    embedding_cache: EmbeddingCacheSettings = EmbeddingCacheSettings()
    models: ModelsSettings = ModelsSettings()
    chunking: ChunkingSettings = ChunkingSettings()
    parsing: ParsingSettings = ParsingSettings()
    tenants: TenantsSettings = TenantsSettings()

    @property
    def database_url(self) -> str:
        if self.database.url is not None:
            return self.database.url.get_secret_value()
        return f"sqlite:///{self.data_dir / 'embedfleet.db'}"

    def to_json(self) -> str:
        """Everything, secrets in clear text: for a pipe to our own processes, never for a log or a file."""
        return json.dumps(self.model_dump(mode="python"), default=_plainly)

    @classmethod
    def from_json(cls, text: str) -> Settings:
        return cls.model_validate_json(text)


def _plainly(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)
