"""How many examples a property is tried with."""

from __future__ import annotations

import os

THOROUGH = bool(os.environ.get("THOROUGH"))
"""Set by `make test-slow`."""


def examples(thorough: int) -> int:
    """A quarter of what `make test-slow` takes, so that `make test` stays short."""
    return thorough if THOROUGH else thorough // 4
