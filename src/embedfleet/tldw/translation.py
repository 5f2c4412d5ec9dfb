"""Turns tldw's settings of workers into embedfleet's, and says what has no counterpart. It is pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from embedfleet.tldw.models import named_model

_LEVELS = ("TRACE", "DEBUG", "INFO", "WARNING", "ERROR")


@dataclass(frozen=True, slots=True)
class Translation:
    """embedfleet's settings, nested as in its YAML file, and a line for each key that does not go over."""

    settings: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def is_of_workers(values: Mapping[str, Any]) -> bool:
    """Whether these are tldw's settings of workers. embedfleet's have none of these keys."""
    pools = values.get("worker_pools")
    of_pools = any(
        "num_workers" in pool or "queue_name" in pool
        for pool in (pools.values() if isinstance(pools, Mapping) else ())
        if isinstance(pool, Mapping)
    )
    return of_pools or bool({"enable_monitoring", "monitoring_port", "enable_autoscaling"} & values.keys())


def translate_workers(values: Mapping[str, Any]) -> Translation:
    """Return the settings of a worker file of tldw, as it is read, in embedfleet's words."""
    draft = _Draft()
    for key, value in values.items():
        if key == "redis":
            draft.each(key, value, _REDIS)
        elif key == "worker_pools":
            for name, pool in (value or {}).items():
                _translate_pool(draft, name, pool)
        else:
            draft.one(key, key, value, _TOP)
    if "redis" in draft.settings:
        # tldw's workers are tasks of the orchestrator's process, and so are these.
        draft.put("orchestrator.launcher", "inline")
    _keep_limits_in_order(draft, values)
    return Translation(draft.settings, tuple(draft.warnings))


class _Draft:
    """Settings and warnings as they are found."""

    def __init__(self) -> None:
        self.settings: dict[str, Any] = {}
        self.warnings: list[str] = []

    def put(self, path: str, value: Any) -> None:
        """Set the value at this path, whose parts are divided by dots."""
        *sections, name = path.split(".")
        below = self.settings
        for section in sections:
            below = below.setdefault(section, {})
        below[name] = value

    def warn(self, key: str, why: str) -> None:
        """Say of a key, by its path in tldw's file, why it does not go over."""
        self.warnings.append(f"`{key}`: {why}")

    def each(self, key: str, values: Any, rules: Mapping[str, _Rule]) -> None:
        """Apply the rules to each value of a section."""
        for name, value in (values or {}).items():
            self.one(f"{key}.{name}", name, value, rules)

    def one(self, key: str, name: str, value: Any, rules: Mapping[str, _Rule]) -> None:
        """Apply the rule of this name: a path to set, a function, or the reason why there is nothing to."""
        rule = rules.get(name)
        match rule:
            case None:
                self.warn(key, "embedfleet has no such setting")
            case str():
                self.warn(key, rule)
            case _Path():
                self.put(rule.to, value if rule.as_what is None else rule.as_what(value))
            case _:
                rule(self, key, value)


@dataclass(frozen=True, slots=True)
class _Path:
    """Where a value goes, and as what."""

    to: str
    as_what: Callable[[Any], Any] | None = None


_Rule = str | _Path | Callable[[_Draft, str, Any], None]


def _monitoring(draft: _Draft, _key: str, enabled: Any) -> None:
    if not enabled:
        draft.put("monitoring.metrics_port", 0)


def _monitoring_port(draft: _Draft, _key: str, port: Any) -> None:
    # A port that was switched off stays so, in whichever order the two keys are written.
    if draft.settings.get("monitoring", {}).get("metrics_port") != 0:
        draft.put("monitoring.metrics_port", port)


def _log_level(draft: _Draft, key: str, level: Any) -> None:
    wanted = str(level).upper()
    if wanted not in _LEVELS:
        draft.warn(key, f"`{level}` becomes ERROR: embedfleet has {', '.join(_LEVELS)}")
        wanted = "ERROR"
    draft.put("monitoring.log_level", wanted)


