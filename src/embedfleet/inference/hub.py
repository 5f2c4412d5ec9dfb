"""Downloads models from the Hugging Face hub and deletes them again, only when a command says so."""

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
    """Whether the model's files come from the hub and not all of them are on this machine."""
    if settings.hub is None or settings.path is not None:
        return False
    try:
        downloaded_folder(settings)
    except ModelError:
        return True
    return False


def download(settings: ModelSettings, *, progress: bool) -> str:
    """Download the files of the model's `hub` that it needs and that are not on this machine. Returns the
    commit of the files.

    `progress`: bars on standard error, if that is a terminal. Raises ModelError if there is no such model or
    revision, ModelUnavailable if the hub does not answer, and StorageFull if the disk is full.
    """
    from huggingface_hub import snapshot_download

    assert settings.hub is not None
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its warnings come here as errors
    try:
        with _bars(shown=progress and sys.stderr.isatty()) as bars:
            folder = snapshot_download(
                settings.hub,
                revision=settings.revision,
                allow_patterns=hub_patterns(settings),
                tqdm_class=bars,
            )
    except Exception as exc:  # the library's releases raise different classes when the network fails
        raise _mapped(exc, settings) from exc
    return Path(folder).name


def forget(settings: ModelSettings) -> int:
    """Delete the files of the model's `hub` at its revision, but for those that other revisions share.
    Returns the bytes freed; 0 if there were no such files."""
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
    """A class of progress bars for the library, which leaves some of its bars open. At the end of the block
    all are closed and gone from the terminal."""
    from huggingface_hub.utils.tqdm import tqdm

    bars: list[Any] = []

    class Bar(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            options |= {"leave": False, "disable": not shown}
            super().__init__(*args, **options)  # type: ignore[no-untyped-call]
            bars.append(self)

    try:
        yield Bar
    finally:
        for bar in reversed(bars):
            bar.close()


def _mapped(exc: Exception, settings: ModelSettings) -> EmbedfleetError:
    """Our error for an exception of the library."""
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
