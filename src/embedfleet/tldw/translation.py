"""Turns tldw's settings of workers into embedfleet's, and says what has no counterpart. It is pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from embedfleet.tldw.draft import (
    Draft,
    Rule,
    SettingPath,
    Translation,
    translate_metrics_port,
    translate_metrics_switch,
)
from embedfleet.tldw.models import bundled_model

_LEVELS = ("TRACE", "DEBUG", "INFO", "WARNING", "ERROR")
_STAGES = ("chunking", "embedding", "storage")
_DEFAULT_OVERLAP = 200


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
    draft = Draft()
    for key, value in values.items():
        if key == "redis":
            draft.each(key, value or {}, _REDIS)
        elif key == "worker_pools":
            for name, pool in (value or {}).items():
                _translate_pool(draft, name, pool or {})
        else:
            draft.one(key, key, value, _TOP)
    if "redis" in draft.settings:
        # tldw's workers are tasks of the orchestrator's process, and so are these.
        draft.put("orchestrator.launcher", "inline")
    _keep_limits_in_order(draft, scaling=bool(values.get("enable_autoscaling")))
    return draft.translation


def _log_level(draft: Draft, key: str, level: Any) -> None:
    wanted = str(level).upper()
    if wanted not in _LEVELS:
        draft.warn(key, f"`{level}` becomes ERROR: embedfleet has {', '.join(_LEVELS)}")
        wanted = "ERROR"
    draft.put("monitoring.log_level", wanted)


_TOP: Mapping[str, Rule] = {
    "enable_monitoring": translate_metrics_switch,
    "monitoring_port": translate_metrics_port,
    "log_level": _log_level,
    "enable_autoscaling": SettingPath("auto_scaling.enabled", bool),
    "scale_check_interval": SettingPath("auto_scaling.interval_seconds", float),
    "scale_up_threshold": "pools grow by the seconds of work in the queue, "
    "`auto_scaling.target_backlog_seconds`",
    "scale_down_threshold": "pools shrink by the seconds of work in the queue, "
    "`auto_scaling.shrink_below_backlog_seconds`",
    "max_total_workers": "each pool has a limit of its own, `worker_pools.POOL.max_workers`",
    "max_memory_gb": "models have `models.memory_mb`; a worker process has `memory_limit_mb` of its pool",
}
_REDIS: Mapping[str, Rule] = {
    "url": SettingPath("redis.url", str),
    "max_connections": SettingPath("redis.max_connections", lambda number: max(int(number), 2)),
    "decode_responses": "embedfleet's messages are binary",
}
_NO_POLLING = "workers are woken, they do not poll"
_NAMED_BY_PREFIX = "queues are named by `redis.key_prefix`"
_BY_TOKENS = "batches are measured in tokens, and their size is found by itself"
_POOL: Mapping[str, Rule] = {
    "queue_name": _NAMED_BY_PREFIX,
    "consumer_group": _NAMED_BY_PREFIX,
    "batch_size": _BY_TOKENS,
    "poll_interval_ms": _NO_POLLING,
    "heartbeat_interval": "a silent worker's tasks go to another after `lease_seconds` of its pool",
    "metrics_interval": "metrics are read when Prometheus asks",
    "default_chunk_size": SettingPath("chunking.chunk_size", int),
    "default_overlap": SettingPath("chunking.overlap", int),
    "gpu_allocation": "the `devices` of a model say where it runs; `auto` finds a GPU by itself",
    "max_model_cache_size": "models are bounded by memory, `models.memory_mb`",
    "model_unload_timeout": "a model goes when another needs its room, `models.memory_mb`",
    "chroma_batch_size": _BY_TOKENS,
    "transaction_timeout": "a write to the vector store has `vector_store.timeout_seconds`",
}


def _translate_pool(draft: Draft, name: str, values: Mapping[str, Any]) -> None:
    pool = dict(values)
    kind = pool.pop("worker_type", name)
    if kind not in _STAGES:
        draft.warn(f"worker_pools.{name}", f"there are pools for {', '.join(_STAGES)} and deletion")
        return
    of_pool: Mapping[str, Rule] = {
        **_POOL,
        "num_workers": SettingPath(f"worker_pools.{kind}.workers", int),
        "max_retries": SettingPath(f"worker_pools.{kind}.max_attempts", lambda retries: int(retries) + 1),
        "shutdown_timeout": _longest_drain,
    }
    model, provider = pool.pop("default_model_name", None), pool.pop("default_model_provider", "huggingface")
    draft.each(f"worker_pools.{name}", pool, of_pool)
    if model:
        draft.add_model(bundled_model(str(provider), str(model)), default=True)


def _longest_drain(draft: Draft, _key: str, seconds: Any) -> None:
    """All pools of a host are stopped together, so the longest of their times counts."""
    draft.put("orchestrator.drain_seconds", max(float(seconds), draft.get("orchestrator.drain_seconds") or 0))


def _keep_limits_in_order(draft: Draft, *, scaling: bool) -> None:
    """Give each pool the limits that tldw's scaling has: from its number of workers to twice that."""
    for pool in draft.settings.get("worker_pools", {}).values():
        if "workers" in pool:
            pool["min_workers"] = pool["workers"]
            pool["max_workers"] = pool["workers"] * 2 if scaling else pool["workers"]
    fit_overlap(draft)


def fit_overlap(draft: Draft) -> None:
    """Make the overlap at most a fifth of the chunk size, if it was not given or does not fit.

    Without a chunk size of tldw's, an overlap of tldw's says nothing.
    """
    size, overlap = draft.get("chunking.chunk_size"), draft.get("chunking.overlap")
    if size is None:
        if overlap is not None:
            del draft.settings["chunking"]
            draft.warn("overlap", "it is for a chunk size, and none is given")
        return
    if overlap is None or overlap >= size:
        draft.put("chunking.overlap", min(_DEFAULT_OVERLAP, size // 5))
    if overlap is not None and overlap >= size:
        draft.warn("overlap", f"becomes a fifth of the chunk size, as it was not less ({overlap} of {size})")
