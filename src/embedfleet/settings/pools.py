"""The sections of the workers: pools, their scaling, and the orchestrator that runs them."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from embedfleet.settings.placement import ResourceSettings
from embedfleet.settings.section import Section

MOST_WORKERS = 1024
"""The most workers of a pool on one host: a larger number is a mistake in the settings."""

DEFAULT_BATCH_TOKENS = 16_384


class PoolSettings(Section):
    """One pool of workers, on each host."""

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
        default=512,
        ge=1,
        description="Limit: the stage before pauses while more tasks wait here. The embedding "
        "queue is shared out among the tenants by weight. Lower to save memory.",
    )
    max_queued_tokens: int = Field(
        default=524_288,
        ge=1,
        description="The same limit in tokens, as tasks differ in size. Raise both for fast devices: several "
        "claims of every worker should fit.",
    )
    memory_limit_mb: int | None = Field(
        default=None,
        ge=64,
        description="A worker process that uses more is replaced between tasks. Set it if workers grow.",
    )
    resources: ResourceSettings = ResourceSettings()

    def is_full(self, *, ready_tasks: int, ready_tokens: int) -> bool:
        """Whether so much waits in this stage's queue that the stage before pauses."""
        return ready_tasks >= self.max_queued_tasks or ready_tokens >= self.max_queued_tokens

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
    """The four pools, one for each stage."""

    # Three: one thread does the cutting, and while it cuts for one claim the others are read and written. A
    # claim is a few dozen small documents, or one large one.
    chunking: PoolSettings = PoolSettings(concurrency=3, batch_tasks=64, batch_tokens=65_536)
    # Two: while the model works on one claim, the next is fetched and prepared.
    embedding: EmbeddingPoolSettings = EmbeddingPoolSettings(
        concurrency=2, batch_tasks=64, batch_tokens=None, max_queued_tasks=8_192, max_queued_tokens=1_048_576
    )
    # Large claims, because all tasks of a claim share one write to the vector store and one transaction. Two:
    # while the vector store writes one claim, the other is read or recorded in SQL.
    storage: PoolSettings = PoolSettings(concurrency=2, batch_tasks=256, batch_tokens=131_072)
    # A quarter of a core: deletion mostly waits.
    deletion: PoolSettings = PoolSettings(resources=ResourceSettings(num_cpus=0.25))

    def of(self, stage: str) -> PoolSettings:
        """The pool of a stage."""
        pool: PoolSettings = getattr(self, stage)
        return pool


class ScalingPolicy(Section):
    """When a pool changes its size, and by how much. `scaling` says how the numbers work together.

    The head-room of `target_busy_fraction` absorbs small changes of load: at 0.8, load may rise by a quarter
    before a task waits. `grow_cooldown_seconds` counts from the last growth, `shrink_cooldown_seconds` from
    the last growth or shrinking.
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


class OrchestratorSettings(Section):
    """The process that starts, watches and stops the workers of a host."""

    launcher: Literal["auto", "inline", "process", "ray", "none"] = Field(
        default="auto",
        description="`inline`: workers in this process. `process`: each in its own. `ray`: a Ray cluster "
        "places them. `auto`: processes when `redis.url` is set. `none`: something else starts them, such as "
        "Kubernetes.",
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
