"""`embedfleet models switch` and the orders after it, embedded and without an orchestrator."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from support.command import Command, finish

CATALOGUE = """
models:
  catalogue:
    shorter: {backend: static, dimensions: 128}
"""


@pytest.fixture
def command(tmp_path: Path) -> Command:
    command = Command(tmp_path, model="static")
    settings = tmp_path / "config" / "embedfleet" / "embeddings_config.yaml"
    settings.parent.mkdir(parents=True)
    settings.write_text(CATALOGUE)
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for name in ("lamps", "boats", "clocks"):
        (corpus / f"{name}.md").write_text(f"# How {name} are made\n\nThe {name} of the north are old.\n")
    assert command.typed("ingest", corpus).code == 0
    return command


def test_a_tenant_is_switched_back_and_forth_and_the_old_vectors_are_deleted(command: Command) -> None:
    dry = command.typed("models", "switch", "--to", "shorter", "--dry-run")
    assert (dry.code, "for 1 tenant with 3 documents" in dry.stdout) == (0, True)
    assert command.typed("models", "switches").stdout == "no switch to another model is under way\n"
    assert command.typed("models", "switch", "--to", "shorter").code == 2  # there is no terminal to ask
    early = command.typed("models", "retire")  # nothing is asked about what is not there
    assert (early.code, "no switch to another model of tenant `local` is under way" in early.stderr) == (
        1,
        True,
    )

    nothing = command.typed("models", "switch", "--to", "static", "--yes")
    assert nothing.code == 0, nothing.stderr
    assert nothing.stdout.splitlines() == [
        "to         static: no documents are to be embedded",
        "no work    1 tenant: only the model is set (local)",
        "",
        "no documents are to be embedded",
        "tenant local: what it submits goes to static from now on",
    ]

    done = command.typed("models", "switch", "--to", "shorter", "--yes")
    assert done.code == 0, done.stderr
    assert "read back  3 of 3 chunks" in done.stdout
    assert "queries    100% are answered with shorter" in done.stdout
    assert "filling, 0 of 3 documents in both spaces" in done.stderr
    assert _model(command) == "shorter"

    assert command.typed("models", "rollback").code == 0
    assert _model(command) == "static"
    half = command.typed("models", "serve", "--percent", "50%")
    assert "`shorter` answers 50% of the queries" in half.stdout
    early = command.typed("models", "retire", "--yes", "--json")
    assert (early.code, "both spaces answer queries" in early.document["error"]) == (1, True)
    assert command.typed("models", "serve", "--percent", "100", "--all").code == 0

    retired = command.typed("models", "retire", "--yes", "--json")
    assert retired.code == 0
    [switch] = retired.document["switches"]
    assert (switch["phase"], switch["receipt"]["vectors_left"]) == ("ended", 0)
    assert _model(command) == "shorter"
    listed = command.typed("models", "switches", "--ended", "--json").document["switches"]
    assert [one["phase"] for one in listed] == ["ended"]


@pytest.mark.slow
def test_a_refused_switch_says_why_and_can_be_forced(command: Command) -> None:
    refuse = {"EMBEDFLEET_MODEL_SWITCHING__GATE__MAX_BYTES_RATIO": "0.1"}
    refused = command.typed("models", "switch", "--to", "shorter", "--yes", env=refuse)
    assert refused.code == 1
    assert "max_bytes_ratio" in refused.stdout
    found = {one["check"]: one for one in command.typed("doctor", "--json").document["findings"]}
    assert found["switches"]["warning"], found["switches"]
    assert "says why the gate refuses 1 of them" in found["switches"]["detail"]
    assert _model(command) == "static"
    forced = command.typed("models", "switch", "--to", "shorter", "--force", "--yes", env=refuse)
    assert forced.code == 0, forced.stderr
    assert "forced     by local" in forced.stdout
    assert _model(command) == "shorter"


@pytest.mark.slow
def test_an_interrupted_switch_goes_on_when_the_command_is_given_again(command: Command) -> None:
    more = command.folder / "more"
    more.mkdir()
    for number in range(20):
        (more / f"{number}.md").write_text(f"# Letter {number}\n\nThe letter number {number} is short.\n")
    assert command.typed("ingest", more).code == 0
    process = command.start("models", "switch", "--to", "shorter", "--jobs", "1", "--yes")
    assert process.stderr is not None
    assert next(line for line in process.stderr if "in both spaces" in line)
    process.send_signal(signal.SIGINT)
    stopped = finish(process)
    assert stopped.code == 130, stopped
    assert "it goes on when" in stopped.stderr
    [half] = command.typed("models", "switches", "--json").document["switches"]
    assert half["phase"] == "filling"

    again = command.typed("models", "switch", "--to", "shorter", "--yes", "--json")
    assert again.code == 0, again.stderr
    [done] = again.document["switches"]
    assert (done["switch_id"], done["phase"]) == (half["switch_id"], "serving")
    assert (done["coverage"]["documents"], done["coverage"]["lacking"]) == (23, 0)


def _model(command: Command) -> str:
    found: str = command.typed("search", "lamps", "--json").document["model"]
    return found
