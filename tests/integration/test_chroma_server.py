"""Chroma's server beyond the port: opening, secrets, dying, time-outs, many writers, limits of a request."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from chromadb.errors import error_types

from embedfleet.errors import (
    ConfigError,
    Permanent,
    SpaceMismatch,
    StorageFull,
    VectorStoreUnavailable,
)
from embedfleet.vectors.chroma.errors import server_error
from embedfleet.vectors.chroma.server import ChromaServerStore
from embedfleet.vectors.port import Metadata, TenantSpace, VectorRows
from support.chroma_server import ChromaServer
from support.hangs import HANG_SECONDS
from support.loopback_server import free_port
from support.recording_proxy import RecordingProxy
from support.threads import no_thread_left

SPACE = "minilm/mean/v1"
DIM = 8
SECRET = "s3cret-t0ken"


def rows(
    ids: Sequence[str], *, metadatas: Sequence[Metadata] | None = None, documents: Sequence[str] | None = None
) -> VectorRows:
    """One axis a row, in turn."""
    vectors = np.eye(DIM, dtype=np.float32)[np.arange(len(ids)) % DIM]
    return VectorRows(ids, vectors, metadatas or [{"job_id": "j1"}] * len(ids), documents)


def ids_of(name: str, count: int) -> list[str]:
    return [f"{name}-{number}" for number in range(count)]


@pytest.fixture
def books() -> TenantSpace:
    """A collection of the test's own."""
    return TenantSpace(f"books-{uuid4().hex}", SPACE, DIM)


@pytest.fixture
async def store(chroma_server: ChromaServer, books: TenantSpace) -> AsyncIterator[ChromaServerStore]:
    opened = await ChromaServerStore.open(chroma_server.url)
    await opened.ensure_collection(books)
    yield opened
    await opened.close()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[ChromaServer]:
    """One that the test may stop and kill."""
    with ChromaServer(tmp_path / "data") as server:
        yield server


@pytest.fixture
def proxy(chroma_server: ChromaServer) -> Iterator[RecordingProxy]:
    with RecordingProxy(chroma_server.url) as proxy:
        yield proxy


