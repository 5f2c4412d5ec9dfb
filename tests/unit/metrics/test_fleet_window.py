"""Figures of a window, from looks at ports whose counts are known."""

from __future__ import annotations

import pytest
from prometheus_client import generate_latest

from embedfleet.metrics import Metrics
from embedfleet.metrics.fleet_window import FleetWindow, Look, figures_of


class Port:
    """The monitoring port of an orchestrator, looked at by hand."""

    def __init__(self, name: str) -> None:
        self.metrics = Metrics()
        self.metrics.orchestrator_info.labels(name, f"host of {name}").set(1)

    def look(self, at: float) -> Look:
        return Look.at_port(generate_latest(self.metrics.registry).decode(), at)


@pytest.fixture
def port() -> Port:
    return Port("a")


def test_a_port_says_whose_it_is(port: Port) -> None:
    assert port.look(0).orchestrator == ("a", "host of a")
    assert Look.at_port("# nothing\n", 0).orchestrator is None


def test_what_was_counted_before_the_window_is_not_in_it(port: Port) -> None:
    done = port.metrics.tasks_done_total.labels("embedding")
    done.inc(1_000)
    first = port.look(10)
    done.inc(30)
    window = FleetWindow([[first, port.look(20)]])
    assert window.count("tasks_done_total", stage="embedding") == 30
    assert window.rate("tasks_done_total", stage="embedding") == 3


def test_each_orchestrator_counts_in_its_own_time_and_all_add_up() -> None:
    ports = [Port("a"), Port("b")]
    firsts = [one.look(0) for one in ports]
    for one in ports:
        one.metrics.tokens_embedded_total.inc(100)
        one.metrics.worker_count.labels("embedding").set(2)
    window = FleetWindow([[firsts[0], ports[0].look(10)], [firsts[1], ports[1].look(20)]])
    assert window.rate("tokens_embedded_total") == 10 + 5
    assert window.seconds == 15
    # One worker on average in each window: none at its begin, two at its end.
    assert window.gauge("worker_count", worker_type="embedding") == 2


def test_a_queue_that_all_see_is_counted_once() -> None:
    ports = [Port("a"), Port("b")]
    for one in ports:
        one.metrics.queue_depth.labels("storage").set(40)
    window = FleetWindow([[one.look(0), one.look(1)] for one in ports])
    assert window.shared_gauge("queue_depth", stage="storage") == 40


def test_a_queue_is_counted_by_the_ports_that_know_it() -> None:
    """A process of one pool sees the queue of its own stage only."""
    coordinator, pods = Port("a"), [Port(f"pod {number}") for number in range(9)]
    coordinator.metrics.queue_depth.labels("chunking").set(100)
    for pod in pods:
        pod.metrics.queue_depth.labels("embedding").set(5)
    window = FleetWindow([[one.look(0), one.look(60)] for one in [coordinator, *pods]])
    assert window.shared_gauge("queue_depth", stage="chunking") == 100
    assert window.shared_gauge("queue_depth", stage="embedding") == 5


def test_a_restart_in_the_window_does_not_double_the_fleet() -> None:
    """Ten tasks a second and four workers all the time; the orchestrator stands still for four seconds."""

    def look(port: Port, at: float, done: float) -> Look:
        port.metrics.tasks_done_total.labels("embedding").inc(done)
        port.metrics.queue_depth.labels("embedding").set(100)
        port.metrics.worker_count.labels("embedding").set(4)
        return port.look(at)

    before, after = Port("before"), Port("after")
    looks = [look(before, 0, 5_000), look(before, 28, 280), look(after, 32, 0), look(after, 60, 280)]
    other = Port("other")
    figures = figures_of(FleetWindow([looks, [look(other, 0, 0), look(other, 60, 600)]]))
    stage = figures["stages"]["embedding"]
    assert stage["tasks_per_second"] == pytest.approx(560 / 60 + 10, rel=1e-3)
    assert (stage["workers"], stage["queued_tasks"]) == (8, 100)
    assert (figures["seconds"], figures["restarts"]) == (60, 1)


def test_one_that_was_restarted_counts_from_its_start(port: Port) -> None:
    """Also what it did before the first look at it, in all kinds of series."""
    first, again = port.look(0), Port("again")
    again.metrics.chunk_tokens.labels("minilm").observe(100)
    again.metrics.tasks_done_total.labels("storage").inc(7)
    window = FleetWindow([[first, again.look(10)]])
    assert window.count("tasks_done_total", stage="storage") == 7
    assert window.spread("chunk_tokens", model="minilm").mean == 100


def test_the_wait_in_a_queue_is_what_waits_by_what_leaves(port: Port) -> None:
    port.metrics.queue_depth.labels("embedding").set(50)
    first = port.look(0)
    port.metrics.tasks_done_total.labels("embedding").inc(100)
    stage = figures_of(FleetWindow([[first, port.look(10)]]))["stages"]["embedding"]
    assert stage["queued_tasks"] == 50
    assert stage["queue_wait_seconds"] == 5


def test_quantiles_lie_within_the_bucket_of_their_value(port: Port) -> None:
    lengths = port.metrics.chunk_tokens.labels("minilm")
    lengths.observe(8_000)  # before the window
    first = port.look(0)
    for length in [10] * 50 + [200] * 45 + [400] * 5:
        lengths.observe(length)
    spread = FleetWindow([[first, port.look(1)]]).spread("chunk_tokens", model="minilm")
    assert spread.mean == (50 * 10 + 45 * 200 + 5 * 400) / 100
    assert 8 <= (spread.quantile(0.4) or 0) <= 16
    assert 192 <= (spread.quantile(0.94) or 0) <= 256
    assert 384 <= (spread.quantile(0.99) or 0) <= 512


def test_a_value_above_all_bounds_counts_as_the_last_bound(port: Port) -> None:
    first = port.look(0)
    port.metrics.chunk_tokens.labels("minilm").observe(1e6)
    spread = FleetWindow([[first, port.look(1)]]).spread("chunk_tokens", model="minilm")
    assert spread.quantile(0.5) == 8_192


def test_shares_of_a_model_and_of_the_stages(port: Port) -> None:
    first = port.look(0)
    metrics = port.metrics
    metrics.real_tokens_total.labels("minilm").inc(900)
    metrics.padding_tokens_total.labels("minilm").inc(100)
    metrics.model_seconds_total.labels("minilm").inc(3)
    metrics.model_wait_seconds_total.labels("minilm").inc(1)
    metrics.busy_seconds_total.labels("storage").inc(1)
    metrics.idle_seconds_total.labels("storage").inc(3)
    metrics.cpu_seconds_total.labels("storage").inc(5)
    figures = figures_of(FleetWindow([[first, port.look(10)]]))
    model = figures["models"]["minilm"]
    assert (model["padding_share"], model["busy_share"], model["tokens_per_second"]) == (0.1, 0.75, 90)
    assert figures["stages"]["storage"]["busy_share"] == 0.25
    assert figures["cpu_cores"]["storage"] == 0.5


def test_what_nothing_was_counted_for_has_no_figure(port: Port) -> None:
    figures = figures_of(FleetWindow([[port.look(0), port.look(1)]]))
    stage = figures["stages"]["embedding"]
    assert stage["busy_share"] is stage["tasks_a_claim"] is stage["queue_wait_seconds"] is None
    assert stage["claim_seconds"] == {"mean": None, "p50": None, "p95": None}
    assert figures["models"] == {}


def test_a_window_of_one_look_is_none(port: Port) -> None:
    with pytest.raises(ValueError, match="two looks"):
        FleetWindow([[port.look(0)]])
