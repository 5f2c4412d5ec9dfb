"""What every vector store that keeps something promises, and what the null store does instead."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from embedfleet.errors import (
    InvalidRequest,
    Permanent,
    SpaceMismatch,
    VectorStoreUnavailable,
)
from embedfleet.vectors.chroma.operations import ChromaCollections
from embedfleet.vectors.chroma.store import ChromaStore
from embedfleet.vectors.null import NullVectorStore
from embedfleet.vectors.port import CollectionKey, Metadata, TenantSpace, VectorRows, VectorStore
from support.stores import StorePlace

SPACE = "minilm/mean/v1"
DIM = 8
BOOKS = TenantSpace("acme", SPACE, DIM)
FILMS = TenantSpace("acme", "films/v1", DIM)


OTHERS = (replace(BOOKS, tenant="Acme"), replace(BOOKS, space="minilm/mean/v2"))


def unit_vectors(n: int, *, seed: int = 0) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).standard_normal((n, DIM), dtype=np.float32)
    unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def rows(
    ids: Sequence[str],
    *,
    vectors: NDArray[np.float32] | None = None,
    metadatas: Sequence[Metadata] | None = None,
    documents: Sequence[str] | None = None,
) -> VectorRows:
    return VectorRows(
        ids,
        unit_vectors(len(ids)) if vectors is None else vectors,
        [{"job_id": "j1"}] * len(ids) if metadatas is None else metadatas,
        documents,
    )


def ids_of(n: int) -> list[str]:
    return [f"{i:032x}" for i in range(n)]


async def everything(store: VectorStore, *, page: int = 1000) -> dict[str, NDArray[np.float32]]:
    """All rows; fails if one comes twice."""
    found: dict[str, NDArray[np.float32]] = {}
    async for ids, vectors in store.scan(BOOKS, page=page):
        assert len(ids) == len(vectors) <= page
        assert not found.keys() & set(ids)
        found.update(zip(ids, vectors, strict=True))
    return found


async def existing(store: VectorStore, collection: CollectionKey, ids: Sequence[str]) -> set[str]:
    found, vectors = await store.vectors(collection, ids)
    assert len(found) == len(vectors) == len(set(found))
    return set(found)


@pytest.fixture
async def store(place: StorePlace) -> AsyncIterator[VectorStore]:
    """Holding nothing but an empty collection of books."""
    opened = await place.open()
    await opened.ensure_collection(BOOKS)
    yield opened
    await opened.close()


class TestWriting:
    @pytest.mark.on_s3_too
    async def test_what_was_written_comes_back(self, store: VectorStore) -> None:
        vectors = unit_vectors(3)
        await store.upsert(BOOKS, rows(["a", "b", "c"], vectors=vectors))

        found = await everything(store)
        assert await store.count(BOOKS) == 3
        np.testing.assert_allclose([found[i] for i in "abc"], vectors, rtol=0, atol=1e-6)
        assert found["a"].dtype == np.float32

    async def test_writing_the_same_rows_again_changes_nothing(self, store: VectorStore) -> None:
        await store.upsert(BOOKS, rows(["a", "b"]))
        await store.upsert(BOOKS, rows(["a", "b"]))
        assert await store.count(BOOKS) == 2

    async def test_a_known_id_gets_the_new_vector(self, store: VectorStore) -> None:
        old, new = unit_vectors(2)
        await store.upsert(BOOKS, rows(["a"], vectors=old[None]))
        await store.upsert(BOOKS, rows(["a"], vectors=new[None]))
        np.testing.assert_allclose((await everything(store))["a"], new, atol=1e-6)

    async def test_an_id_given_twice_in_one_call_keeps_its_last_row(self, store: VectorStore) -> None:
        """Two generations of a document, stored by one worker at once, share chunks."""
        old, new, other = unit_vectors(3)
        await store.upsert(BOOKS, rows(["a", "b", "a"], vectors=np.stack([old, other, new])))
        np.testing.assert_allclose((await everything(store))["a"], new, atol=1e-6)
        assert await store.count(BOOKS) == 2

    async def test_no_rows_are_no_error(self, store: VectorStore) -> None:
        await store.upsert(BOOKS, rows([], vectors=np.empty((0, DIM), dtype=np.float32)))
        await store.delete(BOOKS, [])
        await store.update_metadata(BOOKS, [], [])
        assert await existing(store, BOOKS, []) == set()

    async def test_more_rows_than_one_request_takes_are_all_written(self, store: VectorStore) -> None:
        many = ids_of(6_000)  # Chroma's limit is 5,461
        await store.upsert(BOOKS, rows(many))
        assert await existing(store, BOOKS, many) == set(many)
        assert set(await everything(store, page=6_000)) == set(many)
        await store.update_metadata(BOOKS, many, [{"job_id": "j2"}] * len(many))
        await store.delete(BOOKS, many)
        assert await store.count(BOOKS) == 0

    async def test_a_missing_collection_is_said_so_and_may_be_made_and_retried(
        self, store: VectorStore
    ) -> None:
        with pytest.raises(VectorStoreUnavailable, match="ensure it"):
            await store.upsert(FILMS, rows(["a"]))
        await store.ensure_collection(FILMS)
        await store.upsert(FILMS, rows(["a"]))
        assert await store.count(FILMS) == 1
        assert await store.count(BOOKS) == 0

    async def test_a_text_that_is_not_unicode_is_refused_for_good_and_harms_no_later_write(
        self, store: VectorStore
    ) -> None:
        with pytest.raises(Permanent, match="surrogates"):
            await store.upsert(BOOKS, rows(["a"], documents=["\ud800"]))
        await store.upsert(BOOKS, rows(["a"], documents=["fine"]))
        assert await store.count(BOOKS) == 1


class TestMetadata:
    async def test_update_metadata_makes_no_row_for_an_unknown_id(self, store: VectorStore) -> None:
        await store.upsert(BOOKS, rows(["a"]))
        await store.update_metadata(BOOKS, ["zz", "a"], [{"x": 1}, {"x": 1}])
        await store.update_metadata(FILMS, ["a"], [{"x": 1}])
        assert await existing(store, BOOKS, ["a", "zz"]) == {"a"}

    async def test_a_row_takes_lists_of_texts_and_gives_them_up(self, store: VectorStore) -> None:
        await store.upsert(BOOKS, rows(["a"], metadatas=[{"tags": ["é", "b"]}]))
        for metadata in ({"tags": ["c"]}, {"tags": "one"}, {"other": ["d"]}):
            await store.update_metadata(BOOKS, ["a"], [metadata])
        assert await existing(store, BOOKS, ["a"]) == {"a"}

    async def test_rows_are_found_by_a_text_of_their_metadata(self, store: VectorStore) -> None:
        named = [{"media_id": name} for name in ("1", "2", "1", "10")]
        await store.upsert(BOOKS, rows(["a", "b", "c", "d"], metadatas=named))
        found = await store.ids_with(BOOKS, "media_id", ["1", "2", "3"])
        assert {text: set(ids) for text, ids in found.items()} == {"1": {"a", "c"}, "2": {"b"}}
        assert await store.ids_with(BOOKS, "media_id", []) == {}
        assert await store.ids_with(FILMS, "media_id", ["1"]) == {}, "there is no such collection"

    async def test_so_are_more_of_them_than_one_request_names(self, store: VectorStore) -> None:
        many = ids_of(3_000)
        await store.upsert(BOOKS, rows(many, metadatas=[{"media_id": one} for one in many]))
        assert len(await store.ids_with(BOOKS, "media_id", many)) == len(many)


class TestForgetting:
    """A deleted text is shown by no table, log or file of the store any more."""

    @pytest.fixture(autouse=True)
    def promised(self, place: StorePlace) -> None:
        if place.held_text is None:
            pytest.skip("this store keeps deleted texts in its log for a time: docs/stores-qdrant.md")

    @pytest.mark.on_s3_too
    async def test_the_text_of_a_deleted_row_is_nowhere_in_the_store(
        self, store: VectorStore, place: StorePlace
    ) -> None:
        """Chroma's log has whole writes until a thousand more have come; other stores keep old versions."""
        texts = ["a secret text", "a text that stays"]
        await store.upsert(BOOKS, rows(["a", "b"], documents=texts))
        await store.delete(BOOKS, ["a"])
        assert "a secret text" in place.text(), "nothing is to be shown otherwise"
        await store.forget_deleted(BOOKS)
        held = place.text()
        assert "a secret text" not in held
        assert "a text that stays" in held
        assert await existing(store, BOOKS, ["a", "b"]) == {"b"}
        assert [hit.id for hit in await store.query(BOOKS, unit_vectors(2)[1], limit=9)] == ["b"]
        await store.forget_deleted(FILMS)  # there is none

    async def test_neither_is_the_text_that_a_newer_one_replaced(
        self, store: VectorStore, place: StorePlace
    ) -> None:
        await store.upsert(BOOKS, rows(["a", "b"], documents=["an old secret", "stays"]))
        await store.upsert(BOOKS, rows(["a"], documents=["the new text"]))
        await store.forget_deleted(BOOKS)
        held = place.text()
        assert "an old secret" not in held
        assert "the new text" in held

    async def test_nor_are_the_texts_of_a_collection_that_was_dropped(
        self, store: VectorStore, place: StorePlace
    ) -> None:
        await store.ensure_collection(FILMS)
        await store.upsert(BOOKS, rows(["a"], documents=["a dropped secret"]))
        await store.upsert(FILMS, rows(["a"], documents=["a film that stays"]))
        await store.drop_collection(BOOKS)
        await store.forget_deleted(BOOKS, FILMS)
        held = place.text()
        assert "a dropped secret" not in held
        assert "a film that stays" in held

    async def test_what_is_forgotten_stays_so_after_upkeep_and_after_a_restart(
        self, store: VectorStore, place: StorePlace
    ) -> None:
        """Wherever the upkeep comes: between write, deletion and forgetting too."""
        await store.upsert(BOOKS, rows(["a", "b"], documents=["a secret text", "a text that stays"]))
        await store.tend()
        await store.delete(BOOKS, ["a"])
        await store.tend()
        await store.forget_deleted(BOOKS)
        await store.tend()
        await store.close()
        again = await place.open()
        assert "a secret text" not in place.text()
        assert await existing(again, BOOKS, ["a", "b"]) == {"b"}
        await again.close()


