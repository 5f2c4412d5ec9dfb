"""The error tree: drawn as it is, every error in it decided by its branch, advice left to front ends."""

from __future__ import annotations

import ast
import copy
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedfleet import errors
from embedfleet.cli.output import explain
from embedfleet.errors import (
    EmbedfleetError,
    InvalidRequest,
    LeaseLost,
    Permanent,
    Remedy,
    StorageFull,
    Transient,
)

PACKAGE = Path(errors.__file__).parent

CLASSES = {
    name: kind
    for name, kind in vars(errors).items()
    if inspect.isclass(kind) and issubclass(kind, Exception) and kind.__module__ == errors.__name__
}


def drawn_tree() -> dict[str, str]:
    """Class to parent, as the module's docstring draws it."""
    parents: dict[str, str] = {}
    branch = [EmbedfleetError.__name__]
    for indent, name in re.findall(r"^    ((?:│   |    )*)[├└]── (\w+)", errors.__doc__ or "", re.MULTILINE):
        depth = len(indent) // 4 + 1
        branch[depth:] = [name]
        parents[name] = branch[depth - 1]
    return parents


def test_the_tree_drawn_is_the_tree_there_is() -> None:
    actual = {
        name: kind.__bases__[0].__name__ for name, kind in CLASSES.items() if kind is not EmbedfleetError
    }
    assert drawn_tree() == actual


@pytest.mark.parametrize("kind", CLASSES.values())
def test_every_error_says_what_it_means(kind: type[EmbedfleetError]) -> None:
    assert kind.__doc__


def test_what_a_worker_decides_by_class_is_never_ambiguous() -> None:
    """Retry, dead-letter, drop or stop: no error may be two of them."""
    branches = (Transient, Permanent, LeaseLost, StorageFull)
    for name, kind in CLASSES.items():
        assert sum(issubclass(kind, branch) for branch in branches) <= 1, name


# --- remedies --------------------------------------------------------------------------------------


@pytest.mark.parametrize("remedy", Remedy)
def test_the_command_line_has_a_command_or_a_flag_for_every_remedy(remedy: Remedy) -> None:
    shown = explain(InvalidRequest("it exists: choose another name", remedy=remedy))
    assert re.fullmatch(r"it exists: choose another name \((.*`embedfleet [a-z ]+.*|--[a-z].*)\)", shown)


def test_an_error_without_a_remedy_is_shown_as_it_is() -> None:
    assert explain(InvalidRequest("the query is empty")) == "the query is empty"


def test_a_remedy_survives_a_copy_and_its_code() -> None:
    error = copy.copy(Transient("away", retry_after_seconds=3, remedy=Remedy.EXAMINE))
    assert (str(error), error.retry_after_seconds, error.remedy) == ("away", 3, Remedy.EXAMINE)
    assert Remedy.from_code(Remedy.EXAMINE.value) is Remedy.EXAMINE
    assert Remedy.from_code("one of a later release") is None
    assert Remedy.from_code(None) is None


def texts(source: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of every string literal in a module that is not a docstring."""
    tree = ast.parse(source.read_text(encoding="utf-8"))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.lineno, node.value


def test_no_text_below_the_command_line_advises_a_command_or_a_flag() -> None:
    """A library and an HTTP server show these messages too."""
    below = [path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] != "cli"]
    assert len(below) > 100
    advice = re.compile(r"`embedfleet |(?<![\w-])--[a-z]")
    found = [
        f"{path.relative_to(PACKAGE)}:{line}: {text}"
        for path in below
        for line, text in texts(path)
        if advice.search(text)
    ]
    assert found == []
