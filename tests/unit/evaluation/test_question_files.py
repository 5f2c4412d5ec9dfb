from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from embedfleet.errors import InvalidRequest
from embedfleet.evaluation.question_files import read_beir, read_trec
from embedfleet.evaluation.questions import Answer


def trec(folder: Path, topics: str, qrels: str) -> tuple[Path, Path]:
    paths = folder / "topics.tsv", folder / "qrels.txt"
    paths[0].write_text(topics, encoding="utf-8")
    paths[1].write_text(qrels, encoding="utf-8")
    return paths


def beir(folder: Path, queries: str, qrels: str) -> Path:
    (folder / "qrels").mkdir()
    (folder / "queries.jsonl").write_text(queries, encoding="utf-8")
    (folder / "qrels" / "test.tsv").write_text(qrels, encoding="utf-8")
    return folder


def test_trec_files_are_read_and_what_is_left_out_is_counted(tmp_path: Path) -> None:
    read = read_trec(
        *trec(
            tmp_path,
            "\ufeff1\tGroße Fragen?\r\n\n2\tno right answer\n3\tnot judged\n",
            "1 0 d1 2\n1 Q0 d2 0\n1 0 d3 1\n2 0 d1 -1\n9 0 d1 1\n1 0 d1 2\n",
        )
    )
    (question,) = read.questions
    assert (question.question_id, question.text) == ("1", "Große Fragen?")
    assert question.answers == (Answer("d1", gain=2), Answer("d3"))
    assert (read.unanswered, read.orphans) == (2, 1)


def test_a_beir_folder_is_read(tmp_path: Path) -> None:
    queries = "".join(
        json.dumps({"_id": f"q{n}", "text": f"question {n}", "metadata": {}}) + "\n" for n in (1, 2)
    )
    read = read_beir(beir(tmp_path, queries, "query-id\tcorpus-id\tscore\nq1\tdoc one\t1\nq2\td2\t3\n"))
    assert [question.answers for question in read.questions] == [
        (Answer("doc one"),),
        (Answer("d2", gain=3),),
    ]
    assert (read.unanswered, read.orphans) == (0, 0)


@pytest.mark.parametrize(
    ("topics", "qrels", "message"),
    [
        ("1 no tab\n", "1 0 d 1\n", "topics.tsv, line 1: it has no tab: write `id TAB text`"),
        ("1\tx\n", "1 0 d 1\n1 d 1\n", "qrels.txt, line 2: it has 3 fields: write `question 0 document"),
        ("1\tx\n", "1 0 d yes\n", "qrels.txt, line 1: it has the relevance `yes`: write a whole number"),
        ("1\tx\n", "1 0 d 101\n", "write a whole number up to 100"),
        ("1\tx\n", "1 0 d 1\n1 0 d 2\n", "line 2: it judges document `d` of question `1` a second time"),
        ("1\tx\n1\ty\n", "1 0 d 1\n", "topics.tsv, line 2: it has the id `1` again"),
        ("1\t \n", "1 0 d 1\n", "line 1: it has no id, no text"),
        ("1\t" + "x" * 10_001, "1 0 d 1\n", "more than 10,000 characters: mend or remove it"),
        ("1\tx\n", "2 0 d 1\n", "topics.tsv: no question has a right answer"),
    ],
)
def test_a_wrong_line_is_named_with_what_to_do(tmp_path: Path, topics: str, qrels: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(message)):
        read_trec(*trec(tmp_path, topics, qrels))


@pytest.mark.parametrize("line", ["no json", "[1]", '{"_id": 1, "text": "x"}', "[" * 100_000])
def test_a_wrong_query_of_beir_is_named(tmp_path: Path, line: str) -> None:
    folder = beir(tmp_path, line + "\n", "query-id\tcorpus-id\tscore\nq1\td\t1\n")
    with pytest.raises(InvalidRequest, match=r"queries\.jsonl, line 1: it .*: write"):
        read_beir(folder)


def test_a_file_that_is_missing_or_not_utf_8_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        InvalidRequest, match=r"test\.tsv: No such file or directory: give a file that can be"
    ):
        read_beir(tmp_path)
    topics, qrels = trec(tmp_path, "", "1 0 d 1\n")
    topics.write_bytes(b"1\tstra\xdfe\n")
    with pytest.raises(InvalidRequest, match="convert the file to UTF-8"):
        read_trec(topics, qrels)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    topics, qrels = trec(tmp_path, "1\tx\n", "1 0 d 1\n")
    with topics.open("r+b") as file:
        file.truncate(2**29)  # a hole: no disk is used
    with pytest.raises(InvalidRequest, match="give a file of at most"):
        read_trec(topics, qrels)
