"""Reaches a Ray cluster, through the driver that joins a process to it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from embedfleet.launchers.ray.driver_link import look_at_nodes
from embedfleet.launchers.ray.messages import Node
from embedfleet.settings import Settings

RAY_DRIVER_COMMAND = (sys.executable, "-m", "embedfleet.ray_driver")


async def ray_nodes(settings: Settings) -> Sequence[Node]:
    """Return the nodes of the Ray cluster of these settings. Raises PlacementUnavailable and ConfigError."""
    return await look_at_nodes(RAY_DRIVER_COMMAND, settings.ray)
