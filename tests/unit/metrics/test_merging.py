"""Many processes, one view: sums that never fall."""

from __future__ import annotations

import msgpack
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from embedfleet.metrics import Metrics
from embedfleet.metrics.cardinality import OTHER
from embedfleet.metrics.merging import MergedCollector, snapshot


def exposed(collector: MergedCollector) -> list[str]:
    registry = CollectorRegistry()
    registry.register(collector)
    return generate_latest(registry).decode().splitlines()


def test_counters_and_histograms_are_added_up_and_gauges_are_the_orchestrators() -> None:
    own, worker = Metrics(), Metrics()
    collector = MergedCollector(own.registry)
    own.chunks_embedded_total.inc(1)
    own.queue_depth.labels("storage").set(7)
    own.store_seconds.labels("upsert").observe(0.02)
    worker.chunks_embedded_total.inc(2)
    worker.queue_depth.labels("storage").set(1000)
    worker.store_seconds.labels("upsert").observe(0.2)
    worker.retries_total.labels("embedding").inc()
    collector.update("w", snapshot(worker.registry))

    lines = exposed(collector)
    assert "embedding_chunks_embedded_total 3.0" in lines
    assert 'embedding_queue_depth{stage="storage"} 7.0' in lines
    assert 'embedding_retries_total{stage="embedding"} 1.0' in lines
    assert 'embedding_store_seconds_bucket{le="0.01",operation="upsert"} 0.0' in lines
    assert 'embedding_store_seconds_bucket{le="0.025",operation="upsert"} 1.0' in lines
    assert 'embedding_store_seconds_count{operation="upsert"} 2.0' in lines
    assert len(lines) == len(set(lines))


def test_a_worker_that_ended_keeps_what_it_counted_and_its_successor_adds_to_it() -> None:
    own = Metrics()
    collector = MergedCollector(own.registry)
    first, second = Metrics(), Metrics()
    first.chunks_embedded_total.inc(5)
    collector.update("embedding-0 (1)", snapshot(first.registry))
    first.chunks_embedded_total.inc(5)
    collector.update("embedding-0 (1)", snapshot(first.registry))
    assert collector.total("embedding_chunks_embedded_total") == 10
    collector.ended("embedding-0 (1)")
    assert collector.total("embedding_chunks_embedded_total") == 10
    second.chunks_embedded_total.inc(1)
    collector.update("embedding-0 (2)", snapshot(second.registry))
    assert collector.total("embedding_chunks_embedded_total") == 11


def test_a_snapshot_survives_the_journey() -> None:
    worker = Metrics()
    worker.count_tenant("añb", tokens=3)
    sent = snapshot(worker.registry)
    arrived = msgpack.unpackb(msgpack.packb(sent), use_list=False)
    assert list(arrived) == sent


def test_tenants_of_all_processes_together_stay_few() -> None:
    collector = MergedCollector(Metrics().registry, max_tenants=2)
    for number in range(10):
        worker = Metrics()
        worker.count_tenant(f"tenant{number}", tokens=1)
        collector.update(f"w{number}", snapshot(worker.registry))
    tenants = [line for line in exposed(collector) if line.startswith("embedding_tenant_tokens_total{")]
    assert len(tenants) == 3
    assert f'embedding_tenant_tokens_total{{tenant="{OTHER}"}} 8.0' in tenants
