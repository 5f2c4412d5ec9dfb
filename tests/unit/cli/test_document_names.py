"""A table calls a document by the end of its path, as long as it must be."""

from __future__ import annotations

import pytest

from embedfleet.cli.document_names import short_names


@pytest.mark.parametrize(
    ("sources", "names"),
    [
        ([], []),
        (["/docs/a.md", "/docs/b.md"], ["a.md", "b.md"]),
        (["/doc/adduser/copyright", "/doc/bash/copyright"], ["adduser/copyright", "bash/copyright"]),
        (["/x/a/README", "/y/a/README", "/z/b/README"], ["x/a/README", "y/a/README", "b/README"]),
        (["README", "/a/README"], ["README", "a/README"]),
        (["/one/README", "/one/README/"], ["/one/README", "/one/README"]),
        ([None, "/a/b"], ["doc-0", "b"]),
    ],
)
def test_as_much_of_a_path_as_tells_it_from_the_others(sources: list[str | None], names: list[str]) -> None:
    documents = [(f"doc-{number}", source) for number, source in enumerate(sources)]
    found = short_names(documents)
    assert [found[one] for one in documents] == names
