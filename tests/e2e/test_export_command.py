"""`embedfleet export` as its users run it."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from embedfleet.data_directory import DataDirectoryLock
from support.command import Command


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


def test_export_writes_what_was_ingested_and_says_what_is_not_in_it(command: Command) -> None:
    docs, out = command.folder / "docs", command.folder / "out"
    docs.mkdir()
    (docs / "cats.txt").write_text("The cat sat on the mat.")
    (docs / "dogs.txt").write_text("The dog lay in the sun.")
    (docs / "broken.pdf").write_bytes(b"%PDF-1.7 and no more")
    command.typed("ingest", str(docs))

    assert command.typed("export").code == 2
    with DataDirectoryLock(command.data_dir, purpose="a test"):
        in_use = command.typed("export", "--output", "out")
    assert (in_use.code, out.exists()) == (1, False)
    assert "a test" in in_use.stderr
    spelled_wrong = command.typed("export", "--output", "out", "--tenant", "defualt")
    assert (spelled_wrong.code, out.exists()) == (1, False)
    assert "tenant `defualt` has no documents" in spelled_wrong.stderr

    done = command.typed("export", "--output", "out", env={"EMBEDFLEET_SERVER": "http://localhost:1"})
    assert (done.code, done.stdout) == (3, "out: 2 documents, 2 passages, 2 vectors\n")
    assert "documents without a version that readers see, left out: 1 " in done.stderr
    assert "EMBEDFLEET_SERVER does not count here" in done.stderr
    texts = pq.read_table(out / "passages").to_pydict()["text"]
    assert sorted(texts) == ["The cat sat on the mat.", "The dog lay in the sun."]

    again = command.typed("export", "--output", "out", "--json")
    assert again.code == 1
    assert "out exists and is no empty folder" in again.document["error"]
    other = command.typed("export", "--output", "other", "--json").document
    assert (other["output"], other["documents"], other["documents_left_out"]) == ("other", 2, 1)
    assert other["folders"]["passages"] == {"files": ["part-00000.parquet"], "rows": 2}
