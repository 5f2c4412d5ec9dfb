"""`verify`, `rebuild`, `backup` and `restore` as their users run them."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

import pytest

from support.command import Command, finish
from support.hangs import HANG_SECONDS


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


def write_files(folder: Path, count: int, *, words: int = 400) -> Path:
    folder.mkdir(exist_ok=True)
    for n in range(count):
        (folder / f"{n}.txt").write_text(" ".join(f"file{n} word{w}." for w in range(words)))
    return folder


def test_a_wiped_store_is_found_and_rebuilt_from_the_cache_though_killed_half_way(command: Command) -> None:
    assert command.typed("ingest", str(write_files(command.folder / "docs", 30, words=2000))).code == 0
    rows = vector_count(command)
    shutil.rmtree(command.data_dir / "chroma")
    broken = command.typed("verify", "--json")
    assert broken.code == 3
    (collection,) = broken.document["collections"]
    assert len(collection["missing"]) == collection["rows"] == rows

    killed = command.start("rebuild", "--yes")
    while rows_in_chroma(command) < rows // 10:
        assert killed.poll() is None, "it was done before it could be killed"
    killed.send_signal(signal.SIGKILL)
    finish(killed)

    again = command.run("rebuild", "--yes", "--json")
    assert again.code == 0, again.stderr
    assert again.document["embedded"] == 0
    sampled = command.typed("verify", "--sample", "0.1", "--seed", "3")
    assert sampled.code == 0, sampled.stdout
    assert "--seed 3" in sampled.stdout


def test_a_backup_made_during_an_ingest_is_restored_whole_and_goes_on(command: Command) -> None:
    docs = write_files(command.folder / "docs", 60, words=1000)
    ingesting = command.start("ingest", str(docs))
    command.wait_for_completed(ingesting, 5)
    backup = command.folder / "backup.tar"
    made = command.typed("backup", str(backup), "--json")  # a process starts too late for a quick ingest
    assert made.code == 0, made.stderr
    assert finish(ingesting).code == 0
    with tarfile.open(backup) as tar:
        assert tar.getnames() == ["manifest.json", "database.zst"]

    other = Command(command.folder / "elsewhere")
    other.folder.mkdir()
    restored = other.run("restore", str(backup), "--json")
    assert restored.code == 0, restored.stderr
    assert restored.document["clean"]
    assert restored.document["embedded"] == 0
    completed = other.jobs_completed()
    assert 5 <= completed < 60
    assert other.typed("ingest", str(docs)).code == 0
    assert other.jobs_completed() >= 60
    assert other.typed("verify").code == 0


def test_postgresql_has_its_own_tools(command: Command, postgres_url: str) -> None:
    fleet = {"EMBEDFLEET_DATABASE__URL": postgres_url}
    for arguments in (("backup", "x.tar"), ("restore", "x.tar")):
        refused = command.typed(*arguments, env=fleet)
        assert refused.code == 1
        assert "pg_dump" in refused.stderr


def vector_count(command: Command) -> int:
    return _count(command.data_dir / "embedfleet.db", "vectors")


def rows_in_chroma(command: Command) -> int:
    return _count(command.data_dir / "chroma" / "chroma.sqlite3", "embeddings")


def _count(database: Path, table: str) -> int:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=HANG_SECONDS)) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
