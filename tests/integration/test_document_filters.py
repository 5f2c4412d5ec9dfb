"""Documents are listed and deleted by filter: by the version that readers see, otherwise by the newest."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import update

from embedfleet.document_filter import EVERY_DOCUMENT, DocumentFilter
from embedfleet.errors import InvalidRequest
from embedfleet.job_manager import EmbeddingJobManager, JobManagerConfig
from embedfleet.sql import tables
from embedfleet.sql.database import Database
from embedfleet.tracking.tenant_jobs import TenantJobs
from support.databases import on_both_databases
from support.passages import Document, write_live
from support.system import TENANT, Configure

LIVE = [
    Document("1", "one", {"team": "legal", "tags": ["x"]}, "/docs/a.md", created_at=100.0),
    Document("2", "two", {"team": "sales"}, "/DOCS/b.md", created_at=200.0),
    Document("3", "three", {}, created_at=300.0),
]


@pytest.fixture
async def manager(configure: Configure, database_url: str) -> AsyncIterator[EmbeddingJobManager]:
    """Three live documents; "2" has a newer version on its way, "4" has its first, "5" is deleted."""
    database = Database(database_url, synchronous="normal")
    await database.open()
    manager = EmbeddingJobManager(JobManagerConfig(settings=configure()), database=database)
    for tenant in (TENANT, "eve"):

        async def submit(media_id: str, team: str, tenant: str = tenant) -> None:
            await manager.create_job(
                media_id=media_id, user_id=tenant, content=f"{team} {media_id}", metadata={"team": team}
            )

        await database.write(lambda conn, tenant=tenant: write_live(conn, tenant, "space", 1, LIVE))  # type: ignore[misc]
        for media_id, team in (("2", "legal"), ("4", "legal"), ("5", "legal")):
            await submit(media_id, team)
        await manager.of(tenant).delete_document(media_id="5")
    yield manager
    await database.close()


async def listed(jobs: TenantJobs, **filters: Any) -> list[str]:
    matching = DocumentFilter(**filters)
    by_page: list[str] = []
    after: str | None = None
    while True:
        page = await jobs.list_documents(matching=matching, limit=1, after=after)
        by_page += [one.media_id for one in page]
        after = page.next_cursor
        if after is None:
            break
    assert [one.media_id async for one in jobs.all_documents(matching=matching)] == by_page
    return by_page


@on_both_databases
async def test_documents_are_listed_and_deleted_by_filter(manager: EmbeddingJobManager) -> None:
    mine, eves = manager.of(TENANT), manager.of("eve")
    assert await listed(mine) == ["1", "2", "3", "4"]
    assert await listed(mine, where={"team": "legal"}) == ["1", "4"]
    assert await listed(mine, where={"team": {"$ne": "legal"}}) == ["2", "3"]
    assert await listed(mine, where={"tags": {"$contains": "x"}}) == ["1"]
    assert await listed(mine, media_ids=[2, "5"]) == ["2"]
    assert await listed(mine, source="/docs/") == ["1"]
    assert [one.media_id async for one in mine.all_documents(prefix="/docs/")] == ["1"]
    late, end = (datetime.fromtimestamp(seconds, UTC) for seconds in (200.0, 301.0))
    assert await listed(mine, created_after=late, created_before=end) == ["2", "3"]

    many = [*range(499), *(f"no {number}" for number in range(499)), True, "legal"]
    assert await listed(mine, where={"team": {"$in": many}}) == ["1", "4"]
    assert await listed(mine, where={"$or": [{f"a{number}": number} for number in range(64)]}) == []

    with pytest.raises(InvalidRequest, match="leaves no document out"):
        await mine.delete_documents(matching=EVERY_DOCUMENT)
    receipts = await mine.delete_documents(matching=DocumentFilter(where={"team": "legal"}))
    assert set(receipts) == {"1", "4"}
    assert (await mine.receipt(receipts["1"])).media_id == "1"
    assert await listed(mine) == ["2", "3"]
    assert await mine.delete_documents(matching=DocumentFilter(where={"team": "legal"})) == {}
    assert await listed(eves) == ["1", "2", "3", "4"]


async def test_a_document_that_is_changed_before_its_turn_is_not_deleted(
    manager: EmbeddingJobManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = manager.of(TENANT)
    delete = TenantJobs._delete_matching
    wanted = DocumentFilter(where={"team": {"$in": ["legal", "sales"]}})

    def changed_before(self: TenantJobs, conn: Any, **given: Any) -> dict[str, str]:
        is_first = tables.generations.c.content_hash == LIVE[0].chunk_id
        conn.execute(update(tables.generations).where(is_first).values(metadata=None))
        return delete(self, conn, **given)

    monkeypatch.setattr(TenantJobs, "_delete_matching", changed_before)
    assert set(await mine.delete_documents(matching=wanted)) == {"2", "4"}
    assert await listed(mine) == ["1", "3"]
