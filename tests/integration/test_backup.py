"""Backups: whole or refused, and nothing is lost to a restore."""

from __future__ import annotations

import os
import tarfile
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Select, func, select

from embedfleet.bootstrap import open_guest
from embedfleet.errors import ConfigError, DataDirectoryInUse, InvalidRequest, Remedy
from embedfleet.records import fleet
from embedfleet.repair.backup import database_file, write_backup
from embedfleet.repair.restoring import restore_database
from embedfleet.settings import Settings
from embedfleet.sql import tables
from support.system import ONE_EACH, paragraphs, running


@pytest.fixture
async def backup(settings: Settings, tmp_path: Path) -> Path:
    """Made while workers run."""
    file = tmp_path / "backup.tar"
    async with running(settings) as system:
        await system.ingest("1", paragraphs("text", 5), chunking_config=ONE_EACH)
        async for _event in system.jobs.of_all_tenants().follow_events():
            break
        manifest = write_backup(database_file(settings), file, overwrite=False)
    assert (manifest.documents, manifest.vectors) == (1, 5)
    return file


def test_an_existing_backup_is_replaced_only_on_request(settings: Settings, backup: Path) -> None:
    with pytest.raises(InvalidRequest, match="allow it to be replaced") as refused:
        write_backup(database_file(settings), backup, overwrite=False)
    assert refused.value.remedy is Remedy.OVERWRITE_FILE
    write_backup(database_file(settings), backup, overwrite=True)


def test_a_backup_never_takes_the_place_of_a_device_or_a_folder(settings: Settings, tmp_path: Path) -> None:
    device = tmp_path / "device"
    os.mkfifo(device)
    for target in (device, tmp_path):
        with pytest.raises(InvalidRequest, match="no regular file"):
            write_backup(database_file(settings), target, overwrite=True)
    assert device.is_fifo()


async def test_a_restore_moves_the_old_directory_aside_and_drops_the_processes_of_the_backup(
    settings: Settings, backup: Path
) -> None:
    with pytest.raises(InvalidRequest, match="not empty"):
        await restore_database(settings, backup, replace=False)
    _, aside = await restore_database(settings, backup, replace=True)
    assert aside is not None
    assert {path.name for path in aside.iterdir()} >= {"embedfleet.db", "chroma"}
    async with open_guest(settings) as guest:
        query = select(func.count()).select_from(tables.orchestrators)
        assert await guest.database.read(partial(_value, query=query)) == 0
        assert await guest.database.read(fleet.broker_epoch) is None
        # But positions of events go on from where they were.
        query = select(tables.facts.c.value).where(tables.facts.c.name == "event_position")
        assert await guest.database.read(partial(_value, query=query)) == 1
        assert len(await guest.jobs.of_all_tenants().list_jobs()) == 1


def _value(conn: Connection, query: Select[Any]) -> int:
    return int(conn.execute(query).scalar_one())


async def test_a_directory_in_use_is_not_moved(settings: Settings, backup: Path) -> None:
    async with running(settings):
        with pytest.raises(DataDirectoryInUse):
            await restore_database(settings, backup, replace=True)


def spoil(backup: Path, damage: str) -> None:
    content = bytearray(backup.read_bytes())
    with tarfile.open(backup) as tar:
        database = tar.getmember("database.zst")  # of a small one the middle of the file is padding
    content[database.offset_data + database.size // 2] ^= 0xFF
    spoilt = {"flipped": content, "cut": content[: len(content) // 3], "empty": bytearray()}
    backup.write_bytes(spoilt[damage])


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty"])
async def test_a_damaged_backup_is_refused_before_anything_is_moved(
    settings: Settings, backup: Path, damage: str
) -> None:
    spoil(backup, damage)
    with pytest.raises(InvalidRequest, match="use another"):
        await restore_database(settings, backup, replace=True)
    assert [path.name for path in settings.data_dir.parent.glob("*data*")] == [settings.data_dir.name]
    assert (settings.data_dir / "embedfleet.db").exists()


def test_a_damaged_database_is_not_backed_up(settings: Settings, backup: Path, tmp_path: Path) -> None:
    database = database_file(settings)
    content = bytearray(database.read_bytes())
    content[4096 * 3 : 4096 * 9] = b"x" * (4096 * 6)
    database.write_bytes(content)
    with pytest.raises(ConfigError):
        write_backup(database, tmp_path / "other.tar", overwrite=False)
    assert not (tmp_path / "other.tar").exists()
