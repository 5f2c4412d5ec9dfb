"""Decides by the settings whether the system is embedded or a fleet.

It refuses contradictory settings before anything is opened.
"""

from __future__ import annotations

import os.path
import re
from dataclasses import dataclass

from embedfleet.errors import ConfigError
from embedfleet.settings import Settings, ViewSettings

# What Chroma accepts as the name of a collection.
_COLLECTION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,510}[A-Za-z0-9]")


@dataclass(frozen=True, slots=True)
class Deployment:
    """The kind of system that the settings describe.

    `shared_broker`: the queues are in Redis. `worker_processes`: each worker is a process of its own.
    `owns_data_directory`: only one orchestrator may run on this data directory. `launches`: orchestrators
    start the workers. If not, what starts a worker's process also restarts it, and decides how many there
    are. `ray`: Ray places the worker processes on the nodes of a cluster.
    """

    shared_broker: bool
    worker_processes: bool
    owns_data_directory: bool
    launches: bool = True
    ray: bool = False


def deployment_of(settings: Settings) -> Deployment:
    """Return the deployment of these settings. Raises ConfigError, which names settings that contradict."""
    shared_broker = settings.redis.url is not None
    own_store = settings.vector_store.in_data_directory
    launcher = settings.orchestrator.launcher
    worker_processes = launcher in ("process", "ray", "none") or (launcher == "auto" and shared_broker)
    if worker_processes and not shared_broker:
        raise ConfigError(
            f"setting `orchestrator.launcher` is `{launcher}`, but the queues are in this process: set "
            "`redis.url`, or leave the launcher at `auto`"
        )
    if worker_processes and own_store:
        raise ConfigError(
            "worker processes cannot share a vector store in the data directory: set `vector_store.url` to a "
            "server, `vector_store.path` to a place that all hosts see (LanceDB), or "
            "`orchestrator.launcher` to `inline`"
        )
    _refuse_vectors_without_postgresql(settings)
    if launcher == "ray" and settings.database.url is None:
        raise ConfigError(
            "workers on the nodes of a Ray cluster cannot share a database in the data directory: set "
            "`database.url` to a PostgreSQL server"
        )
    _refuse_what_would_be_ignored(settings, launches_processes=worker_processes and launcher != "none")
    _refuse_impossible_views(settings, shared_broker=shared_broker)
    return Deployment(
        shared_broker=shared_broker,
        worker_processes=worker_processes,
        owns_data_directory=own_store or not shared_broker,
        launches=launcher != "none",
        ray=launcher == "ray",
    )


def _refuse_vectors_without_postgresql(settings: Settings) -> None:
    store = settings.vector_store
    if store.kind == "pgvector" and store.url is None and not settings.database_url.startswith("postgres"):
        raise ConfigError(
            "setting `vector_store.kind` is `pgvector`, but there is no PostgreSQL: set `database.url`, or "
            "`vector_store.url` for the vectors alone, to postgresql://USER@HOST/DATABASE"
        )


def _refuse_what_would_be_ignored(settings: Settings, *, launches_processes: bool) -> None:
    pools = settings.worker_pools
    if settings.orchestrator.launcher == "ray" and pools.embedding.devices:
        raise ConfigError(
            "setting `worker_pools.embedding.devices` names devices of this host, but Ray deals out those of "
            "its nodes: set `worker_pools.embedding.resources.num_gpus` in its place"
        )
    if settings.orchestrator.launcher == "ray" and pools.embedding.workers_per_device != 1:
        raise ConfigError(
            "setting `worker_pools.embedding.workers_per_device` is for devices of this host: for two "
            "workers on a GPU set `worker_pools.embedding.resources.num_gpus` to 0.5 in its place"
        )
    if settings.orchestrator.launcher == "none" and (name := next(iter(of_ray_alone(settings)), None)):
        raise ConfigError(
            f"setting `{name}` is for the launcher `ray`, but here others start the workers: drop it, and "
            "tell them what a worker needs"
        )
    if launches_processes:
        return
    advice = "is for worker processes: set `redis.url`, or drop it"
    if settings.orchestrator.launcher == "none":
        advice = "is for workers that an orchestrator starts: drop it, and tell what starts their processes"
    given = {"embedding.devices": pools.embedding.devices} | {
        f"{name}.memory_limit_mb": pools.of(name).memory_limit_mb for name in type(pools).model_fields
    }
    for name, value in given.items():
        if value:
            raise ConfigError(f"setting `worker_pools.{name}` {advice}")


def of_ray_alone(settings: Settings) -> list[str]:
    """Return the settings that are given and that no launcher but `ray` reads."""
    pools = settings.worker_pools
    defaults = type(pools)()
    given = [
        f"worker_pools.{name}.resources"
        for name in type(pools).model_fields
        if pools.of(name).resources != defaults.of(name).resources
    ]
    return given if settings.ray.address is None else [*given, "ray.address"]


def _refuse_impossible_views(settings: Settings, *, shared_broker: bool) -> None:
    names: set[str] = set()
    owners: dict[tuple[str, str], str] = {}
    for view in settings.vector_store.views:
        here = f"setting `vector_store.views`: view `{view.name}`"
        if view.name in names:
            raise ConfigError(f"{here} is there twice: give one of the two another name")
        names.add(view.name)
        if (view.path is None) == (view.url is None):
            raise ConfigError(f"{here} needs a `path` or a `url`, and not both")
        if view.path is not None and shared_broker:
            # The leader writes views, and any host may lead: the others do not have this directory.
            raise ConfigError(f"{here} has a `path`, but a fleet has many hosts: set a `url` instead")
        for template in (view.path, view.collection):
            if template is not None and _other_fields(template):
                raise ConfigError(f"{here} has `{template}`: only `{{tenant}}` may stand in braces")
        _refuse_bad_collection(view, here)
        owner = owners.setdefault(_written_by(view), view.name)
        if owner != view.name:
            raise ConfigError(f"{here} writes the same collections as view `{owner}`: drop one of the two")


def _refuse_bad_collection(view: ViewSettings, here: str) -> None:
    named = view.collection
    if named is not None and not _COLLECTION.fullmatch(named.replace("{tenant}", "tenant")):
        raise ConfigError(
            f"{here} has the collection `{named}`: it must be 3 to 512 letters, digits, `.`, `_` or `-`, and "
            "begin and end with a letter or digit"
        )


def _written_by(view: ViewSettings) -> tuple[str, str]:
    """Return what tells the collections of a view from those of any other: their place and their names."""
    place = os.path.abspath(view.path) if view.path is not None else str(view.url).rstrip("/")
    return place, view.collection or f"those of the layout {view.layout}"


def _other_fields(template: str) -> bool:
    return any(brace in template.replace("{tenant}", "") for brace in "{}")
