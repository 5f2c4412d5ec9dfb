"""What Prometheus reads: counters and gauges of one process, in a registry of their own."""

from __future__ import annotations

import errno
import threading
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from embedfleet.errors import ConfigError

# From a claim answered by the cache to a large PDF: 5 ms to 10 minutes.
_LATENCY_BUCKETS_SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 180, 600)
_BATCH_BUCKETS_CHUNKS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """Every series of a process; each attribute is exported as `embedding_<attribute>`.

    Labels: `worker_type` and `stage` take `Stage` values, `status` takes `JobStatus` values. Tenants
    are no label: there may be too many of them for a time series each. Safe to use from any thread.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.worker_count = self._gauge("worker_count", "Workers running now", "worker_type")
        self.queue_depth = self._gauge("queue_depth", "Tasks ready or delayed now", "stage")
        self.jobs_total = self._counter("jobs_total", "Jobs that reached this status", "status")
        self.stage_latency_seconds = self._histogram(
            "stage_latency_seconds", "From claim to ack of a task", _LATENCY_BUCKETS_SECONDS
        )
        self.batch_chunks = self._histogram("batch_chunks", "Chunks worked on at once", _BATCH_BUCKETS_CHUNKS)
        self.chunks_embedded_total = self._counter("chunks_embedded_total", "Chunks a model embedded")
        self.tokens_embedded_total = self._counter("tokens_embedded_total", "Tokens a model embedded")
        self.chunks_reused_total = self._counter("chunks_reused_total", "Chunks whose vector was there")
        self.retries_total = self._counter("retries_total", "Tasks given back to try again", "stage")
        self.dead_letters_total = self._counter("dead_letters_total", "Tasks given up", "stage")
        self.lease_expiries_total = self._counter(
            "lease_expiries_total", "Tasks taken from a silent worker", "stage"
        )

    def serve(self, host: str, port: int) -> MetricsServer:
        """Answer scrapes on a thread of its own until the handle is closed; port 0 takes a free one.

        Raises ConfigError, naming the setting, when the port is taken or the host is not this machine's.
        """
        try:
            server, thread = start_http_server(port, addr=host, registry=self.registry)
        except OSError as exc:
            culprit = "port" if exc.errno in (errno.EADDRINUSE, errno.EACCES) else "host"
            raise ConfigError(
                f"monitoring.metrics_{culprit}: cannot listen on {host} port {port} "
                f"({exc.strerror or exc}): choose another {culprit}, or port 0 for no metrics"
            ) from exc
        return MetricsServer(server, thread)

    def _gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        return Gauge(f"embedding_{name}", meaning, labels, registry=self.registry)

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(f"embedding_{name}", meaning, labels, registry=self.registry)

    def _histogram(self, name: str, meaning: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"embedding_{name}", meaning, ["stage"], registry=self.registry, buckets=buckets)


class MetricsServer:
    """A running scrape endpoint."""

    def __init__(self, server: WSGIServer, thread: threading.Thread) -> None:
        self._server = server
        self._thread = thread

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._server.server_port

    def close(self) -> None:
        """Stop listening; the port is free on return. May be called twice."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
