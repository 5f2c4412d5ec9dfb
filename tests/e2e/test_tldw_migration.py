"""The walk of docs/migrating-from-tldw_server.md, over a stand-in of a tldw_server with two users."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from app.core.Embeddings.jobs_adapter import EmbeddingsJobsAdapter

from embedfleet.client import Client
from embedfleet.tldw.user_jobs import jobs_of_environment
from support.command import Command, Result, finish
from support.foreign_chroma import bytes_of, write_directory
from support.hangs import HANG_SECONDS
from support.tldw import StandIn, SynchronousPath, mark_media_as_processed
from support.tldw_rows import Medium, media_collection, rows_of, stub_vectors
from support.view_readers import TldwReader, open_client

pytestmark = pytest.mark.slow

GUIDE = Path(__file__).parents[2] / "docs" / "migrating-from-tldw_server.md"
PUMPS = ["Pumps move water uphill.", "Valves stop the flow.", "Seals wear out first."]
BREAD = ["Bread rises because yeast makes gas.", "An oven at 230 degrees gives a crust."]
OTHER_MODEL = "other/model-64"


def code_of(name: str) -> Any:
    """The function of this name, out of the guide's Python."""
    for block in re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL):
        if f"def {name}(" in block:
            found: dict[str, Any] = {}
            exec(block, found)
            return found[name]
    raise AssertionError(f"the guide has no {name}")


@pytest.fixture
def tldw(tmp_path: Path) -> StandIn:
    """User 1 is in order. One document of user 2 has shrunk, and another model made the vectors of one."""
    tldw = StandIn(tmp_path / "user_databases")
    tldw.of("1").add(1, "\n\n".join(PUMPS))
    tldw.of("1").add(2, "\n\n".join(BREAD))
    tldw.of("2").add(11, PUMPS[0])
    tldw.of("2").add(12, "\n\n".join(BREAD))
    tldw.of("2").add(14, "Words whose vectors another model made.")
    media = {
        "1": [Medium(1, PUMPS), Medium(2, BREAD)],
        "2": [
            Medium(11, PUMPS),
            Medium(12, BREAD),
            Medium(14, ["Words whose vectors another model made."], more={"embedding_model": OTHER_MODEL}),
        ],
    }
    for user, items in media.items():
        rows = rows_of(items)
        for number, metadata in enumerate(rows.metadatas):
            if (metadata or {})["embedding_model"] == OTHER_MODEL:
                rows.vectors[number] = np.roll(rows.vectors[number], 1)
        write_directory(tldw.base_dir / user / "chroma_storage", [media_collection(user, rows)])
    return tldw


