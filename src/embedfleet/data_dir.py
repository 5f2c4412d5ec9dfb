"""The data directory of embedded mode: SQLite, Chroma and the owner's lock live in it."""

from __future__ import annotations

from pathlib import Path

from embedfleet.errors import ConfigError


def create_data_dir(path: Path) -> None:
    """Create it, for its user only (vectors are as private as text). ConfigError if that cannot be done."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise ConfigError(
            f"data_dir: cannot create {path} ({exc.strerror or exc}): make its parent writable for this user "
            "or choose another with --data-dir"
        ) from exc