@pytest.fixture
def silent() -> Iterator[str]:
    """The url of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


class TestOpening:
    async def test_a_server_that_is_down_is_said_so_at_once_with_its_url(self) -> None:
        url = f"http://127.0.0.1:{free_port()}"
        with pytest.raises(VectorStoreUnavailable, match=f"{url}: .*Connection refused"):
            await ChromaServerStore.open(url)

    async def test_a_server_that_never_answers_is_away(self, silent: str) -> None:
        with pytest.raises(VectorStoreUnavailable, match=f"{silent}: timed out"):
            await ChromaServerStore.open(silent, timeout_seconds=0.2)

    async def test_opening_can_be_cancelled_and_leaves_no_thread(self) -> None:
        with no_thread_left("chroma"), socket.create_server(("127.0.0.1", 0)) as listener:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            before = set(threading.enumerate())
            opening = asyncio.create_task(ChromaServerStore.open(url, timeout_seconds=HANG_SECONDS))
            connection, _ = await asyncio.to_thread(listener.accept)
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening
            connection.close()  # the thread that waits for the answer gets none, and ends
            for thread in set(threading.enumerate()) - before:
                if thread.name.startswith("chroma"):
                    await asyncio.to_thread(thread.join, HANG_SECONDS)

    @pytest.mark.parametrize(
        "answer",
        [
            (404, "<html>no such page</html>"),
            (301, ""),
            (200, "<html>welcome</html>"),
            (200, "{}"),
            (200, '"0.5.4"'),
            (410, '{"error":"Unimplemented","message":"The v2 API is to come"}'),
        ],
    )
    async def test_what_is_no_chroma_server_of_version_1_is_a_wrong_url(
        self, proxy: RecordingProxy, answer: tuple[int, str]
    ) -> None:
        proxy.answer = answer
        with pytest.raises(ConfigError, match=f"^vector_store.url: no Chroma .* at {proxy.url}"):
            await ChromaServerStore.open(proxy.url)

    @pytest.mark.parametrize("status", [401, 403])
    async def test_a_refused_token_is_a_wrong_setting(self, proxy: RecordingProxy, status: int) -> None:
        proxy.answer = (status, '{"error":"AuthError","message":"Forbidden"}')
        with pytest.raises(ConfigError, match=r"^vector_store\.token: ") as caught:
            await ChromaServerStore.open(proxy.url, headers={"X-Chroma-Token": SECRET})
        assert SECRET not in str(caught.value)

    @pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
    async def test_a_server_or_proxy_in_trouble_is_away(self, proxy: RecordingProxy, status: int) -> None:
        proxy.answer = (status, "<html>try later</html>")
        with pytest.raises(VectorStoreUnavailable, match=f"HTTP {status}"):
            await ChromaServerStore.open(proxy.url)

    @pytest.mark.parametrize(
        "url",
        [
            "chroma:8000",
            f"ftp://u:{SECRET}@host",
            f"http://u:{SECRET}@",
            f"http://u:{SECRET}@host:port",
            f"http://host/?token={SECRET}",
            "http://[::1",
        ],
    )
    async def test_a_url_that_cannot_be_right_is_refused_unquoted(self, url: str) -> None:
        with pytest.raises(ConfigError, match=r"^vector_store\.url: ") as caught:
            await ChromaServerStore.open(url)
        assert SECRET not in str(caught.value)

    async def test_a_header_that_cannot_be_sent_is_refused_unquoted(self) -> None:
        for bad in (f"{SECRET}\r\nHost: elsewhere", f"{SECRET}é", f" {SECRET}", f"{SECRET} "):
            with pytest.raises(ConfigError, match=r"^vector_store\.token: ") as caught:
                await ChromaServerStore.open("http://127.0.0.1:1", headers={"Authorization": bad})
            assert SECRET not in str(caught.value)
            assert caught.value.__cause__ is None

    async def test_the_environment_changes_nothing(
        self, chroma_server: ChromaServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        nowhere = f"http://127.0.0.1:{free_port()}"
        for name in ("HTTP_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
            monkeypatch.setenv(name, nowhere)
        monkeypatch.setenv("CHROMA_SERVER_HOST", "elsewhere")
        monkeypatch.setenv("CHROMA_SERVER_SSL_ENABLED", "true")
        store = await ChromaServerStore.open(chroma_server.url)
        await store.close()


class TestSecrets:
    async def test_the_token_goes_with_every_request(self, proxy: RecordingProxy, books: TenantSpace) -> None:
        store = await ChromaServerStore.open(proxy.url, headers={"Authorization": f"Bearer {SECRET}"})
        await store.ensure_collection(books)
        await store.upsert(books, rows(["a"]))
        assert await store.count(books) == 1
        await store.close()
        assert len(proxy.requests) >= 6
        assert {request.headers["authorization"] for request in proxy.requests} == {f"Bearer {SECRET}"}

    async def test_a_login_and_a_path_in_the_url_are_used_and_the_login_is_never_shown(
        self, chroma_server: ChromaServer, books: TenantSpace
    ) -> None:
        with RecordingProxy(chroma_server.url, prefix="/vectors") as proxy:
            url = proxy.url.replace("http://", f"http://fleet:{SECRET}%40@") + "/"
            store = await ChromaServerStore.open(url)
            await store.ensure_collection(books)
            assert {request.headers["authorization"] for request in proxy.requests} == {
                "Basic ZmxlZXQ6czNjcmV0LXQwa2VuQA=="  # fleet:s3cret-t0ken@
            }
            proxy.answer = (503, "later")
            with pytest.raises(VectorStoreUnavailable, match=f"at {proxy.url} failed") as caught:
                await store.count(books)
            await store.close()
            with pytest.raises(VectorStoreUnavailable, match=f"at {proxy.url} is closed") as closed:
                await store.count(books)
        for shown in (str(caught.value), str(closed.value), repr(store), repr(vars(store))):
            assert SECRET not in shown


class TestRows:
    async def test_an_upsert_replaces_metadata_whole_and_keeps_a_text_it_does_not_bring(
        self, store: ChromaServerStore, chroma_server: ChromaServer, books: TenantSpace
    ) -> None:
        await store.upsert(books, rows(["a", "b"], metadatas=[{"old": 1}, {"old": 1}], documents=["t", "\0"]))
        await store.upsert(books, rows(["a", "b"], metadatas=[{"new": True}, {}]))
        assert chroma_server.rows(books) == {"a": ({"new": True}, "t"), "b": (None, "\0")}
        await store.update_metadata(books, ["a"], [{"newer": 0.5}])
        assert chroma_server.rows(books)["a"] == ({"newer": 0.5}, "t")

    async def test_a_collection_dropped_and_made_anew_by_another_process_is_found(
        self, store: ChromaServerStore, chroma_server: ChromaServer, books: TenantSpace
    ) -> None:
        await store.upsert(books, rows(["a"]))
        chroma_server.drop(books)
        with pytest.raises(VectorStoreUnavailable, match="ensure it"):
            await store.upsert(books, rows(["b"]))
        await store.ensure_collection(books)
        await store.upsert(books, rows(["b"]))
        assert set(chroma_server.rows(books)) == {"b"}

    async def test_a_large_write_is_sent_in_requests_a_proxy_lets_through(
        self, proxy: RecordingProxy, chroma_server: ChromaServer, books: TenantSpace
    ) -> None:
        store = await ChromaServerStore.open(proxy.url)
        await store.ensure_collection(books)
        many = ids_of("row", 3_000)
        await store.upsert(books, rows(many, documents=['some "words"\n' * 80] * len(many)))
        await store.close()
        assert len(proxy.upserts()) > 3
        assert max(len(request.body) for request in proxy.upserts()) < 2**20  # what nginx takes
        assert set(chroma_server.rows(books)) == set(many)

    async def test_a_row_larger_than_the_server_takes_is_refused_for_good(
        self, store: ChromaServerStore, books: TenantSpace
    ) -> None:
        """The server itself may only drop the connection, and such a write would be repeated for ever."""
        with pytest.raises(Permanent, match=r"row b is .* cut it"):
            await store.upsert(books, rows(["a", "b"], documents=["", "x" * (7 * 2**20)]))
        await store.upsert(books, rows(["a"], documents=["\0" * (5 * 2**20)]))  # six bytes each in JSON
        assert set((await store.vectors(books, ["a", "b"]))[0]) == {"a"}

    async def test_a_row_larger_than_a_proxy_takes_is_refused_for_good(
        self, proxy: RecordingProxy, books: TenantSpace
    ) -> None:
        store = await ChromaServerStore.open(proxy.url)
        proxy.answer = (413, "<html>Request Entity Too Large</html>")
        with pytest.raises(Permanent, match="too large"):
            await store.ensure_collection(books)
        await store.close()


class TestDying:
    async def test_a_server_that_was_away_is_used_again_by_the_next_call(
        self, own_server: ChromaServer, books: TenantSpace
    ) -> None:
        store = await ChromaServerStore.open(own_server.url)
        await store.ensure_collection(books)
        await store.upsert(books, rows(["a"]))
        own_server.kill()
        with pytest.raises(VectorStoreUnavailable, match=own_server.url):
            await store.upsert(books, rows(["b"]))
        own_server.start()
        await store.upsert(books, rows(["b"]))
        assert set((await store.vectors(books, ["a", "b"]))[0]) == {"a", "b"}
        await store.close()

    async def test_no_acknowledged_row_is_lost_by_sigkill_and_a_repeated_upsert_heals(
        self, own_server: ChromaServer, books: TenantSpace
    ) -> None:
        store = await ChromaServerStore.open(own_server.url)
        await store.ensure_collection(books)
        acknowledged: set[str] = set()
        enough = asyncio.Event()

        async def write(name: str) -> list[str]:
            """Until the server is away; returns the batch that failed."""
            number = 0
            while True:
                batch = ids_of(f"{name}-{number}", 40)
                try:
                    await store.upsert(books, rows(batch, documents=["some text"] * len(batch)))
                except VectorStoreUnavailable:
                    return batch
                acknowledged.update(batch)
                if len(acknowledged) > 400:
                    enough.set()
                number += 1

        writers = [asyncio.create_task(write(f"w{number}")) for number in range(3)]
        await enough.wait()
        own_server.kill()
        failed = await asyncio.gather(*writers)
        own_server.start()

        held = {row_id async for ids, _ in store.scan(books) for row_id in ids}
        assert acknowledged <= held
        for batch in failed:
            await store.upsert(books, rows(batch))
        assert await store.count(books) == len(acknowledged.union(*failed))
        await store.close()

    async def test_after_it_opened_a_refusal_is_only_a_trouble_that_passes(
        self, proxy: RecordingProxy, books: TenantSpace
    ) -> None:
        """A token withdrawn or a proxy being renewed must not make workers give documents up."""
        store = await ChromaServerStore.open(proxy.url)
        for status in (401, 403, 404, 301, 500, 502, 503, 429):
            proxy.answer = (status, "<html>no</html>")
            with pytest.raises(VectorStoreUnavailable, match=str(status)):
                await store.ensure_collection(books)
        proxy.answer = (200, "<html>no</html>")
        with pytest.raises(VectorStoreUnavailable):
            await store.ensure_collection(books)
        proxy.answer = None
        await store.ensure_collection(books)
        await store.close()

    async def test_a_call_that_gets_no_answer_ends_by_its_time_out(
        self, proxy: RecordingProxy, books: TenantSpace
    ) -> None:
        patient = await ChromaServerStore.open(proxy.url, timeout_seconds=HANG_SECONDS)
        await patient.ensure_collection(books)
        store = await ChromaServerStore.open(proxy.url, timeout_seconds=2)
        proxy.hold_upserts.set()
        with pytest.raises(VectorStoreUnavailable, match="timed out"):
            await store.upsert(books, rows(["a"]))
        assert await patient.count(books) == 0  # others go on
        await store.close()
        await patient.close()


class TestClosing:
    async def test_a_cancelled_write_is_not_stopped_and_close_waits_for_it(
        self, proxy: RecordingProxy, chroma_server: ChromaServer, books: TenantSpace
    ) -> None:
        store = await ChromaServerStore.open(proxy.url)
        await store.ensure_collection(books)
        proxy.hold_upserts.set()
        writing = asyncio.create_task(store.upsert(books, rows(["a"])))
        await asyncio.to_thread(proxy.held.wait)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        closing = asyncio.create_task(store.close())
        await asyncio.sleep(0)
        assert not closing.done()
        proxy.go_on.set()
        await closing
        assert set(chroma_server.rows(books)) == {"a"}

    async def test_closing_twice_is_harmless_leaves_no_thread_and_a_closed_store_says_so(
        self, chroma_server: ChromaServer, books: TenantSpace
    ) -> None:
        with no_thread_left("chroma"):
            store = await ChromaServerStore.open(chroma_server.url)
            await asyncio.gather(*(store.count(books) for _ in range(8)))
            await store.close()
            await store.close()
        with pytest.raises(VectorStoreUnavailable, match="is closed"):
            await store.count(books)

    async def test_writes_that_wait_for_each_other_keep_no_reader_waiting(
        self, proxy: RecordingProxy, books: TenantSpace
    ) -> None:
        store = await ChromaServerStore.open(proxy.url, connections=2)
        await store.ensure_collection(books)
        proxy.hold_upserts.set()
        writing = [asyncio.create_task(store.upsert(books, rows([f"row-{n}"]))) for n in range(5)]
        await asyncio.to_thread(proxy.held.wait)
        assert await store.count(books) == 0
        for task in writing[:2]:  # one under way, one that waits
            task.cancel()
        for _ in range(10):  # the cancelled write still runs: the next must not begin
            assert await store.count(books) == 0
        assert len(proxy.upserts()) == 1
        proxy.go_on.set()
        await asyncio.wait(writing)
        assert await store.count(books) == 4
        await store.close()


_WRITER = """
    import asyncio, sys
    import numpy as np
    from embedfleet.errors import SpaceMismatch
    from embedfleet.vectors.chroma.server import ChromaServerStore
    from embedfleet.vectors.port import TenantSpace, VectorRows

    async def main(url, tenant, space, dim, own):
        books, dim = TenantSpace(tenant, space, int(dim)), int(dim)
        store = await ChromaServerStore.open(url)
        print("ready", flush=True)
        sys.stdin.readline()
        try:
            await store.ensure_collection(books)
            for number in range(8):
                ids = [f"{own}-{number}-{i}" for i in range(10)] + [f"shared-{i}" for i in range(10)]
                vectors = np.eye(dim, dtype=np.float32)[np.arange(20) % dim]
                await store.upsert(books, VectorRows(ids, vectors, [{"by": own}] * 20, ["text"] * 20))
            print("wrote")
        except SpaceMismatch:
            print("refused")
        await store.close()

    asyncio.run(main(*sys.argv[1:]))
