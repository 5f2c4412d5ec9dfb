"""What `embedfleet stores` asks before an order says what will be deleted, and what will not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from embedfleet.cli import stores
from embedfleet.errors import InvalidRequest


@pytest.mark.parametrize("question", [stores.question_of_abort, stores.question_of_retire])
@pytest.mark.parametrize("leave", [False, True])
def test_rows_that_are_left_are_not_said_to_be_deleted(question: Callable[..., str], leave: bool) -> None:
    assert ("delete" in question(leave=leave).lower()) is not leave


@pytest.mark.parametrize("order", [stores.abort, stores.retire, stores.back])
def test_nothing_is_asked_about_a_move_that_is_not_there(tmp_path: Path, order: Callable[..., None]) -> None:
    with pytest.raises(InvalidRequest, match="no move of the vectors is under way"):
        order(data_dir=tmp_path)
