"""The documents name files and commands that exist, and floors as the import contract has them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer

from embedfleet.cli import app
from embedfleet.cli.arguments import checked

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "embedfleet"
_CODE = re.compile(r"`([^`\n]+)`")
_FILE = re.compile(r"[A-Za-z0-9_./*-]+\.(?:py|lua|yaml|md|toml)")
_PLACEHOLDER = re.compile(r"[A-Z]{3,}")
"""`parsing/FORMAT.py` stands for a file that is still to be written."""
_FOLDER = re.compile(r"[a-z_]+(?:/[a-z_]+)*/")


def named_paths(document: Path) -> list[str]:
    """What the document has in backticks that looks like a file or a folder of this project."""
    words = _CODE.findall(document.read_text())
    return [word for word in words if _FILE.fullmatch(word) or _FOLDER.fullmatch(word)]


def exists(name: str) -> bool:
    """Paths are written from the package, from the tests or from the root of the project."""
    return any(any(folder.glob(name)) for folder in (PACKAGE, ROOT / "tests", ROOT, ROOT / "docs"))


@pytest.mark.parametrize("document", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_every_file_that_a_document_names_exists(document: str) -> None:
    names = [name for name in named_paths(ROOT / document) if not _PLACEHOLDER.search(name)]
    assert len(names) > 3, "the pattern finds nothing: it is broken"
    assert [name for name in names if not exists(name)] == []


def test_the_floors_of_the_document_are_those_of_the_contract() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contract = next(one for one in config["tool"]["importlinter"]["contracts"] if one["type"] == "layers")
    floors = [
        {name.removeprefix("embedfleet.") for name in layer.split(" | ")} for layer in contract["layers"]
    ]
    text = (ROOT / "docs" / "architecture.md").read_text()
    table = text[text.index("| floor | part |") : text.index("Two more contracts")]
    drawn: dict[int, set[str]] = {}
    for line in table.splitlines()[2:]:
        if line.startswith("|"):
            _, floor, parts, *_ = line.split("|")
            drawn.setdefault(int(floor), set()).update(_CODE.findall(parts))
    assert [drawn[floor] for floor in sorted(drawn)] == floors


def commands_with_options(command: Any, name: str = "") -> dict[str, set[str]]:
    """Each command that is no group, by its whole name, and the options it takes."""
    inner = getattr(command, "commands", {})
    if inner:
        found = [commands_with_options(one, f"{name} {word}".strip()) for word, one in inner.items()]
        return {full: options for one in found for full, options in one.items()}
    return {name: {option for parameter in command.params for option in parameter.opts}}


@pytest.fixture(scope="module")
def commands() -> dict[str, set[str]]:
    return commands_with_options(checked(typer.main.get_command(app)))


def test_the_table_of_the_readme_has_every_command_and_no_other(commands: dict[str, set[str]]) -> None:
    text = (ROOT / "README.md").read_text()
    table = text[text.index("| command | |") : text.index("Every command takes `--json`")]
    named = []
    for line in table.splitlines()[2:]:
        cell = re.split(r"(?<!\\)\|", line)[1] if line.startswith("|") else ""
        for code in _CODE.findall(cell):
            *before, last = [word for word in code.split() if word[0].islower()]
            named += [" ".join([*before, word]) for word in last.split(r"\|")]
    assert sorted(named) == sorted(commands)


def test_the_readme_names_the_commands_without_the_common_options(commands: dict[str, set[str]]) -> None:
    text = (ROOT / "README.md").read_text()

    def named_after(words: str, until: str) -> set[str]:
        begin = text.index(words) + len(words)
        return set(_CODE.findall(text[begin : text.index(until, begin)]))

    def without(option: str) -> set[str]:
        return {name for name, options in commands.items() if option not in options}

    assert named_after("`--json` (one document on stdout), but for ", ", which") == without("--json")
    assert named_after("explained](embeddings_config.yaml)), but for ", ".\n") == without("--config")
    assert without("--data-dir") == without("--config")
    first_words = {name.split()[0] for name in without("--server")}
    assert named_after("or the settings themselves do not: ", " but for its list") == first_words


def test_no_document_and_no_message_installs_embedfleet_from_an_index_that_does_not_have_it() -> None:
    texts = [ROOT / "embeddings_config.yaml", *ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    texts += [*(ROOT / "deploy").rglob("*.md"), *PACKAGE.rglob("*.py")]
    told = re.compile(r"pip install ['\"]?embedfleet")
    assert [str(path.relative_to(ROOT)) for path in texts if told.search(path.read_text())] == []


def anchors(document: Path) -> set[str]:
    """The anchors of the document's headings, as GitHub and GitLab name them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_link_of_a_document_leads_to_a_file_and_a_heading_that_exist() -> None:
    documents = [path for folder in ("docs", "deploy") for path in (ROOT / folder).rglob("*.md")]
    documents += ROOT.glob("*.md")
    broken, looked_at = [], 0
    for document in documents:
        for name, anchor in re.findall(
            r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]+))?\)", document.read_text()
        ):
            looked_at += 1
            target = document.parent / name if name else document
            if not target.exists() or (anchor and anchor not in anchors(target)):
                broken.append(f"{document.relative_to(ROOT)}: {name}#{anchor}")
    assert looked_at > 100, "the pattern finds nothing: it is broken"
    assert broken == []
