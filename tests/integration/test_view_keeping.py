"""A view is right whatever comes in between: a crash, a change, another leader, damage, another model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromadb.api import ClientAPI

from embedfleet.administration.operator_administration import OperatorAdministration
from embedfleet.clock import ManualClock, SystemClock
from embedfleet.errors import Permanent, ViewUnavailable
from embedfleet.leader.beyond_reach import Outside
from embedfleet.leader.erasure import Erasure
from embedfleet.leader.leftover_search import LeftoverSearch
from embedfleet.leader.view_changes import ViewChanges
from embedfleet.leader.waiting_work import WaitingWork
from embedfleet.queue.broker import Task
from embedfleet.queue_schemas import DeletionTask, Stage
from embedfleet.records import identity, views
from embedfleet.records.audit import LOCAL
from embedfleet.settings import Settings
from embedfleet.vectors.port import VectorRows
from embedfleet.vectors.view_port import ViewCollection, ViewRows, ViewStore
from embedfleet.views.keeping import ViewKeeper, recipes_of
from embedfleet.views.leftovers import ViewLeftovers
from embedfleet.views.mending import ViewMending
from embedfleet.views.verification import ViewDifferences, ViewVerification
from embedfleet.views.view import View
from embedfleet.workers.worker import build_deletion_worker
from support.databases import on_both_databases
from support.stages_by_hand import StagesByHand, stages_by_hand
from support.statements import statements
from support.system import Configure
from support.view_readers import TldwReader, open_client, write_as_tldw

USER = "7"
DIM = 64

Step = Callable[[], Awaitable[None]]


class Stopped(BaseException):
    """The end of the process that writes the view."""


class StoreWithSteps(ViewStore):
    """The real store; at each point that is named, something else happens first."""

    def __init__(self, store: ViewStore, steps: Mapping[str, Step]) -> None:
        self._store = store
        self._steps = dict(steps)
        self.refused: str | None = None

    @property
    def place(self) -> str:
        return self._store.place

    async def _passing(self, point: str) -> None:
        if (step := self._steps.pop(point, None)) is not None:
            await step()

    async def ensure(self, collection: ViewCollection) -> None:
        await self._passing("before ensuring")
        await self._store.ensure(collection)
        await self._passing("after ensuring")

    async def upsert(self, collection: ViewCollection, rows: VectorRows) -> None:
        await self._passing("before writing")
        if self.refused is not None and self.refused in (rows.documents or ()):
            raise Permanent("refused")
        await self._store.upsert(collection, rows)
        await self._passing("after writing")

    async def labels_with(
        self, collection: ViewCollection, key: str, values: Sequence[str]
    ) -> dict[str, Mapping[str, Any]]:
        return await self._store.labels_with(collection, key, values)

    async def rows(self, collection: ViewCollection, ids: Sequence[str]) -> ViewRows:
        return await self._store.rows(collection, ids)

    def labels(
        self, collection: ViewCollection, *, page: int = 1000
    ) -> AsyncIterator[tuple[list[str], list[Mapping[str, Any]]]]:
        return self._store.labels(collection, page=page)

    async def delete(self, collection: ViewCollection, ids: Sequence[str]) -> None:
        await self._passing("before deleting")
        await self._store.delete(collection, ids)
        await self._passing("after deleting")

    async def forget_deleted(self, collection: ViewCollection) -> None:
        await self._store.forget_deleted(collection)

    async def rest(self) -> None:
        """Stay open, as an opening takes longer than the rest of a test. `Bench.reader` lets go."""

    async def close(self) -> None:
        await self._store.close()


POINTS = [f"{when} {what}" for what in ("ensuring", "writing", "deleting") for when in ("before", "after")]


@dataclass(frozen=True)
class Bench:
    """A system without workers, and a view that is written when a test says so."""

    stages: StagesByHand
    view: View
    clock: ManualClock
    directory: Path

    async def publish(self, *texts: tuple[str, str, str]) -> None:
        """Make these (tenant, media id, text) the versions that readers see."""
        await self.stages.submit(texts)
        for stage in (Stage.CHUNKING, Stage.EMBEDDING, Stage.STORAGE):
            while await self.stages.do(stage, 64):
                pass

    async def tell(self, *more: View) -> None:
        """Take the leader's step that tells the views of changes."""
        recipes = recipes_of([self.view, *more])
        await ViewChanges(recipes, database=self.stages.system.database, clock=self.clock).step()

    async def clean_up(self, tenant: str, media_id: str) -> None:
        """Do what a deletion worker does for a deleted document."""
        system = self.stages.system
        loop = build_deletion_worker("d", self.stages.services, store=system.store)._loops[0]
        document_id = identity.document_id(tenant, media_id)
        message = DeletionTask(tenant=tenant, job_id=document_id, document_id=document_id)
        await system.broker.enqueue(
            Stage.DELETION, [Task(document_id, tenant, document_id, 1, message.encode())]
        )
        await loop.work(await self.stages.claim(Stage.DELETION, 1))

    def keeper(self, **steps: Step) -> ViewKeeper:
        store = StoreWithSteps(
            self.view.store, {name.replace("_", " "): step for name, step in steps.items()}
        )
        system = self.stages.system
        return ViewKeeper(
            replace(self.view, store=store), database=system.database, store=system.store, clock=self.clock
        )

    async def catch_up(self) -> None:
        await self.tell()
        await self.keeper().catch_up()

    async def check(self, tenant: str = USER) -> ViewDifferences:
        system = self.stages.system
        return await ViewVerification(system.database, system.store).check(self.view, tenant)

    @asynccontextmanager
    async def reader(self) -> AsyncIterator[ClientAPI]:
        """The reader's client, which has the directory alone."""
        await self.view.store.rest()
        with open_client(self.directory) as client:
            yield client

    async def rows(self, tenant: str = USER) -> dict[str, str]:
        """What the reader has, by row id: the texts."""
        async with self.reader() as client:
            return {row_id: row.text for row_id, row in TldwReader(client, tenant).rows().items()}


