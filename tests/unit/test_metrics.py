"""Metrics: the names that dashboards use, a registry of their own, and an endpoint that goes away."""

from __future__ import annotations

import socket
import threading
import urllib.request
from collections.abc import Iterator

import prometheus_client
import pytest

from embedfleet.errors import ConfigError
from embedfleet.metrics import Metrics, MetricsServer
from embedfleet.queue_schemas import JobStatus, Stage

LOOPBACK = "127.0.0.1"


def scrape(server: MetricsServer) -> str:
    with urllib.request.urlopen(f"http://{LOOPBACK}:{server.port}/metrics", timeout=10) as answer:
        text: str = answer.read().decode()
    return text


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def server(metrics: Metrics) -> Iterator[MetricsServer]:
    running = metrics.serve(LOOPBACK, 0)
    yield running
    running.close()


def test_the_names_and_labels_are_these(metrics: Metrics) -> None:
    assert {
        (family.name, family.type, tuple(getattr(metrics, attribute)._labelnames))
        for attribute, family in (
            (family.name.removeprefix("embedding_") + ("_total" if family.type == "counter" else ""), family)
            for family in metrics.registry.collect()
        )
    } == {
        ("embedding_worker_count", "gauge", ("worker_type",)),
        ("embedding_queue_depth", "gauge", ("stage",)),
        ("embedding_jobs", "counter", ("status",)),
        ("embedding_stage_latency_seconds", "histogram", ("stage",)),
        ("embedding_batch_chunks", "histogram", ("stage",)),
        ("embedding_chunks_embedded", "counter", ()),
        ("embedding_tokens_embedded", "counter", ()),
        ("embedding_chunks_reused", "counter", ()),
        ("embedding_retries", "counter", ("stage",)),
        ("embedding_dead_letters", "counter", ("stage",)),
        ("embedding_lease_expiries", "counter", ("stage",)),
    }


def test_what_was_counted_is_what_is_scraped(metrics: Metrics, server: MetricsServer) -> None:
    metrics.worker_count.labels(Stage.EMBEDDING).set(2)
    metrics.queue_depth.labels(Stage.STORAGE).set(7)
    metrics.jobs_total.labels(JobStatus.COMPLETED).inc()
    metrics.chunks_embedded_total.inc(64)
    metrics.stage_latency_seconds.labels(Stage.CHUNKING).observe(0.3)

    lines = scrape(server).splitlines()
    for line in (
        'embedding_worker_count{worker_type="embedding"} 2.0',
        'embedding_queue_depth{stage="storage"} 7.0',
        'embedding_jobs_total{status="completed"} 1.0',
        "embedding_chunks_embedded_total 64.0",
        'embedding_stage_latency_seconds_bucket{le="0.25",stage="chunking"} 0.0',
        'embedding_stage_latency_seconds_bucket{le="0.5",stage="chunking"} 1.0',
    ):
        assert line in lines


def test_two_fleets_in_one_process_do_not_share_a_count(metrics: Metrics) -> None:
    metrics.chunks_embedded_total.inc()
    assert Metrics().registry.get_sample_value("embedding_chunks_embedded_total") == 0
    assert prometheus_client.REGISTRY.get_sample_value("embedding_chunks_embedded_total") is None


def test_a_taken_port_is_a_wrong_setting(metrics: Metrics, server: MetricsServer) -> None:
    with pytest.raises(ConfigError, match=rf"monitoring.metrics_port: cannot listen on .* {server.port} "):
        metrics.serve(LOOPBACK, server.port)


def test_an_address_of_another_machine_is_a_wrong_setting(metrics: Metrics) -> None:
    with pytest.raises(ConfigError, match=r"monitoring.metrics_host: cannot listen on 203\.0\.113\.1 "):
        metrics.serve("203.0.113.1", 0)


def test_a_closed_endpoint_leaves_no_thread_and_a_free_port(metrics: Metrics) -> None:
    before = set(threading.enumerate())
    server = metrics.serve(LOOPBACK, 0)
    port = server.port
    scrape(server)
    server.close()
    server.close()
    assert set(threading.enumerate()) == before
    with socket.create_server((LOOPBACK, port)):
        pass
