"""Reads labelled questions from files: TREC's topics and qrels, and folders as BEIR has them.

The ids of documents in the files are the names of the tenant's documents (`media_id`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from embedfleet.errors import InvalidRequest
from embedfleet.evaluation.questions import Answer, Question

# Of MS MARCO, the largest of the usual collections, the questions take 40 MB, the judgements 500,000 lines.
_MOST_BYTES = 256 * 2**20
_MOST_JUDGEMENTS = 2_000_000
_MOST_QUESTIONS = 100_000
_LONGEST_QUESTION = 10_000
_HIGHEST_GAIN = 100
_LONGEST_SHOWN = 60

_BEIR_HEADER = ["query-id", "corpus-id", "score"]


@dataclass(frozen=True, slots=True)
class LabelledQuestions:
    """The questions that have a right answer, and how much of the files is left out.

    `unanswered`: questions without a judgement above 0, of which no answer can be scored. `orphans`: ids in
    the judgements that no question has.
    """

    questions: tuple[Question, ...]
    unanswered: int
    orphans: int


def read_trec(topics: Path, qrels: Path) -> LabelledQuestions:
    """Read `id TAB text` lines, and qrels lines `question iteration document relevance`."""
    judged = _Judgements()
    for number, line in _lines(qrels):
        fields = line.split()
        if len(fields) != 4:
            raise _wrong(qrels, number, f"has {len(fields)} fields", "write `question 0 document relevance`")
        judged.add(qrels, number, fields[0], fields[2], fields[3])
    return _labelled(topics, _trec_topics(topics), judged)


def read_beir(folder: Path, split: str = "test") -> LabelledQuestions:
    """Read `queries.jsonl` and `qrels/SPLIT.tsv` of a folder as BEIR has it (Thakur et al. 2021)."""
    qrels, queries = folder / "qrels" / f"{split}.tsv", folder / "queries.jsonl"
    judged = _Judgements()
    for number, line in _lines(qrels):
        fields = line.split("\t")
        if number == 1 and fields == _BEIR_HEADER:
            continue
        if len(fields) != 3:
            raise _wrong(qrels, number, f"has {len(fields)} fields", "write `query TAB document TAB score`")
        judged.add(qrels, number, *fields)
    return _labelled(queries, _beir_queries(queries), judged)


class _Judgements:
    """The gains of right answers by question and document, as they are read."""

    def __init__(self) -> None:
        self.gains: dict[str, dict[str, int]] = {}
        self._number = 0

    def add(self, path: Path, number: int, question_id: str, document: str, relevance: str) -> None:
        """Add a judgement. What is judged not right, 0 or below, is no answer."""
        self._number += 1
        if self._number > _MOST_JUDGEMENTS:
            raise _wrong(path, number, f"is judgement {self._number:,}", f"give at most {_MOST_JUDGEMENTS:,}")
        try:
            gain = int(relevance)
        except ValueError:
            gain = _HIGHEST_GAIN + 1
        if gain > _HIGHEST_GAIN:
            what = f"has the relevance `{_short(relevance)}`"
            raise _wrong(path, number, what, f"write a whole number up to {_HIGHEST_GAIN}")
        gains = self.gains.setdefault(question_id, {})
        if gains.setdefault(document, gain) != gain:
            what = f"judges document `{_short(document)}` of question `{_short(question_id)}` a second time"
            raise _wrong(path, number, f"{what}, and differently", "keep one of the two lines")

    def answers(self, question_id: str) -> tuple[Answer, ...]:
        """Return the right answers of a question."""
        gains = self.gains.get(question_id, {})
        return tuple(Answer(document, gain=gain) for document, gain in gains.items() if gain > 0)


def _trec_topics(path: Path) -> Iterator[tuple[int, str, str]]:
    for number, line in _lines(path):
        question_id, tab, text = line.partition("\t")
        if not tab:
            raise _wrong(path, number, "has no tab", "write `id TAB text`")
        yield number, question_id.strip(), text.strip()


def _beir_queries(path: Path) -> Iterator[tuple[int, str, str]]:
    for number, line in _lines(path):
        try:
            query = json.loads(line)
        except (ValueError, RecursionError) as exc:
            raise _wrong(path, number, "is no JSON", 'write {"_id": "…", "text": "…"}') from exc
        if not isinstance(query, Mapping) or not all(
            isinstance(query.get(key), str) for key in ("_id", "text")
        ):
            raise _wrong(path, number, "has no `_id` and `text`", 'write {"_id": "…", "text": "…"}')
        yield number, query["_id"], query["text"].strip()


def _labelled(path: Path, topics: Iterator[tuple[int, str, str]], judged: _Judgements) -> LabelledQuestions:
    questions: list[Question] = []
    seen: set[str] = set()
    for number, question_id, text in topics:
        if question_id in seen:
            raise _wrong(
                path, number, f"has the id `{_short(question_id)}` again", "give each question its own"
            )
        seen.add(question_id)
        if not question_id or not text or len(text) > _LONGEST_QUESTION:
            wrong = f"has no id, no text, or more than {_LONGEST_QUESTION:,} characters"
            raise _wrong(path, number, wrong, "mend or remove it")
        if answers := judged.answers(question_id):
            questions.append(Question(question_id, text, answers))
        if len(questions) > _MOST_QUESTIONS:
            raise _wrong(path, number, f"is question {len(questions):,}", f"give at most {_MOST_QUESTIONS:,}")
    if not questions:
        raise InvalidRequest(
            f"{path}: no question has a right answer in the judgements: give those of these questions"
        )
    return LabelledQuestions(
        tuple(questions), unanswered=len(seen) - len(questions), orphans=len(judged.gains.keys() - seen)
    )


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Return the lines that are not blank, with their numbers."""
    try:
        size = path.stat().st_size
        if size > _MOST_BYTES:
            raise InvalidRequest(f"{path}: {size:,} bytes: give a file of at most {_MOST_BYTES:,}")
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line.rstrip("\r\n")
    except OSError as exc:
        raise InvalidRequest(f"{path}: {exc.strerror or exc}: give a file that can be read") from exc
    except UnicodeDecodeError as exc:
        raise InvalidRequest(f"{path}: not UTF-8 ({exc.reason}): convert the file to UTF-8") from exc


def _wrong(path: Path, number: int, wrong: str, remedy: str) -> InvalidRequest:
    return InvalidRequest(f"{path}, line {number}: it {wrong}: {remedy}")


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"
