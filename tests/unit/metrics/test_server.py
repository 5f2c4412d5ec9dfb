"""The monitoring port: what it answers, and that it goes away."""

from __future__ import annotations

import socket
import struct
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client import Metric

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


def ask(server: MonitoringServer, request: bytes) -> bytes:
    """Send these bytes; returns the whole answer."""
    with socket.create_connection((LOOPBACK, server.port), timeout=HANG_SECONDS) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_head_is_answered_as_get_is_but_without_the_body(server: MonitoringServer, health: Health) -> None:
    health.beat([])
    head, _, body = ask(server, b"HEAD /readyz HTTP/1.0\r\n\r\n").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200 OK")
    assert b"Content-Length: 6" in head
    assert body == b""
    assert ask(server, b"HEAD /nothing HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 404 ")


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"POST /metrics HTTP/1.0\r\nContent-Length: 4", b"405"),
        (b"OPTIONS /metrics HTTP/1.0", b"405"),
        (b"BREW /metrics HTTP/1.0", b"501"),
        (b"GET /metrics FTP/1.0", b"400"),
    ],
)
def test_other_requests_are_refused_in_plain_text(
    server: MonitoringServer, request_line: bytes, status: bytes
) -> None:
    head, _, body = ask(server, request_line + b"\r\n\r\nbody").partition(b"\r\n\r\n")
    assert status in (head or body).split()
    assert (b"Allow: GET, HEAD" in head) == (status == b"405")
    assert b"<" not in head + body


class Gone:
    """A collector whose scraper gives up while it is asked."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.left = threading.Event()

    def collect(self) -> Iterator[Metric]:
        self.asked.set()
        self.left.wait(HANG_SECONDS)
        for number in range(100):  # more than what the socket takes without a reader
            metric = Metric(f"large_{number}", "x" * 100_000, "gauge")
            metric.add_sample(metric.name, {}, 1.0)
            yield metric


def test_a_scraper_that_leaves_before_its_answer_leaves_no_traceback(
    health: Health, capfd: pytest.CaptureFixture[str]
) -> None:
    slow = Gone()
    slow.left.set()  # a registry asks a collector once as it is registered
    server = MonitoringServer(slow, health, host=LOOPBACK, port=0)
    slow.left.clear()
    slow.asked.clear()
    with socket.create_connection((LOOPBACK, server.port), timeout=HANG_SECONDS) as connection:
        connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        slow.asked.wait(HANG_SECONDS)
        # It leaves with a reset, as one does that was killed.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    slow.left.set()
    server.close()  # returns when the thread of that request has ended
    assert capfd.readouterr().err == ""


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
