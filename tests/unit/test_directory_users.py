"""Who has a directory of Chroma open."""

from __future__ import annotations

import sys
from pathlib import Path
from threading import Thread

import pytest

from embedfleet.vectors.chroma.directory_users import users_of, wait_until_closed

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who has a file open")


def test_a_file_that_is_still_open_is_waited_for_but_not_the_lock(tmp_path: Path) -> None:
    seen: list[bool] = []
    with (tmp_path / "process.lock").open("w"):
        database = (tmp_path / "chroma.sqlite3").open("w")

        def wait() -> None:
            wait_until_closed(tmp_path, but="process.lock")
            seen.append(database.closed)

        waiting = Thread(target=wait)
        waiting.start()
        waiting.join(0.05)
        database.close()
        waiting.join()
    assert seen == [True]


def test_this_process_is_no_other_user(tmp_path: Path) -> None:
    with (tmp_path / "chroma.sqlite3").open("w"):
        assert users_of(tmp_path) == []
