"""A function fits on a screen, and a module is about one thing."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "src" / "embedfleet"
LONGEST_FUNCTION, LONGEST_MODULE = 60, 600
"""Lines. What is longer has a second idea in it, which deserves a name of its own."""


def modules() -> Iterator[tuple[str, str]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if not name.startswith("sql/migrations/"):
            yield name, path.read_text()


def test_no_module_is_too_long() -> None:
    assert [name for name, text in modules() if text.count("\n") > LONGEST_MODULE] == []


def test_no_function_is_too_long() -> None:
    functions = [
        (f"{name}:{node.name}", (node.end_lineno or 0) - node.lineno + 1)
        for name, text in modules()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert len(functions) > 1_000, "the walk finds too little: it is broken"
    assert [one for one, lines in functions if lines > LONGEST_FUNCTION] == []
