"""`embedfleet search` beside other processes with the same data directory: searches, and owners that end."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from embedfleet.data_directory import owner_of
from support.command import Command
from support.hangs import HANG_SECONDS

CATS = "The cat sat on the mat."
DOGS = "The dog lay in the sun."

OWN = """
    import sys
    from pathlib import Path
    from embedfleet.data_directory import DataDirectoryLock

    with DataDirectoryLock(Path(sys.argv[1]), purpose="a test", answers_searches=sys.argv[2] == "answers"):
        print("owned", flush=True)
        sys.stdin.read()
"""


@contextmanager
def owner(command: Command, answers: str) -> Iterator[subprocess.Popen[str]]:
    """A process that owns the data directory; it says whether it answers searches, and answers none."""
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(OWN), str(command.data_dir), answers],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "owned\n"
        yield process


def sources(search: subprocess.Popen[str]) -> list[str]:
    """The names of the files that a search has found, best first."""
    out, err = search.communicate(timeout=HANG_SECONDS)
    assert search.returncode == 0, err
    return [Path(hit["source"]).name for hit in json.loads(out)["hits"]]


def wait_for_a_question(command: Command) -> None:
    """Until a search has asked the owner through SQL."""
    give_up_at = time.monotonic() + HANG_SECONDS
    with closing(sqlite3.connect(command.data_dir / "embedfleet.db")) as database:
        while not database.execute("SELECT count(*) FROM searches").fetchone()[0]:
            assert time.monotonic() < give_up_at
            time.sleep(0.02)


@pytest.fixture
def ingested(command: Command, tmp_path: Path) -> Command:
    folder = tmp_path / "pets"
    folder.mkdir()
    (folder / "cats.txt").write_text(CATS)
    (folder / "dogs.txt").write_text(DOGS)
    assert command.typed("ingest", folder, "--json").code == 0
    return command


@pytest.mark.slow
def test_eight_searches_at_once_all_answer_and_leave_the_store_whole(ingested: Command) -> None:
    asked = [CATS, DOGS] * 4
    found = [sources(each) for each in [ingested.start("search", text, "--json") for text in asked]]
    assert [names[0] for names in found] == ["cats.txt", "dogs.txt"] * 4
    assert all(len(names) == 2 for names in found)
    assert ingested.run("verify", "--json").code == 0


def test_searches_and_an_ingest_that_starts_works_and_ends_let_each_other_through(
    ingested: Command, tmp_path: Path
) -> None:
    more = tmp_path / "more"
    more.mkdir()
    for number in range(30):
        (more / f"{number}.txt").write_text(f"Paper number {number}.")
    searches = [ingested.start("search", CATS, "--json") for _ in range(2)]
    ingest = ingested.start("ingest", more, "--json")
    while ingest.poll() is None:
        searches.append(ingested.start("search", CATS, "--json"))
        sources(searches[-1])
    _, err = ingest.communicate()
    assert ingest.returncode == 0, err
    assert all(sources(each)[0] == "cats.txt" for each in searches[:2])
    assert len(sources(ingested.start("search", "Paper", "-k", "50", "--json"))) == 32


def test_an_owner_that_answers_no_searches_is_named_at_once(ingested: Command) -> None:
    with owner(ingested, "silent") as process:
        refused = ingested.typed("search", "cat")
    assert refused.code == 1
    assert f"is in use by process {process.pid} on " in refused.stderr
    assert "(a test), which answers no searches: search again when it has ended" in refused.stderr


@pytest.mark.parametrize("end", ["released", "killed"])
def test_a_search_whose_owner_ends_before_it_answers_searches_by_itself(ingested: Command, end: str) -> None:
    with owner(ingested, "answers") as process:
        search = ingested.start("search", DOGS, "--json")
        wait_for_a_question(ingested)
        if end == "killed":
            process.kill()
        else:
            assert process.stdin is not None
            process.stdin.close()
        assert sources(search)[0] == "dogs.txt"
    with closing(sqlite3.connect(ingested.data_dir / "embedfleet.db")) as database:
        assert database.execute("SELECT count(*) FROM searches").fetchone() == (0,)


def test_a_killed_search_is_in_no_ones_way(ingested: Command) -> None:
    with owner(ingested, "answers"):
        asking = ingested.start("search", "cat", "--json")
        wait_for_a_question(ingested)
        asking.kill()
        asking.communicate()
    assert owner_of(ingested.data_dir) is None
    searching = ingested.start("search", "cat", "--json")
    searching.kill()
    searching.communicate()
    assert len(ingested.run("search", "cat", "--json").document["hits"]) == 2
    assert ingested.run("verify", "--json").code == 0


def test_what_cannot_be_searched_is_an_error_or_said_on_stderr(ingested: Command) -> None:
    unknown = ingested.typed("search", "cat", "--model", "stbu")
    assert (unknown.code, unknown.stdout) == (1, "")
    assert "no model `stbu` in the catalogue: did you mean `stub`?" in unknown.stderr
    blank = ingested.typed("search", " ")
    assert (blank.code, blank.stderr) == (1, "error: query: is empty: say what to look for\n")
    stranger = ingested.typed("search", "cat", "--tenant", "eve", "--json")
    assert (stranger.code, stranger.document["hits"]) == (0, [])
    assert stranger.document["notice"] == stranger.stderr.strip()
    assert "tenant `eve` has no documents" in stranger.stderr
