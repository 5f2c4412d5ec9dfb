"""The shape of the code itself: sizes, complexity, comments, and imports across each wall.

    python benchmarks/code_figures.py                       # the working tree
    python benchmarks/code_figures.py --rev v1 --rev HEAD   # revisions side by side

Complexity is McCabe's, as ruff counts it; imports are counted from module to module, as import-linter sees
them. A wall is the border between two parts of the package: a folder, or a module beside the folders.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import re
import statistics
import subprocess
import sys
import tarfile
import tokenize
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from report import write_report

ROOT = Path(__file__).parents[1]
PACKAGE = "embedfleet"
_COMPLEXITY = re.compile(r"`(?P<name>.+)` is too complex \((?P<value>\d+) > 0\)")
_NO_CODE = (tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
_FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Function:
    """One function or method. `lines`: from its `def` to its end, docstring included."""

    where: str
    lines: int
    parameters: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rev", action="append", default=[], help="a git revision; may be repeated")
    revisions: list[str] = parser.parse_args().rev
    figures: dict[str, Any] = {}
    for revision in revisions:
        with TemporaryDirectory() as folder:
            _extract(revision, Path(folder))
            figures[revision] = figures_of(Path(folder) / "src" / PACKAGE)
    if not revisions:
        figures["working tree"] = figures_of(ROOT / "src" / PACKAGE)
    write_report("code_figures", figures)


def figures_of(package: Path) -> dict[str, Any]:
    """All figures of one tree."""
    files = sorted(path for path in package.rglob("*.py"))
    functions = [one for path in files for one in _functions(path, package)]
    lengths = sorted(one.lines for one in functions)
    complexity = _complexities(package)
    walls = _imports_across_walls(package)
    code, comments = _code_and_comment_lines(files)
    file_lines = {str(path.relative_to(package)): len(path.read_text().splitlines()) for path in files}
    return {
        "files": len(files),
        "lines": sum(file_lines.values()),
        "code_lines": code,
        "longest_files": _largest(file_lines),
        "functions": len(functions),
        "function_lines_median": statistics.median(lengths),
        "function_lines_p90": _p90(lengths),
        "longest_functions": _largest({one.where: one.lines for one in functions}),
        "complexity_mean": round(statistics.mean(complexity.values()), 2),
        "complexity_p90": _p90(sorted(complexity.values())),
        "most_complex_functions": _largest(complexity),
        "comment_lines_per_100_code_lines": round(100 * comments / code, 1),
        "comment_lines_per_100_code_lines_by_part": _comments_by_part(files, package),
        "longest_parameter_lists": _largest({one.where: one.parameters for one in functions}),
        "imports_across_walls": sum(walls.values()),
        "walls_crossed": len(walls),
        "imports_by_wall": dict(sorted(walls.items())),
    }


def _extract(revision: str, folder: Path) -> None:
    """Put the revision's `src` into the folder."""
    packed = subprocess.run(["git", "archive", revision, "src"], cwd=ROOT, check=True, capture_output=True)
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as tar:
        tar.extractall(folder, filter="data")


def _functions(path: Path, package: Path) -> Iterator[Function]:
    """Every function of a file, nested ones too."""
    place = str(path.relative_to(package))
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, _FunctionNode):
            assert node.end_lineno is not None
            lines = node.end_lineno - node.lineno + 1
            yield Function(f"{place}:{node.name}:{node.lineno}", lines, _parameters(node))


def _parameters(node: _FunctionNode) -> int:
    """How many the caller may give: `self` and `cls` are not counted."""
    given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return sum(argument.arg not in ("self", "cls") for argument in given)


def _complexities(package: Path) -> dict[str, int]:
    """McCabe's complexity of every function, by place."""
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "C901", "--ignore-noqa"]
    limits = ["--config", "lint.mccabe.max-complexity=0", "--output-format", "json", "--no-cache"]
    ran = subprocess.run([*command, *limits, str(package)], capture_output=True, text=True, check=False)
    found: dict[str, int] = {}
    for one in json.loads(ran.stdout):
        match = _COMPLEXITY.match(one["message"])
        if match is not None:
            place = Path(one["filename"]).resolve().relative_to(package.resolve())
            found[f"{place}:{match['name']}:{one['location']['row']}"] = int(match["value"])
    return found


def _code_and_comment_lines(files: Sequence[Path]) -> tuple[int, int]:
    """Lines with code (docstrings and blank lines left out), and lines with a comment."""
    code = comments = 0
    for path in files:
        text = path.read_text()
        docstrings = _docstring_lines(ast.parse(text))
        lines: set[int] = set()
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT:
                comments += not token.string.startswith(("# type:", "# noqa"))
            elif token.type not in _NO_CODE:
                lines.update(range(token.start[0], token.end[0] + 1))
        code += len(lines - docstrings)
    return code, comments


def _comments_by_part(files: Sequence[Path], package: Path) -> dict[str, float]:
    """Comment lines per 100 lines of code in each folder of the package; modules beside the folders are left
    out."""
    by_part: dict[str, list[Path]] = {}
    for path in files:
        part, *rest = path.relative_to(package).parts
        if rest:
            by_part.setdefault(part, []).append(path)
    counted = {part: _code_and_comment_lines(paths) for part, paths in sorted(by_part.items())}
    return {part: round(100 * comments / code, 1) for part, (code, comments) in counted.items() if code}


def _docstring_lines(tree: ast.Module) -> set[int]:
    """The lines of all strings that stand alone: docstrings, also those of attributes."""
    return {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }


def _imports_across_walls(package: Path) -> Counter[str]:
    """How many imports lead from one part of the package to another, by "part -> part"."""
    modules = {_module_name(path, package) for path in package.rglob("*.py")}
    walls: Counter[str] = Counter()
    for path in package.rglob("*.py"):
        importer = _module_name(path, package)
        for imported in _imported(ast.parse(path.read_text()), modules):
            here, there = _part(importer), _part(imported)
            if here != there:
                walls[f"{here} -> {there}"] += 1
    return walls


def _module_name(path: Path, package: Path) -> str:
    parts = [PACKAGE, *path.relative_to(package).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _part(module: str) -> str:
    """`embedfleet.queue.broker` is in the part `queue`; the package itself is one, too."""
    return module.split(".")[1] if "." in module else module


def _imported(tree: ast.Module, modules: set[str]) -> set[str]:
    """The modules of this package that a module imports, each once."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module in modules:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names & modules or {node.module}
    return found


def _largest(values: dict[str, int], count: int = 5) -> dict[str, int]:
    """The largest values with their places, largest first."""
    return dict(sorted(values.items(), key=lambda item: (-item[1], item[0]))[:count])


def _p90(values: Sequence[int]) -> int:
    """The smallest value that nine in ten do not exceed; `values` is sorted."""
    return values[max(0, -(-9 * len(values) // 10) - 1)]


if __name__ == "__main__":
    main()
