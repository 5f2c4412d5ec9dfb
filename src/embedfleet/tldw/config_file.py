"""Reads a settings file of tldw_server, of any of its three kinds, in embedfleet's words.

They are `config.txt` (its section `[Embeddings]`), the YAML file of its embeddings module, and the YAML file
of its workers.
"""

from __future__ import annotations

import configparser
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embedfleet.errors import ConfigError
from embedfleet.settings.yaml_text import parse_sections, read_text
from embedfleet.tldw.chunking_config import CHARS_A_WORD
from embedfleet.tldw.draft import (
    Draft,
    Rule,
    SettingPath,
    Translation,
    translate_metrics_port,
    translate_metrics_switch,
)
from embedfleet.tldw.models import named_model
from embedfleet.tldw.translation import fit_overlap, is_of_workers, translate_workers

_SECTION = "Embeddings"
_MIB_A_GB = 1024
# Keys of the module's YAML that embedfleet's own settings do not have.
_OF_MODULE = frozenset(
    {"providers", "default_provider", "default_model", "resources", "batching", "security", "chunk_size"}
)


def translate_file(path: Path) -> Translation:
    """Return what a settings file of tldw says. Raises ConfigError for any other file."""
    text = read_text(path)
    if path.suffix.lower() in (".yaml", ".yml"):
        values = parse_sections(text, str(path))
        if is_of_workers(values):
            return translate_workers(values)
        if _OF_MODULE & values.keys():
            return translate_module(values)
        raise _none_of_tldw(path)
    return translate_config_txt(_section_of(text, path))


def _section_of(text: str, path: Path) -> Mapping[str, str]:
    # tldw's guide writes comments behind values, after a semicolon. Its values may have percent signs.
    parser = configparser.ConfigParser(interpolation=None, strict=False, inline_comment_prefixes=(";",))
    try:
        parser.read_string(text)
    except configparser.Error as exc:
        # Its own message quotes the line, which may hold a key of an API.
        raise ConfigError(f"{path}: not a settings file with sections ({type(exc).__name__})") from None
    if not parser.has_section(_SECTION):
        raise _none_of_tldw(path)
    return dict(parser.items(_SECTION))


def _none_of_tldw(path: Path) -> ConfigError:
    return ConfigError(
        f"{path}: is no settings file of tldw_server: name its config.txt, or a YAML file of its embeddings"
    )


# --- config.txt ---


def translate_config_txt(values: Mapping[str, str]) -> Translation:
    """Return what the section `[Embeddings]` says. An empty value says nothing."""
    draft = Draft()
    given = {key: value.strip() for key, value in values.items() if value.strip()}
    model = given.pop("embedding_model", None)
    provider, url = given.pop("embedding_provider", "huggingface"), given.get("embedding_api_url")
    is_local = provider.lower().replace("-", "_") in ("local_api", "local")
    if model:
        draft.add_model(named_model(provider, model, api_url=url if is_local else None), default=True)
        draft.reader_model = (provider, model)
    if is_local:
        given.pop("embedding_api_url", None)
    for key, value in given.items():
        draft.one(key, key, value, _CONFIG_TXT)
    fit_overlap(draft)
    return draft.translation


def _sized(to: str) -> Rule:
    """Return the rule of a chunk size: leaving it out is an option, too."""

    def translate(draft: Draft, key: str, value: Any) -> None:
        size = int(value) * CHARS_A_WORD
        draft.put(to, size)
        draft.put("chunking.unit", "chars")
        draft.warn(
            key,
            f"{value} words become {size} characters, and a chunk that is longer than the model takes is cut "
            "further; without this setting, chunks have the size that finds most",
        )

    return translate


_NO_CONTEXT = (
    "no language model describes the chunks; `chunking.context` embeds titles and headings with them"
)
_MODEL_FOLDER = "a model's folder is `path` of its entry in `models.catalogue`"
_CONFIG_TXT: Mapping[str, Rule] = {
    "embedding_api_url": "only a model of provider `local_api` has an address",
    "embedding_api_key": "a key is kept out of settings files: name an environment variable by `api_key_env` "
    "of the model's `remote`",
    "onnx_model_path": _MODEL_FOLDER,
    "model_dir": _MODEL_FOLDER,
    "chunk_size": _sized("chunking.chunk_size"),
    "overlap": SettingPath("chunking.overlap", lambda words: int(words) * CHARS_A_WORD),
    "chunk_overlap": SettingPath("chunking.overlap", lambda words: int(words) * CHARS_A_WORD),
    "enable_contextual_chunking": _NO_CONTEXT,
    "contextual_llm_model": _NO_CONTEXT,
    "contextual_chunk_method": _NO_CONTEXT,
    "context_window_size": _NO_CONTEXT,
    "context_strategy": _NO_CONTEXT,
    "context_token_budget": _NO_CONTEXT,
    "trusted_hf_remote_code_models": "no code of a model is run",
    "max_models_in_memory": "models are bounded by memory, `models.memory_mb`",
    "max_model_memory_gb": SettingPath("models.memory_mb", lambda gb: {"cpu": int(float(gb) * _MIB_A_GB)}),
    "model_lru_ttl_seconds": "a model goes when another needs its room, `models.memory_mb`",
}


