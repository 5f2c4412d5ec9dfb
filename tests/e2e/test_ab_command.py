"""`embedfleet ab` with labelled questions of files: by command, through a server, and by its client."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from embedfleet.client import Client
from embedfleet.evaluation.question_files import read_trec
from embedfleet.experiments.schemas import (
    ExperimentRequest,
    ExperimentResults,
    LabelledAnswer,
    LabelledQuestion,
)
from embedfleet.sql.states import ExperimentPhase, QuestionSource
from support.command import Command, Result, finish
from support.model_switches import document

SETTINGS = """
models:
  catalogue:
    shorter: {backend: static, dimensions: 128}
experiments: {pilot_questions: 10, questions_per_step: 60}
"""
DOCUMENTS = 26
WAYS = (
    *("{}", "tell me of {}", "{} in winter", "what are {}", "about {} please"),
    *("{} of the north", "who has {}", "old {}", "we look for {}", "where are {}"),
)
_LISTENING = re.compile(r"API +(http://\S+)/v1")
_LOOK_AGAIN_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Served:
    """A server with documents of files. `ids` has their names in the system by their titles' subjects."""

    command: Command
    process: subprocess.Popen[str]
    url: str
    ids: Mapping[str, str]

    def through(self, *arguments: str | Path) -> Result:
        return self.command.typed(*arguments, env={"EMBEDFLEET_SERVER": self.url})

    def ended(self, experiment_id: str) -> dict[str, Any]:
        """Return what `ab show` says when the comparison has ended."""
        while True:
            shown = self.command.typed("ab", "show", experiment_id, "--json").document
            results: dict[str, Any] = shown["results"]
            if results["experiment"]["phase"] == "ended":
                return results
            self._pause()

    def free(self) -> None:
        """End all comparisons, and wait until no space of one is kept."""
        for one in self.command.typed("ab", "list", "--json").document["experiments"]:
            assert self.command.typed("ab", "end", one["experiment_id"], "--json").code == 0
        while self.command.typed("models", "switches", "--json").document["switches"]:
            self._pause()

    def _pause(self) -> None:
        try:
            self.process.wait(_LOOK_AGAIN_SECONDS)
        except subprocess.TimeoutExpired:
            return
        raise AssertionError(f"ended too early: {finish(self.process)}")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("compared")
    settings = folder / "config" / "embedfleet" / "embeddings_config.yaml"
    settings.parent.mkdir(parents=True)
    settings.write_text(SETTINGS)
    corpus = folder / "corpus"
    corpus.mkdir()
    for number in range(DOCUMENTS):
        (corpus / f"{number}.md").write_text(document(number)["content"])
    command = Command(folder, model="static")
    assert command.typed("ingest", corpus).code == 0
    process = command.start("serve", "--port", "0")
    assert process.stdout is not None
    try:
        url = next(found[1] for line in process.stdout if (found := _LISTENING.search(line)))
        listed = command.typed("documents", "list", "--json").document["documents"]
        by_number = {int(Path(one["source"]).stem): one["media_id"] for one in listed}
        yield Served(command, process, url, {subject(one): name for one, name in by_number.items()})
    finally:
        process.send_signal(signal.SIGTERM)
        finish(process)


def subject(number: int) -> str:
    return document(number)["title"].removeprefix("All about the ")


def labelled(ids: Mapping[str, str], ways: Sequence[str]) -> list[tuple[str, str, str]]:
    """Return (id of a question, its text, id of the right document), each in some ways."""
    return [
        (f"q{number}-{place}", way.format(what), name)
        for number, (what, name) in enumerate(ids.items())
        for place, way in enumerate(ways)
    ]


