"""Chooses the environment variables of child processes."""

from __future__ import annotations

import os
from collections.abc import Iterable


def of_these(names: Iterable[str]) -> dict[str, str]:
    """Return the variables of this process with one of these names.

    Empty entries of PYTHONPATH are left out: each is the current folder, which may hold modules of other
    people. `export PYTHONPATH=folder:$PYTHONPATH` makes one where nothing was set.
    """
    chosen = {name: os.environ[name] for name in names if name in os.environ}
    if "PYTHONPATH" in chosen:
        chosen["PYTHONPATH"] = os.pathsep.join(filter(None, chosen["PYTHONPATH"].split(os.pathsep)))
    return chosen


def without_settings() -> dict[str, str]:
    """Return the variables of this process but those with settings of embedfleet, which come by a pipe."""
    return {name: value for name, value in os.environ.items() if not name.startswith("EMBEDFLEET_")}
