"""The metadata of a file: what the caller gives for all files, and what a file beside it says."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from embedfleet import document_metadata
from embedfleet.document_metadata import Metadata
from embedfleet.errors import ParseError

SIDECAR_SUFFIX = ".meta.json"
"""`report.pdf.meta.json` holds the metadata of `report.pdf`: one JSON object."""

# Metadata has 8,192 bytes at most. White space and escapes of a file that a person writes come on top.
_MOST_BYTES = 64 * 1024


def described_by(name: str) -> str | None:
    """Return the name of the file whose metadata a file of this name holds; None if it holds none."""
    described = name.removesuffix(SIDECAR_SUFFIX)
    return None if described in (name, "") else described


def metadata_of_file(source: str, given: Metadata | None) -> Metadata | None:
    """Return the metadata that is given for every file, with that of the file's sidecar before it.

    Returns None if there is neither. Raises ParseError if the sidecar cannot be used. This blocks.
    """
    sidecar = source + SIDECAR_SUFFIX
    try:
        if not os.path.isfile(sidecar):
            return given
        own = _read(sidecar)
        return document_metadata.checked({**(given or {}), **own})
    except OSError as exc:
        raise ParseError(f"{sidecar}: cannot be read ({exc.strerror or exc}): check its permissions") from exc
    except (ValueError, RecursionError) as exc:
        raise ParseError(f"{sidecar}: {exc}: correct it, or move it away") from exc


def _read(sidecar: str) -> Mapping[str, Any]:
    with open(sidecar, "rb") as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise ValueError(f"has more than {_MOST_BYTES:,} bytes")
    try:
        own = json.loads(content)
    except (ValueError, RecursionError) as exc:
        raise ValueError("is not JSON in UTF-8") from exc
    if not isinstance(own, dict):
        raise ValueError("must be one JSON object of names with values")
    return own
