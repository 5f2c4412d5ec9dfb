"""The monitoring port: what it answers, and that it goes away."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from embedfleet.errors import ConfigError
from embedfleet.metrics import Metrics
from embedfleet.metrics.merging import MergedCollector
from embedfleet.metrics.server import Health, MonitoringServer
from support.hangs import HANG_SECONDS
from support.threads import no_thread_left

LOOPBACK = "127.0.0.1"


class Watch:
    """A monotonic clock that moves when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def health(watch: Watch) -> Health:
    return Health(stuck_after_seconds=30, now=watch)


@pytest.fixture
def server(metrics: Metrics, health: Health) -> Iterator[MonitoringServer]:
    running = MonitoringServer(MergedCollector(metrics.registry), health, host=LOOPBACK, port=0)
    yield running
    running.close()


def get(server: MonitoringServer, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{LOOPBACK}:{server.port}{path}", timeout=HANG_SECONDS) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode()


def test_what_was_counted_is_what_is_scraped(metrics: Metrics, server: MonitoringServer) -> None:
    metrics.worker_count.labels("embedding").set(2)
    metrics.jobs_total.labels("completed").inc()
    status, text = get(server, "/metrics?name[]=x")
    assert status == 200
    assert 'embedding_worker_count{worker_type="embedding"} 2.0' in text.splitlines()
    assert 'embedding_jobs_total{status="completed"} 1.0' in text.splitlines()
    assert "_created" not in text


def test_not_ready_before_it_has_started_and_while_something_is_in_the_way(
    server: MonitoringServer, health: Health
) -> None:
    assert get(server, "/readyz") == (503, "starting\n")
    health.beat(["redis: away", "storage workers are waiting: disk full"])
    assert get(server, "/readyz") == (503, "redis: away\nstorage workers are waiting: disk full\n")
    assert get(server, "/healthz") == (200, "alive\n")
    health.beat([])
    assert get(server, "/readyz") == (200, "ready\n")


def test_a_loop_that_no_longer_turns_is_not_alive(
    server: MonitoringServer, health: Health, watch: Watch
) -> None:
    health.beat([])
    watch.now = 30.0
    assert get(server, "/healthz")[0] == 200
    watch.now = 30.5
    assert get(server, "/healthz") == (503, "the orchestrator's event loop has been stuck for 30 s\n")
    assert get(server, "/readyz")[0] == 503


def test_other_paths_are_told_what_there_is(server: MonitoringServer) -> None:
    assert get(server, "/") == (404, "here are /metrics, /healthz and /readyz\n")


def test_a_taken_port_is_a_wrong_setting(server: MonitoringServer, health: Health) -> None:
    with pytest.raises(ConfigError, match=rf"monitoring.metrics_port: cannot listen on .* {server.port} "):
        MonitoringServer(MergedCollector(Metrics().registry), health, host=LOOPBACK, port=server.port)


def test_an_address_of_another_machine_is_a_wrong_setting(health: Health) -> None:
    with pytest.raises(ConfigError, match=r"monitoring.metrics_host: cannot listen on 203\.0\.113\.1 "):
        MonitoringServer(MergedCollector(Metrics().registry), health, host="203.0.113.1", port=0)


def test_a_closed_endpoint_leaves_no_thread_and_a_free_port(health: Health) -> None:
    with no_thread_left("monitoring"):
        server = MonitoringServer(MergedCollector(Metrics().registry), health, host=LOOPBACK, port=0)
        port = server.port
        get(server, "/metrics")
        server.close()
        server.close()
    with socket.create_server((LOOPBACK, port)):
        pass
