"""Metrics: the names that dashboards use, in a registry of their own."""

from __future__ import annotations

import prometheus_client

from embedfleet.metrics import Metrics
from embedfleet.metrics.cardinality import OTHER

SERIES = {
    ("worker_count", "gauge", ("worker_type",)),
    ("worker_target", "gauge", ("worker_type",)),
    ("worker_restarts_total", "counter", ("worker_type",)),
    ("worker_crash_looping", "gauge", ("worker_type",)),
    ("leader", "gauge", ()),
    ("orchestrator_info", "gauge", ("orchestrator_id", "host")),
    ("cpu_seconds_total", "counter", ("process",)),
    ("broker_up", "gauge", ()),
    ("database_up", "gauge", ()),
    ("store_up", "gauge", ()),
    ("store_debt", "gauge", ("what",)),
    ("store_debt_limit", "gauge", ("what",)),
    ("storage_waits_total", "counter", ()),
    ("store_move_phase_since_seconds", "gauge", ("phase",)),
    ("store_move_remaining_rows", "gauge", ()),
    ("store_move_rows_total", "counter", ()),
    ("model_switches", "gauge", ("phase",)),
    ("model_switch_remaining_documents", "gauge", ()),
    ("view_waiting_documents", "gauge", ("view",)),
    ("view_lag_seconds", "gauge", ("view",)),
    ("queue_depth", "gauge", ("stage",)),
    ("leased_tasks", "gauge", ("stage",)),
    ("dead_tasks", "gauge", ("stage",)),
    ("backlog_cost_tokens", "gauge", ("stage",)),
    ("backlog_seconds", "gauge", ("stage",)),
    ("unfinished_jobs", "gauge", ("status",)),
    ("oldest_unfinished_job_age_seconds", "gauge", ()),
    ("jobs_total", "counter", ("status",)),
    ("stage_latency_seconds", "histogram", ("stage",)),
    ("batch_chunks", "histogram", ("stage",)),
    ("busy_seconds_total", "counter", ("stage",)),
    ("idle_seconds_total", "counter", ("stage",)),
    ("tasks_done_total", "counter", ("stage",)),
    ("task_cost_tokens_total", "counter", ("stage",)),
    ("retries_total", "counter", ("stage",)),
    ("dead_letters_total", "counter", ("stage",)),
    ("divided_tasks_total", "counter", ("stage",)),
    ("lease_expiries_total", "counter", ("stage",)),
    ("events_undelivered", "gauge", ()),
    ("webhook_failures_total", "counter", ()),
    ("reoffered_jobs_total", "counter", ("reason",)),
    ("tenant_tokens_total", "counter", ("tenant",)),
    ("tenant_jobs_total", "counter", ("tenant",)),
    ("usage_tokens_today", "gauge", ("tenant", "model")),
    ("usage_cost_today", "gauge", ("tenant", "model")),
    ("chunks_embedded_total", "counter", ()),
    ("tokens_embedded_total", "counter", ()),
    ("chunks_reused_total", "counter", ()),
    ("cache_hits_total", "counter", ()),
    ("cache_misses_total", "counter", ()),
    ("model_seconds_total", "counter", ("model",)),
    ("model_wait_seconds_total", "counter", ("model",)),
    ("real_tokens_total", "counter", ("model",)),
    ("padding_tokens_total", "counter", ("model",)),
    ("chunk_tokens", "histogram", ("model",)),
    ("model_call_chunks", "histogram", ("model",)),
    ("model_call_tokens", "histogram", ("model",)),
    ("model_quarantines_total", "counter", ("model",)),
    ("store_seconds", "histogram", ("operation",)),
    ("sql_seconds", "histogram", ("operation",)),
    ("traffic_requests_total", "counter", ("path", "outcome")),
    ("traffic_seconds", "histogram", ("path",)),
    ("traffic_chunks_total", "counter", ("path",)),
    ("traffic_fallbacks_total", "counter", ("reason",)),
    ("traffic_kept_removals", "gauge", ("path",)),
    ("traffic_shadow_requests_total", "counter", ("outcome",)),
}


def test_the_names_types_and_labels_are_these() -> None:
    metrics = Metrics()
    found = {
        (metric._name, metric._type, metric._labelnames)  # type: ignore[attr-defined]
        for metric in metrics.registry._collector_to_names
    }
    expected = {
        (f"embedding_{name.removesuffix('_total') if kind == 'counter' else name}", kind, labels)
        for name, kind, labels in SERIES
    }
    assert found == expected


def test_two_fleets_in_one_process_do_not_share_a_count() -> None:
    Metrics().chunks_embedded_total.inc()
    assert Metrics().registry.get_sample_value("embedding_chunks_embedded_total") == 0
    assert prometheus_client.REGISTRY.get_sample_value("embedding_chunks_embedded_total") is None


def test_tenants_beyond_the_limit_share_one_time_series_and_are_all_counted() -> None:
    metrics = Metrics(max_tenants=2)
    for number in range(1000):
        metrics.count_tenant(f"tenant{number}", tokens=10, jobs=1)

    def counted(tenant: str) -> float | None:
        return metrics.registry.get_sample_value("embedding_tenant_tokens_total", {"tenant": tenant})

    assert [counted("tenant0"), counted("tenant1"), counted("tenant2")] == [10, 10, None]
    assert counted(OTHER) == 9_980