class TestVectorsAndDelete:
    async def test_vectors_tells_which_ids_have_a_row(self, store: VectorStore) -> None:
        await store.upsert(BOOKS, rows(["a", "b"]))
        assert await existing(store, BOOKS, ["b", "zz", "b"]) == {"b"}
        assert await existing(store, FILMS, ["b"]) == set()

    async def test_vectors_are_the_same_bits_whenever_they_are_read(self, store: VectorStore) -> None:
        """What a checksum relies on, also after they moved from the log into the index (at 1,000 writes)."""
        await store.upsert(BOOKS, rows(ids_of(50), vectors=3 * unit_vectors(50)))
        ids, vectors = await store.vectors(BOOKS, ids_of(50))
        first = {row_id: vector.tobytes() for row_id, vector in zip(ids, vectors, strict=True)}
        await store.upsert(BOOKS, rows([f"x{i}" for i in range(2_000)]))
        later = await everything(store)
        assert {row_id: later[row_id].tobytes() for row_id in ids_of(50)} == first

    async def test_a_dropped_collection_is_gone_with_its_rows_and_may_be_made_again(
        self, store: VectorStore
    ) -> None:
        await store.upsert(BOOKS, rows(["a"]))
        for _ in range(2):
            await store.drop_collection(BOOKS)
        assert await everything(store) == {}
        await store.ensure_collection(BOOKS)
        await store.upsert(BOOKS, rows(["b"]))
        assert set(await everything(store)) == {"b"}

    async def test_delete_removes_the_named_rows_only_and_may_be_repeated(self, store: VectorStore) -> None:
        await store.upsert(BOOKS, rows(["a", "b", "c"]))
        for _ in range(2):
            await store.delete(BOOKS, ["a", "zz", "a"])
        assert set(await everything(store)) == {"b", "c"}
        await store.delete(FILMS, ["a"])

    async def test_a_deleted_row_is_no_hit(self, store: VectorStore) -> None:
        vectors = unit_vectors(2)
        await store.upsert(BOOKS, rows(["a", "b"], vectors=vectors))
        await store.delete(BOOKS, ["a"])
        hits = await store.query(BOOKS, vectors[0], limit=2)
        assert [hit.id for hit in hits] == ["b"]


