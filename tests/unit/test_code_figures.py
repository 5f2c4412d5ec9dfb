"""The figures of the code count what they say they count."""

from __future__ import annotations

from pathlib import Path

import code_figures

_ONE = '''"""A module."""

from embedfleet import two
from embedfleet.far import thing


# Why: a reason.
def branches(first: int, *, second: int = 0) -> int:
    """Its docstring is no code."""
    if first:
        return second  # noqa: RET505
    return two.VALUE + thing.VALUE


class Holder:
    def method(self, only: int) -> int:
        return only
'''


def test_sizes_complexity_comments_and_walls_of_a_small_package(tmp_path: Path) -> None:
    package = tmp_path / "embedfleet"
    (package / "far").mkdir(parents=True)
    for name in ("__init__.py", "far/__init__.py"):
        (package / name).write_text("")
    (package / "one.py").write_text(_ONE)
    (package / "two.py").write_text("VALUE = 1\n")
    (package / "far" / "thing.py").write_text("from embedfleet.far import other\n\nVALUE = 2\n")
    (package / "far" / "other.py").write_text("")
    figures = code_figures.figures_of(package)
    assert (figures["files"], figures["functions"]) == (6, 2)
    assert figures["longest_functions"] == {"one.py:branches:8": 5, "one.py:method:16": 2}
    assert figures["longest_parameter_lists"] == {"one.py:branches:8": 2, "one.py:method:16": 1}
    assert figures["most_complex_functions"]["one.py:branches:8"] == 2
    assert figures["code_lines"] == 12
    assert figures["comment_lines_per_100_code_lines"] == 8.3
    assert figures["imports_by_wall"] == {"one -> far": 1, "one -> two": 1}


def test_nine_in_ten_do_not_exceed_the_p90() -> None:
    assert code_figures._p90(list(range(1, 11))) == 9
    assert code_figures._p90([7]) == 7