@pytest.fixture
def command(tmp_path: Path, tldw: StandIn, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Commands with the settings that `config from-tldw` made, as this process has them too."""
    command = Command(tmp_path)
    (tmp_path / "config.txt").write_text("[Embeddings]\nmax_models_in_memory = 3\n")
    made = command.run("config", "from-tldw", "config.txt", "--users", tldw.base_dir)
    assert made.code == 0
    (tmp_path / "embeddings_config.yaml").write_text(made.stdout)
    monkeypatch.chdir(tmp_path)  # the guide's code keeps a file in the current directory
    monkeypatch.setenv("EMBEDFLEET_CONFIG", str(tmp_path / "embeddings_config.yaml"))
    monkeypatch.setenv("USER_DB_BASE_DIR", str(tldw.base_dir))
    for name, value in command.environment().items():
        if name.startswith("EMBEDFLEET_") and name != "EMBEDFLEET_CONFIG":
            monkeypatch.setenv(name, value)
    return command


def run(command: Command, *arguments: str, code: int = 0) -> Result:
    settings = {"EMBEDFLEET_CONFIG": str(command.folder / "embeddings_config.yaml")}
    result = command.run(*arguments, env=settings)
    assert result.code == code, result
    return result


def adopt(command: Command, tldw: StandIn, user: str, *more: str, code: int = 0) -> str:
    texts = f"sqlite:{tldw.base_dir}/{{tenant}}/Media_DB_v2.db"
    chroma = str(tldw.base_dir / user / "chroma_storage")
    arguments = ("adopt", "--chroma", chroma, "--layout", "tldw", "--text-from", texts)
    return run(command, *arguments, *more, code=code).stdout


@pytest.fixture
def serve(command: Command, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Any]]:
    """Starts `embedfleet serve` for a block, and names its address in the environment."""

    @asynccontextmanager
    async def serving() -> AsyncIterator[None]:
        settings = {"EMBEDFLEET_CONFIG": str(command.folder / "embeddings_config.yaml")}
        process = command.start("serve", "--port", "0", env=settings)
        url = await asyncio.to_thread(address_of, process)
        monkeypatch.setenv("EMBEDFLEET_SERVER", url)
        jobs_of_environment.cache_clear()
        try:
            yield
        finally:
            monkeypatch.delenv("EMBEDFLEET_SERVER")
            close_cached_client()
            process.send_signal(signal.SIGTERM)
            ended = await asyncio.to_thread(finish, process)
            assert ended.code == 0, ended

    yield serving
    close_cached_client()


def close_cached_client() -> None:
    if jobs_of_environment.cache_info().currsize:
        owner = getattr(jobs_of_environment(), "__self__", None)
        if isinstance(owner, Client):
            owner.close()
        jobs_of_environment.cache_clear()


def address_of(process: subprocess.Popen[str]) -> str:
    """Read what the server says until it names its address, which it does when it listens."""
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"API\s+(http://\S+)/v1", line):
            return found[1]
    raise AssertionError(finish(process))


def rows_in(tldw: StandIn, user: str) -> set[str]:
    """The ids of the rows, without vectors: a row that is just being replaced has none."""
    with open_client(tldw.base_dir / user / "chroma_storage") as client:
        return set(TldwReader(client, user).collection.get(include=[])["ids"])


async def until(holds: Callable[[], bool]) -> None:
    """A directory of Chroma sends no event, so it is looked at in between."""
    async with asyncio.timeout(HANG_SECONDS):
        while not await asyncio.to_thread(holds):  # noqa: ASYNC110
            await asyncio.sleep(0.2)


async def test_the_walk(
    command: Command, tldw: StandIn, serve: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = bytes_of(tldw.base_dir)
    planned = adopt(command, tldw, "2", "--dry-run", code=3)
    assert "refuse" in planned
    assert "stale or repeated rows of documents that are taken, left out: 2" in planned
    adopt(command, tldw, "1")
    assert bytes_of(tldw.base_dir) == before
    # It runs workers, so the view begins to follow.
    adopt(command, tldw, "2", "--model", f"{OTHER_MODEL}=stub", "--embed-wrong")

    run(command, "traffic", "set", "--allow-tenant", "1", "--reason", "our own account first")
    async with serve():
        expected = {"media_11_chunk_0", "media_12_chunk_0", "media_12_chunk_1", "media_14_chunk_0"}
        await until(lambda: rows_in(tldw, "2") == expected)
        await check_jobs_and_marks(tldw)
        old = SynchronousPath()
        tldw.of("1").add(3, "Routed to the fleet.")
        embed_media = code_of("embed_media")
        await embed_media(old.generate_embeddings_for_media, "1", [3])
        await embed_media(old.generate_embeddings_for_media, "2", [12])
        assert old.calls == [("2", 12)]
        await until(lambda: "media_3_chunk_0" in rows_in(tldw, "1"))

    verified = run(command, "verify").stdout
    assert "view tldw, tenant 2: 5 rows, all right" in verified
    run(command, "traffic", "rollback", "--reason", "the way back")
    # tldw_server goes on with its own collections, as it reads them.
    with open_client(tldw.base_dir / "2" / "chroma_storage") as client:
        (found,) = TldwReader(client, "2").search(stub_vectors([BREAD[0]])[0], k=1)
    assert (found.id, found.content) == ("12", BREAD[0])
    assert found.score == pytest.approx(1.0, abs=1e-3)


async def check_jobs_and_marks(tldw: StandIn) -> None:
    """A new item, and one that has changed: a job by tldw's own class, and the mark when it has ended."""
    database = tldw.of("2")
    database.add(15, "Cats sleep twelve hours a day.")
    dropped: list[tuple[str, int]] = []
    follow = code_of("follow_embedfleet")
    following = asyncio.create_task(
        follow(tldw.of, mark_media_as_processed, lambda user, media_id: dropped.append((user, media_id)))
    )

    def submit() -> dict[str, Any] | None:
        adapter = EmbeddingsJobsAdapter()
        job = adapter.create_job(user_id="2", media_id=15, embedding_model="stub", request_source="media")
        return adapter.get_job(job["id"], "2")

    job = await asyncio.to_thread(submit)
    assert job is not None
    await until(lambda: database.vector_processing(15) == 1)
    await until(lambda: "media_15_chunk_0" in rows_in(tldw, "2"))
    assert ("2", 15) in dropped
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