class TestQuery:
    @pytest.mark.on_s3_too
    async def test_hits_are_scored_by_cosine_nearest_first(self, store: VectorStore) -> None:
        same, right, opposite = np.zeros((3, DIM), dtype=np.float32)
        same[0], right[1], opposite[0] = 1, 1, -2  # length does not matter
        await store.upsert(BOOKS, rows(["o", "r", "s"], vectors=np.stack([opposite, right, same])))
        hits = await store.query(BOOKS, 3 * same, limit=3)
        assert [hit.id for hit in hits] == ["s", "r", "o"]
        assert [hit.score for hit in hits] == pytest.approx([1, 0, -1], abs=1e-6)

    async def test_scores_are_those_of_numpy_and_never_leave_minus_one_to_one(
        self, store: VectorStore
    ) -> None:
        vectors = unit_vectors(200)
        await store.upsert(BOOKS, rows(ids_of(200), vectors=vectors))
        for query in vectors[:20]:
            hits = await store.query(BOOKS, query, limit=200)
            expected = np.sort(vectors @ query)[::-1]
            np.testing.assert_allclose([hit.score for hit in hits], expected, atol=1e-5)
            assert all(-1 <= hit.score <= 1 for hit in hits)

    async def test_limit_bounds_the_hits(self, store: VectorStore) -> None:
        vectors = unit_vectors(5)
        await store.upsert(BOOKS, rows(ids_of(5), vectors=vectors))
        assert len(await store.query(BOOKS, vectors[0], limit=2)) == 2
        assert len(await store.query(BOOKS, vectors[0], limit=1_000)) == 5

    async def test_an_empty_or_missing_collection_has_no_hits(self, store: VectorStore) -> None:
        assert await store.query(BOOKS, unit_vectors(1)[0], limit=3) == []
        assert await store.query(FILMS, unit_vectors(1)[0], limit=3) == []

    async def test_a_query_that_cannot_be_right_is_refused(self, store: VectorStore) -> None:
        query = unit_vectors(1)[0]
        with pytest.raises(InvalidRequest, match="limit"):
            await store.query(BOOKS, query, limit=0)
        query[3] = np.nan
        with pytest.raises(InvalidRequest, match="not finite"):
            await store.query(BOOKS, query, limit=1)


