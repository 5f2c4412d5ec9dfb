from __future__ import annotations

import os
from pathlib import Path

import pytest

from embedfleet.whole_file import written_whole


def test_the_file_has_its_old_content_until_the_block_ends_and_then_the_new_one(tmp_path: Path) -> None:
    target = tmp_path / "file.json"
    target.write_text("old")
    with written_whole(target) as draft:
        draft.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_a_failure_leaves_the_file_as_it_was_and_no_draft(tmp_path: Path) -> None:
    target = tmp_path / "file.json"
    target.write_text("old")

    def write_half() -> None:
        with written_whole(target) as draft:
            draft.write_text("ne")
            raise ValueError("half written")

    with pytest.raises(ValueError, match="half"):
        write_half()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_what_is_no_regular_file_is_never_replaced(tmp_path: Path) -> None:
    """As a rename would: /dev/null would be a file from then on, for every program of the machine."""
    device = tmp_path / "device"
    os.mkfifo(device)
    for target in (device, tmp_path):
        with pytest.raises(OSError, match="no regular file"), written_whole(target) as draft:
            draft.write_text("new")
    assert device.is_fifo()
    assert list(tmp_path.iterdir()) == [device]


def test_two_writers_of_one_file_do_not_share_a_draft(tmp_path: Path) -> None:
    target = tmp_path / "file.json"
    with written_whole(target) as one, written_whole(target) as other:
        one.write_text("one")
        other.write_text("other")
    assert target.read_text() == "one"
    assert list(tmp_path.iterdir()) == [target]
