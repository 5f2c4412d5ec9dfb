"""Settings files of tldw become settings of embedfleet, and every key that does not go over is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedfleet.errors import ConfigError
from embedfleet.settings import Settings, load_settings
from embedfleet.tldw.config_file import translate_file
from embedfleet.tldw.draft import Translation

CONFIG_TXT = """
[API]
openai_api_key = sk-of-another-section

[Embeddings]
# Provider settings
embedding_provider = local_api
embedding_model = nomic-embed-text
embedding_api_url = http://localhost:8081/v1/embeddings    ; For provider "local_api"
embedding_api_key = sk-secret-100%                         ; For provider "local_api"
onnx_model_path =
chunk_size = 400
overlap = 200
enable_contextual_chunking = false
max_models_in_memory = 3
max_model_memory_gb = 8
model_lru_ttl_seconds = 3600
of_a_later_release = 1
"""
MODULE = """
providers:
  - name: openai
    enabled: true
    models: [text-embedding-3-small, text-embedding-3-large]
    fallback_provider: huggingface
  - {name: huggingface, models: [sentence-transformers/all-MiniLM-L6-v2], rate_limit: 1000/min}
  - {name: cohere, enabled: false, models: [embed-english-v3.0]}
cache: {enabled: false, ttl_seconds: 3600}
resources: {max_memory_gb: 0.5, warmup_models: []}
batching: {max_batch_size: 32}
monitoring: {metrics_port: 9191}
default_provider: openai
default_model: text-embedding-3-small
chunk_size: 100
chunk_overlap: 100
"""


def translated(tmp_path: Path, name: str, text: str) -> tuple[Translation, Settings]:
    file = tmp_path / name
    file.write_text(text)
    translation = translate_file(file)
    return translation, load_settings(environ={}, overrides=translation.settings)


def keys(translation: Translation) -> set[str]:
    return {warning.partition(":")[0].strip("`") for warning in translation.warnings}


def test_config_txt(tmp_path: Path) -> None:
    translation, settings = translated(tmp_path, "config.txt", CONFIG_TXT)
    model = settings.models.catalogue["nomic-embed-text"]
    assert settings.models.default == "nomic-embed-text"
    assert model.remote is not None
    assert (model.remote.url, model.remote.model) == ("http://localhost:8081/v1", "nomic-embed-text")
    assert (settings.chunking.chunk_size, settings.chunking.overlap) == (2400, 1200)
    assert settings.models.memory_mb == {"cpu": 8192}
    assert keys(translation) == {
        "model `nomic-embed-text",
        "embedding_api_key",
        "chunk_size",
        "enable_contextual_chunking",
        "max_models_in_memory",
        "model_lru_ttl_seconds",
        "of_a_later_release",
    }
    assert "sk-" not in str(translation)


def test_the_yaml_file_of_the_module(tmp_path: Path) -> None:
    translation, settings = translated(tmp_path, "embeddings.yaml", MODULE)
    catalogue = settings.models.catalogue
    assert settings.models.default == "text-embedding-3-small"
    assert {name: entry.dim for name, entry in catalogue.items()} == {
        "text-embedding-3-small": 1536,
        "text-embedding-3-large": 3072,
        "all-MiniLM-L6-v2": None,
    }
    assert catalogue["all-MiniLM-L6-v2"].hub == "sentence-transformers/all-MiniLM-L6-v2"
    assert not settings.embedding_cache.enabled
    assert settings.models.memory_mb == {"cpu": 512}
    assert settings.monitoring.metrics_port == 9191
    assert (settings.chunking.chunk_size, settings.chunking.overlap) == (600, 120)
    assert keys(translation) == {
        "model `all-MiniLM-L6-v2",
        "providers.openai.fallback_provider",
        "providers.huggingface.rate_limit",
        "cache.ttl_seconds",
        "resources.warmup_models",
        "batching.max_batch_size",
        "chunk_size",
        "overlap",
    }


def test_the_yaml_file_of_the_workers(tmp_path: Path) -> None:
    translation, settings = translated(
        tmp_path, "workers.yaml", "worker_pools: {chunking: {num_workers: 3, poll_interval_ms: 100}}"
    )
    assert settings.worker_pools.chunking.workers == 3
    assert keys(translation) == {"worker_pools.chunking.poll_interval_ms"}


@pytest.mark.parametrize(
    ("text", "warned"),
    [
        ("embedding_provider = cohere\nembedding_model = embed-english-v3.0", "model `embed-english-v3.0`"),
        ("chunk_size = many", "`chunk_size`: its value cannot be read"),
        ("overlap = 100", "`overlap`: it is for a chunk size"),
        ("embedding_model = BAAI/bge-small-en-v1.5", "`models.catalogue.bge-small-en-v1.5.max_tokens`"),
    ],
)
def test_what_cannot_go_over_is_said_and_the_rest_is_valid(tmp_path: Path, text: str, warned: str) -> None:
    translation, _ = translated(tmp_path, "config.txt", f"[Embeddings]\n{text}\n")
    assert len(translation.warnings) == 1
    assert warned in translation.warnings[0]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("config.txt", "[API]\nkey = x\n", "no settings file of tldw_server"),
        ("config.txt", "no section\n", "not a settings file with sections"),
        ("embeddings_config.yaml", "models: {default: minilm}\n", "no settings file of tldw_server"),
        ("embeddings_config.yaml", "- a list\n", "must hold sections"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        translate_file(file)
