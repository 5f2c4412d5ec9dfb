"""Chroma's store beyond the port: what is really in the directory, opening, closing, dying, a full disk."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from embedfleet.errors import (
    ConfigError,
    InvalidRequest,
    Permanent,
    Remedy,
    SpaceMismatch,
    StorageFull,
    VectorStoreDied,
    VectorStoreUnavailable,
)
from embedfleet.os_lock import OsLock
from embedfleet.vectors.chroma.embedded import ChromaInTurn, ChromaVectorStore
from embedfleet.vectors.chroma.errors import embedded_error
from embedfleet.vectors.chroma.layout import collection_name
from embedfleet.vectors.chroma.operations import ChromaCollections
from embedfleet.vectors.chroma.process import StoreDefect
from embedfleet.vectors.chroma.quick_queries import QuickQueries
from embedfleet.vectors.port import Metadata, TenantSpace, VectorRows
from support.threads import no_thread_left

SPACE = "minilm/mean/v1"
DIM = 8
BOOKS = TenantSpace("acme", SPACE, DIM)


@pytest.fixture(autouse=True)
def embedded_chroma() -> None:
    """As it is started for users."""


def rows(
    ids: Sequence[str], *, metadatas: Sequence[Metadata] | None = None, documents: Sequence[str] | None = None
) -> VectorRows:
    """One axis a row, in turn."""
    vectors = np.eye(DIM, dtype=np.float32)[np.arange(len(ids)) % DIM]
    return VectorRows(ids, vectors, metadatas or [{"job_id": "j1"}] * len(ids), documents)


async def everything(store: ChromaVectorStore) -> dict[str, NDArray[np.float32]]:
    return {
        row_id: vector
        async for ids, vectors in store.scan(BOOKS)
        for row_id, vector in zip(ids, vectors, strict=True)
    }


async def existing(store: ChromaVectorStore) -> set[str]:
    return set(await everything(store))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ChromaVectorStore]:
    opened = await ChromaVectorStore.open(tmp_path / "chroma")
    await opened.ensure_collection(BOOKS)
    yield opened
    await opened.close()


def stored(directory: Path) -> dict[str, list[object]]:
    """Metadata and texts as Chroma itself gives them, by a client of its own. Sorted by id."""
    script = """
        import chromadb, json, sys
        with chromadb.PersistentClient(sys.argv[1]) as client:
            got = client.get_collection(sys.argv[2], embedding_function=None).get()
        order = sorted(range(len(got["ids"])), key=got["ids"].__getitem__)
        print(json.dumps({key: [got[key][i] for i in order] for key in ("ids", "metadatas", "documents")}))
    """
    ran = subprocess.run(
        [
            sys.executable,
            "-c",
            textwrap.dedent(script),
            str(directory),
            collection_name(BOOKS.tenant, BOOKS.space),
        ],
        check=True,
        capture_output=True,
        cwd=directory,
    )
    found: dict[str, list[object]] = json.loads(ran.stdout)
    return found


def run_until_it_prints(line: str, script: str, *args: str) -> None:
    """Run a Python program until it says this, then SIGKILL it."""
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *args], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == f"{line}\n"
        child.send_signal(signal.SIGKILL)


def pid_of(store: ChromaVectorStore) -> int:
    process = store._process
    assert process is not None
    return process.pid


@contextmanager
def stopped(pid: int) -> Iterator[psutil.Process]:
    """The process stands still, until the end of the block if it lives."""
    process = psutil.Process(pid)
    process.suspend()
    try:
        yield process
    finally:
        if process.is_running():
            process.resume()


class TestRows:
    async def test_while_searches_come_the_next_one_waits_for_a_part_of_a_large_write(
        self, store: ChromaVectorStore
    ) -> None:
        many = [f"row {number}" for number in range(100)]
        question = rows(["any"]).vectors[0]
        assert await store.query(BOOKS, question, limit=1) == []
        writing = asyncio.create_task(store.upsert(BOOKS, rows(many)))
        while not await store.query(BOOKS, question, limit=1):
            pass
        assert not writing.done(), "the search that met the first rows waited for the last ones"
        await writing
        assert await existing(store) == set(many)

    async def test_an_upsert_replaces_metadata_whole(self, store: ChromaVectorStore, tmp_path: Path) -> None:
        """Chroma's own merges: a key of the old generation would stay for ever."""
        await store.upsert(BOOKS, rows(["a", "b"], metadatas=[{"old": 1, "both": 1}, {"old": 1}]))
        await store.upsert(BOOKS, rows(["a", "b"], metadatas=[{"both": 2, "new": True}, {}]))
        await store.close()
        assert stored(tmp_path / "chroma")["metadatas"] == [{"both": 2, "new": True}, None]

    async def test_update_metadata_replaces_it_whole_and_leaves_vector_and_text(
        self, store: ChromaVectorStore, tmp_path: Path
    ) -> None:
        await store.upsert(BOOKS, rows(["a"], metadatas=[{"old": 1}], documents=["text"]))
        await store.update_metadata(BOOKS, ["a"], [{"new": 0.5}])
        np.testing.assert_allclose((await everything(store))["a"], np.eye(DIM)[0], atol=1e-6)
        await store.close()
        assert stored(tmp_path / "chroma") == {
            "ids": ["a"],
            "metadatas": [{"new": 0.5}],
            "documents": ["text"],
        }

    async def test_a_text_stays_when_rows_come_again_without_texts(
        self, store: ChromaVectorStore, tmp_path: Path
    ) -> None:
        await store.upsert(BOOKS, rows(["a"], documents=["text"]))
        await store.upsert(BOOKS, rows(["a"]))
        await store.close()
        assert stored(tmp_path / "chroma")["documents"] == ["text"]

    async def test_a_text_with_nul_bytes_is_kept(self, store: ChromaVectorStore, tmp_path: Path) -> None:
        await store.upsert(BOOKS, rows(["a", "b"], documents=["one\0two", ""]))
        await store.close()
        assert stored(tmp_path / "chroma")["documents"] == ["one\0two", ""]


