"""`embedfleet doctor` tells the truth: a broken store, no writes to Redis, jobs that no process works on."""

from __future__ import annotations

import asyncio
import os
import shutil

from embedfleet.bootstrap import open_guest
from embedfleet.settings import load_settings
from support.command import Command
from support.redis_server import RedisServer


def _findings(
    command: Command, env: dict[str, str] | None = None
) -> tuple[int, dict[str, dict[str, object]]]:
    examined = command.typed("doctor", "--json", env=env)
    return examined.code, {one["check"]: one for one in examined.document["findings"]}


async def _submit(command: Command) -> None:
    async with open_guest(load_settings(environ=command.environment())) as guest:
        await guest.jobs.create_job(media_id="book", user_id="local", content="a text")


def test_a_store_that_lost_rows_or_cannot_be_read_is_wrong_and_what_mends_it_is_named(
    command: Command,
) -> None:
    book = command.folder / "book.txt"
    book.write_text("a text")
    assert command.typed("ingest", book).code == 0
    code, found = _findings(command)
    assert (code, found["vectors"]["ok"]) == (0, True)
    assert str(found["vectors"]["detail"]).endswith("holds what SQL knows: 1 rows")

    database = command.data_dir / "chroma" / "chroma.sqlite3"
    database.write_bytes(os.urandom(100_000))
    code, found = _findings(command)
    assert (code, found["vectors"]["ok"]) == (1, False)
    assert "embedfleet rebuild" in str(found["vectors"]["detail"])

    shutil.rmtree(database.parent)
    code, found = _findings(command)
    assert (code, found["vectors"]["ok"]) == (1, False)
    assert "SQL knows 1 stored vectors" in str(found["vectors"]["detail"])


def test_jobs_that_wait_without_an_orchestrator_are_a_warning_embedded_and_wrong_in_a_fleet(
    command: Command,
) -> None:
    asyncio.run(_submit(command))
    code, found = _findings(command)
    assert (code, found["workers"]["warning"]) == (0, True)
    assert "the oldest unfinished job waits" in str(found["workers"]["detail"])
    with RedisServer() as server, server.client() as client:
        fleet = {"EMBEDFLEET_REDIS__URL": server.url, "EMBEDFLEET_ORCHESTRATOR__LAUNCHER": "inline"}
        code, found = _findings(command, fleet)
        assert (code, found["queues"]["ok"], found["workers"]["ok"]) == (1, True, False)
        client.config_set("maxmemory", 1)
        code, found = _findings(command, fleet)
        assert (code, found["queues"]["ok"]) == (1, False)
        assert "out of memory" in str(found["queues"]["detail"])
