"""embedfleet's settings for a process that tldw's settings and environment describe."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embedfleet.settings import Settings, load_settings
from embedfleet.settings.yaml_text import parse_sections, read_text
from embedfleet.tldw.draft import Translation
from embedfleet.tldw.translation import is_of_workers, translate_workers

REDIS_ENV = "REDIS_URL"
"""The environment variable by which tldw names its Redis."""


def redis_of_environment(settings: Settings) -> str | None:
    """Return the Redis that `REDIS_URL` names, if the settings name none themselves."""
    return None if settings.redis.url is not None else os.environ.get(REDIS_ENV) or None


def worker_file(path: Path | None) -> Translation | None:
    """Return what a file of tldw's workers says; None for no file, or for one of embedfleet's own settings.

    Raises ConfigError if the file cannot be read.
    """
    if path is None:
        return None
    values = parse_sections(read_text(path), str(path))
    return translate_workers(values) if is_of_workers(values) else None


def load_orchestrator_settings(
    translation: Translation | None,
    *,
    config_file: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Settings:
    """Return the settings that every command has, with what tldw's file says over them, and `REDIS_URL`.

    `overrides` win. A Redis of the environment has its workers in the orchestrator's process, as tldw has,
    unless the vectors are on a server, which worker processes share. Raises ConfigError.
    """
    said = {**({} if translation is None else translation.settings), **(overrides or {})}
    settings = load_settings(config_file, overrides=said)
    url = redis_of_environment(settings)
    if url is None:
        return settings
    said["redis"] = {**said.get("redis", {}), "url": url}
    if settings.vector_store.in_data_directory and settings.orchestrator.launcher == "auto":
        said["orchestrator"] = {**said.get("orchestrator", {}), "launcher": "inline"}
    return load_settings(config_file, overrides=said)
