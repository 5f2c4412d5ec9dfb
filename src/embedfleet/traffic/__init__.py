"""Moves an application from its synchronous path to the fleet, step by step, and back at any moment.

A `TrafficRouter` sends each request down one of two paths. A `TrafficState` decides which one. SQL keeps all
states, with who changed them and when.

What an application imports is listed in `__all__`. Each name is loaded when it is used, as
`SynchronousEmbedder` loads what runs models, which the leader and most commands never need.

May import: tenant_access, store_moving, model_switching and below.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from embedfleet.traffic.fleet_path import FleetPath
    from embedfleet.traffic.paths import IngestRequest, IngestResult, Path, RemovingPath, StoredChunk
    from embedfleet.traffic.router import TrafficRouter
    from embedfleet.traffic.shadow import Shadow
    from embedfleet.traffic.shadow_fleet import FleetInReach, StoreVectors
    from embedfleet.traffic.synchronous import SynchronousEmbedder

__all__ = [
    "FleetInReach",
    "FleetPath",
    "IngestRequest",
    "IngestResult",
    "Path",
    "RemovingPath",
    "Shadow",
    "StoreVectors",
    "StoredChunk",
    "SynchronousEmbedder",
    "TrafficRouter",
]

_MODULES = {
    "FleetInReach": "shadow_fleet",
    "FleetPath": "fleet_path",
    "IngestRequest": "paths",
    "IngestResult": "paths",
    "Path": "paths",
    "RemovingPath": "paths",
    "Shadow": "shadow",
    "StoreVectors": "shadow_fleet",
    "StoredChunk": "paths",
    "SynchronousEmbedder": "synchronous",
    "TrafficRouter": "router",
}


def __getattr__(name: str) -> Any:
    """Load a public name (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module `{__name__}` has no attribute `{name}`")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