class TestItsProcess:
    async def test_nothing_here_stands_still_while_chroma_writes(self, store: ChromaVectorStore) -> None:
        """In this process Chroma's write would hold the interpreter's lock until it is on disk."""
        with stopped(pid_of(store)):
            writing = asyncio.create_task(store.upsert(BOOKS, rows(["a"])))
            assert await asyncio.to_thread(sum, range(1_000)) == 499_500
            assert not writing.done()
        await writing
        assert await store.count(BOOKS) == 1

    async def test_when_it_dies_the_call_can_be_repeated_and_what_was_stored_is_there(
        self, store: ChromaVectorStore
    ) -> None:
        await store.upsert(BOOKS, rows(["a"]))
        with stopped(pid_of(store)) as child:
            writing = asyncio.create_task(store.upsert(BOOKS, rows(["b"])))
            child.kill()
            with pytest.raises(VectorStoreDied, match=r"its process ended \(killed by signal SIGKILL"):
                await writing
        await store.upsert(BOOKS, rows(["b"]))
        assert await existing(store) == {"a", "b"}

    async def test_a_second_process_does_not_open_the_directory(
        self, store: ChromaVectorStore, tmp_path: Path
    ) -> None:
        """Its owner's lock ends with the owner, which a child may outlive for a moment."""
        with pytest.raises(VectorStoreUnavailable, match="is open in another process"):
            await ChromaVectorStore.open(tmp_path / "chroma")

    async def test_what_msgpack_cannot_hold_is_refused_for_good(self, store: ChromaVectorStore) -> None:
        with pytest.raises(Permanent, match="the vector store refuses this"):
            await store.upsert(BOOKS, rows(["a"], metadatas=[{"n": 2**70}]))
        await store.upsert(BOOKS, rows(["a"]))
        assert await store.count(BOOKS) == 1

    async def test_a_defect_in_it_is_told_with_its_place(self, store: ChromaVectorStore) -> None:
        def unheard_of(_collections: ChromaCollections) -> None:
            """No method of theirs."""

        with pytest.raises(StoreDefect, match=r"(?s)chroma/child\.py.*AttributeError.*unheard_of"):
            await store._run(unheard_of)
        assert await store.count(BOOKS) == 0