@asynccontextmanager
async def bench_of(settings: Settings) -> AsyncIterator[Bench]:
    async with stages_by_hand(settings) as stages:
        view = View.open(settings.vector_store.views[0], "stub", "local")
        try:
            assert settings.vector_store.views[0].path is not None
            yield Bench(stages, view, ManualClock(), Path(settings.vector_store.views[0].path))
        finally:
            await view.store.close()


def with_view(configure: Configure, tmp_path: Path, **more: Any) -> Settings:
    view = {"name": "rag", "layout": "tldw", "path": str(tmp_path / "reader")} | more
    return configure(vector_store={"views": [view]}, chunking={"chunk_size": 40, "overlap": 0})


def words(name: str, sentences: int) -> str:
    """A text of about as many chunks."""
    return " ".join(f"This is the sentence number {n} of {name}." for n in range(sentences))


async def test_a_view_that_is_stopped_anywhere_is_right_after_the_next_start(
    configure: Configure, tmp_path: Path
) -> None:
    async def stop() -> None:
        raise Stopped

    async with bench_of(with_view(configure, tmp_path)) as bench:
        await bench.publish(*((USER, str(n), words(f"version one of {n}", 5)) for n in range(len(POINTS))))
        await bench.catch_up()
        before = await bench.rows()
        for number, point in enumerate(POINTS):
            # A shorter version leaves rows to delete.
            await bench.publish((USER, str(number), f"Version two of {number}."))
            await bench.tell()
            with pytest.raises(Stopped):
                await bench.keeper(**{point.replace(" ", "_"): stop}).catch_up()
            await bench.keeper().catch_up()
        found = await bench.check()
        assert (found.count, found.behind, found.rows) == (0, 0, len(POINTS))
        assert len(before) > found.rows
        assert await bench.rows() == {
            f"media_{n}_chunk_0": f"Version two of {n}." for n in range(len(POINTS))
        }


@on_both_databases
async def test_a_change_that_comes_while_the_view_is_written_is_taken_in_afterwards(
    configure: Configure, tmp_path: Path
) -> None:
    async with bench_of(with_view(configure, tmp_path)) as bench:

        async def change() -> None:
            await bench.publish((USER, "12", "The text of later."))
            await bench.tell()

        await bench.publish((USER, "12", "The text of now."))
        await bench.tell()
        await bench.keeper(after_writing=change).catch_up()
        assert await bench.rows() == {"media_12_chunk_0": "The text of later."}
        assert (await bench.check()).count == 0


