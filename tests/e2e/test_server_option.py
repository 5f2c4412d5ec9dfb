"""Every command says the same of a system, whether it opens its data directory or asks its server."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from embedfleet.cli import app
from support.command import Command, Result, finish

_LISTENING = re.compile(r"API +(http://\S+)/v1")


@dataclass(frozen=True, slots=True)
class Served:
    """A system with a server, and commands on it: beside the server, and through it."""

    command: Command
    url: str
    corpus: Path
    job_id: str
    receipt_id: str
    ingested: Result
    """What the ingest of the corpus through the server said."""

    def beside(self, *arguments: str | os.PathLike[str]) -> Result:
        return self.command.typed(*arguments)

    def through(self, *arguments: str | os.PathLike[str]) -> Result:
        """By the environment, which is how a user of one server would do it."""
        return self.command.typed(*arguments, env={"EMBEDFLEET_SERVER": self.url})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    corpus = folder / "corpus"
    corpus.mkdir()
    (corpus / "cats.md").write_text("# Cats\n\nThe cat sat on the mat.\n")
    (corpus / "dogs.txt").write_text("The dog lay in the sun.\n")
    (corpus / "empty.txt").write_text("")
    (corpus / "broken.pdf").write_bytes(b"%PDF-1.4 broken")
    return folder


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[Served]:
    command = Command(folder)
    process = command.start("serve", "--port", "0")
    assert process.stdout is not None
    try:
        url = next(found[1] for line in process.stdout if (found := _LISTENING.search(line)))
        corpus = folder / "corpus"
        ingested = command.typed(
            "ingest", corpus, "--meta", "team=pets", "--json", env={"EMBEDFLEET_SERVER": url}
        )
        deleted = command.typed("documents", "delete", "dogs.txt", "--json")
        receipt_id = deleted.document["receipts"][0]["receipt_id"]
        jobs = command.typed("jobs", "list", "--status", "completed", "--json").document["jobs"]
        yield Served(command, url, corpus, jobs[0]["job_id"], receipt_id, ingested)
    finally:
        process.send_signal(signal.SIGTERM)
        finish(process)


# One form of each command.
COMMANDS = [
    "jobs list --json",
    "jobs show JOB",
    "jobs cancel JOB",
    "jobs retry job_none --json",
    "documents list --json",
    "documents show cats.md",
    "documents delete none --json",
    "documents receipt RECEIPT --json",
    "dlq list",
    "dlq show 999",
    "dlq requeue --job JOB",
    "dlq purge --before 2020-01-01 --yes",
    "events --json",
    "search cat --json",
    "explain cats.md --json",
    "estimate CORPUS/dogs.txt --json",
    "ingest CORPUS --dry-run --json --prune-all",
    "models list --json",
    "models switch --to minilm --dry-run --json",
    "models switches --json",
    "models pause",
    "models resume --all",
    "models throttle --campaign none --jobs 3",
    "models serve --percent 50 --tenant nobody --json",
    "models rollback --all --json",
    "models recheck",
    "models retire --yes",
    "models route show --json",
    "models route set [{model:minilm,content_type:[pdf]}]",
    "models route plan --json",
    "models route apply --yes",
    "models route clear --json",
    "tenants list",
    "tenants show local --json",
    "tenants set local --limit-of none=1",
    "tenants delete none --yes",
    "keys list",
    "keys create --operator --scope read",
    "keys rotate ef_none",
    "keys revoke ef_none",
    "usage --csv",
    "audit --json",
    "pools",
    "scale none 1",
    "traffic set 10 --allow-tenant a --deny-type pdf --reason try",
    "traffic plan 0",
    "traffic pause",
    "traffic resume",
    "traffic status --json",
    "traffic rollback",
    "traffic retire",
    "traffic restore",
    "traffic history --json",
    "traffic shadow begin --owner me --requests 0 --expires-in 1h",
    "traffic shadow list --json",
    "traffic shadow show none",
    "traffic shadow end none --json",
    "ab start minilm none --yes",
    "ab list --json",
    "ab show none",
    "ab end none --json",
    "ab promote none --yes",
]

MORE = [
    "jobs list",
    "jobs list --tenant nobody --json",
    "jobs list --status completed -n 1",
    "jobs show JOB --json",
    "jobs show job_none",
    "jobs retry JOB",
    "documents list",
    'documents list --where {"team":"pets"}',
    "documents list --where [",
    "documents show cats.md --json",
    "documents show none",
    "documents receipt",
    "documents receipt none",
    "dlq list --json --ended",
    "dlq list --stage chunking",
    "dlq show 1",
    "dlq requeue 999",
    "events",
    "events --json --after 1 -n 1",
    "search cat",
    "search cat --json -k 1",
    'search cat --where {"team":"none"} --json',
    "search cat --model none",
    "explain JOB",
    "explain none",
    "estimate CORPUS",
    "estimate CORPUS --json --strict",
    "ingest CORPUS --dry-run",
    "ingest CORPUS --chunk-size 0",
    "ingest CORPUS --overlap 5000",
    "ingest CORPUS --model none",
    "ingest CORPUS/cats.md --json",
    "ingest CORPUS --max-cost 1 --json",
    "models",
    "models switch --to none --yes",
    "models switch --to minilm --tenant a --all --dry-run",
    "models switch --to minilm --all --dry-run",
    "models switch --to minilm --yes --percent 200",
    "models switches --tenant nobody --ended -n 3",
    "models pause --campaign a --all",
    "usage --json --tenant local --from 2020-01-01 --to 2020-01-02",
    "scale embedding 1 --host none",
    "traffic set 10 --json",
    "traffic status",
    "traffic history --after 1 -n 1",
]


@pytest.mark.parametrize("line", [*COMMANDS, *(pytest.param(one, marks=pytest.mark.slow) for one in MORE)])
def test_a_command_says_the_same_beside_the_server_and_through_it(served: Served, line: str) -> None:
    names = {"JOB": served.job_id, "RECEIPT": served.receipt_id, "CORPUS": str(served.corpus)}
    arguments = [names.get(word, word.replace("CORPUS/", f"{served.corpus}/")) for word in line.split()]
    beside, through = served.beside(*arguments), served.through(*arguments)

    assert _settled(through.stdout) == _settled(beside.stdout)
    assert _settled(through.stderr) == _settled(beside.stderr)
    assert through.code == beside.code


def test_an_ingest_says_the_same_of_a_server_as_of_a_data_directory(served: Served, tmp_path: Path) -> None:
    """Of two systems that get the same files: texts, one without text, one that cannot be read."""
    here = Command(tmp_path).typed("ingest", served.corpus, "--meta", "team=pets", "--json")

    assert (here.code, served.ingested.code) == (3, 3)
    assert _without_names(served.ingested.stdout) == _without_names(here.stdout)
    assert served.ingested.stderr == here.stderr


def _settled(output: str) -> str:
    """The output without what differs between two moments: how long it took, and whose work it is."""
    output = re.sub(r"working through process .*\n", "", output)
    output = re.sub(
        r'"(seconds|seconds_before|tokens_per_second|seen_at|free_bytes)": [^,\n]+', r'"\1": X', output
    )
    # An estimate names where its pace is from: what workers do now, or what was done of late.
    output = re.sub(r'"((?:pace|rate)_source)": "(past|workers)"', r'"\1": "X"', output)
    output = re.sub(r"; [\d.,]+ [MG]B are free", "", output)
    output = re.sub(r"in \d+\.\d s", "in X s", output)
    return re.sub(r"time +about .*", "time", output)


def _without_names(output: str) -> str:
    """The output without ids and times."""
    output = re.sub(r"job_[0-9a-f]{32}", "JOB", _settled(output))
    return re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME", output)


def test_every_command_that_can_be_asked_of_a_server_is_compared() -> None:
    """A new command is compared too, or it has no --server.

    `bench fleet` measures a window of time, so no two answers of it are alike: it has tests of its own.
    """
    commands = {name for name, command in _walk("", get_command(app)) if _has_server(command)}
    commands.remove("bench fleet")
    assert {name for name in commands if not any(line.startswith(name) for line in COMMANDS)} == set()


def _walk(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield name, command
    for word, inner in getattr(command, "commands", {}).items():
        yield from _walk(f"{name} {word}".strip(), inner)


def _has_server(command: Any) -> bool:
    return any("--server" in parameter.opts for parameter in command.params)


def test_options_that_contradict_each_other_are_wrong_usage(served: Served) -> None:
    both = served.beside("jobs", "list", "--server", served.url, "--data-dir", str(served.command.data_dir))
    assert both.code == 2
    assert "leave out --data-dir and --config" in both.stderr
    alone = served.beside("jobs", "list", "--api-key", "ef_1_secret")
    assert alone.code == 2
    assert "secret" not in alone.stderr


def test_a_data_directory_by_option_is_meant_although_a_server_is_in_the_environment(
    served: Served, tmp_path: Path
) -> None:
    result = served.through("jobs", "list", "--json", "--data-dir", str(tmp_path))

    assert result.document["jobs"] == []


@pytest.mark.parametrize("by_option", [True, False])
def test_a_wrong_address_is_one_line_by_option_and_by_environment(served: Served, by_option: bool) -> None:
    """So the commands of these tests do go through the server that the environment names."""
    options = ["--server", "localhost:1"] if by_option else []
    environment = {} if by_option else {"EMBEDFLEET_SERVER": "localhost:1"}
    result = served.command.typed("jobs", "list", "--json", *options, env=environment)

    assert result.code == 1
    assert "is no address of a server" in json.loads(result.stdout)["error"]


@pytest.mark.parametrize("by_option", [True, False])
def test_a_command_of_this_machine_says_that_a_server_does_not_count(
    served: Served, tmp_path: Path, by_option: bool
) -> None:
    options = ["--data-dir", str(tmp_path / "data")] if by_option else []
    environment = {"EMBEDFLEET_SERVER": served.url, "EMBEDFLEET_DATA_DIR": str(tmp_path / "data")}
    result = served.command.typed("db", "upgrade", "--json", *options, env=environment)

    assert result.code == 0
    assert ("EMBEDFLEET_SERVER does not count" in result.stderr) is not by_option
