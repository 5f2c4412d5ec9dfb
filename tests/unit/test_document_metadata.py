"""What metadata a document may have, and how it is written, read and patched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from embedfleet import document_metadata
from embedfleet.cli.metadata_option import metadata_of
from embedfleet.document_metadata import MOST_BYTES, MOST_LIST_VALUES, MOST_NAMES, RESERVED_NAMES
from embedfleet.errors import InvalidRequest, ParseError
from embedfleet.file_metadata import described_by, metadata_of_file
from embedfleet.queue_schemas import JobRequest


@pytest.mark.parametrize(
    "good",
    [
        {},
        {"team": "legal", "year": 2024, "score": 0.5, "public": True, "tags": ["a", "b"], "none": []},
        {"größe": "x", "a.b-c_d": "", "_private": -(2**63) + 1},
        {"x" * 64: "y"},
        {f"n{number}": number for number in range(MOST_NAMES)},
        {"tags": ["x"] * MOST_LIST_VALUES},
    ],
)
def test_metadata_comes_back_as_it_was_given(good: dict[str, Any]) -> None:
    request = JobRequest(media_id=1, user_id="a", content="x", metadata=good)
    assert request.metadata == good
    assert {name: type(value) for name, value in (request.metadata or {}).items()} == {
        name: type(value) for name, value in good.items()
    }
    assert document_metadata.read(document_metadata.written(good)) == good


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (["a"], "must be names with values"),
        ({1: "a"}, "letters, digits"),
        ({"": "a"}, "letters, digits"),
        ({"$and": "a"}, "`\\$and` must be up to 64 letters"),
        ({"a b": "a"}, "letters, digits"),
        ({'a"b': "a"}, "letters, digits"),
        ({"x" * 65: "a"}, "letters, digits"),
        *(({name: "a"}, "embedfleet writes itself") for name in sorted(RESERVED_NAMES)),
        ({"a": None}, "`a`: must be a text"),
        ({"a": {"b": 1}}, "`a`: must be a text"),
        ({"a": b"x"}, "`a`: must be a text"),
        ({"a": [1]}, "texts only"),
        ({"a": ["x"] * (MOST_LIST_VALUES + 1)}, "the most is 256"),
        ({"a": float("nan")}, "not finite"),
        ({"a": 2**63}, "64 bits"),
        ({"a": "x\0"}, "NUL"),
        ({"a": ["x\0"]}, "NUL"),
        ({"a": "\ud800"}, "surrogate"),
        ({f"n{number}": 1 for number in range(MOST_NAMES + 1)}, "has 65 names"),
        ({"a": "x" * MOST_BYTES}, "the most is 8,192"),
    ],
)
def test_metadata_that_cannot_be_kept_is_refused_by_name(bad: Any, says: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^metadata: .*{says}") as refused:
        JobRequest(media_id=1, user_id="a", content="x", metadata=bad)
    assert refused.value.field == "metadata"


def test_equal_metadata_is_written_alike_and_none_is_not_written() -> None:
    written = document_metadata.written
    assert written({"a": 1, "b": "é"}) == written({"b": "é", "a": 1}) == '{"a":1,"b":"é"}'
    assert written({}) is None
    assert document_metadata.read(None) == {}


def test_a_patch_keeps_replaces_and_removes() -> None:
    assert document_metadata.patched({"a": 1, "b": 2, "c": 3}, {"b": "x", "c": None, "d": None}) == {
        "a": 1,
        "b": "x",
    }


@pytest.mark.parametrize(
    ("assignments", "metadata"),
    [
        ((), None),
        (["team=legal"], {"team": "legal"}),
        (["team="], {"team": ""}),
        (["formula=a=b"], {"formula": "a=b"}),
        (["year=2024", "score=0.5", "public=true"], {"year": 2024, "score": 0.5, "public": True}),
        (['year="2024"', "none=null", "object={}"], {"year": "2024", "none": "null", "object": "{}"}),
        (['tags=["a","b"]'], {"tags": ["a", "b"]}),
        (["tag=a", "tag=1"], {"tag": ["a", "1"]}),
    ],
)
def test_the_option_says_metadata(assignments: list[str], metadata: dict[str, Any] | None) -> None:
    assert metadata_of(assignments) == metadata


@pytest.mark.parametrize("wrong", ["team", "=x", "source=x", "a=NaN"])
def test_a_wrong_option_is_refused(wrong: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^--meta: "):
        metadata_of([wrong])


def test_the_file_beside_a_file_counts_before_what_is_given_for_all(tmp_path: Path) -> None:
    file = str(tmp_path / "a.md")
    assert metadata_of_file(file, None) is None
    assert metadata_of_file(file, {"a": 1}) == {"a": 1}
    (tmp_path / "a.md.meta.json").write_text(json.dumps({"a": 2, "c": "é"}))
    assert metadata_of_file(file, {"a": 1, "b": 1}) == {"a": 2, "b": 1, "c": "é"}
    assert described_by("a.md.meta.json") == "a.md"
    assert described_by("a.md") is described_by(".meta.json") is None


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"{", "is not JSON"),
        (b"[1]", "one JSON object"),
        (b"[" * 60_000, "is not JSON"),
        (b'{"a": "\xff"}', "is not JSON"),
        (b'{"source": "x"}', "embedfleet writes itself"),
        (b" " * 70_000, "more than 65,536 bytes"),
    ],
)
def test_a_file_of_metadata_that_cannot_be_used_is_named(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "a.md.meta.json").write_bytes(content)
    with pytest.raises(ParseError, match=rf"a\.md\.meta\.json: .*{says}"):
        metadata_of_file(str(tmp_path / "a.md"), None)
