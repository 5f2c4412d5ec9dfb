"""All series of a process, with their names, labels and buckets, in a registry of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from time import perf_counter

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from embedfleet.metrics.cardinality import BoundedLabels

# 5 ms (all vectors of a task are in the cache) to 10 minutes (a large PDF).
_LATENCY_BUCKETS_SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 180, 600)
# 1 ms to half a minute: one unit of SQL or one call of a vector store.
_CALL_BUCKETS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_BATCH_BUCKETS_CHUNKS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
# Up to the longest text that a model takes, and up to the largest call of one.
_LENGTH_BUCKETS_TOKENS = (8, 16, 32, 64, 96, 128, 192, 256, 384, 512, 1024, 2048, 4096, 8192)
_CALL_BUCKETS_TOKENS = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536, 131_072)


class Metrics:
    """Every series of a process; each attribute is exported as `embedding_<attribute>`.

    Labels: `worker_type` and `stage` have `Stage` values, `status` has `JobStatus` values. `tenant` has the
    names of the first `max_tenants` tenants; all others share `_other`. Safe to use from any thread.
    """

    def __init__(self, *, max_tenants: int = 50) -> None:
        self.registry = CollectorRegistry()
        self._tenants = BoundedLabels(max_tenants)
        self._pools()
        self._queues()
        self._work()
        self._models()
        self._stores()
        self._traffic()

    def _pools(self) -> None:
        self.worker_count = self._gauge("worker_count", "Workers running now", "worker_type")
        self.worker_target = self._gauge("worker_target", "Workers there should be", "worker_type")
        self.worker_restarts_total = self._counter(
            "worker_restarts_total", "Workers started again after a crash", "worker_type"
        )
        self.worker_crash_looping = self._gauge(
            "worker_crash_looping", "1 while workers crash again and again", "worker_type"
        )
        self.leader = self._gauge("leader", "1 on the orchestrator elected to reconcile and reap")
        self.orchestrator_info = self._gauge(
            "orchestrator_info", "1: the orchestrator whose series these are", "orchestrator_id", "host"
        )
        self.cpu_seconds_total = self._counter(
            "cpu_seconds_total",
            "Processor time of worker processes by their stage, and of the orchestrator with all that runs "
            "in its process; children that parse or hold a vector store are not in it",
            "process",
        )

    def _queues(self) -> None:
        self.broker_up = self._gauge("broker_up", "1 while the broker answers and takes writes")
        self.queue_depth = self._gauge("queue_depth", "Tasks ready or delayed now", "stage")
        self.leased_tasks = self._gauge("leased_tasks", "Tasks at work now", "stage")
        self.dead_tasks = self._gauge("dead_tasks", "Dead letters the broker holds now", "stage")
        self.backlog_cost_tokens = self._gauge("backlog_cost_tokens", "Tokens ready or delayed now", "stage")
        self.backlog_seconds = self._gauge(
            "backlog_seconds", "How long the fleet needs for what is queued, at its measured rate", "stage"
        )

    def _work(self) -> None:
        self.unfinished_jobs = self._gauge(
            "unfinished_jobs", "Jobs in SQL that have not ended, of the oldest 100,000 (leader)", "status"
        )
        self.oldest_unfinished_job_age_seconds = self._gauge(
            "oldest_unfinished_job_age_seconds", "Since the oldest job that has not ended came (leader)"
        )
        self.jobs_total = self._counter("jobs_total", "Jobs that ended like this", "status")
        self.stage_latency_seconds = self._histogram(
            "stage_latency_seconds", "From claim to ack of a task", "stage", _LATENCY_BUCKETS_SECONDS
        )
        self.batch_chunks = self._histogram(
            "batch_chunks", "Chunks worked on at once", "stage", _BATCH_BUCKETS_CHUNKS
        )
        self.busy_seconds_total = self._counter("busy_seconds_total", "Time with a claim in hand", "stage")
        self.idle_seconds_total = self._counter("idle_seconds_total", "Time without work or room", "stage")
        self.tasks_done_total = self._counter("tasks_done_total", "Tasks that were done", "stage")
        self.task_cost_tokens_total = self._counter("task_cost_tokens_total", "Tokens of done tasks", "stage")
        self.retries_total = self._counter("retries_total", "Tasks given back to try again", "stage")
        self.dead_letters_total = self._counter("dead_letters_total", "Tasks given up", "stage")
        self.divided_tasks_total = self._counter(
            "divided_tasks_total", "Tasks that ended with their worker, offered again in parts", "stage"
        )
        self.lease_expiries_total = self._counter(
            "lease_expiries_total", "Tasks taken from a silent worker", "stage"
        )
        self.events_undelivered = self._gauge("events_undelivered", "Events the webhook has yet to get")
        self.webhook_failures_total = self._counter("webhook_failures_total", "Deliveries that failed")
        self.reoffered_jobs_total = self._counter(
            "reoffered_jobs_total",
            "Jobs offered again: broker_lost (it lost its memory), tasks_lost (it lost theirs)",
            "reason",
        )
        self._tenant_tokens_total = self._counter("tenant_tokens_total", "Tokens embedded", "tenant")
        self._tenant_jobs_total = self._counter("tenant_jobs_total", "Jobs that ended", "tenant")
        self._usage_tokens_today = self._gauge(
            "usage_tokens_today",
            "Tokens submitted on this day (UTC), by the ledger (leader)",
            "tenant",
            "model",
        )
        self._usage_cost_today = self._gauge(
            "usage_cost_today", "Their price, for models that have one (leader)", "tenant", "model"
        )
        self._usage_told: set[tuple[str, str]] = set()

    def _models(self) -> None:
        self.chunks_embedded_total = self._counter("chunks_embedded_total", "Chunks a model embedded")
        self.tokens_embedded_total = self._counter("tokens_embedded_total", "Tokens a model embedded")
        self.chunks_reused_total = self._counter("chunks_reused_total", "Chunks whose vector was there")
        self.cache_hits_total = self._counter("cache_hits_total", "Chunks the embedding cache knew")
        self.cache_misses_total = self._counter(
            "cache_misses_total", "Chunks the embedding cache did not know"
        )
        self.model_seconds_total = self._counter("model_seconds_total", "Time the model ran", "model")
        self.model_wait_seconds_total = self._counter(
            "model_wait_seconds_total", "Time the loaded model had nothing to do", "model"
        )
        self.real_tokens_total = self._counter("real_tokens_total", "Tokens that were text", "model")
        self.chunk_tokens = self._histogram(
            "chunk_tokens", "Tokens of a chunk that came to be embedded", "model", _LENGTH_BUCKETS_TOKENS
        )
        self.model_call_chunks = self._histogram(
            "model_call_chunks", "Texts in one call of the model", "model", _BATCH_BUCKETS_CHUNKS
        )
        self.model_call_tokens = self._histogram(
            "model_call_tokens", "Tokens in one call of it, without padding", "model", _CALL_BUCKETS_TOKENS
        )
        self.padding_tokens_total = self._counter("padding_tokens_total", "Tokens that were padding", "model")
        self.model_quarantines_total = self._counter(
            "model_quarantines_total", "Times its known texts turned out otherwise", "model"
        )

    def _stores(self) -> None:
        self.database_up = self._gauge("database_up", "1 while the SQL database answers the heartbeat")
        self.store_up = self._gauge("store_up", "1 while the vector store answers")
        self.store_debt = self._gauge(
            "store_debt", "Upkeep that the vector store has put off: files to merge, rows in no index", "what"
        )
        self.store_debt_limit = self._gauge(
            "store_debt_limit", "The debt above which storage waits, of the settings", "what"
        )
        self.storage_waits_total = self._counter(
            "storage_waits_total", "Times that storage took no work since the upkeep of the store was behind"
        )
        self.store_move_phase_since_seconds = self._gauge(
            "store_move_phase_since_seconds",
            "When the phase of the move of the vectors began that is under way, as Unix time (leader)",
            "phase",
        )
        self.store_move_remaining_rows = self._gauge(
            "store_move_remaining_rows", "Rows that a move of the vectors has yet to copy (leader)"
        )
        self.store_move_rows_total = self._counter(
            "store_move_rows_total", "Rows that a move of the vectors copied, read back or deleted"
        )
        self.model_switches = self._gauge(
            "model_switches",
            "Switches of tenants to other models, by phase; paused ones apart (leader)",
            "phase",
        )
        self.model_switch_remaining_documents = self._gauge(
            "model_switch_remaining_documents",
            "Documents that are yet to be embedded with another model; of paused switches none (leader)",
        )
        self.store_seconds = self._histogram(
            "store_seconds", "One call of the vector store", "operation", _CALL_BUCKETS_SECONDS
        )
        self.view_waiting_documents = self._gauge(
            "view_waiting_documents", "Changed documents that a view has yet to take in (leader)", "view"
        )
        self.view_lag_seconds = self._gauge(
            "view_lag_seconds", "Since the oldest of them changed (leader)", "view"
        )
        self.sql_seconds = self._histogram(
            "sql_seconds",
            "One unit of SQL, waiting for its turn included",
            "operation",
            _CALL_BUCKETS_SECONDS,
        )

    def _traffic(self) -> None:
        """Series of a process that routes between its old path (`sync`) and the fleet (`async`)."""
        self.traffic_requests_total = self._counter(
            "traffic_requests_total",
            "Requests that a path was to answer: answered, failed, refused (wrong in themselves)",
            "path",
            "outcome",
        )
        self.traffic_seconds = self._histogram(
            "traffic_seconds", "An answer of a path", "path", _LATENCY_BUCKETS_SECONDS
        )
        self.traffic_chunks_total = self._counter("traffic_chunks_total", "Chunks that a path stored", "path")
        self.traffic_fallbacks_total = self._counter(
            "traffic_fallbacks_total",
            "Requests that went the old way: failed (the fleet failed), circuit (it was not asked)",
            "reason",
        )
        self.traffic_shadow_requests_total = self._counter(
            "traffic_shadow_requests_total",
            "Answers of the old path beside those of the fleet: equal, different, failed, skipped",
            "outcome",
        )
        self.traffic_kept_removals = self._gauge(
            "traffic_kept_removals", "Documents that are still to be removed from a path", "path"
        )

    def count_tenant(self, tenant: str, *, tokens: int = 0, jobs: int = 0) -> None:
        """Count work that was done for a tenant."""
        label = self._tenants.label(tenant)
        if tokens:
            self._tenant_tokens_total.labels(label).inc(tokens)
        if jobs:
            self._tenant_jobs_total.labels(label).inc(jobs)

    def forget_backlog(self, stage: str) -> None:
        """End the series `backlog_seconds` of a stage: it is not known how long its queue takes."""
        with suppress(KeyError):
            self.backlog_seconds.remove(stage)

    def tell_usage(
        self, tokens: Mapping[tuple[str, str], int], costs: Mapping[tuple[str, str], float]
    ) -> None:
        """Set the usage of the day by tenant and model, in place of what was told before."""
        tokens_told, costs_told = self._by_label(tokens), self._by_label(costs)
        for labels, value in tokens_told.items():
            self._usage_tokens_today.labels(*labels).set(value)
        for labels, value in costs_told.items():
            self._usage_cost_today.labels(*labels).set(value)
        # After the new values are set, so that a scrape in between misses none that stays.
        for labels in self._usage_told - tokens_told.keys():
            self._usage_tokens_today.remove(*labels)
            self._usage_cost_today.remove(*labels)
        self._usage_told = set(tokens_told)

    def _by_label(self, values: Mapping[tuple[str, str], float]) -> dict[tuple[str, str], float]:
        """Return the values by tenant and model, those of tenants without a label of their own summed up."""
        told: dict[tuple[str, str], float] = {}
        for (tenant, model), value in values.items():
            labels = self._tenants.label(tenant), model
            told[labels] = told.get(labels, 0.0) + value
        return told

    def _gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        return Gauge(f"embedding_{name}", meaning, labels, registry=self.registry)

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(f"embedding_{name}", meaning, labels, registry=self.registry)

    def _histogram(self, name: str, meaning: str, label: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"embedding_{name}", meaning, [label], registry=self.registry, buckets=buckets)


@contextmanager
def timed(histogram: Histogram, label: str) -> Iterator[None]:
    """Observe how long the block takes, also if it fails."""
    started = perf_counter()
    try:
        yield
    finally:
        histogram.labels(label).observe(perf_counter() - started)
