"""Qdrant beyond the port: opening, secrets, dying, time-outs, limits of a request, how rows lie in it."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from embedfleet.errors import (
    ConfigError,
    EmbedfleetError,
    Permanent,
    StorageFull,
    VectorStoreUnavailable,
)
from embedfleet.vectors.port import StoreDebt, TenantSpace, VectorRows
from embedfleet.vectors.qdrant import layout
from embedfleet.vectors.qdrant.connection import Connection, _client
from embedfleet.vectors.qdrant.store import QdrantStore
from embedfleet.vectors.registry import store_kind
from embedfleet.vectors.server_address import ServerAddress
from support.loopback_server import free_port
from support.qdrant_server import QdrantServer
from support.recording_proxy import RecordingProxy, Request
from support.stores import StorePlace, overrides

DIM = 8
BOOKS = TenantSpace("acme", "minilm/mean/v1", DIM)
SECRET = "s3cret-token"
WHOLE = {"operation_id": 1, "status": "completed"}


def rows(ids: list[str], *, texts: list[str] | None = None) -> VectorRows:
    """One axis a row, in turn."""
    vectors = np.eye(DIM, dtype=np.float32)[np.arange(len(ids)) % DIM]
    return VectorRows(ids, vectors, [{"job_id": "j1"}] * len(ids), texts)


async def opened(url: str, *, token: str | None = None, timeout_seconds: float = 30.0) -> QdrantStore:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return await QdrantStore.open(ServerAddress.parse(url, headers), timeout_seconds=timeout_seconds)


@pytest.fixture
async def store(qdrant_server: QdrantServer) -> AsyncIterator[QdrantStore]:
    """Holding nothing but an empty collection of books."""
    store = await opened(qdrant_server.url)
    await store.ensure_collection(BOOKS)
    yield store
    await store.close()


@pytest.fixture
def proxy(qdrant_server: QdrantServer) -> Iterator[RecordingProxy]:
    with RecordingProxy(qdrant_server.url) as proxy:
        yield proxy


class SmallRequests(RecordingProxy):
    """Takes writes of up to `most` bytes, as a proxy with a limit does."""

    most = 1_000

    def take(self, request: Request) -> tuple[int, bytes]:
        if len(request.body) > self.most:
            self.requests.append(request)
            return 413, b"<html>Request Entity Too Large</html>"
        return super().take(request)


class TestOpening:
    async def test_a_server_that_is_down_is_said_so_at_once_with_its_url(self) -> None:
        url = f"http://127.0.0.1:{free_port()}"
        with pytest.raises(VectorStoreUnavailable, match=f"no answer from the vector store at {url}"):
            await opened(url)

    async def test_a_server_that_never_answers_is_away(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            with pytest.raises(VectorStoreUnavailable, match=f"{url}: ReadTimeout"):
                await opened(url, timeout_seconds=0.2)

    @pytest.mark.parametrize(
        "answer",
        [
            (404, "<html>no such page</html>"),
            (301, ""),
            (200, "<html>welcome</html>"),
            (200, "{}"),
            (200, '{"title": "another", "version": "1.20.0"}'),
        ],
    )
    async def test_what_is_no_qdrant_server_is_a_wrong_url(
        self, proxy: RecordingProxy, answer: tuple[int, str]
    ) -> None:
        proxy.answer = answer
        with pytest.raises(ConfigError, match=f"^vector_store.url: no Qdrant server answers at {proxy.url}"):
            await opened(proxy.url)

    async def test_an_old_server_is_told_from_which_release_on_it_will_do(
        self, proxy: RecordingProxy
    ) -> None:
        proxy.answer = (200, '{"title": "qdrant - vector search engine", "version": "1.16.3"}')
        with pytest.raises(ConfigError, match=r"of version 1\.16\.3: upgrade it to 1\.17 or later"):
            await opened(proxy.url)

    @pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
    async def test_a_server_or_proxy_in_trouble_is_away(self, proxy: RecordingProxy, status: int) -> None:
        proxy.answer = (status, "<html>try later</html>")
        with pytest.raises(VectorStoreUnavailable, match=f"HTTP {status}"):
            await opened(proxy.url)

    async def test_a_url_is_needed_since_there_is_no_embedded_qdrant(self, tmp_path: Path) -> None:
        place = StorePlace(overrides(tmp_path, kind="qdrant"), None)
        with pytest.raises(ConfigError, match=r"setting `vector_store\.url`: it is empty"):
            await place.open()
        with pytest.raises(ConfigError, match=r"setting `vector_store\.url`: it is empty"):
            store_kind("qdrant").place(place.settings)


class TestSecrets:
    async def test_a_server_with_a_key_takes_the_token_and_refuses_another(self, tmp_path: Path) -> None:
        with QdrantServer(tmp_path / "data", key=SECRET) as server:
            vector_store = {"kind": "qdrant", "url": server.url, "token": SECRET}
            store = await StorePlace(overrides(tmp_path, **vector_store), None).open()
            await store.ensure_collection(BOOKS)
            await store.close()
            for token in (None, f"{SECRET}x"):
                with pytest.raises(ConfigError, match=r"^vector_store\.token: .*\(HTTP 401\)") as caught:
                    await opened(server.url, token=token)
                assert SECRET not in str(caught.value)

    async def test_a_key_that_is_withdrawn_later_costs_no_document(self, proxy: RecordingProxy) -> None:
        store = await opened(proxy.url, token=SECRET)
        proxy.answer = (403, '{"status": {"error": "forbidden"}}')
        with pytest.raises(VectorStoreUnavailable, match=r"^vector_store\.token: ") as caught:
            await store.upsert(BOOKS, rows(["a"]))
        assert SECRET not in str(caught.value)
        await store.close()


class TestTrouble:
    @pytest.mark.parametrize(
        ("status", "said", "expected"),
        [
            (500, "Service internal error: No space left on device (os error 28)", StorageFull),
            (503, "overloaded", VectorStoreUnavailable),
            (408, "timeout", VectorStoreUnavailable),
            (400, "Wrong input: malformed", Permanent),
            (404, "Not found: no such page", VectorStoreUnavailable),
        ],
    )
    async def test_what_a_refusal_means(
        self, proxy: RecordingProxy, status: int, said: str, expected: type[EmbedfleetError]
    ) -> None:
        store = await opened(proxy.url)
        proxy.answer = (status, json.dumps({"status": {"error": said}, "time": 0.0}))
        with pytest.raises(expected, match=said.split(":")[0]):
            await store.count(BOOKS)
        await store.close()

    async def test_a_page_of_a_proxy_does_not_say_that_there_is_nothing_to_delete(
        self, proxy: RecordingProxy
    ) -> None:
        store = await opened(proxy.url)
        proxy.answer = (404, "default backend - 404")
        for call in (store.delete(BOOKS, ["a"]), store.drop_collection(BOOKS)):
            with pytest.raises(VectorStoreUnavailable, match="HTTP 404 default backend"):
                await call
        await store.close()

    async def test_a_write_that_the_server_has_only_queued_is_not_done(
        self, proxy: RecordingProxy, store: QdrantStore
    ) -> None:
        """A server answers "wait_timeout", with HTTP 200, if its queue is longer than its patience."""
        through = await opened(proxy.url)
        proxy.answer = (200, json.dumps({"result": {**WHOLE, "status": "wait_timeout"}, "status": "ok"}))
        with pytest.raises(VectorStoreUnavailable, match="has not done a write in time"):
            await through.delete(BOOKS, ["a"])
        await through.close()

    async def test_a_server_that_was_killed_is_used_again_with_all_that_it_had(self, tmp_path: Path) -> None:
        with QdrantServer(tmp_path / "data") as server:
            store = await opened(server.url)
            await store.ensure_collection(BOOKS)
            await store.upsert(BOOKS, rows(["a", "b"]))
            await asyncio.to_thread(server.kill)
            with pytest.raises(VectorStoreUnavailable, match="no answer"):
                await store.count(BOOKS)
            await asyncio.to_thread(server.start)
            assert await store.count(BOOKS) == 2
            await store.close()

    async def test_a_silent_server_counts_as_away_after_the_time_out(self, tmp_path: Path) -> None:
        with QdrantServer(tmp_path / "data") as server:
            # Not by `opened`: the server would have to answer in that time first.
            store = QdrantStore(Connection(_client(ServerAddress.parse(server.url, {}), 0.5), server.url))
            with server.frozen(), pytest.raises(VectorStoreUnavailable, match="ReadTimeout"):
                await store.count(BOOKS)
            await store.close()

    async def test_a_closed_store_says_so(self, qdrant_server: QdrantServer) -> None:
        store = await opened(qdrant_server.url)
        await store.close()
        with pytest.raises(VectorStoreUnavailable, match="is closed"):
            await store.count(BOOKS)


class Optimisers(RecordingProxy):
    """Before a server whose optimisers are in another state than those of the engine, which has none."""

    status = "green"
    optimizer_status: object = "ok"

    def take(self, request: Request) -> tuple[int, bytes]:
        status, body = super().take(request)
        if request.method == "GET" and "/collections/" in request.path and "/exists" not in request.path:
            answer = json.loads(body)
            answer["result"] |= {"status": self.status, "optimizer_status": self.optimizer_status}
            body = json.dumps(answer).encode()
        return status, body

    def triggered(self) -> list[bytes]:
        return [request.body for request in self.requests if request.method == "PATCH"]


class TestUpkeep:
    async def test_rows_count_as_a_debt_while_the_optimisers_have_work(
        self, qdrant_server: QdrantServer
    ) -> None:
        with Optimisers(qdrant_server.url) as server:
            store = await opened(server.url)
            await store.ensure_collection(BOOKS)
            await store.upsert(BOOKS, rows(["a", "b"]))
            assert await store.debt() == StoreDebt(), "they are too few for an index"
            server.status = "yellow"
            assert await store.debt() == StoreDebt(unindexed_rows=2)
            await store.tend()
            assert server.triggered() == [], "they are at work"
            await store.close()

    async def test_optimisers_that_wait_for_a_write_are_triggered(self, qdrant_server: QdrantServer) -> None:
        """Storage may be what waits for them, so no write would come."""
        with Optimisers(qdrant_server.url) as server:
            store = await opened(server.url)
            await store.ensure_collection(BOOKS)
            server.status = "grey"
            await store.tend()
            triggered = [json.loads(body) for body in server.triggered()]
            # One for each collection of the server, which has those of other tests as well.
            assert triggered
            assert all(body == {"optimizers_config": {}} for body in triggered)
            await store.close()

    async def test_what_the_server_says_of_failed_optimisers_is_told(
        self, qdrant_server: QdrantServer
    ) -> None:
        with Optimisers(qdrant_server.url) as server:
            store = await opened(server.url)
            await store.ensure_collection(BOOKS)
            server.status, server.optimizer_status = "red", {"error": "out of memory"}
            with pytest.raises(VectorStoreUnavailable, match=r"the optimisers of .*: out of memory"):
                await store.tend()
            await store.close()


class TestLimits:
    async def test_a_write_too_large_for_a_proxy_is_sent_in_parts(self, qdrant_server: QdrantServer) -> None:
        with SmallRequests(qdrant_server.url) as small:
            store = await opened(small.url)
            await store.ensure_collection(BOOKS)
            await store.upsert(BOOKS, rows([f"row {number}" for number in range(50)]))
            assert await store.count(BOOKS) == 50
            await store.close()

    async def test_a_row_too_large_for_it_is_given_up_for_good(self, qdrant_server: QdrantServer) -> None:
        with SmallRequests(qdrant_server.url) as small:
            store = await opened(small.url)
            await store.ensure_collection(BOOKS)
            with pytest.raises(Permanent, match="one row is too large"):
                await store.upsert(BOOKS, rows(["a", "b"], texts=["x" * 2_000, "y"]))
            await store.close()


class TestRows:
    async def test_receipts_say_that_its_log_keeps_deleted_texts(self, store: QdrantStore) -> None:
        said = store.not_forgotten()
        assert said is not None
        assert "the log of Qdrant" in said

    async def test_a_user_of_qdrant_finds_tenant_id_metadata_and_text(
        self, store: QdrantStore, qdrant_server: QdrantServer
    ) -> None:
        await store.upsert(BOOKS, rows(["a"], texts=["a text"]))
        client = QdrantClient(url=qdrant_server.url, check_compatibility=False)
        own = models.FieldCondition(key="tenant", match=models.MatchValue(value="acme"))
        found, _ = client.scroll(layout.rows_collection(BOOKS), scroll_filter=models.Filter(must=[own]))
        assert [point.payload for point in found] == [
            {"tenant": "acme", "id": "a", "metadata": {"job_id": "j1"}, "text": "a text"}
        ]
        client.close()

    async def test_a_write_without_texts_keeps_the_text_that_is_there(
        self, store: QdrantStore, qdrant_server: QdrantServer
    ) -> None:
        await store.upsert(BOOKS, rows(["a"], texts=["a text"]))
        await store.upsert(BOOKS, rows(["a", "b"]))
        client = QdrantClient(url=qdrant_server.url, check_compatibility=False)
        points = client.retrieve(layout.rows_collection(BOOKS), [layout.row_point("acme", "a")])
        assert points[0].payload is not None
        assert points[0].payload["text"] == "a text"
        client.close()

    async def test_of_two_systems_that_claim_an_empty_store_one_gets_it(
        self, qdrant_server: QdrantServer
    ) -> None:
        first, second = await opened(qdrant_server.url), await opened(qdrant_server.url)
        marks = await asyncio.gather(first.claim_mark("one"), second.claim_mark("two"))
        assert marks[0] == marks[1] == await first.mark()
        await first.close()
        await second.close()

    async def test_a_collection_that_an_operator_deleted_is_made_again(
        self, store: QdrantStore, qdrant_server: QdrantServer
    ) -> None:
        """The register still names it."""
        client = QdrantClient(url=qdrant_server.url, check_compatibility=False)
        client.delete_collection(layout.rows_collection(BOOKS))
        client.close()
        with pytest.raises(VectorStoreUnavailable, match="ensure it"):
            await store.upsert(BOOKS, rows(["a"]))
        assert await store.count(BOOKS) == 0
        await store.ensure_collection(BOOKS)
        await store.upsert(BOOKS, rows(["a"]))
        assert await store.count(BOOKS) == 1