# --- the YAML of the embeddings module ---


def translate_module(values: Mapping[str, Any]) -> Translation:
    """Return what the YAML file of tldw's embeddings module says."""
    draft = Draft()
    rest = dict(values)
    providers = _providers(rest.pop("providers", None))
    _add_models(draft, providers, rest.pop("default_provider", None), rest.pop("default_model", None))
    for key, value in rest.items():
        if key in _MODULE_SECTIONS:
            draft.each(key, value or {}, _MODULE_SECTIONS[key])
        else:
            draft.one(key, key, value, _MODULE)
    fit_overlap(draft)
    return draft.translation


def _providers(given: Any) -> dict[str, Mapping[str, Any]]:
    """Return the providers by name. They are written as a list, or by their names."""
    if isinstance(given, Mapping):
        return {str(name): one for name, one in given.items() if isinstance(one, Mapping)}
    several = given if isinstance(given, list) else []
    return {str(one["name"]): one for one in several if isinstance(one, Mapping) and "name" in one}


def _add_models(draft: Draft, providers: Mapping[str, Mapping[str, Any]], provider: Any, model: Any) -> None:
    """Add each model of a provider that is in use: collections may hold vectors of any of them."""
    for name, one in providers.items():
        if not one.get("enabled", True):
            continue
        for known in one.get("models") or ():
            draft.add_model(named_model(name, str(known), api_url=one.get("api_url")), default=False)
        for key in one.keys() - _READ_OF_PROVIDER:
            draft.warn(f"providers.{name}.{key}", _PROVIDER.get(key, "embedfleet has no such setting"))
    if model:
        chosen = str(provider or "openai")
        url = providers.get(chosen, {}).get("api_url")
        draft.add_model(named_model(chosen, str(model), api_url=url), default=True)
        draft.reader_model = (chosen, str(model))


_READ_OF_PROVIDER = frozenset({"name", "enabled", "models", "api_url", "priority"})
_PROVIDER: Mapping[str, str] = {
    "api_key": "a key is kept out of settings files: name an environment variable by `api_key_env` of the "
    "model's `remote`",
    "fallback_provider": "a document stays with its model: vectors of two models are never mixed",
    "fallback_model": "a document stays with its model: vectors of two models are never mixed",
    "rate_limit": "a model's `remote` has `requests_per_minute`",
    "max_connections": "a model's `remote` has `concurrency`",
    "timeout_seconds": "a model's `remote` has `timeout_seconds`",
}
_MODULE: Mapping[str, Rule] = {
    "chunk_size": _sized("chunking.chunk_size"),
    "chunk_overlap": SettingPath("chunking.overlap", lambda words: int(words) * CHARS_A_WORD),
}
_MODULE_SECTIONS: Mapping[str, Mapping[str, Rule]] = {
    "cache": {
        "enabled": SettingPath("embedding_cache.enabled", bool),
        "ttl_seconds": "a vector is kept as long as a document uses it",
        "max_size": "the cache is bounded by `embedding_cache.max_mb_per_tenant`",
        "cleanup_interval": "the cache is trimmed by itself",
    },
    "resources": {
        "max_models_in_memory": "models are bounded by memory, `models.memory_mb`",
        "max_memory_gb": SettingPath("models.memory_mb", lambda gb: {"cpu": int(float(gb) * _MIB_A_GB)}),
        "model_ttl_seconds": "a model goes when another needs its room, `models.memory_mb`",
        "enable_model_warmup": "the models of `worker_pools.embedding.models` are loaded at the start",
        "warmup_models": "the models of `worker_pools.embedding.models` are loaded at the start",
    },
    "batching": {},
    "security": {},
    "monitoring": {
        "enable_metrics": translate_metrics_switch,
        "metrics_port": translate_metrics_port,
        "enable_health_check": "the monitoring port always has `/healthz` and `/readyz`",
        "health_check_interval": "health is looked at when it is asked for",
    },
}
