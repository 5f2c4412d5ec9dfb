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
        description="Auto-scaling keeps at least this many. 0 saves memory while idle; the first task "
        "then waits for a start.",
    )
    max_workers: int = Field(
        default=8,
        ge=0,
        le=MOST_WORKERS,
        description="Auto-scaling starts at most this many. Raise as far as the machine allows; 0: this "
        "host has none.",
    )
    concurrency: int = Field(
        default=1,
        ge=1,
        le=1024,
        description="Claims that one worker works on at a time. Raise when workers wait more than they work.",
    )
    batch_tasks: int = Field(
        default=8, ge=1, le=1000, description="Tasks claimed at once. Raise for many small documents."
    )
    batch_tokens: int | None = Field(
        default=DEFAULT_BATCH_TOKENS,
        ge=1,
        description="Tokens claimed at once. Lower on a machine with little memory. None: 16,384, or, for "
        "embedding on a fast device, as many as fill four calls of the model.",
    )
    lease_seconds: float = Field(
        default=60.0,
        ge=1,
        description="A silent worker's tasks go to another after this; a working one renews them. Lower "
        "to recover sooner from a killed worker.",
    )
    max_attempts: int = Field(
        default=3,
        ge=1,
        description="Deliveries of one task before it becomes a dead letter. Raise if a service it needs "
        "fails often.",
    )
    max_queued_tasks: int = Field(
        default=64,
        ge=1,
        description="High-water mark: the stage before pauses while more tasks wait here. Lower to save "
        "memory.",
    )
    memory_limit_mb: int | None = Field(
        default=None,
        ge=64,
        description="A worker process that uses more is replaced between tasks. Set it if workers grow.",
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
        default=(),
        description="Models to load before the first claim; others load when first needed. Name those "
        "that must answer at once.",
    )
    devices: tuple[str, ...] = Field(
        default=(),
        description="Accelerators for the workers, such as `cuda:0`; empty: CPU. Set it on a host with "
        "accelerators.",
    )
    workers_per_device: int = Field(
        default=1,
        ge=1,
        description="Workers that share a device. Raise only if one worker leaves its device idle.",
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
        description="`inline`: workers in this process. `process`: each in its own. `auto`: processes "
        "when `redis.url` is set.",
    )
    drain_seconds: float = Field(
        default=30.0,
        ge=0,
        description="At a stop, workers have this long to finish their batches; then they hand them back. "
        "Keep it below the kill timeout of your supervisor.",
    )
    heartbeat_seconds: float = Field(
        default=2.0,
        gt=0,
        description="How often an orchestrator writes in SQL that it lives, and reads its orders. Raise "
        "for a slow database.",
    )
    leader_lease_seconds: float = Field(
        default=10.0,
        gt=0,
        description="A silent leader is replaced after this. Keep it several heartbeats long.",
    )
    reconcile_seconds: float = Field(
        default=5.0,
        gt=0,
        description="How often the leader looks for jobs whose tasks the broker lost, and how long ago a job "
        "must have been offered. Raise when hundreds of thousands of jobs are unfinished.",
    )
    restart_backoff_seconds: float = Field(
        default=1.0,
        gt=0,
        description="Pause before a crashed worker starts again; it doubles with each crash. Raise if a "
        "start is costly.",
    )
    restart_backoff_max_seconds: float = Field(
        default=60.0,
        gt=0,
        description="The longest pause before a restart. Lower to come back sooner after long trouble.",
    )
    crash_loop_after: int = Field(
        default=5,
        ge=2,
        description="Crashes in a row after which a worker is reported as crash-looping. Lower to be "
        "warned sooner.",
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
    username: str | None = Field(default=None, description="ACL user. Set it here to keep it out of the url.")
    password: SecretStr | None = Field(
        default=None, description="Password. Set it here to keep it out of the url."
    )
    sentinel_username: str | None = Field(
        default=None,
        description="ACL user of the sentinels. Set it if they need another one than the server.",
    )
    sentinel_password: SecretStr | None = Field(
        default=None,
        description="Password of the sentinels. Set it if they need another one than the server.",
    )
    key_prefix: str = Field(
        default="embedfleet",
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
        description="The beginning of every key. Change it when several fleets share one Redis.",
    )
    connect_timeout_seconds: float = Field(
        default=5.0, gt=0, description="Longest time to connect. Raise on a slow network."
    )
    socket_timeout_seconds: float = Field(
        default=10.0,
        gt=0,
        description="An answer that takes longer counts as a lost connection. Raise for a slow server.",
    )
    max_connections: int = Field(
        default=32,
        ge=2,
        description="Connections of one process. Raise when workers wait for them; lower if the server "
        "runs out of them.",
    )
    tls_ca_file: Path | None = Field(
        default=None,
        description="CA certificates for a rediss:// server. Set it if no public CA signed the server's.",
    )


class ScalingPolicy(Section):
    """When a pool changes its size, and by how much. `scaling` says how the numbers work together.

    The head-room of `target_busy_fraction` swallows noise: at 0.8, load may rise by a quarter before anything
    waits. `grow_cooldown_seconds` is counted from the last growth, `shrink_cooldown_seconds` from the last
    change of either kind.
    """

    target_backlog_seconds: float = Field(
        default=10.0,
        gt=0,
        description="A pool grows when its queue would take longer than this. Lower for faster answers by "
        "more workers.",
    )
    shrink_below_backlog_seconds: float = Field(
        default=2.0,
        ge=0,
        description="A pool may shrink only below this. Lower if pools swing: the gap to the target keeps "
        "them still.",
    )
    target_busy_fraction: float = Field(
        default=0.8,
        gt=0,
        le=1,
        description="Share of the workers that should be busy; the rest is head-room. Lower if load jumps "
        "often.",
    )
    max_growth_factor: float = Field(
        default=2.0,
        gt=1,
        description="Largest step up: a pool grows at most to this many times its size. Lower if steps "
        "are too large.",
    )
    max_shrink_fraction: float = Field(
        default=0.25,
        gt=0,
        le=1,
        description="Largest step down, as a share of the pool. Raise to free memory sooner.",
    )
    grow_cooldown_seconds: float = Field(
        default=5.0,
        ge=0,
        description="Pause between steps up. Set it to about the time that a worker takes to start.",
    )
    shrink_cooldown_seconds: float = Field(
        default=30.0, ge=0, description="Pause before a step down. Raise if pools swing."
    )
    stabilisation_seconds: float = Field(
        default=60.0,
        ge=0,
        description="A pool shrinks only to the most workers it needed in this time. Raise if load comes "
        "in waves.",
    )
    idle_seconds: float = Field(
        default=300.0,
        ge=0,
        description="A pool with min_workers 0 ends its last worker after this time. Raise if the first "
        "task must not wait.",
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
    interval_seconds: float = Field(
        default=1.0,
        gt=0,
        description="How often the size of a pool is decided. Lower if load changes within seconds.",
    )


class MonitoringSettings(Section):
    """Logs and metrics."""

    log_level: Literal["TRACE", "DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="DEBUG to follow one job through the stages."
    )
    log_json: bool = Field(default=False, description="True when a log collector reads stderr.")
    metrics_port: int = Field(
        default=9090,
        ge=0,
        le=65_535,
        description="Prometheus port of the orchestrator; 0 turns it off. Change it if the port is taken.",
    )
    metrics_host: str = Field(
        default="127.0.0.1",
        description="Address of the metrics server. 0.0.0.0 when Prometheus scrapes from another host.",
    )
    max_tenants: int = Field(
        default=50,
        ge=0,
        description="Tenants with their own time series: those seen first. The others share `_other`. "
        "Raise to see more tenants.",
    )


class EventsSettings(Section):
    """How others learn that jobs have ended."""

    webhook_url: SecretStr | None = Field(
        default=None,
        description="None: events are only read. http(s)://HOST/PATH: each event is also POSTed there.",
    )
    webhook_secret: SecretStr | None = Field(
        default=None,
        description="Signs each delivery (HMAC-SHA256). Set it if others can post to that address.",
    )
    webhook_timeout_seconds: float = Field(
        default=10.0,
        gt=0,
        description="A delivery that takes longer is tried again. Raise for a slow receiver.",
    )
    retry_base_seconds: float = Field(
        default=1.0,
        gt=0,
        description="Pause after a failed delivery; it doubles with each failure. Raise to spare the "
        "receiver.",
    )
    retry_max_seconds: float = Field(
        default=60.0,
        gt=0,
        description="The longest pause between deliveries. Raise for a receiver that is often away.",
    )
    keep_days: float = Field(
        default=7.0,
        gt=0,
        description="How long events can be read. Raise if readers are away longer.",
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
        description="SQLite: `normal` is faster, but a power cut may lose the last acknowledged jobs.",
    )
    busy_timeout_seconds: float = Field(
        default=30.0,
        gt=0,
        description="Longest wait for a lock. Raise if other programs hold write locks for long.",
    )
    pool_size: int = Field(
        default=8,
        ge=2,
        le=100,
        description="PostgreSQL: connections of one process. Lower if the server runs out of them.",
    )
    connect_timeout_seconds: float = Field(
        default=5.0, ge=2, description="PostgreSQL: longest time to connect. Raise on a slow network."
    )


class VectorStoreSettings(Section):
    """What makes vectors searchable."""

    kind: str = Field(default="chroma", description="Which vector store: `chroma` is the only one so far.")
    url: str | None = Field(
        default=None,
        description="None: an embedded Chroma in the data directory. http(s)://HOST:PORT: a Chroma "
        "server, as a fleet needs.",
    )
    token: SecretStr | None = Field(
        default=None, description="Sent with every request. Set it if a proxy guards the server."
    )
    token_header: Literal["Authorization", "X-Chroma-Token"] = Field(
        default="Authorization",
        description="The header of the token; `Authorization` sends `Bearer TOKEN`. Change it if the "
        "proxy expects the other.",
    )
    timeout_seconds: float = Field(
        default=60.0, gt=0, description="Longest request to the server. Raise if the server has slow disks."
    )
    store_documents: bool = Field(
        default=True,
        description="False: texts are in SQL only. Storing is faster, but Chroma's own text filters do "
        "not work.",
    )


class EmbeddingCacheSettings(Section):
    """Vectors kept in SQL, by tenant, model and text."""

    enabled: bool = Field(
        default=True,
        description="False: the cache is neither read nor written, and its rows stay. For texts that "
        "never repeat.",
    )
    max_mb_per_tenant: int = Field(
        default=1024,
        ge=1,
        description="Size of a tenant's cache; the longest unused vectors go first. Raise to rebuild more "
        "without a model.",
    )


class ParsingSettings(Section):
    """Limits of the child process that reads files."""

    memory_mb: int = Field(
        default=2048,
        ge=128,
        description="Memory of the process that parses. Raise if large PDFs are refused.",
    )
    cpu_seconds: int = Field(
        default=120, ge=1, description="CPU time for one file. Raise if files are refused for it."
    )
    timeout_seconds: float = Field(
        default=180.0,
        gt=0,
        description="Longest time for one file; keep it above cpu_seconds. Raise on a busy machine.",
    )
    max_output_chars: int = Field(
        default=500_000_000,
        ge=1,
        description="Most text that one file may give; it stops archive bombs. Raise for larger texts.",
    )
    max_file_bytes: int = Field(
        default=1_000_000_000,
        ge=1,
        description="Larger files are refused before they are read. Raise for larger files.",
    )


class TierSettings(Section):
    """What a tier may do."""

    weight: float = Field(
        ge=0.01,
        le=100,
        description="Share of the workers, relative to other tenants with work. Raise to serve the tier "
        "faster.",
    )
    max_active_jobs: int = Field(
        ge=1, description="Most unfinished jobs of a tenant. Raise for large imports."
    )
    max_document_chars: int = Field(
        ge=1, description="Most characters of a document. Raise for larger documents."
    )
    daily_chars: int = Field(
        ge=1, description="Most characters that a tenant may submit in a day (UTC). Raise for large imports."
    )
    max_in_flight: int | None = Field(
        default=16,
        ge=1,
        description="Most tasks of one tenant at work in a stage; None: no cap. Keep it below the "
        "concurrency of the chunking workers, so that one tenant's huge documents leave room "
        "for others.",
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

    default_tenant: str = Field(
        default="local",
        description="The tenant of commands that name none. Change it if yours has another name.",
    )
    default_tier: Literal["free", "basic", "premium", "enterprise"] = Field(
        default="enterprise", description="The tier of jobs from the command line. Lower it to test quotas."
    )
    tiers: dict[Literal["free", "basic", "premium", "enterprise"], TierSettings] = Field(
        default_factory=_default_tiers  # type: ignore[arg-type]  # keys are the literals
    )


class Settings(Section):
    """The whole configuration of a process."""

    data_dir: Path = Field(
        default_factory=lambda: Path(platformdirs.user_data_dir("embedfleet", appauthor=False)),
        description="Directory of SQLite, Chroma and the lock. It has one running orchestrator. Put it on "
        "a local disk.",
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
