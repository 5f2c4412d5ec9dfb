"""Chooses the adapters by the settings, opens them, and returns a working system. No other package does.

`adapters` chooses; the other modules put together what a process needs, one file a kind of process. An
orchestrator has many parts that use the adapters; `assembly` puts these together. A name of this package is
imported when it is first used: so a worker process imports what a worker runs, and starts in less time.

May import: assembly and below.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from embedfleet.bootstrap.adapters import open_broker, open_store, places
    from embedfleet.bootstrap.front import open_front
    from embedfleet.bootstrap.guest import open_guest
    from embedfleet.bootstrap.mover import open_mover
    from embedfleet.bootstrap.owner import open_owner
    from embedfleet.bootstrap.pool_worker import open_pool_worker
    from embedfleet.bootstrap.ray_cluster import ray_nodes
    from embedfleet.bootstrap.repairing import open_adoption, open_parts, open_repair, open_stored
    from embedfleet.bootstrap.synchronous import open_synchronous_embedder
    from embedfleet.bootstrap.systems import (
        FrontSystem,
        GuestSystem,
        OwnerSystem,
        PoolWorkerSystem,
        RepairSystem,
    )
    from embedfleet.bootstrap.workers import open_worker

__all__ = [
    "FrontSystem",
    "GuestSystem",
    "OwnerSystem",
    "PoolWorkerSystem",
    "RepairSystem",
    "open_adoption",
    "open_broker",
    "open_front",
    "open_guest",
    "open_mover",
    "open_owner",
    "open_parts",
    "open_pool_worker",
    "open_repair",
    "open_store",
    "open_stored",
    "open_synchronous_embedder",
    "open_worker",
    "places",
    "ray_nodes",
]

_MODULES = {
    "adapters": ("open_broker", "open_store", "places"),
    "front": ("open_front",),
    "guest": ("open_guest",),
    "mover": ("open_mover",),
    "owner": ("open_owner",),
    "pool_worker": ("open_pool_worker",),
    "ray_cluster": ("ray_nodes",),
    "repairing": ("open_adoption", "open_parts", "open_repair", "open_stored"),
    "systems": ("FrontSystem", "GuestSystem", "OwnerSystem", "PoolWorkerSystem", "RepairSystem"),
    "synchronous": ("open_synchronous_embedder",),
    "workers": ("open_worker",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Return what a module of this package defines, and import that module if it is not yet (PEP 562)."""
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{module}"), name)
