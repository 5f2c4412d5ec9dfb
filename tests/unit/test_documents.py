"""The documents name files that exist, and floors as the import contract has them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

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
