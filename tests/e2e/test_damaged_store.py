"""Chroma can leave an index that it cannot read any more, as when a disk fills up while it writes."""

from __future__ import annotations

import pytest

from support.command import Command


@pytest.mark.slow  # an ingest waits for some time; `unit/cli/test_hopeless_wait.py` has the rule
def test_an_ingest_ends_with_what_to_do_and_goes_on_after_that(command: Command) -> None:
    docs = command.folder / "docs"
    docs.mkdir()
    # Chroma writes its index to a file for every thousand rows.
    (docs / "long.txt").write_text("\n".join(f"word{n} of the text." for n in range(60_000)))
    assert command.typed("ingest", str(docs)).code == 0
    (index,) = (command.data_dir / "chroma").glob("*/index_metadata.pickle")
    index.write_bytes(b"")

    (docs / "new.txt").write_text("A new document.")
    ended = command.run("ingest", str(docs))
    assert ended.code == 1
    assert "run `embedfleet rebuild`" in ended.stderr.splitlines()[-1]

    assert command.run("rebuild", "--yes").code == 0
    again = command.run("ingest", str(docs))
    assert again.code == 0, again.stderr
    verified = command.run("verify", "--json")
    assert verified.code == 0, verified.stdout
