"""Where processes that a test starts find their modules."""

from __future__ import annotations

import os
from pathlib import Path


def import_path(folder: Path) -> str:
    """The PYTHONPATH of a child process that imports modules from `folder`.

    The inherited PYTHONPATH stays behind it: a child without it would import the installed package, and not
    the source that is under test.
    """
    inherited = os.environ.get("PYTHONPATH")
    return os.pathsep.join([str(folder), *([inherited] if inherited else [])])
