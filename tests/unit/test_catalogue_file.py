"""Entries go into a settings file and out of it, and nothing else in it moves."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from embedfleet.errors import ConfigError
from embedfleet.settings import CatalogueFile, load_settings

ENTRY = {"backend": "onnx", "path": "/models/e5", "query_prefix": "query: ", "devices": ["cpu", "cuda:1"]}
SHIPPED = (Path(__file__).parents[2] / "embeddings_config.yaml").read_text(encoding="utf-8")

BY_HAND = """\
# Ours. Ask Ann before you change it.
models:   # all of them
    default: own      # the small one

    catalogue:
        # Measured in May.
        own: {backend: stub, dim: 8}
        other:        # from the cupboard
            backend: stub
            description: |
              Two lines
              of text.

        # The next one is only for tests.

# How it is cut.
chunking:
    chunk_size: 900
"""

SHAPES = {
    "nothing at all": "",
    "only comments": "# nothing yet",
    "a document that begins": "---\n# nothing yet\n",
    "other sections": "chunking:\n  chunk_size: 900  # small\n# the end",
    "a document that ends": "chunking:\n  chunk_size: 900\n...\n",
    "models without a catalogue": "models:\n  threads: 2\n\n# cut\nchunking: {chunk_size: 900}\n",
    "an empty models": "models:\n# cut\nchunking: {chunk_size: 900}\n",
    "models in braces, empty": "models: {}  # none\n",
    "an empty catalogue": "models:\n  catalogue:   # none\n  threads: 1\n",
    "a catalogue in braces, empty": "models:\n  catalogue: {}\n  # none\n  threads: 1\n",
    "a catalogue said to be null": "models:\n  catalogue: null\n",
    "with anchors": "models:\n  catalogue:\n    a: &a {backend: stub}\n    b: *a\n",
    "Windows": "models:\r\n  catalogue:\r\n    a: {backend: stub}\r\n# end\r\n",
    "a byte order mark": "\ufeffmodels:\n  threads: 1\n",
    "by hand": BY_HAND,
    "as shipped": SHIPPED,
}


def file_of(text: str) -> CatalogueFile:
    return CatalogueFile(Path("settings.yaml"), text)


def read(text: str) -> Any:
    return yaml.safe_load(text) or {}


@pytest.mark.parametrize("text", SHAPES.values(), ids=SHAPES)
def test_an_entry_is_added_wherever_the_catalogue_is_and_all_that_was_there_stays(text: str) -> None:
    added = file_of(text).with_entry("e5", ENTRY)
    assert added.entries() == {**file_of(text).entries(), "e5": ENTRY}
    assert {**read(added.text), "models": None} == {**read(text), "models": None}
    gone = [line for line in text.splitlines() if line not in added.text.splitlines()]
    assert all("{}" in line or "null" in line for line in gone)


@pytest.mark.parametrize("text", SHAPES.values(), ids=SHAPES)
def test_what_was_added_is_taken_out_again_without_a_trace_of_it(text: str) -> None:
    one = file_of(text).with_entry("e5", ENTRY)
    two = one.with_entry("bge", {"backend": "static", "path": "/models/bge"})
    assert two.without_entry("bge").text == one.text
    assert one.without_entry("e5").entries() == file_of(text).entries()


def test_comments_and_order_stay_as_they_were() -> None:
    added = file_of(BY_HAND).with_entry("e5", ENTRY)
    expected = BY_HAND.replace(
        "              of text.\n",
        "              of text.\n"
        "        e5:\n"
        "          backend: onnx\n"
        "          path: /models/e5\n"
        "          query_prefix: 'query: '\n"
        "          devices: [cpu, 'cuda:1']\n",
    )
    # The blank line after a block of text belongs to the block: it says as much with one break or two.
    assert [line for line in added.text.splitlines() if line] == [
        line for line in expected.splitlines() if line
    ]
    assert added.without_entry("other").text.count("# The next one is only for tests.") == 1


def test_a_replaced_entry_keeps_its_place_and_its_neighbours() -> None:
    changed = file_of(BY_HAND).with_entry("own", {"backend": "stub", "dim": 16})
    assert list(changed.entries()) == ["own", "other"]
    assert "        own:\n          backend: stub\n          dim: 16\n        other:" in changed.text
    assert "# Measured in May." in changed.text


def test_a_prefix_of_several_lines_comes_back_as_it_was() -> None:
    entry = {"backend": "torch", "query_prefix": "Instruct: find\nQuery: ", "description": "été: #1 \u2028 x"}
    added = file_of(BY_HAND).with_entry("e5", entry)
    assert added.entries()["e5"] == entry
    assert r'query_prefix: "Instruct: find\nQuery: "' in added.text


@pytest.mark.parametrize("name", ["no", "1.5", "null", "a-b_c.d"])
def test_a_name_stays_a_name(name: str) -> None:
    assert list(file_of("").with_entry(name, ENTRY).entries()) == [name]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models: {threads: 2}\n", "`models` is written in braces"),
        ("models: {catalogue: {a: {backend: stub}}}\n", "written in braces"),
        ("models:\n  catalogue: {a: {backend: stub}}\n", "`catalogue` is written in braces"),
        ("{models: {threads: 2}}", "settings.yaml"),
        ("x: &m {catalogue: {a: {backend: stub}}}\nmodels:\n  <<: *m\n", "only a person can change"),
    ],
)
def test_what_cannot_be_added_to_safely_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        file_of(text).with_entry("e5", ENTRY)
    assert "\n" not in str(refused.value)


def test_an_entry_that_others_are_made_from_is_not_taken_out() -> None:
    with pytest.raises(ConfigError, match="only a person can change"):
        file_of(SHAPES["with anchors"]).without_entry("a")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"models: [", "not valid YAML"),
        (b"\xff\xfe", "not UTF-8"),
        (b"- a\n", "must hold sections"),
        (b"models: 3\n", "`models` must hold entries, not a int"),
        (b"models:\n  catalogue: [a]\n", "`catalogue` must hold entries, not a list"),
    ],
)
def test_a_file_that_is_none_is_refused_when_read(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        CatalogueFile.read(path)


class TestSaving:
    def test_the_file_is_made_with_its_folder_and_can_be_loaded(self, tmp_path: Path) -> None:
        path = tmp_path / "new" / "settings.yaml"
        before = CatalogueFile.read(path)
        before.with_entry("e5", ENTRY).save(before)
        assert load_settings(path, environ={}).models.catalogue["e5"].query_prefix == "query: "
        assert os.listdir(path.parent) == ["settings.yaml"]

    def test_mode_line_ends_and_links_are_kept(self, tmp_path: Path) -> None:
        path, link = tmp_path / "settings.yaml", tmp_path / "link.yaml"
        path.write_bytes(SHAPES["Windows"].encode())
        path.chmod(0o640)
        link.symlink_to(path)
        before = CatalogueFile.read(link)
        before.with_entry("e5", ENTRY).save(before)
        assert link.is_symlink()
        assert path.stat().st_mode & 0o777 == 0o640
        content = path.read_bytes()
        assert content.count(b"\n") == content.count(b"\r\n") > 4

    def test_what_somebody_else_wrote_meanwhile_is_not_overwritten(self, tmp_path: Path) -> None:
        path = tmp_path / "settings.yaml"
        before = CatalogueFile.read(path)
        path.write_text("models:\n  threads: 1\n")
        with pytest.raises(ConfigError, match="another program has changed it"):
            before.with_entry("e5", ENTRY).save(before)
        assert path.read_text() == "models:\n  threads: 1\n"
        assert os.listdir(tmp_path) == ["settings.yaml"]

    def test_a_folder_that_cannot_be_written_is_said_in_one_line(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        before = CatalogueFile(tmp_path / "file" / "settings.yaml", "")
        with pytest.raises(ConfigError, match="cannot be written"):
            before.with_entry("e5", ENTRY).save(before)
