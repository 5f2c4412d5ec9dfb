"""The looks of `bench fleet` at ports whose orchestrators change."""

from __future__ import annotations

import asyncio

import pytest

from embedfleet.cli import bench_fleet_run
from embedfleet.cli.bench_fleet_run import _Looks
from embedfleet.errors import InvalidRequest, ServerUnavailable
from embedfleet.metrics.fleet_window import Look
from support.hangs import HANG_SECONDS

URL, OTHER_URL = "http://node1:9090/metrics", "http://node2:9090/metrics"
AWAY, STARTING = "away", "starting"


def answers(monkeypatch: pytest.MonkeyPatch, *names: str, url: str = URL) -> asyncio.Event:
    """The port answers as these orchestrators, one after the other. The event is set when it is asked for the
    last of these answers. Every other port answers as an orchestrator of its own."""
    given = asyncio.Event()
    moments = iter(enumerate(names))

    async def look_at(asked: str) -> Look | ServerUnavailable:
        at, name = next(moments) if asked == url else (0, asked)
        if at == len(names) - 1:
            given.set()
        if name == AWAY:
            return ServerUnavailable("no metrics")
        labels = frozenset({("orchestrator_id", name), ("host", "node1")})
        return Look(at, {} if name == STARTING else {("orchestrator_info", labels): 1.0})

    monkeypatch.setattr(bench_fleet_run, "_look_at", look_at)
    return given


async def test_one_that_was_restarted_has_one_window_with_its_port(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, "before", "before", "after")
    looks = _Looks([URL])
    for _ in range(3):
        await looks.look()
    window = looks.window()
    assert (window.seconds, window.restarts) == (2, 1)
    assert looks.orchestrators() == [("before", "node1"), ("after", "node1")]


async def test_a_url_behind_which_several_answer_in_turn_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, "a", "b", "a")
    looks = _Looks([URL])
    for _ in range(3):
        await looks.look()
    with pytest.raises(InvalidRequest, match="name the port of each"):
        looks.window()


@pytest.mark.parametrize("missing", [AWAY, STARTING])
async def test_the_looks_go_on_while_an_orchestrator_is_restarted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    last = answers(monkeypatch, "before", missing, missing, "after", "after")
    looks = _Looks([URL])
    await looks.look()
    async with looks.going_on(0.001), asyncio.timeout(HANG_SECONDS):
        await last.wait()
    assert looks.orchestrators() == [("before", "node1"), ("after", "node1")]
    assert capsys.readouterr().err.count("counts as time without work") == 1


@pytest.mark.parametrize("missing", [AWAY, STARTING])
async def test_a_port_that_is_away_at_the_end_does_not_cost_the_looks_at_the_others(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    answers(monkeypatch, "a", "a", missing)
    looks = _Looks([URL, OTHER_URL])
    await looks.look()
    await looks.look_again()
    await looks.look_again()
    assert [len(several) for several in looks._looks.values()] == [2, 3]


@pytest.mark.parametrize(("missing", "error"), [(AWAY, ServerUnavailable), (STARTING, InvalidRequest)])
async def test_a_port_that_is_away_at_the_start_is_an_error(
    monkeypatch: pytest.MonkeyPatch, missing: str, error: type[Exception]
) -> None:
    answers(monkeypatch, missing)
    with pytest.raises(error):
        await _Looks([URL, OTHER_URL]).look()
