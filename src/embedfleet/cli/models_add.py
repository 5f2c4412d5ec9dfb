"""`embedfleet models add`: writes an entry of the catalogue, after it has checked the model."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedfleet.cli.model_options import (
    ApiKeyEnv,
    Backend,
    Description,
    Device,
    Dim,
    Dimensions,
    DocumentPrefix,
    Dtype,
    Folder,
    Hub,
    MaxTokens,
    MemoryMb,
    Name,
    Normalise,
    Pooling,
    QueryPrefix,
    RemoteModel,
    Replace,
    Revision,
    Url,
    WeightsFile,
)
from embedfleet.cli.options import AsJson, ConfigFile, DataDir, file_to_change, settings_from
from embedfleet.cli.output import print_json, say, warn

if TYPE_CHECKING:
    from embedfleet.inference.backend import ModelInfo
    from embedfleet.settings import ModelSettings, Settings

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def add(
    name: Name,
    backend: Backend = None,
    path: Folder = None,
    hub: Hub = None,
    revision: Revision = None,
    weights_file: WeightsFile = None,
    pooling: Pooling = None,
    normalise: Normalise = None,
    query_prefix: QueryPrefix = None,
    document_prefix: DocumentPrefix = None,
    dimensions: Dimensions = None,
    dim: Dim = None,
    max_tokens: MaxTokens = None,
    dtype: Dtype = None,
    device: Device = None,
    memory_mb: MemoryMb = None,
    url: Url = None,
    remote_model: RemoteModel = None,
    api_key_env: ApiKeyEnv = None,
    description: Description = None,
    replace: Replace = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Add a model to the settings file: download it, look at it, write it down; comments stay.

    Without --config and EMBEDFLEET_CONFIG the user's own settings file is made or changed.
    """
    remote = {"url": url, "model": remote_model, "api_key_env": api_key_env}
    given: dict[str, Any] = {
        "backend": backend or ("remote" if url else None),
        "path": None if path is None else os.path.abspath(path),
        "hub": hub,
        "revision": revision,
        "weights_file": weights_file,
        "remote": {key: value for key, value in remote.items() if value is not None} or None,
        "pooling": pooling,
        "normalise": normalise,
        "query_prefix": query_prefix,
        "document_prefix": document_prefix,
        "dimensions": dimensions,
        "max_tokens": max_tokens,
        "dim": dim,
        "dtype": dtype,
        "devices": device or None,
        "memory_mb": memory_mb,
        "description": description,
    }
    entry = {key: value for key, value in given.items() if value is not None}
    _require_consistent(name, entry)
    document = _add(name, entry, file_to_change(config), data_dir, replace=replace, progress=not as_json)
    _tell(name, document, as_json=as_json)


def _tell(name: str, document: dict[str, Any], *, as_json: bool) -> None:
    for warning in document["warnings"]:
        warn(f"warning: {warning}")
    if as_json:
        print_json(document)
        return
    model = document["model"]
    say(f"{name}: {model['dim']} dimensions, {model['max_tokens']} tokens, space {model['space']}")
    say(f"{'replaced' if document['replaced'] else 'written'} in {document['config']}")
    if document["hint"]:
        say(document["hint"])


def _require_consistent(name: str, entry: dict[str, Any]) -> None:
    from embedfleet.errors import InvalidRequest

    if not _NAME.fullmatch(name):
        raise InvalidRequest(
            f"`{name}` is no name for a model: a letter or digit, then at most 63 more, `.`, `_` or `-`"
        )
    if "backend" not in entry:
        raise InvalidRequest(
            "say what runs the model: --backend onnx, torch, static or stub, or give its --url"
        )
    if "path" in entry and "hub" in entry:
        raise InvalidRequest("--path or --hub, not both: the files come from one of them")
    if "revision" in entry and "hub" not in entry:
        raise InvalidRequest("--revision goes with --hub")
    if (entry["backend"] == "remote") != ("remote" in entry):
        raise InvalidRequest("--url and --remote-model go with `--backend remote`, and it with them")


def _add(
    name: str, entry: dict[str, Any], file: Path, data_dir: Path | None, *, replace: bool, progress: bool
) -> dict[str, Any]:
    from embedfleet.errors import InvalidRequest
    from embedfleet.inference.catalogue import BUILT_IN
    from embedfleet.inference.hub import download
    from embedfleet.settings import CatalogueFile

    existing = CatalogueFile.read(file).entries()  # checked before a download that takes minutes
    if (name in existing or name in BUILT_IN) and not replace:
        where = f"in {file}" if name in existing else "built in"
        raise InvalidRequest(f"there is a model `{name}` already ({where}): choose a name, or --replace it")
    # A file that is made only now has no settings, and no other file is read in its place.
    settings = settings_from(data_dir, file if os.path.exists(file) else Path(os.devnull))
    model = _validated(name, entry)
    if model.hub is not None:
        entry |= {"revision": download(model, progress=progress)}
        model = _validated(name, entry)
    info = _model_info(settings, name, model)
    warnings = _warnings_of_replacing(settings, name, info) if replace else []
    before = CatalogueFile.read(file)  # again: the file may have changed during the download
    before.with_entry(name, _ordered(entry)).save(before)
    return {
        "model": {
            "name": name,
            "backend": model.backend,
            "dim": info.dim,
            "max_tokens": info.max_tokens,
            "size_bytes": info.size_bytes,
            "space": info.space,
            "revision": model.revision,
        },
        "config": str(file),
        "replaced": replace and name in existing,
        "warnings": warnings,
        "hint": "" if before.text else f"{file} is new: {_how_it_is_read(file)}",
    }


def _validated(name: str, entry: dict[str, Any]) -> ModelSettings:
    """The entry as the settings read it."""
    from embedfleet.settings import load_settings

    overrides = {"models": {"catalogue": {name: entry}}}
    return load_settings(environ={}, overrides=overrides).models.catalogue[name]


def _ordered(entry: dict[str, Any]) -> dict[str, Any]:
    """The fields in the order in which the settings list them."""
    from embedfleet.settings import ModelSettings

    return {field: entry[field] for field in ModelSettings.model_fields if field in entry}


def _model_info(settings: Settings, name: str, model: ModelSettings) -> ModelInfo:
    from embedfleet.inference.catalogue import Catalogue

    catalogue = {**settings.models.catalogue, name: model}
    return Catalogue(settings.models.model_copy(update={"catalogue": catalogue})).info(name)


def _warnings_of_replacing(settings: Settings, name: str, info: ModelInfo) -> list[str]:
    from embedfleet.errors import EmbedfleetError
    from embedfleet.inference.catalogue import Catalogue

    try:
        space = Catalogue(settings.models).info(name).space
    except EmbedfleetError:
        space = "of what cannot be read any more"
    if space == info.space:
        return []
    return [
        f"`{name}` has another space now ({space} before, now {info.space}): what it embedded is not found "
        "until its documents are ingested again"
    ]


def _how_it_is_read(file: Path) -> str:
    from embedfleet.settings import usual_config_file

    return "commands without --config read it" if file == usual_config_file() else "name it with --config"
