"""What the peer benchmark counts, and that it refuses speeds of vectors that are not there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import chromadb
import contest
import numpy as np
import peers
import pytest
from contestants import CONTESTANTS, Contest, Documents, Ingest
from interactive import Span, overtaking


def a_store(directory: Path, vectors: list[list[float]]) -> None:
    client = chromadb.PersistentClient(str(directory), chromadb.Settings(anonymized_telemetry=False))
    client.create_collection("bench").add(
        ids=[str(number) for number in range(len(vectors))],
        embeddings=np.array(vectors, dtype=np.float32),
        documents=["two words"] * len(vectors),
    )


def test_every_row_of_a_store_is_read(tmp_path: Path) -> None:
    many = contest.PAGE + 5
    a_store(tmp_path, [[1.0, 0.0]] * many)
    assert contest.read_store(tmp_path) == contest.Stored(vectors=many, text_chars=many * len("twowords"))


def test_a_row_without_a_vector_does_not_count(tmp_path: Path) -> None:
    a_store(tmp_path, [[1.0, 0.0], [0.0, 0.0]])
    assert contest.read_store(tmp_path).vectors == 1


@pytest.mark.parametrize("stored", [0, 9, 11])
def test_a_contestant_whose_vectors_are_not_all_there_ends_the_benchmark(stored: int) -> None:
    with pytest.raises(SystemExit, match=f"said it stored 10 chunks, its store has {stored} vectors"):
        contest.require_all_stored("langchain", 10, contest.Stored(stored, 0))


def test_a_contestant_that_stored_nothing_ends_the_benchmark() -> None:
    with pytest.raises(SystemExit):
        contest.require_all_stored("langchain", 0, contest.Stored(0, 0))


def test_documents_are_bounded_and_add_up() -> None:
    texts = [text for _, text in peers.bounded_documents(50_000, most_chars=9_000)]
    assert sum(map(len, texts)) == 50_000
    assert max(map(len, texts)) == 9_000


def test_each_round_runs_everybody_and_begins_with_another() -> None:
    names = list(CONTESTANTS)
    orders = [contest.rotated(names, number) for number in range(len(names))]
    assert all(sorted(order) == sorted(names) for order in orders)
    assert {order[0] for order in orders} == set(names)


def test_the_warm_up_is_stored_but_not_timed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Documents] = []

    @contextmanager
    def opened(_: Contest) -> Iterator[Ingest]:
        def ingest(documents: Documents) -> int:
            asked.append(documents)
            return len(documents)

        yield ingest

    monkeypatch.setattr(contest, "contestant", lambda _: SimpleNamespace(SETTINGS="none", opened=opened))
    texts = [("a", "text"), ("b", "text")]
    measured = contest.run_here(Contest("plain script", "static", 1000, tmp_path), texts)
    assert asked == [[contest.WARM_UP], texts]
    assert (measured["chunks"], measured["warm_up_chunks"]) == (2, 1)


def run_of(chunks: int, seconds: float) -> dict[str, Any]:
    return {
        "chunks": chunks,
        "seconds": seconds,
        "cpu_seconds": seconds,
        "vectors": chunks,
        "text_chars": 0,
        "settings": "",
    }


def test_ratios_are_formed_within_a_round() -> None:
    """In the second round the machine was slow, for all alike; in the third the script had bad luck."""
    rounds = [
        {contest.OURS: run_of(20, ours), "plain script": run_of(10, script)}
        for ours, script in ((1.0, 1.0), (3.0, 3.0), (1.0, 10.0))
    ]
    found = peers.figures(rounds, [("a", "x" * 1000)])
    ratios = found["times_as_fast_as"][contest.OURS]["plain script"]
    assert ratios == {"chunks_per_second": 2.0, "mb_per_second": 1.0}
    speeds = found["contestants"][contest.OURS]["chunks_per_second"]
    assert speeds == {"median": 20.0, "min": 6.667, "max": 20.0}


def test_who_missed_a_round_has_no_figures() -> None:
    ours = {contest.OURS: run_of(20, 1.0)}
    found = peers.figures([ours | {"plain script": run_of(9, 1.0)}, ours], [("a", "text")])
    assert "plain script" not in found["contestants"]


def test_only_micro_batches_begun_before_the_waiting_query_was_taken_have_overtaken_it() -> None:
    asked, taken = [Span(1.0, 5.0)], [Span(3.0, 4.0)]
    running, overtook, after = Span(0.5, 2.0), Span(2.0, 3.0), Span(4.0, 6.0)
    assert overtaking([running, after], asked, taken) == 0
    assert overtaking([running, overtook, after], asked, taken) == 1