@on_both_databases
async def test_a_document_takes_no_statement_more_while_there_are_views(
    configure: Configure, tmp_path: Path
) -> None:
    async with bench_of(with_view(configure, tmp_path)) as bench:

        async def executed(media_id: str) -> list[str]:
            with statements() as seen:
                await bench.publish((USER, media_id, "A first version."))
                await bench.publish((USER, media_id, "A second version."))
            return [statement.sql.partition("(")[0] for statement in seen]

        await executed("0")  # the first use of the model is checked, which writes
        without = await executed("1")
        await bench.tell()
        assert await executed("2") == without
        assert await bench.stages.system.database.read(views.marked) != []


async def test_what_a_slow_leader_writes_late_is_written_again(configure: Configure, tmp_path: Path) -> None:
    async with bench_of(with_view(configure, tmp_path)) as bench:

        async def another_leader() -> None:
            await bench.publish((USER, "12", "The text of later."))
            await bench.catch_up()

        await bench.publish((USER, "12", "The text of now."))
        await bench.tell()
        await bench.keeper(before_writing=another_leader).catch_up()
        assert await bench.rows() == {"media_12_chunk_0": "The text of later."}


async def test_every_kind_of_damage_is_named_and_mended_and_rows_of_others_stay(
    configure: Configure, tmp_path: Path
) -> None:
    async with bench_of(with_view(configure, tmp_path)) as bench:
        await bench.publish(*((USER, str(n), f"The text {n}.") for n in range(5)), ("8", "1", "Of another."))
        await bench.catch_up()
        async with bench.reader() as client:
            write_as_tldw(client, USER, "99", ["not moved"], DIM)
            held = TldwReader(client, USER).collection
            held.delete(ids=["media_0_chunk_0"])
            held.update(ids=["media_1_chunk_0"], embeddings=np.ones((1, DIM), dtype=np.float32))
            held.update(ids=["media_2_chunk_0"], metadatas=[{"title": "Another"}])
            ours = held.get(ids=["media_3_chunk_0"], include=["metadatas", "embeddings"])
            held.update(ids=["media_3_chunk_0"], documents=["Another text."], embeddings=ours["embeddings"])
            orphan = dict(ours["metadatas"][0]) | {"media_id": "5"}
            held.add(ids=["media_5_chunk_0"], embeddings=ours["embeddings"], metadatas=[orphan])
        found = await bench.check()
        assert found.missing == ["media_0_chunk_0"]
        assert sorted(found.wrong) == [f"media_{n}_chunk_0" for n in (1, 2, 3)]
        assert found.extra == ["media_5_chunk_0"]
        system = bench.stages.system
        mending = ViewMending(
            bench.keeper(),
            ViewVerification(system.database, system.store),
            database=system.database,
            clock=bench.clock,
        )
        assert await mending.mend(found) == found.count == 5
        assert (await bench.check()).count == 0
        await mending.empty(USER)
        assert list(await bench.rows()) == ["media_99_chunk_0"]
        assert len(await bench.rows("8")) == 1


async def test_a_source_that_changes_without_a_new_version_is_taken_in(
    configure: Configure, tmp_path: Path
) -> None:
    async with bench_of(with_view(configure, tmp_path)) as bench:
        await bench.publish((USER, "12", "A text."), (USER, "13", "Another text."))
        await bench.catch_up()
        for source in ("/new/place.txt", "/new/place.txt"):
            await bench.stages.system.jobs.create_job(
                media_id="12", user_id=USER, content="A text.", source=source
            )
            await bench.catch_up()
        assert (await bench.check()).count == 0
        async with bench.reader() as client:
            rows = TldwReader(client, USER).rows()
        assert rows["media_12_chunk_0"].metadata["source"] == "/new/place.txt"


async def test_a_document_without_a_live_version_leaves_what_the_old_path_shows(
    configure: Configure, tmp_path: Path
) -> None:
    async with bench_of(with_view(configure, tmp_path)) as bench:
        await bench.tell()
        async with bench.reader() as client:
            write_as_tldw(client, USER, "12", ["of the old path"], DIM)
        [job_id] = await bench.stages.submit([(USER, "12", "A first version that is given up.")])
        await bench.stages.system.jobs.of(USER).cancel(job_id)
        await bench.catch_up()
        assert list(await bench.rows()) == ["media_12_chunk_0"]
        lags = await bench.stages.system.database.read(views.lags)
        assert lags["rag"] == views.Lag(0, None, filled=True)


