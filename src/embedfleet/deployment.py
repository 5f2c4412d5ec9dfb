"""What the settings add up to: embedded or a fleet. Contradictions are refused before anything is opened."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from embedfleet.errors import ConfigError
from embedfleet.settings import Settings


@dataclass(frozen=True, slots=True)
class Deployment:
    """`owns_data_directory`: only one orchestrator may run on these data."""

    shared_broker: bool
    worker_processes: bool
    owns_data_directory: bool


def deployment_of(settings: Settings) -> Deployment:
    """Raises ConfigError, naming the settings, for those that cannot go together."""
    shared_broker = settings.redis.url is not None
    own_store = settings.vector_store.url is None
    launcher = settings.orchestrator.launcher
    worker_processes = launcher == "process" or (launcher == "auto" and shared_broker)
    if worker_processes and not shared_broker:
        raise ConfigError(
            "setting `orchestrator.launcher` is `process`, but the queues are in this process: set "
            "`redis.url`, or leave the launcher at `auto`"
        )
    if worker_processes and own_store:
        raise ConfigError(
            "worker processes cannot share a Chroma in process: set `vector_store.url` to a Chroma server, "
            "or `orchestrator.launcher` to `inline`"
        )
    if settings.worker_pools.embedding.devices and not worker_processes:
        raise ConfigError(
            "setting `worker_pools.embedding.devices` deals devices out to worker processes: set "
            "`redis.url`, or drop it"
        )
    return Deployment(
        shared_broker=shared_broker,
        worker_processes=worker_processes,
        owns_data_directory=own_store or not shared_broker,
    )


def without_credentials(url: str) -> str:
    """The URL as it may be shown."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()