def beir(folder: Path, questions: Sequence[tuple[str, str, str]]) -> Path:
    """Write them as BEIR has them, with a question that has no answer, and a judgement without a question."""
    (folder / "qrels").mkdir(parents=True)
    lines = [json.dumps({"_id": key, "text": text, "metadata": {}}) for key, text, _ in questions]
    lines.append(json.dumps({"_id": "alone", "text": "no one knows"}))
    (folder / "queries.jsonl").write_text("\n".join(lines) + "\n")
    judged = [f"{key}\t{name}\t1" for key, _, name in questions]
    rows = ["query-id\tcorpus-id\tscore", *judged, "gone\tnowhere\t1"]
    (folder / "qrels" / "test.tsv").write_text("\n".join(rows) + "\n")
    return folder


def trec(folder: Path, questions: Sequence[tuple[str, str, str]]) -> tuple[Path, Path]:
    """Write them as TREC has them, and one whose right answer is no document of the tenant."""
    folder.mkdir()
    topics, qrels = folder / "topics.tsv", folder / "qrels.txt"
    topics.write_text("".join(f"{key}\t{text}\n" for key, text, _ in questions) + "lost\twhat is lost\n")
    qrels.write_text("".join(f"{key} 0 {name} 2\n" for key, _, name in questions) + "lost 0 no-document 1\n")
    return topics, qrels


def _words(of: Result) -> str:
    """What an error says, without the frame in which wrong usage is shown."""
    return " ".join(of.stderr.replace("│", " ").split())


def test_a_beir_folder_is_asked_and_decides(served: Served, tmp_path: Path) -> None:
    questions = beir(tmp_path / "beir", labelled(served.ids, WAYS))
    common = ("static", "shorter", "--questions", questions, "--owner", "Ada", "--metric", "recall@3")
    begun = served.command.typed(
        "ab", "start", *common, "--smallest-difference", "0.2", "--keep", "--yes", "--json"
    )
    assert begun.code == 0, begun.stderr
    assert begun.stderr == (
        "1 question without a right answer is left out, and 1 judgement without a question\n"
    )
    experiment = begun.document["experiment"]
    assert (experiment["source"], experiment["questions"]) == ("labelled", len(WAYS) * DOCUMENTS)
    found = served.ended(experiment["experiment_id"])
    decided = found["experiment"]["verdict"]
    assert decided["finding"] in ("same", "a_better", "b_better"), decided["sentence"]
    assert decided["queries"] >= 250
    assert found["metrics"][0]["value"] == "recall@3"
    assert found["metrics"][0]["a"] > 0.5
    shown = served.command.typed("ab", "show", experiment["experiment_id"]).stdout
    assert "verdict      static and shorter are the same" in shown or " better by " in shown
    kept = served.command.typed("ab", "show", experiment["experiment_id"])
    assert "space kept   until it is ended by hand\n" in kept.stdout
    freed = served.command.typed("ab", "end", experiment["experiment_id"])
    assert "space kept   no: it is freed at once\n" in freed.stdout


