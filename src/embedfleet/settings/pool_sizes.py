"""Pool sizes that an operator gives by hand."""

from __future__ import annotations

from collections.abc import Mapping

from embedfleet.errors import ConfigError, hint
from embedfleet.settings.pools import MOST_WORKERS, PoolsSettings
from embedfleet.settings.sections import Settings


def with_pool_sizes(settings: Settings, sizes: Mapping[str, int]) -> Settings:
    """The settings with these numbers of workers, by pool.

    The limits of auto-scaling are widened where they exclude the number; 0 also forbids auto-scaling to start
    workers. Raises ConfigError for a pool that does not exist or a number that is out of range.
    """
    pools = settings.worker_pools
    for name, workers in sizes.items():
        if name not in PoolsSettings.model_fields:
            raise ConfigError(f"no pool `{name}`: {hint(name, PoolsSettings.model_fields)}")
        if not 0 <= workers <= MOST_WORKERS:
            raise ConfigError(f"pool `{name}`: {workers} workers; it must be 0 to {MOST_WORKERS}")
        pool = pools.of(name)
        sized = pool.model_copy(
            update={
                "workers": workers,
                "min_workers": min(pool.min_workers, workers),
                "max_workers": max(pool.max_workers, workers) if workers else 0,
            }
        )
        pools = pools.model_copy(update={name: sized})
    return settings.model_copy(update={"worker_pools": pools})
