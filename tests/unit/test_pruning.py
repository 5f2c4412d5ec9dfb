"""Which documents go because their files are gone, and when that is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedfleet.pruning import FileDocument, _without_file, why_refused


@pytest.mark.parametrize(
    ("documents", "gone", "holds_files", "refused"),
    [
        (10, 0, True, False),
        (10, 0, False, False),  # nothing came from an empty folder
        (1, 1, False, True),  # a share that is not mounted
        (141, 141, False, True),
        (4, 4, True, False),  # few: a person deleted them
        (5, 5, True, True),
        (10, 5, True, False),  # half
        (11, 6, True, True),
        (1000, 501, True, True),
        (1000, 500, True, False),
    ],
)
def test_pruning_is_refused_where_a_folder_looks_emptied_by_accident(
    documents: int, gone: int, holds_files: bool, refused: bool
) -> None:
    assert (why_refused(documents, gone, holds_files=holds_files) is not None) == refused


def test_what_cannot_be_looked_at_is_not_gone(tmp_path: Path) -> None:
    (tmp_path / "here.txt").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    names = ["here.txt", "gone.txt", "here.txt/inside", "hidden/a.txt", "dangling", "loop/inside", "x" * 300]
    known = [FileDocument(str(tmp_path / name), name) for name in names]
    gone = _without_file(known, [tmp_path / "hidden"])
    assert [one.media_id for one in gone] == ["gone.txt", "here.txt/inside"]