def test_trec_files_are_asked_through_a_server_and_its_client(served: Served, tmp_path: Path) -> None:
    served.free()
    questions = labelled(served.ids, WAYS[:2])
    topics, qrels = trec(tmp_path / "trec", questions)
    alone = served.through("ab", "start", "static", "shorter", "--questions", topics, "--yes")
    assert (alone.code, "give the file of right answers with --qrels too" in _words(alone)) == (2, True)
    without = served.through("ab", "start", "static", "shorter", "--qrels", qrels, "--yes")
    assert (without.code, "give the file of TREC topics with --questions too" in _words(without)) == (2, True)
    begun = served.through(
        "ab", "start", "static", "shorter", "--questions", topics, "--qrels", qrels, "--owner", "Ada", "--yes"
    )
    assert begun.code == 0, begun.stderr
    assert "static (A) with shorter (B), tenant local, by labelled" in begun.stdout
    [listed] = served.through("ab", "list", "-n", "1", "--json").document["experiments"]
    found = served.ended(listed["experiment_id"])
    assert found["experiment"]["reason"] == "all of its questions were asked"
    assert found["metrics"][0]["queries"] == len(questions)

    read = read_trec(topics, qrels)
    with Client(served.url) as client:
        assert client.get_experiment(listed["experiment_id"]) == ExperimentResults.model_validate(found)
        served.free()
        request = ExperimentRequest(
            tenant="local",
            model_a="static",
            model_b="shorter",
            owner="Ada",
            source=QuestionSource.LABELLED,
            questions=tuple(
                LabelledQuestion(
                    text=one.text,
                    answers=tuple(
                        LabelledAnswer(media_id=each.document, gain=each.gain) for each in one.answers
                    ),
                )
                for one in read.questions
            ),
        )
        planned = client.plan_experiment(request)
        assert planned.questions == len(questions)
        assert planned.left_out == {"no_answer_in_the_documents": 1}
        again = client.begin_experiment(request)
        served.ended(again.experiment_id)
        results = client.get_experiment(again.experiment_id)
        assert results.experiment.phase is ExperimentPhase.ENDED
        assert results.metrics[0].a == pytest.approx(found["metrics"][0]["a"])


@pytest.mark.parametrize(
    ("topics", "qrels", "told"),
    [
        ("q1 what\n", "q1 0 d 1\n", "topics.tsv"),
        ("q1\twhat\n", "q1 0 d\n", "qrels.txt"),
        ("q1\twhat\n", "q1 0 d much\n", "qrels.txt"),
        ("q1\twhat\n", "q1 0 unknown 1\n", "no right answer is one of its documents"),
    ],
)
def test_a_wrong_file_is_said_with_its_place(
    served: Served, tmp_path: Path, topics: str, qrels: str, told: str
) -> None:
    (tmp_path / "topics.tsv").write_text(topics)
    (tmp_path / "qrels.txt").write_text(qrels)
    files = ("--questions", tmp_path / "topics.tsv", "--qrels", tmp_path / "qrels.txt")
    wrong = served.command.typed("ab", "start", "static", "shorter", *files, "--yes")
    assert (wrong.code, told in wrong.stderr) == (1, True), wrong.stderr
    assert len(wrong.stderr.splitlines()) == 1


def test_a_folder_or_a_file_that_is_missing_is_said(served: Served, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    qrels = ("--qrels", tmp_path / "none")
    for path, more in ((tmp_path / "empty", ()), (tmp_path / "gone", qrels)):
        wrong = served.command.typed("ab", "start", "static", "shorter", "--questions", path, *more, "--yes")
        assert wrong.code == 1, wrong.stderr
        assert str(tmp_path) in wrong.stderr
    both = served.command.typed(
        "ab", "start", "static", "shorter", "--questions", tmp_path / "empty", *qrels, "--yes"
    )
    assert (both.code, "leave --qrels out" in _words(both)) == (2, True)


def test_the_route_is_compared_and_promoted_by_command(served: Served) -> None:
    served.free()
    wrong = served.command.typed("ab", "start", "route", "static", "--yes")
    assert wrong.code == 1
    assert "its route and model `static` for everything are the same" in wrong.stderr
    begun = served.through("ab", "start", "route", "shorter", "--owner", "Ada", "--yes", "--json")
    assert begun.code == 0, begun.stderr
    experiment = begun.document["experiment"]
    assert (experiment["model_a"], experiment["model_b"]) == ("route", "shorter")
    found = served.ended(experiment["experiment_id"])
    assert [one["models"] for one in found["spaces"]] == [["static"], ["shorter"]]
    other = served.command.typed("ab", "promote", experiment["experiment_id"], "minilm", "--yes")
    assert (other.code, "has no arm `minilm`" in other.stderr) == (1, True)
    kept = served.through("ab", "promote", experiment["experiment_id"], "route", "--yes", "--json")
    assert (kept.code, kept.document["experiment"]["keep"]) == (0, False)
