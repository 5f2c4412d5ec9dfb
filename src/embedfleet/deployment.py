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
    `owns_data_directory`: only one orchestrator may run on this data directory.
    """

    shared_broker: bool
    worker_processes: bool
    owns_data_directory: bool


def deployment_of(settings: Settings) -> Deployment:
    """Return the deployment of these settings. Raises ConfigError, which names settings that contradict."""
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
    _refuse_what_would_be_ignored(settings, worker_processes=worker_processes)
    _refuse_impossible_views(settings, shared_broker=shared_broker)
    return Deployment(
        shared_broker=shared_broker,
        worker_processes=worker_processes,
        owns_data_directory=own_store or not shared_broker,
    )


def _refuse_what_would_be_ignored(settings: Settings, *, worker_processes: bool) -> None:
    if worker_processes:
        return
    pools = settings.worker_pools
    given = {"embedding.devices": pools.embedding.devices} | {
        f"{name}.memory_limit_mb": pools.of(name).memory_limit_mb for name in type(pools).model_fields
    }
    for name, value in given.items():
        if value:
            raise ConfigError(
                f"setting `worker_pools.{name}` is for worker processes: set `redis.url`, or drop it"
            )


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
