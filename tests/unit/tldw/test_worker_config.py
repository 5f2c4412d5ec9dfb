"""tldw's settings of workers are read, written and translated, and nothing goes lost in silence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from app.core.Embeddings.worker_config import (
    ChunkingWorkerPoolConfig,
    EmbeddingWorkerPoolConfig,
    OrchestrationConfig,
    StorageWorkerPoolConfig,
)

from embedfleet.errors import ConfigError
from embedfleet.settings import Settings, load_settings
from embedfleet.tldw.translation import is_of_workers, translate_workers

EXAMPLE = """
redis: {url: "redis://localhost:6379", max_connections: 50, decode_responses: true}
worker_pools:
  chunking:
    worker_type: chunking
    num_workers: 2
    queue_name: embeddings:chunking
    consumer_group: chunking-workers
    max_retries: 3
    shutdown_timeout: 30
    default_chunk_size: 800
    default_overlap: 100
  embedding:
    worker_type: embedding
    num_workers: 3
    batch_size: 16
    shutdown_timeout: 45
    gpu_allocation: [0, 1]
    default_model_provider: openai
    default_model_name: text-embedding-3-small
  storage: {num_workers: 1, chroma_batch_size: 100}
enable_monitoring: true
monitoring_port: 9191
log_level: DEBUG
enable_autoscaling: true
scale_up_threshold: 0.8
max_total_workers: 20
of_a_later_release: 1
"""


@pytest.fixture
def example(tmp_path: Path) -> OrchestrationConfig:
    file = tmp_path / "workers.yaml"
    file.write_text(EXAMPLE)
    return OrchestrationConfig.from_yaml(str(file))


def test_a_file_is_read_with_the_fields_of_each_kind_of_pool_and_written_as_it_was(
    example: OrchestrationConfig, tmp_path: Path
) -> None:
    chunking, embedding = example.worker_pools["chunking"], example.worker_pools["embedding"]
    assert isinstance(chunking, ChunkingWorkerPoolConfig)
    assert isinstance(embedding, EmbeddingWorkerPoolConfig)
    assert isinstance(example.worker_pools["storage"], StorageWorkerPoolConfig)
    assert (chunking.default_chunk_size, embedding.gpu_allocation) == (800, [0, 1])
    assert chunking.poll_interval_ms == 100
    copy = tmp_path / "copy.yaml"
    example.to_yaml(str(copy))
    assert OrchestrationConfig.from_yaml(str(copy)).model_dump() == example.model_dump()


def test_the_defaults_are_tldws() -> None:
    config = OrchestrationConfig.default_config()
    assert {name: pool.num_workers for name, pool in config.worker_pools.items()} == {
        "chunking": 2,
        "embedding": 2,
        "storage": 1,
    }
    assert (config.monitoring_port, config.enable_autoscaling, config.max_total_workers) == (9090, False, 50)


def test_the_redis_of_the_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://elsewhere:6380")
    assert OrchestrationConfig().redis.url == "redis://elsewhere:6380"
    monkeypatch.delenv("REDIS_URL")
    assert OrchestrationConfig().redis.url == "redis://localhost:6379"


def test_a_wrong_value_is_refused_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "workers.yaml"
    file.write_text("worker_pools: {chunking: {num_workers: 0}}")
    with pytest.raises(ConfigError, match=r"workers\.yaml: `.*num_workers`"):
        OrchestrationConfig.from_yaml(file)


def test_a_translation_is_valid_and_names_each_key_without_counterpart(example: OrchestrationConfig) -> None:
    translation = example.translated()
    settings = load_settings(environ={}, overrides=translation.settings)
    pools = settings.worker_pools
    assert (pools.chunking.workers, pools.chunking.min_workers, pools.chunking.max_workers) == (2, 2, 4)
    assert (pools.embedding.workers, pools.storage.workers) == (3, 1)
    assert pools.chunking.max_attempts == 4
    assert (settings.chunking.chunk_size, settings.chunking.overlap) == (800, 100)
    assert settings.orchestrator.drain_seconds == 45
    assert settings.monitoring.metrics_port == 9191
    assert settings.monitoring.log_level == "DEBUG"
    assert settings.auto_scaling.enabled
    assert settings.redis.url is not None
    model = settings.models.catalogue[settings.models.default]
    assert model.remote is not None
    assert (model.remote.model, model.dim) == ("text-embedding-3-small", 1536)
    assert {warning.partition(":")[0].strip("`") for warning in translation.warnings} == {
        "redis.decode_responses",
        "worker_pools.chunking.queue_name",
        "worker_pools.chunking.consumer_group",
        "worker_pools.embedding.batch_size",
        "worker_pools.embedding.gpu_allocation",
        "worker_pools.storage.chroma_batch_size",
        "scale_up_threshold",
        "max_total_workers",
        "of_a_later_release",
    }


def test_what_is_not_given_keeps_embedfleets_default() -> None:
    assert OrchestrationConfig().translated().settings == {}
    assert OrchestrationConfig(worker_pools={}).translated().warnings == ()


@pytest.mark.parametrize(
    ("given", "path", "expected"),
    [
        ({"enable_monitoring": False, "monitoring_port": 9000}, ("monitoring", "metrics_port"), 0),
        ({"monitoring_port": 9000, "enable_monitoring": False}, ("monitoring", "metrics_port"), 0),
        ({"log_level": "critical"}, ("monitoring", "log_level"), "ERROR"),
        ({"worker_pools": {"chunking": {"default_chunk_size": 500}}}, ("chunking", "overlap"), 100),
        ({"redis": {"url": "redis://one"}}, ("orchestrator", "launcher"), "inline"),
        (
            {"worker_pools": {"embedding": {"default_model_name": "sentence-transformers/all-MiniLM-L6-v2"}}},
            ("models", "default"),
            "minilm",
        ),
    ],
)
def test_values_that_depend_on_each_other(
    given: dict[str, Any], path: tuple[str, str], expected: object
) -> None:
    settings = translate_workers(given).settings
    section, name = path
    assert settings[section][name] == expected
    load_settings(environ={}, overrides=settings)


def test_a_file_of_embedfleet_is_none_of_tldws() -> None:
    assert not is_of_workers(Settings().model_dump())
    assert is_of_workers({"worker_pools": {"chunking": {"num_workers": 1}}})
    assert is_of_workers({"enable_autoscaling": True})
