"""The error tree: drawn as it is, and every error in it decided by its branch."""

from __future__ import annotations

import inspect
import re

import pytest

from embedfleet import errors
from embedfleet.errors import EmbedfleetError, LeaseLost, Permanent, StorageFull, Transient

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