_TOP: Mapping[str, _Rule] = {
    "enable_monitoring": _monitoring,
    "monitoring_port": _monitoring_port,
    "log_level": _log_level,
    "enable_autoscaling": _Path("auto_scaling.enabled"),
    "scale_check_interval": _Path("auto_scaling.interval_seconds", float),
    "scale_up_threshold": "pools grow by the seconds of work in the queue, "
    "`auto_scaling.target_backlog_seconds`",
    "scale_down_threshold": "pools shrink by the seconds of work in the queue, "
    "`auto_scaling.shrink_below_backlog_seconds`",
    "max_total_workers": "each pool has a limit of its own, `worker_pools.POOL.max_workers`",
    "max_memory_gb": "models have `models.memory_mb`; a worker process has `memory_limit_mb` of its pool",
}
_REDIS: Mapping[str, _Rule] = {
    "url": _Path("redis.url"),
    "max_connections": _Path("redis.max_connections", lambda number: max(int(number), 2)),
    "decode_responses": "embedfleet's messages are binary",
}
_NO_POLLING = "workers are woken, they do not poll"
_NAMED_BY_PREFIX = "queues are named by `redis.key_prefix`"
_BY_TOKENS = "batches are measured in tokens, and their size is found by itself"
_POOL: Mapping[str, _Rule] = {
    "queue_name": _NAMED_BY_PREFIX,
    "consumer_group": _NAMED_BY_PREFIX,
    "batch_size": _BY_TOKENS,
    "poll_interval_ms": _NO_POLLING,
    "heartbeat_interval": "a silent worker's tasks go to another after `lease_seconds` of its pool",
    "metrics_interval": "metrics are read when Prometheus asks",
    "default_chunk_size": _Path("chunking.chunk_size"),
    "default_overlap": _Path("chunking.overlap"),
    "gpu_allocation": "the `devices` of a model say where it runs; `auto` finds a GPU by itself",
    "max_model_cache_size": "models are bounded by memory, `models.memory_mb`",
    "model_unload_timeout": "a model goes when another needs its room, `models.memory_mb`",
    "chroma_batch_size": _BY_TOKENS,
    "transaction_timeout": "a write to the vector store has `vector_store.timeout_seconds`",
}


def _translate_pool(draft: _Draft, name: str, values: Any) -> None:
    pool = dict(values or {})
    kind = pool.pop("worker_type", name)
    if kind not in ("chunking", "embedding", "storage"):
        draft.warn(f"worker_pools.{name}", "there are pools for chunking, embedding, storage and deletion")
        return
    of_pool: Mapping[str, _Rule] = {
        **_POOL,
        "num_workers": _Path(f"worker_pools.{kind}.workers"),
        "max_retries": _Path(f"worker_pools.{kind}.max_attempts", lambda retries: int(retries) + 1),
        "shutdown_timeout": _longest_drain,
    }
    model, provider = pool.pop("default_model_name", None), pool.pop("default_model_provider", "huggingface")
    draft.each(f"worker_pools.{name}", pool, of_pool)
    if model is not None:
        found = named_model(provider, model)
        draft.put("models.default", found.name)
        if found.entry is not None:
            draft.put("models.catalogue", {found.name: found.entry})
        draft.warnings.extend(found.warnings)


def _longest_drain(draft: _Draft, _key: str, seconds: Any) -> None:
    """All pools of a host are stopped together, so the longest of their times counts."""
    before = draft.settings.get("orchestrator", {}).get("drain_seconds", 0.0)
    draft.put("orchestrator.drain_seconds", max(float(seconds), before))


def _keep_limits_in_order(draft: _Draft, values: Mapping[str, Any]) -> None:
    """Give each pool the limits that tldw's scaling has: from its number of workers to twice that."""
    scaling = bool(values.get("enable_autoscaling"))
    for pool in draft.settings.get("worker_pools", {}).values():
        if "workers" in pool:
            pool["min_workers"] = pool["workers"]
            pool["max_workers"] = pool["workers"] * 2 if scaling else pool["workers"]
    cut = draft.settings.get("chunking", {})
    if "chunk_size" in cut and "overlap" not in cut:
        cut["overlap"] = min(200, cut["chunk_size"] // 5)
