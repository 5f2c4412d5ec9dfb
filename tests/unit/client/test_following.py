"""What a client that follows the changes of the traffic asks for, step by step."""

from __future__ import annotations

from datetime import UTC, datetime

from embedfleet.client.calls.traffic import follow_traffic
from embedfleet.client.steps import Give, NextLine, Open, Pause
from embedfleet.traffic.schemas import TrafficChange
from embedfleet.traffic.state import TrafficState


def change(number: int) -> TrafficChange:
    return TrafficChange(
        change_id=number,
        at=datetime(2026, 1, 1, tzinfo=UTC),
        actor="local",
        action="set",
        reason=None,
        state=TrafficState(change_id=number),
    )


def test_a_stream_that_was_cut_off_is_opened_again_behind_the_last_change_that_came() -> None:
    flow = follow_traffic(after=3)
    opened = next(flow)
    assert isinstance(opened, Open)
    assert (opened.ask.path, opened.ask.params) == ("/v1/traffic/events", {"after": 3})
    assert isinstance(flow.send(None), NextLine)
    told: list[TrafficChange] = []
    for line in (
        "event: opened",
        'data: {"position": 3}',
        "",
        *(f"event: changed\nid: 4\ndata: {change(4).model_dump_json()}\n".split("\n")),
        ": heartbeat",
        "",
        "event: changed",
        f"data: {change(5).model_dump_json()}",
    ):
        step = flow.send(line)
        if isinstance(step, Give):
            told += step.items
            step = flow.send(None)
        assert isinstance(step, NextLine)
    assert isinstance(flow.send(None), Pause)  # cut off within the second change: it has not come
    again = flow.send(None)
    assert isinstance(again, Open)
    assert again.ask.params == {"after": 4}
    assert told == [change(4)]
