"""What a server streams: lines end at line feeds only, and events are as the HTML standard says."""

from __future__ import annotations

import pytest

from embedfleet.client.lines import EventReader, ServerEvent, lines_of


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_lines_are_the_same_however_the_bytes_arrive(size: int) -> None:
    text = '{"text": "käse"}\n{"text": "one\u2028line\x0c"}\r\n\nend'
    raw = text.encode()
    pieces = [raw[start : start + size] for start in range(0, len(raw), size)]

    assert list(lines_of(pieces)) == ['{"text": "käse"}', '{"text": "one\u2028line\x0c"}', "", "end"]


def test_a_line_that_was_cut_off_is_not_yielded() -> None:
    def cut() -> object:
        yield b"whole\nha"
        raise ConnectionError

    lines = lines_of(cut())  # type: ignore[arg-type]

    assert next(lines) == "whole"
    with pytest.raises(ConnectionError):
        next(lines)


def test_an_event_has_the_id_of_the_last_one_that_had_an_id() -> None:
    reader = EventReader("3")
    lines = [": heartbeat", "event: job", "id: 7", 'data: {"a":', "data: 1}", "", "data:bare", "", ""]

    events = [event for line in lines if (event := reader.take(line)) is not None]

    assert events == [ServerEvent("job", '{"a":\n1}', "7"), ServerEvent("message", "bare", "7")]
    assert reader.last_id == "7"