@pytest.fixture
async def in_turn(tmp_path: Path) -> AsyncIterator[ChromaInTurn]:
    opened = await ChromaInTurn.open(tmp_path / "chroma")
    yield opened
    await opened.close()


class TestQueriesInTurn:
    async def test_they_find_what_the_whole_store_finds(
        self, store: ChromaVectorStore, in_turn: ChromaInTurn
    ) -> None:
        # More rows than Chroma gathers before it writes its index, and some that only its log has.
        vectors = np.random.default_rng(0).standard_normal((1_300, DIM)).astype(np.float32)
        ids = [f"{i:032x}" for i in range(len(vectors))]
        await store.upsert(BOOKS, VectorRows(ids, vectors, [{"job_id": "j1"}] * len(ids), None))
        expected = await store.query(BOOKS, vectors[7], limit=20)
        await store.close()
        found = await in_turn.query(BOOKS, vectors[7], limit=20)
        assert found[0].id == ids[7]
        assert [hit.id for hit in found] == [hit.id for hit in expected]
        np.testing.assert_allclose([h.score for h in found], [h.score for h in expected], atol=1e-6)
        assert len(await in_turn.query(BOOKS, vectors[7], limit=40)) == 40  # wider, by the same child
        held, found_vectors = await in_turn.vectors(BOOKS, [ids[3], "f" * 32, ids[1_299]])
        assert sorted(held) == [ids[3], ids[1_299]]
        np.testing.assert_array_equal(found_vectors[held.index(ids[3])], vectors[3])
        assert (await in_turn.vectors(BOOKS, ["f" * 32]))[0] == []

    async def test_chromas_core_still_answers_by_itself(
        self, store: ChromaVectorStore, tmp_path: Path
    ) -> None:
        """If a release of Chroma changes it, searches are right but slow: this test is what says so."""
        await store.upsert(BOOKS, rows(["a", "b"]))
        await store.close()
        name = collection_name(BOOKS.tenant, BOOKS.space)
        found = QuickQueries(tmp_path / "chroma").query(name, np.eye(DIM)[1].tolist(), SPACE, 1)
        assert found is not None
        assert [hit.id for hit in found] == ["b"]
        assert QuickQueries(tmp_path / "chroma").vectors(name, ["b", "zz"])[0] == ["b"]

    async def test_what_the_core_alone_cannot_answer_is_answered_by_chromas_client(
        self, store: ChromaVectorStore, in_turn: ChromaInTurn
    ) -> None:
        vector = np.eye(DIM, dtype=np.float32)[0]
        await store.upsert(BOOKS, rows(["a"]))
        await store.close()
        assert [hit.id for hit in await in_turn.query(BOOKS, vector, limit=1)] == ["a"]
        with pytest.raises(InvalidRequest, match="not finite"):
            await in_turn.query(BOOKS, vector * np.nan, limit=1)
        with pytest.raises(InvalidRequest, match="limit must be at least 1"):
            await in_turn.query(BOOKS, vector, limit=0)
        with pytest.raises(SpaceMismatch):
            await in_turn.query(BOOKS, vector[:3], limit=1)
        assert await in_turn.query(TenantSpace("stranger", SPACE, DIM), vector, limit=1) == []
        assert (await in_turn.vectors(TenantSpace("stranger", SPACE, DIM), ["a"]))[0] == []
        assert (await in_turn.vectors(BOOKS, ["a"]))[0] == ["a"]
        assert [hit.id for hit in await in_turn.query(BOOKS, vector, limit=1)] == ["a"]

    async def test_without_a_directory_nothing_is_found_and_none_is_made(
        self, in_turn: ChromaInTurn, tmp_path: Path
    ) -> None:
        assert await in_turn.query(BOOKS, np.ones(DIM, dtype=np.float32), limit=1) == []
        assert not (tmp_path / "chroma").exists()

    async def test_a_query_waits_for_the_turn_of_another_process(
        self, store: ChromaVectorStore, in_turn: ChromaInTurn, tmp_path: Path
    ) -> None:
        await store.upsert(BOOKS, rows(["a"]))
        await store.close()
        turn = OsLock(tmp_path / "chroma" / "process.lock")
        assert turn.take()
        querying = asyncio.create_task(in_turn.query(BOOKS, np.eye(DIM, dtype=np.float32)[0], limit=1))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(querying), 0.5)
        turn.release()
        assert [hit.id for hit in await querying] == ["a"]