"""


def run_together(url: str, books: TenantSpace, dims: Sequence[int]) -> list[str]:
    """What processes say that ensure the collection at once, each with its dimension, and write."""
    processes = [
        subprocess.Popen(
            [
                *(sys.executable, "-c", textwrap.dedent(_WRITER)),
                *(url, books.tenant, books.space, str(dim), f"p{number}"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number, dim in enumerate(dims)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return [process.communicate(timeout=HANG_SECONDS)[0].strip() for process in processes]


class TestManyWriters:
    def test_processes_ensure_and_write_one_collection_at_the_same_time(
        self, chroma_server: ChromaServer, books: TenantSpace
    ) -> None:
        assert run_together(chroma_server.url, books, [DIM] * 3) == ["wrote"] * 3
        own = {f"p{p}-{number}-{i}" for p in range(3) for number in range(8) for i in range(10)}
        assert set(chroma_server.rows(books)) == own | {f"shared-{i}" for i in range(10)}

    def test_of_processes_that_want_another_dimension_exactly_one_gets_the_collection(
        self, chroma_server: ChromaServer, books: TenantSpace
    ) -> None:
        said = run_together(chroma_server.url, books, [8, 16, 32])
        assert sorted(said) == ["refused", "refused", "wrote"]
        writers = {metadata["by"] for metadata, _ in chroma_server.rows(books).values() if metadata}
        assert writers == {f"p{said.index('wrote')}"}

    async def test_two_upserts_of_one_row_at_the_same_time_do_not_mix_their_metadata(
        self, store: ChromaServerStore, chroma_server: ChromaServer, books: TenantSpace
    ) -> None:
        """Chroma merges metadata; each upsert looks at the old first, so one must not come in between."""
        for number in range(8):
            await asyncio.gather(
                *(store.upsert(books, rows([f"row-{number}"], metadatas=[{key: 1}])) for key in "abcd")
            )
        mixed = {
            row_id: found for row_id, (found, _) in chroma_server.rows(books).items() if len(found or {}) != 1
        }
        assert mixed == {}


class TestErrors:
    def test_after_a_full_disk_has_room_again_and_a_restart_the_same_store_works(
        self, tmp_path: Path
    ) -> None:
        program = Path(__file__).with_name("fill_server_disk.py")
        mount = f'mount -t tmpfs -o size=40m none "{tmp_path}" && exec "$0" "{program}" "{tmp_path}"'
        ran = subprocess.run(
            ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, sys.executable],
            capture_output=True,
            text=True,
        )
        if ran.returncode and "unshare" in ran.stderr + ran.stdout:
            pytest.skip("user namespaces are not allowed here")
        assert (ran.returncode, ran.stdout) == (0, "refused\nstored\n"), ran.stderr

    def test_every_error_of_chromas_is_mapped(self) -> None:
        transient = {
            "NotFoundError",
            "RateLimitError",
            "InternalError",
            "VersionMismatchError",
            "IDAlreadyExists",
            "UniqueConstraintError",
            "AuthorizationError",
            "AuthError",
        }
        for name, kind in error_types.items():
            ours = server_error(kind("some\n  reason"), "http://chroma", opening=False)
            assert type(ours) is (VectorStoreUnavailable if name in transient else Permanent), name

    def test_a_full_disk_is_told_apart_where_the_server_says_so(self) -> None:
        said = "Query error: Database error: (code: 13) database or disk is full"
        for opening in (True, False):
            ours = server_error(error_types["InternalError"](said), "http://chroma", opening=opening)
            assert type(ours) is StorageFull
            assert "restart it" in str(ours)

    def test_what_is_no_error_of_a_server_stays_what_it_is(self) -> None:
        bug = AttributeError("ours")
        assert server_error(bug, "http://chroma", opening=False) is bug
        assert server_error(SpaceMismatch("other"), "http://chroma", opening=False).args == ("other",)
