"""LanceDB under a whole system: documents go in, change, are found, are deleted, and are built again."""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from pathlib import Path

import pytest

from embedfleet.administration.operator_administration import OperatorAdministration
from embedfleet.bootstrap import open_repair
from embedfleet.clock import SystemClock
from embedfleet.errors import ConfigError
from embedfleet.one_search import search_once
from embedfleet.queue_schemas import ReceiptState
from embedfleet.records.audit import LOCAL
from embedfleet.records.scope import EveryTenant
from embedfleet.searching.search import SearchRequest
from embedfleet.settings import Settings
from embedfleet.vectors.lancedb.kind import open_store, place
from embedfleet.vectors.port import TenantSpace
from support.hangs import HANG_SECONDS
from support.stores import lance_text
from support.system import ONE_EACH, TENANT, Configure, paragraphs, running, take_ledger


@pytest.fixture(params=["in the data directory", "in a directory of its own"])
def settings(request: pytest.FixtureRequest, configure: Configure, tmp_path: Path) -> Settings:
    own = {} if request.param == "in the data directory" else {"path": str(tmp_path / "vectors")}
    return configure(vector_store={"kind": "lancedb"} | own)


async def test_documents_are_found_replaced_and_deleted_without_loss_or_surplus(settings: Settings) -> None:
    async with running(settings) as running_system:
        for number in range(6):
            content = paragraphs(f"book{number}", 5)
            await running_system.ingest(f"book{number}", content, chunking_config=ONE_EACH)
        await running_system.ingest("book0", paragraphs("newer", 3), chunking_config=ONE_EACH)
        await running_system.jobs.of(TENANT).delete_document(media_id="book1")
        await running_system.settled()
        (await take_ledger(running_system.system)).assert_exact()
        everything = SearchRequest(query="anything", limit=100)
        found = await running_system.system.search.search(TENANT, everything)
    alone = await search_once(settings, TENANT, everything)
    for hits in (found, alone):
        assert Counter(hit.media_id for hit in hits) == {"book0": 3, **{f"book{n}": 5 for n in range(2, 6)}}


async def test_no_text_of_a_tenant_that_is_deleted_stays_in_a_file(configure: Configure) -> None:
    """The rows of all tenants are in one table, so to drop a collection removes no file."""
    settings = configure(vector_store={"kind": "lancedb"})
    async with running(settings) as fleet:
        await fleet.ingest("ours", "A secret text.")
        await fleet.ingest("bob's", "A text that stays.", user_id="bob")
        door = OperatorAdministration(fleet.system.database, SystemClock(), settings, actor=LOCAL)
        receipt_id = await door.delete_tenant(TENANT)
        async with asyncio.timeout(HANG_SECONDS):
            receipt = await fleet.jobs.of_all_tenants().searched_receipt(receipt_id)
        assert receipt.state is ReceiptState.ERASED
        held = lance_text(Path(place(settings)))
    assert "A secret text." not in held
    assert "A text that stays." in held


@pytest.mark.slow
async def test_a_deletion_waits_for_a_place_that_is_not_mounted(configure: Configure, tmp_path: Path) -> None:
    """Told as done, the text would come back with the mount, unknown to SQL."""
    there, away = tmp_path / "vectors", tmp_path / "unmounted"
    settings = configure(vector_store={"kind": "lancedb", "path": str(there)})
    async with running(settings) as fleet:
        await fleet.ingest("ours", "A secret text.")
        there.rename(away)
        there.mkdir()
        receipt_id = await fleet.delete_while_the_store_is_away("ours")
        shutil.rmtree(there)
        away.rename(there)
        async with asyncio.timeout(HANG_SECONDS):
            receipt = await fleet.jobs.of(TENANT).searched_receipt(receipt_id)
    assert receipt.state is ReceiptState.ERASED
    assert "A secret text." not in lance_text(there)


async def test_a_store_that_was_lost_is_built_again_from_sql(settings: Settings) -> None:
    async with running(settings) as running_system:
        await running_system.ingest("book", paragraphs("book", 4), chunking_config=ONE_EACH)
    shutil.rmtree(place(settings))
    async with open_repair(settings, purpose="test", scope=EveryTenant(), empty=True) as repair:
        for collection in repair.collections:
            found = await repair.verification.check(collection)
            assert await repair.rebuilding.mend(found) == found.count == 4
    async with running(settings) as running_system:
        (await take_ledger(running_system.system)).assert_exact()


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("ftp://host/vectors", "LanceDB knows no ftp://"),
        ("s3://key:secret@bucket/vectors", "keep credentials out of it"),
    ],
)
async def test_a_place_that_cannot_be_one_is_refused(configure: Configure, path: str, said: str) -> None:
    settings = configure(vector_store={"kind": "lancedb", "path": path})
    with pytest.raises(ConfigError, match=said) as refused:
        await open_store(settings)
    assert "secret" not in str(refused.value)


async def test_what_a_killed_process_left_behind_is_removed_by_the_next_one(configure: Configure) -> None:
    """Lance writes a file before it commits it, and keeps one that was not committed for a week."""
    settings = configure(vector_store={"kind": "lancedb"})
    settings.data_dir.mkdir()
    books = TenantSpace(TENANT, "books", 4)
    store = await open_store(settings)
    await store.ensure_collection(books)
    await store.close()
    (table,) = (settings.data_dir / "lancedb").glob("books-*.lance")
    (table / "data").mkdir(exist_ok=True)
    left = table / "data" / "0101010101010101010101010101010101010101.lance"
    left.write_bytes(b"a secret text")
    store = await open_store(settings)
    assert await store.count(books) == 0
    await store.close()
    assert not left.exists()