class TestOpenAndClose:
    async def test_the_space_outlives_the_process(self, store: ChromaVectorStore, tmp_path: Path) -> None:
        await store.close()
        reopened = await ChromaVectorStore.open(tmp_path / "chroma")
        with pytest.raises(SpaceMismatch, match="8 dimensions, not 16"):
            await reopened.ensure_collection(replace(BOOKS, dim=16))
        name = reopened.name_in_store(BOOKS)
        with pytest.raises(SpaceMismatch, match=r"holds vectors of minilm/mean/v1, not of e5"):
            await reopened._run(ChromaCollections.ensure_collection, name, "e5", DIM)
        await reopened.close()

    async def test_an_upsert_that_returned_survives_sigkill(self, tmp_path: Path) -> None:
        script = """
            import asyncio, sys
            from pathlib import Path
            import numpy as np
            from embedfleet.vectors.chroma.embedded import ChromaVectorStore
            from embedfleet.vectors.port import TenantSpace, VectorRows

            async def main():
                store = await ChromaVectorStore.open(Path(sys.argv[1]))
                books = TenantSpace("acme", "minilm/mean/v1", 8)
                await store.ensure_collection(books)
                vectors = np.load(sys.argv[2])
                ids = [f"{i:032x}" for i in range(len(vectors))]
                await store.upsert(
                    books, VectorRows(ids, vectors, [{"n": 1}] * len(ids), ["text"] * len(ids))
                )
                print("stored", flush=True)
                await asyncio.Event().wait()

            asyncio.run(main())
        """
        vectors = np.random.default_rng(0).standard_normal((1_500, DIM), dtype=np.float32)
        np.save(tmp_path / "vectors.npy", vectors)
        run_until_it_prints("stored", script, str(tmp_path / "chroma"), str(tmp_path / "vectors.npy"))

        store = await ChromaVectorStore.open(tmp_path / "chroma")
        found = await everything(store)
        await store.close()
        ids = [f"{i:032x}" for i in range(1_500)]
        assert sorted(found) == ids
        np.testing.assert_allclose([found[i] for i in ids], vectors, atol=1e-5)

    async def test_closing_lets_another_process_open_it(
        self, store: ChromaVectorStore, tmp_path: Path
    ) -> None:
        await store.upsert(BOOKS, rows(["a"]))
        await store.close()
        assert stored(tmp_path / "chroma")["ids"] == ["a"]

    async def test_stores_in_two_directories_are_apart_and_one_can_be_opened_again(
        self, store: ChromaVectorStore, tmp_path: Path
    ) -> None:
        other = await ChromaVectorStore.open(tmp_path / "other")
        await other.ensure_collection(BOOKS)
        await store.upsert(BOOKS, rows(["a"]))
        await store.close()

        again = await ChromaVectorStore.open(tmp_path / "chroma")
        assert await again.count(BOOKS) == 1
        assert await other.count(BOOKS) == 0
        await again.close()
        await other.close()

    async def test_closing_twice_is_harmless_and_a_closed_store_says_so(
        self, store: ChromaVectorStore
    ) -> None:
        await store.close()
        await store.close()
        with pytest.raises(VectorStoreUnavailable, match="is closed"):
            await store.count(BOOKS)

    async def test_closing_leaves_no_thread_of_ours(self, tmp_path: Path) -> None:
        with no_thread_left("chroma"):
            store = await ChromaVectorStore.open(tmp_path / "chroma")
            await store.close()

    async def test_a_file_that_is_no_database_is_named_and_can_be_replaced_without_a_restart(
        self, tmp_path: Path
    ) -> None:
        """Chroma caches a client that failed to start under its path."""
        database = tmp_path / "chroma" / "chroma.sqlite3"
        database.parent.mkdir()
        database.write_text("certainly not a database, whatever the name says")
        with pytest.raises(VectorStoreUnavailable, match=r"chroma failed: .*not a database") as caught:
            await ChromaVectorStore.open(tmp_path / "chroma")
        assert caught.value.remedy is Remedy.REBUILD_VECTORS
        database.unlink()
        store = await ChromaVectorStore.open(tmp_path / "chroma")
        assert await store.count(BOOKS) == 0
        await store.close()

    async def test_a_directory_that_cannot_be_made_is_a_wrong_setting(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(ConfigError, match=r"data_dir: cannot make .*file/chroma \(Not a directory\)"):
            await ChromaVectorStore.open(tmp_path / "file" / "chroma")

    async def test_chromas_own_environment_variables_change_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import chromadb  # noqa: F401  # it reads the environment once when imported

        monkeypatch.setenv("CHROMA_API_IMPL", "chromadb.api.fastapi.FastAPI")
        monkeypatch.setenv("MIGRATIONS", "none")
        monkeypatch.setenv("ALLOW_RESET", "perhaps")
        store = await ChromaVectorStore.open(tmp_path / "chroma")
        await store.ensure_collection(BOOKS)
        await store.close()
        assert (tmp_path / "chroma" / "chroma.sqlite3").exists()

    def test_a_dotenv_that_stops_chroma_from_loading_is_named(self, tmp_path: Path) -> None:
        (tmp_path / ".env").write_text("ALLOW_RESET=perhaps\n")
        script = """
            import asyncio, pathlib
            from embedfleet.errors import ConfigError
            from embedfleet.vectors.chroma.embedded import ChromaVectorStore
            try:
                asyncio.run(ChromaVectorStore.open(pathlib.Path("chroma")))
            except ConfigError as exc:
                print(exc)
        """
        ran = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script)],
            cwd=tmp_path,
            check=True,
            capture_output=True,
            text=True,
        )
        assert ran.stdout.startswith("environment or .env: Chroma cannot read ALLOW_RESET ")