async def test_a_document_that_the_readers_store_refuses_waits_alone(
    configure: Configure, tmp_path: Path
) -> None:
    async with bench_of(with_view(configure, tmp_path)) as bench:
        keeper = bench.keeper()
        assert isinstance(keeper.view.store, StoreWithSteps)
        keeper.view.store.refused = "Poison."
        await bench.publish(*((USER, str(n), f"A text {n}.") for n in range(3)), (USER, "3", "Poison."))
        await bench.tell()
        with pytest.raises(ViewUnavailable, match="view `rag` waits: refused"):
            await keeper.catch_up()
        assert sorted(await bench.rows()) == [f"media_{n}_chunk_0" for n in range(3)]
        keeper.view.store.refused = None
        with pytest.raises(ViewUnavailable, match="refused"):  # it is left alone for a while
            await keeper.catch_up()
        bench.clock.advance(60)
        assert await keeper.catch_up() == 1
        assert (await bench.check()).count == 0


async def test_a_tenant_that_is_deleted_leaves_the_view_before_its_receipt_is_complete(
    configure: Configure, tmp_path: Path
) -> None:
    async with bench_of(with_view(configure, tmp_path)) as bench:
        system = bench.stages.system
        await bench.publish((USER, "12", "A text."), ("8", "12", "What stays."))
        await bench.catch_up()
        async with bench.reader() as client:
            write_as_tldw(client, USER, "99", ["not moved"], DIM)
        search = LeftoverSearch(
            database=system.database,
            broker=system.broker,
            store=system.store,
            views=ViewLeftovers([bench.view]),
        )
        outside = Outside(backups_kept_days=None, has_webhook=False)
        erasure = Erasure(
            search,
            WaitingWork(system.database),
            database=system.database,
            store=system.store,
            clock=SystemClock(),
            outside=outside,
        )
        operator = OperatorAdministration(system.database, SystemClock(), system.settings, actor=LOCAL)
        receipt_id = await operator.delete_tenant(USER)
        await erasure.step()  # hides its documents
        await bench.clean_up(USER, "12")
        await erasure.step()
        assert (await system.jobs.of(USER).receipt(receipt_id)).finished_at is None
        await bench.keeper().catch_up()
        await erasure.step()
        receipt = await system.jobs.of(USER).receipt(receipt_id)
        assert receipt.finished_at is not None
        assert receipt.left is not None
        assert receipt.left["view:rag"] == 0
        assert list(await bench.rows()) == ["media_99_chunk_0"]
        assert await bench.rows("8") == {"media_12_chunk_0": "What stays."}


async def test_a_tenant_whose_collection_has_another_model_waits_and_the_others_do_not(
    configure: Configure, tmp_path: Path
) -> None:
    async with bench_of(with_view(configure, tmp_path)) as bench:
        async with bench.reader() as client:
            write_as_tldw(client, USER, "12", ["of 3 dimensions"], 3)
        await bench.publish((USER, "13", "It waits."), ("8", "13", "It does not."))
        await bench.tell()
        with pytest.raises(ViewUnavailable, match=r"view `rag` waits: .* 3 dimensions, not 64"):
            await bench.keeper().catch_up()
        assert await bench.rows("8") == {"media_13_chunk_0": "It does not."}
        assert list(await bench.rows()) == ["media_12_chunk_0"]
        lags = await bench.stages.system.database.read(views.lags)
        assert lags["rag"].documents == 1


async def test_a_view_with_other_settings_is_filled_again_and_one_that_is_gone_is_forgotten(
    configure: Configure, tmp_path: Path
) -> None:
    async with bench_of(with_view(configure, tmp_path)) as bench:
        await bench.publish((USER, "12", "A text."), (USER, "13", "Another text."))
        database = bench.stages.system.database
        assert await database.read(views.marked) == []  # without views, a change marks nothing
        await bench.tell()
        assert (await database.read(views.lags))["rag"].documents == 2
        await bench.keeper().catch_up()
        await database.write(lambda conn: views.add_missing(conn, {"rag": "of another host"}))
        await bench.tell()
        assert (await database.read(views.lags))["rag"].documents == 0
        renamed = replace(bench.view, recipe="another")
        await replace(bench, view=renamed).tell()
        assert (await database.read(views.lags))["rag"].documents == 2
        await ViewChanges({}, database=database, clock=bench.clock).step()
        assert await database.read(views.lags) == {}
        await bench.publish((USER, "12", "A newer text."))
        assert await database.read(views.marked) == []