class TestSpaces:
    @pytest.mark.parametrize("other", OTHERS, ids=str)
    async def test_collections_of_another_tenant_or_space_never_see_each_others_rows(
        self, store: VectorStore, other: TenantSpace
    ) -> None:
        """Even where both hold a row of the same id."""
        mine, theirs = unit_vectors(2)
        await store.ensure_collection(other)
        await store.upsert(BOOKS, rows(["shared", "mine"], vectors=np.stack([mine, mine])))
        await store.upsert(other, rows(["shared", "theirs"], vectors=np.stack([theirs, theirs])))
        for collection, own_id, own in ((BOOKS, "mine", mine), (other, "theirs", theirs)):
            assert await existing(store, collection, ["shared", "mine", "theirs"]) == {"shared", own_id}
            assert {row_id async for ids, _ in store.scan(collection) for row_id in ids} == {"shared", own_id}
            assert await store.count(collection) == 2
            hits = await store.query(collection, own, limit=10)
            assert {hit.id for hit in hits} == {"shared", own_id}
            assert [hit.score for hit in hits] == pytest.approx([1, 1], abs=1e-6)

    @pytest.mark.parametrize("other", OTHERS, ids=str)
    async def test_a_write_to_a_collection_of_another_tenant_or_space_changes_nothing_here(
        self, store: VectorStore, other: TenantSpace
    ) -> None:
        await store.upsert(BOOKS, rows(["a", "b"]))
        before = await everything(store)
        await store.ensure_collection(other)
        await store.upsert(other, rows(["a", "b"], vectors=unit_vectors(2, seed=1)))
        await store.update_metadata(other, ["a"], [{"x": 1}])
        await store.delete(other, ["b"])
        await store.drop_collection(other)
        after = await everything(store)
        assert {row_id: vector.tobytes() for row_id, vector in after.items()} == {
            row_id: vector.tobytes() for row_id, vector in before.items()
        }

    async def test_a_collection_of_another_dimension_is_refused(self, store: VectorStore) -> None:
        await store.ensure_collection(BOOKS)
        with pytest.raises(SpaceMismatch, match="8 dimensions, not 16"):
            await store.ensure_collection(replace(BOOKS, dim=16))

    async def test_a_query_of_another_dimension_is_refused(self, store: VectorStore) -> None:
        await store.upsert(BOOKS, rows(["a"]))
        with pytest.raises(SpaceMismatch, match="dimensions"):
            await store.query(BOOKS, np.ones(4, dtype=np.float32), limit=1)

    async def test_vectors_of_another_dimension_are_refused_also_by_an_empty_collection(
        self, store: VectorStore
    ) -> None:
        with pytest.raises(SpaceMismatch, match="8 dimensions, not 4"):
            await store.upsert(BOOKS, rows(["a"], vectors=np.ones((1, 4), dtype=np.float32)))
        assert await store.count(BOOKS) == 0


