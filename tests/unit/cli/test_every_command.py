"""Promises that every command keeps, checked by a walk over all of them."""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import typer

from embedfleet.cli import app, main
from embedfleet.cli.arguments import checked
from embedfleet.cli.serve import LauncherChoice
from embedfleet.settings.pools import OrchestratorSettings

CLI = Path(__file__).parents[3] / "src" / "embedfleet" / "cli"
COMMANDS: dict[str, Any] = {}


def walk(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    inner = getattr(command, "commands", {})
    if not inner or command.invoke_without_command:
        yield name, command
    for word, one in inner.items():
        yield from walk(one, f"{name} {word}".strip())


COMMANDS.update(walk(checked(typer.main.get_command(app))))

SERVICES = {"serve", "serve-workers"}
"""They have no end, so no document: their logs are JSON by a setting, `pools --json` shows what they do."""

MEANINGS = {
    "--tenant": 2,
    "--limit": 2,
    "--model": 3,
    "--force": 5,
    "--workers": 2,
    "--dry-run": 4,
    "--sample": 2,
    "--path": 2,
    "--seconds": 2,
    "--to": 3,
    "--from": 2,
    "--all": 2,
    "--ended": 2,
    "--url": 2,
    "--owner": 2,
    "--days": 2,
}
"""Options with several meanings, and how many: whose documents, and only whose; passages, and rows; the model
to embed with, the one to search, and the one that made the vectors of another system; what is overwritten,
a gate that is passed, and documents that are left behind; workers, or none; what an ingest would do, an
adoption, a move of the vectors, and a switch to another model; a share of all rows, and a
number of each group; where a model is, and a vector store;
how long to measure a model, and to look at a fleet; the last day, the store to move to, and the model to
switch to; the first day, and the model to leave; all dead letters, and all tenants; dead letters, and
switches, that have ended; who decides by a shadow run, and by a comparison; how long a key is valid, and a
comparison goes on. Any other name has one."""


def options(command: Any) -> Iterator[tuple[str, Any]]:
    for parameter in command.params:
        for name in parameter.opts:
            if name.startswith("--"):
                yield name, parameter


def test_every_command_has_json() -> None:
    without = {name for name, command in COMMANDS.items() if "--json" not in dict(options(command))}
    assert without == SERVICES


def test_an_option_has_the_same_words_in_every_command() -> None:
    words = defaultdict(set)
    for command in COMMANDS.values():
        for name, option in options(command):
            words[name].add((option.help, str(option.show_default)))
    assert {name: len(found) for name, found in words.items() if len(found) > 1} == {
        name: number for name, number in MEANINGS.items() if len(words[name]) > 1
    }
    assert all(len(words[name]) <= number for name, number in MEANINGS.items())


def test_a_command_says_whether_it_means_every_tenant_or_the_default_one() -> None:
    default = {"ingest", "estimate", "search", "explain", "keys create", "adopt", "ab start"} | {
        f"documents {command}" for command in ("list", "show", "delete", "receipt")
    }
    orders = ("switch", "pause", "resume", "throttle", "serve", "rollback", "recheck", "retire")
    default |= {f"models {command}" for command in orders}
    default |= {f"models route {command}" for command in ("show", "set", "clear", "plan", "apply")}
    for command, one in COMMANDS.items():
        tenant = dict(options(one)).get("--tenant")
        if tenant is not None:
            words = (tenant.help, tenant.show_default)
            every = ("Only this tenant's.", "every tenant's")
            assert words == (("Whose documents.", "tenants.default_tenant") if command in default else every)


def test_every_option_says_what_it_does() -> None:
    silent = [
        f"{command} {name}"
        for command, one in COMMANDS.items()
        for name, option in options(one)
        if not (option.help or "").endswith(".") and "e.g." not in (option.help or "")
    ]
    assert silent == []


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_is_as_wide_as_the_terminal(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["embedfleet", *name.split(), "--help"])
    monkeypatch.setenv("COLUMNS", "2000")
    with pytest.raises(SystemExit):
        main()
    shown = capsys.readouterr().out
    paragraphs = [" ".join(part.split()) for part in COMMANDS[name].help.split("\n\n")]
    assert [part for part in paragraphs if part not in shown] == []


@pytest.mark.parametrize("module", sorted(CLI.glob("*.py")), ids=lambda module: module.stem)
def test_only_output_writes_to_the_terminal(module: Path) -> None:
    """So nothing of a stranger reaches a terminal unless it was made harmless there."""
    if module.name == "output.py":
        return
    used = {ast.unparse(node) for node in ast.walk(ast.parse(module.read_text())) if _writes(node)}
    # The bar of `ingest` is drawn by a library; its one text of others goes through `harmless`.
    assert used <= ({"Console(stderr=True, quiet=quiet)"} if module.name == "ingest_progress.py" else set())


def _writes(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    called = ast.unparse(node.func)
    return called in ("print", "Console") or called.endswith(("echo", "stdout.write", "stderr.write"))


def test_the_launchers_to_choose_from_are_those_of_the_setting() -> None:
    allowed = OrchestratorSettings.model_fields["launcher"].annotation
    assert tuple(LauncherChoice) == get_args(allowed)
