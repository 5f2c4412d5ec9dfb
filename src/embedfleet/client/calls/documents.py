"""Documents: look, describe, delete."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from embedfleet.client.steps import Ask, Steps
from embedfleet.paging import pages

_MOST = 1_000  # documents that one request may name


def models_of(media_ids: Sequence[str]) -> Steps[dict[str, str]]:
    """Return, by media id, the model of the version that readers see or that is being made.

    A document without such a version is left out.
    """
    models: dict[str, str] = {}
    for some in pages(media_ids, _MOST):
        response = yield Ask("POST", "/v1/documents:models", json={"media_ids": list(some)}, repeats=True)
        models |= response.json()["models"]
    return models


def replace_metadata(metadata: Mapping[str, Mapping[str, Any]]) -> Steps[set[str]]:
    """Give documents this metadata, by media id, in place of all that they have.

    Returns the media ids of those that exist. Nothing is embedded.
    """
    changed: set[str] = set()
    for some in pages(list(metadata.items()), _MOST):
        body = {"metadata": {media_id: dict(one) for media_id, one in some}}
        response = yield Ask("POST", "/v1/documents:describe", json=body, repeats=True)
        changed |= set(response.json()["media_ids"])
    return changed
