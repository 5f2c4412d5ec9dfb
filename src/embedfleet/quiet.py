"""Keeps the libraries that we use from reporting to their makers."""

from __future__ import annotations

import os
from collections.abc import Mapping

SWITCHES: Mapping[str, str] = {
    # onnxruntime 1.32: as soon as it is imported it writes a device id into the user's cache folder, and
    # soon after it sends that, the program's path and a description of the machine to its maker. It ignores
    # DO_NOT_TRACK. Its function `disable_telemetry_events` comes too late: the import has queued a report.
    "ORT_DISABLE_TELEMETRY": "1",
    # huggingface_hub and transformers: reports, and what they tell of the machine with each download.
    "HF_HUB_DISABLE_TELEMETRY": "1",
    # chromadb. We switch it off in the settings of its clients as well.
    "ANONYMIZED_TELEMETRY": "False",
    # Libraries that follow the convention of https://donottrack.sh, today or in a later release.
    "DO_NOT_TRACK": "1",
}
"""The variables of the environment that switch reports off, and the value that does it."""


def silence_libraries() -> None:
    """Set the switches for this process and its children, whatever they were set to before.

    It must run before those libraries are imported, as they read their switches then. So the package calls
    it when it is imported itself: that is the beginning of every process of ours, and of every use as a
    library.
    """
    os.environ.update(SWITCHES)