@pytest.mark.parametrize("place", ["chroma", "chroma server"], indirect=True)
class TestChromaSpaces:
    """Chroma's collections also say themselves of which space they are: a name alone is not trusted."""

    async def test_a_collection_that_holds_another_space_is_refused_even_when_its_vectors_would_fit(
        self, store: VectorStore
    ) -> None:
        assert isinstance(store, ChromaStore)
        await store.drop_collection(BOOKS)
        await store._run(ChromaCollections.ensure_collection, store.name_in_store(BOOKS), "e5", DIM)
        with pytest.raises(SpaceMismatch, match=r"holds vectors of e5, not of minilm/mean/v1"):
            await store.ensure_collection(BOOKS)
        with pytest.raises(SpaceMismatch, match="not of minilm"):
            await store.query(BOOKS, unit_vectors(1)[0], limit=1)


class TestScan:
    @pytest.mark.parametrize("page", [7, 50, 1000])
    async def test_every_row_comes_once_whatever_the_page(self, store: VectorStore, page: int) -> None:
        await store.upsert(BOOKS, rows(ids_of(50)))
        assert set(await everything(store, page=page)) == set(ids_of(50))

    async def test_rows_deleted_meanwhile_hide_no_other(self, store: VectorStore) -> None:
        """With offsets, deleting a row already seen would shift one out of every later page."""
        await store.upsert(BOOKS, rows(ids_of(30)))
        seen: set[str] = set()
        async for ids, _ in store.scan(BOOKS, page=10):
            seen.update(ids)
            await store.delete(BOOKS, ids)
        assert seen == set(ids_of(30))

    async def test_an_empty_or_missing_collection_has_no_pages(self, store: VectorStore) -> None:
        assert await everything(store) == {}
        assert [page async for page in store.scan(FILMS)] == []


