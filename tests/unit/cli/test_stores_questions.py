"""What `embedfleet stores` asks before an order says what will be deleted, and what will not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from embedfleet.cli import stores


class _Asked(Exception):
    pass


@pytest.mark.parametrize("order", [stores.abort, stores.retire])
@pytest.mark.parametrize("leave", [False, True])
def test_rows_that_are_left_are_not_said_to_be_deleted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, order: Callable[..., None], leave: bool
) -> None:
    def ask(question: str, *, yes: bool) -> None:
        raise _Asked(question.lower())

    monkeypatch.setattr(stores, "confirm", ask)
    with pytest.raises(_Asked) as asked:
        order(leave=leave, data_dir=tmp_path)
    assert ("delete" in str(asked.value)) is not leave
