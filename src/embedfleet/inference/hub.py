"""Files of models, fetched from the Hugging Face hub and dropped again: only when somebody says so."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from errno import ENOSPC
from pathlib import Path
from typing import Any

from embedfleet.errors import EmbedfleetError, ModelError, ModelUnavailable, StorageFull
from embedfleet.inference.model_files import downloaded_folder, hub_patterns
from embedfleet.settings import ModelSettings


def is_missing(settings: ModelSettings) -> bool:
    """Its files come from the hub, and not all of them are on this machine."""
    if settings.hub is None or settings.path is not None:
        return False
    try:
        downloaded_folder(settings)
    except ModelError:
        return True
    return False


def download(settings: ModelSettings, *, progress: bool) -> str:
    """Fetch what the model needs of its `hub` and is not here; returns the commit that it is.

    `progress`: bars on standard error, if that is a terminal. Raises ModelError if there is no such model or
    revision, ModelUnavailable if the hub does not answer, StorageFull.
    """
    from huggingface_hub import snapshot_download

    assert settings.hub is not None
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its warnings are said here, as errors
    try:
        with _bars(shown=progress and sys.stderr.isatty()) as bars:
            folder = snapshot_download(
                settings.hub,
                revision=settings.revision,
                allow_patterns=hub_patterns(settings),
                tqdm_class=bars,
            )
    except Exception as exc:  # those of its transport change with its releases
        raise _translated(exc, settings) from exc
    return Path(folder).name


def forget(settings: ModelSettings) -> int:
    """Delete the files of its `hub` at its revision, unless other revisions share them; returns the bytes
    freed, 0 if nothing was there."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        cache = scan_cache_dir()
    except CacheNotFound:
        return 0
    revision = settings.revision or "main"
    commits = [
        commit.commit_hash
        for repository in cache.repos
        if repository.repo_id == settings.hub and repository.repo_type == "model"
        for commit in repository.revisions
        if revision == commit.commit_hash or revision in commit.refs
    ]
    if not commits:
        return 0
    deletion = cache.delete_revisions(*commits)
    deletion.execute()
    return deletion.expected_freed_size


@contextmanager
def _bars(*, shown: bool) -> Iterator[type[Any]]:
    """What draws the library's progress, gone from the terminal afterwards: it leaves some of it open."""
    from huggingface_hub.utils.tqdm import tqdm

    made: list[Any] = []

    class Bar(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            options |= {"leave": False, "disable": not shown}
            super().__init__(*args, **options)  # type: ignore[no-untyped-call]
            made.append(self)

    try:
        yield Bar
    finally:
        for bar in reversed(made):
            bar.close()


def _translated(exc: Exception, settings: ModelSettings) -> EmbedfleetError:
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    hub, at = settings.hub, constants.ENDPOINT
    match exc:
        case HFValidationError():
            return ModelError(f"`hub: {hub}` is no Hugging Face id ({exc})")
        case GatedRepoError():
            return ModelError(
                f"{hub}: {at} gives it only to those who accepted its terms: do, and `hf auth login`"
            )
        case RepositoryNotFoundError():
            return ModelError(f"{hub}: no such model on {at}, or a private one (`hf auth login`)")
        case RevisionNotFoundError():
            return ModelError(f"{hub}: has no revision `{settings.revision}` on {at}")
        case OSError(errno=code) if code == ENOSPC:
            return StorageFull(
                f"{hub}: no room for it in {constants.HF_HUB_CACHE}: make some, or set HF_HOME"
            )
        case _:
            return ModelUnavailable(f"{hub}: cannot be downloaded from {at} ({type(exc).__name__}: {exc})")
