"""Texts of a media database of tldw_server, which is only read."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from embedfleet.adoption.survey import DocumentKey
from embedfleet.adoption.texts import KnownText, text_source_of
from embedfleet.errors import ConfigError, InvalidRequest
from support.foreign_chroma import bytes_of
from support.tldw_rows import Medium, write_media

MEDIA = [Medium(1, ["One."]), Medium(2, ["Two."])]


async def test_each_tenant_has_a_file_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    for tenant in ("7", "8"):
        write_media(tmp_path / f"{tenant}.db", MEDIA, deleted=[2])
    before = bytes_of(tmp_path)
    keys = [DocumentKey(*key) for key in (("7", "1"), ("8", "2"), ("8", "3"), ("8", "no number"))]
    found = await text_source_of(f"sqlite:{tmp_path}/{{tenant}}.db").texts(keys)
    said = {"title": "Title 1", "url": "https://example.com/1"}
    assert found[keys[0]] == KnownText("One.", "Title 1", "https://example.com/1", False, said)
    assert found[keys[1]].gone
    assert set(found) == {keys[0], keys[1], keys[3]}
    assert bytes_of(tmp_path) == before


async def test_what_a_killed_system_left_in_its_log_is_read_too(tmp_path: Path) -> None:
    file = tmp_path / "media.db"
    write_media(file, MEDIA)
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("UPDATE Media SET content = 'Changed.' WHERE id = 1")
        connection.commit()
        found = await text_source_of(f"sqlite:{file}").texts([DocumentKey("7", "1")])
    assert found[DocumentKey("7", "1")].text == "Changed."


async def test_a_table_of_another_release_may_lack_columns(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "media.db")) as connection:
        connection.execute("CREATE TABLE Media (id INTEGER PRIMARY KEY, content TEXT)")
        connection.execute("INSERT INTO Media VALUES (1, 'One.')")
        connection.commit()
    key = DocumentKey("7", "1")
    assert await text_source_of(f"sqlite:{tmp_path}/media.db").texts([key]) == {key: KnownText("One.")}


async def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "other.db").write_bytes(b"no database")
    for name in ("missing.db", "other.db"):
        with pytest.raises(ConfigError, match=name):
            await text_source_of(f"sqlite:{tmp_path}/{name}").texts([DocumentKey("7", "1")])
    with pytest.raises(ConfigError, match="is no name of a file"):
        await text_source_of(f"sqlite:{tmp_path}/{{tenant}}.db").texts([DocumentKey("../7", "1")])


@pytest.mark.parametrize("address", ["media.db", "sqlite:", "postgresql://host/db"])
def test_an_address_of_no_known_kind_is_refused(address: str) -> None:
    with pytest.raises(InvalidRequest, match="must be like sqlite:"):
        text_source_of(address)


async def test_an_id_that_cannot_be_in_the_table_was_not_thrown_away(
    tmp_path: Path,
) -> None:
    write_media(tmp_path / "media.db", [Medium(1, ["A text."])])
    strange = [DocumentKey("7", media_id) for media_id in ("a/b", "9" * 20, "9" * 5_000)]
    keys = [DocumentKey("7", "1"), DocumentKey("7", "2"), *strange]
    found = await text_source_of(f"sqlite:{tmp_path}/media.db").texts(keys)
    assert set(found) == {keys[0], *strange}
    assert all(found[key] == KnownText("") for key in strange)
    with pytest.raises(ConfigError, match="cannot be read as a media database"):
        await text_source_of(f"sqlite:{tmp_path}/missing.db").texts(strange)
