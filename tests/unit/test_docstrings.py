"""Docstrings and comments are signs for people: they must be true, and plain enough to be read once."""

from __future__ import annotations

import ast
import io
import re
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedfleet.workers import canary

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "embedfleet"
PACKAGES = sorted(init.parent.relative_to(SOURCE) for init in SOURCE.rglob("*/__init__.py"))

BANNED = ("nobody", "somebody", "whoever", "whomever", "anew", "meanwhile", "so many")
"""Name the process or the person instead; say "again", "in between", "this many"."""


def contracts(kind: str) -> Iterator[list[list[str]]]:
    """The import-linter contracts of a kind, each a list of floors: lists of names below `embedfleet`."""
    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for contract in configuration["tool"]["importlinter"]["contracts"]:
        if contract["type"] == kind:
            floors = contract["layers"] if kind == "layers" else contract["modules"]
            yield [floor.replace("embedfleet.", "").split(" | ") for floor in floors]


def allowed_imports(package: str) -> str:
    """What the package directly below `embedfleet` may import: the next floor and all below it."""
    (floors,) = contracts("layers")
    own = next((number for number, floor in enumerate(floors) if package in floor), None)
    if own is None:
        return "nothing"
    independent = {name for floors in contracts("independence") if [package] in floors for (name,) in floors}
    names = ", ".join(name for name in floors[own + 1] if name not in independent)
    is_last_but_one = own + 2 == len(floors)
    return names if is_last_but_one else f"{names} and below"


@pytest.mark.parametrize("package", PACKAGES, ids=str)
def test_a_package_says_which_floors_it_may_import(package: Path) -> None:
    """Its docstring has a line "May import: …". A package inside of another one has the same line."""
    init = (SOURCE / package / "__init__.py").read_text()
    docstring = " ".join((ast.get_docstring(ast.parse(init)) or "").split())
    assert re.findall(r"May import: ([^.]*)\.", docstring) == [allowed_imports(package.parts[0])]


def test_docstrings_and_comments_use_no_banned_word() -> None:
    banned = re.compile(rf"\b({'|'.join(BANNED)})\b".replace(" ", r"\s+"), re.IGNORECASE)
    found = [
        f"{module.relative_to(ROOT)}:{line}: {match[0]}"
        for module in sorted(SOURCE.rglob("*.py"))
        for line, text in words_for_people(module)
        for match in banned.finditer(text)
    ]
    assert found == []


def words_for_people(module: Path) -> Iterator[tuple[int, str]]:
    """The line number and text of each comment, docstring and string: messages are read by people, too."""
    source = module.read_text()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Constant(value=str(text)) if text not in canary.TEXTS:  # which must never change
                yield node.lineno, text