class TestRows:
    """`VectorRows` is refused when made, so that no store has to look again."""

    def test_a_vector_that_is_not_finite_is_refused_by_name(self) -> None:
        for bad in (np.nan, np.inf, -np.inf):
            vectors = unit_vectors(3)
            vectors[1, 2] = bad
            with pytest.raises(Permanent, match="the vector of b "):
                rows(["a", "b", "c"], vectors=vectors)

    def test_rows_that_do_not_align_are_refused(self) -> None:
        with pytest.raises(Permanent, match="align"):
            rows(["a", "b"], vectors=unit_vectors(3))
        with pytest.raises(Permanent, match="align"):
            rows(["a"], metadatas=[])
        with pytest.raises(Permanent, match="align"):
            rows(["a"], documents=[])

    def test_another_dtype_or_shape_is_refused(self) -> None:
        with pytest.raises(Permanent, match="float64"):
            rows(["a"], vectors=np.ones((1, DIM)))  # type: ignore[arg-type]
        with pytest.raises(Permanent, match="float32"):
            rows(["a"], vectors=np.ones(DIM, dtype=np.float32))


async def test_the_null_store_accepts_everything_and_keeps_nothing() -> None:
    store = NullVectorStore()
    await store.ensure_collection(BOOKS)
    await store.upsert(BOOKS, rows(["a"]))
    await store.update_metadata(BOOKS, ["a"], [{"x": 1}])
    assert await existing(store, BOOKS, ["a"]) == set()
    await store.drop_collection(BOOKS)
    assert await store.query(BOOKS, unit_vectors(1)[0], limit=1) == []
    assert await everything(store) == {}
    assert await store.count(BOOKS) == 0
    await store.delete(BOOKS, ["a"])
    assert await store.ids_with(BOOKS, "x", ["1"]) == {}
    await store.forget_deleted(BOOKS)
    await store.close()


class TestAPlaceThatIsAway:
    """An empty place has no rows either, so only the mark tells it from a store that has none."""

    @pytest.mark.on_s3_too
    async def test_nothing_is_deleted_read_or_made_in_a_place_that_stands_in_for_the_store(
        self, store: VectorStore, place: StorePlace
    ) -> None:
        if place.put_away is None:
            pytest.skip("its directory belongs to one process, as the database of the records does")
        await store.claim_mark("ours")
        store.expect_mark()
        await store.upsert(BOOKS, rows(["a"]))
        await store.delete(FILMS, ["a"])  # a collection that is missing in a store that is there
        place.put_away()
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: store.delete(BOOKS, ["a"]),
            lambda: store.drop_collection(BOOKS),
            lambda: store.count(BOOKS),
            lambda: store.vectors(BOOKS, ["a"]),
            lambda: store.ids_with(BOOKS, "job_id", ["j1"]),
            lambda: store.query(BOOKS, unit_vectors(1)[0], limit=1),
            lambda: store.upsert(BOOKS, rows(["a"])),
            lambda: store.ensure_collection(BOOKS),
            lambda: everything(store),
        ]
        if place.held_text is not None:
            calls.append(lambda: store.forget_deleted(BOOKS))
        for call in calls:
            with pytest.raises(VectorStoreUnavailable):
                await call()
        assert await store.mark() is None
        await store.claim_mark("ours")  # by `rebuild`
        await store.ensure_collection(BOOKS)
        assert await store.count(BOOKS) == 0


class TestMark:
    @pytest.mark.on_s3_too
    async def test_it_is_set_once_and_replaced_only_by_who_has_read_it(self, store: VectorStore) -> None:
        assert await store.mark() is None
        assert await store.claim_mark("ours") == "ours"
        assert await store.claim_mark("theirs") == "ours"
        assert await store.claim_mark("theirs", replacing="another") == "ours"
        assert await store.mark() == "ours"
        assert await store.claim_mark("new", replacing="ours") == "new"
        assert await store.mark() == "new"

    async def test_it_is_in_no_collection(self, store: VectorStore) -> None:
        await store.ensure_collection(BOOKS)
        await store.claim_mark("ours")
        assert await store.count(BOOKS) == 0
        await store.drop_collection(BOOKS)
        assert await store.mark() == "ours"