class TestFailures:
    def test_after_a_full_disk_has_room_again_the_same_store_works(self, tmp_path: Path) -> None:
        """Chroma by itself hides the cause, and then waits for ever for a transaction it left open."""
        program = Path(__file__).with_name("fill_disk.py")
        mount = f'mount -t tmpfs -o size=40m none "{tmp_path}" && exec "$0" "{program}" "{tmp_path}"'
        ran = subprocess.run(
            ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, sys.executable],
            capture_output=True,
            text=True,
        )
        if ran.returncode and "unshare" in ran.stderr + ran.stdout:
            pytest.skip("user namespaces are not allowed here")
        assert (ran.returncode, ran.stdout) == (0, "refused\nstored\n"), ran.stderr

    def test_every_error_of_chromas_is_mapped(self, tmp_path: Path) -> None:
        from chromadb.errors import error_types

        permanent = {
            "InvalidDimension",
            "InvalidArgumentError",
            "IDAlreadyExists",
            "DuplicateID",
            "InvalidUUID",
            "InvalidHTTPVersion",
            "AuthorizationError",
            "AuthError",
            "UniqueConstraintError",
            "BatchSizeExceededError",
            "QuotaError",
            "ChromaError",
        }
        transient = {"NotFoundError", "RateLimitError", "InternalError", "VersionMismatchError"}
        assert set(error_types) == permanent | transient, "map the new one, then name it here"
        for name, kind in error_types.items():
            ours = embedded_error(kind("some\n  reason"), tmp_path)
            assert type(ours) is (Permanent if name in permanent else VectorStoreUnavailable), name
            assert "some reason" in str(ours)

    def test_a_full_disk_and_a_panic_are_told_apart_from_other_errors(self, tmp_path: Path) -> None:
        panic = type("PanicException", (BaseException,), {})("index out of range")
        assert type(embedded_error(panic, tmp_path)) is VectorStoreUnavailable
        assert type(embedded_error(OSError(28, "No space left on device"), tmp_path)) is StorageFull
        assert type(embedded_error(OSError(5, "Input/output error"), tmp_path)) is VectorStoreUnavailable
        interrupt = KeyboardInterrupt()
        assert embedded_error(interrupt, tmp_path) is interrupt
