"""`embedfleet stores`: the whole way from one store to the other, as its users go it."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import pytest

from support.command import Command, finish

IN_LANCE = {"EMBEDFLEET_VECTOR_STORE__KIND": "lancedb"}


def copies(command: Command) -> int:
    with suppress(sqlite3.Error), closing(sqlite3.connect(command.data_dir / "embedfleet.db")) as conn:
        return int(conn.execute("SELECT count(*) FROM store_copies").fetchone()[0])
    return 0


@pytest.mark.slow
def test_a_folder_moves_though_killed_half_way_and_the_previous_store_is_retired(tmp_path: Path) -> None:
    command = Command(tmp_path)
    docs = tmp_path / "docs"
    docs.mkdir()
    for n in range(20):
        (docs / f"{n}.txt").write_text(" ".join(f"file{n} word{w}." for w in range(1500)))
    assert command.typed("ingest", str(docs)).code == 0

    plan = command.typed("stores", "move", "--to", "lancedb", "--dry-run", "--json")
    assert plan.document["rows"] > 100
    assert command.typed("stores", "status", "--json").document["move"] is None

    killed = command.start("stores", "move", "--to", "lancedb", "--yes")
    while not copies(command) and killed.poll() is None:
        pass
    killed.send_signal(signal.SIGKILL)
    finish(killed)

    moved = command.run("stores", "move", "--to", "lancedb", "--yes", "--json").document["move"]
    assert (moved["phase"], moved["switched"]) == ("keeping", True)
    assert moved["copied"] == moved["rows"] == moved["findings"]["read_back"] == plan.document["rows"]
    assert not command.typed("verify").code
    assert ".txt" in command.typed("search", "file7 word3").stdout

    refused = command.typed("stores", "retire", "--yes")
    assert refused.code != 0
    assert "settings still name" in refused.stderr
    retired = command.run("stores", "retire", "--yes", "--json", env=IN_LANCE)
    assert retired.document["move"]["phase"] == "ended"
    assert command.run("verify", env=IN_LANCE).code == 0
    assert not command.typed("verify").code
