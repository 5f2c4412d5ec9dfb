"""A tenant of 20,000 chunks is switched to another model while it submits and searches.

Documents come in at a steady rate, and titles are searched for one after the other, in the process of the
system: before the switch, in the backfill, while the gate asks, after it, after a rollback, and while the old
space is emptied. Every answer is checked: it fails if it raises or is empty, and it is mixed if its passages
are not of the one space that it names. The gate asks 500 questions and allows a loss of 0.1, as the shorter
model is a little worse.

    python benchmarks/model_switch.py [--chunks 20000] [--to shorter] [--max-search-slowdown 1.5] [--short]

The models are the bundled token table and its first 128 dimensions, so the figures are of embedfleet, SQL and
the vector store, and not of a model. With `--to minilm` it is a model that takes its time.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import re
import sys
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter, time
from typing import Any

import numpy as np
from corpus import slices
from loguru import logger
from report import write_report
from sqlalchemy import select

from embedfleet.bootstrap import OwnerSystem, open_owner
from embedfleet.errors import EmbedfleetError
from embedfleet.model_switching import orders
from embedfleet.model_switching.orders import Wanted
from embedfleet.queue_schemas import SearchHits
from embedfleet.records import documents, model_switches
from embedfleet.searching.search import SearchRequest
from embedfleet.settings import Settings, load_settings
from embedfleet.sql.states import SwitchPhase
from embedfleet.sql.tables import chunks, collections, generations

TENANT = "bench"
NEW = "shorter"
CHARS = 900
"""One chunk, whatever the text."""
PAUSE_BETWEEN_SUBMISSIONS = 0.1
PAUSE_BETWEEN_QUERIES = 0.01
SECONDS_OF_A_PART = 15.0


@dataclass(slots=True)
class Answers:
    """What the searches of one part of the run gave."""

    seconds: list[float] = field(default_factory=list)
    by_model: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    failed: int = 0
    mixed: int = 0
    empty: int = 0

    def figures(self) -> dict[str, Any]:
        return {
            "queries": len(self.seconds),
            "failed": self.failed,
            "mixed": self.mixed,
            "empty": self.empty,
            "by_model": dict(self.by_model),
            "p50_ms": round(1000 * float(np.percentile(self.seconds, 50)), 2),
            "p95_ms": round(1000 * float(np.percentile(self.seconds, 95)), 2),
        }


class Load:
    """Submissions and searches that go on for the whole run. `part` names what is under way."""

    def __init__(
        self, system: OwnerSystem, titles: Sequence[str], live: AsyncIterator[dict[str, Any]]
    ) -> None:
        self._system = system
        self._titles = titles
        self._live = live
        self._random = random.Random(18)
        self.parts: dict[str, Answers] = defaultdict(Answers)
        self.part = "before"
        self.submitted: list[str] = []

    async def submit(self) -> None:
        async for fields in self._live:
            self.submitted.append(await self._system.jobs.create_job(user_id=TENANT, **fields))
            await asyncio.sleep(PAUSE_BETWEEN_SUBMISSIONS)

    async def search(self) -> None:
        while True:
            await asyncio.sleep(PAUSE_BETWEEN_QUERIES)
            part, begun = self.parts[self.part], perf_counter()
            query = SearchRequest(query=self._random.choice(self._titles), limit=10)
            try:
                hits = await self._system.search.search(TENANT, query)
            except EmbedfleetError:
                part.failed += 1
                continue
            part.seconds.append(perf_counter() - begun)
            part.by_model[hits.model or "none"] += 1
            part.empty += not len(hits)
            part.mixed += await self._is_mixed(hits)

    async def _is_mixed(self, hits: SearchHits) -> bool:
        ids = [bytes.fromhex(hit.chunk_id) for hit in hits]
        models = (
            select(collections.c.model)
            .join(generations, generations.c.collection_id == collections.c.collection_id)
            .join(chunks, chunks.c.generation_id == generations.c.generation_id)
            .where(chunks.c.chunk_id.in_(ids))
            .distinct()
        )
        found = await self._system.database.read(lambda conn: conn.execute(models).scalars().all())
        # A replaced passage may be gone by now, so that none is found; two models must never be.
        return bool(set(found) - {hits.model})

    async def during(self, part: str, seconds: float) -> None:
        self.part = part
        await asyncio.sleep(seconds)


async def run(args: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as directory:
        settings = load_settings(
            environ={},
            overrides={
                "data_dir": directory,
                "models": {
                    "default": "static",
                    "catalogue": {NEW: {"backend": "static", "dimensions": 128}},
                },
                "tenants": {"default_tier": "enterprise"},
                "model_switching": {
                    "max_search_slowdown": args.max_search_slowdown,
                    "gate": {"questions": 500, "max_recall_loss": 0.1},
                },
            },
        )
        async with working(settings) as system:
            return await measured(system, args)


@asynccontextmanager
async def working(settings: Settings) -> AsyncIterator[OwnerSystem]:
    stop = asyncio.Event()
    async with open_owner(settings, purpose="benchmark") as system, asyncio.TaskGroup() as tasks:
        tasks.create_task(system.orchestrator.run(stop))
        try:
            yield system
        finally:
            stop.set()


async def measured(system: OwnerSystem, args: argparse.Namespace) -> dict[str, Any]:
    texts = slices(10 * args.chunks, CHARS)
    stock = [fields_of(name, text) for name, text in itertools.islice(texts, args.chunks)]
    begun = perf_counter()
    await ingest(system, stock)
    ingested = perf_counter() - begun
    load = Load(system, [one["title"] for one in stock], live_documents(texts))
    tasks = [asyncio.create_task(load.submit()), asyncio.create_task(load.search())]
    try:
        await load.during("before", args.seconds)
        figures = await switched(system, load, args)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return {
        "chunks": args.chunks,
        "to": args.to,
        "max_search_slowdown": args.max_search_slowdown,
        "ingest_seconds": round(ingested, 1),
        **figures,
        "submitted_live": len(load.submitted),
        "parts": {name: answers.figures() for name, answers in load.parts.items() if answers.seconds},
        "p95_times_before": {
            name: round(p95(answers) / p95(load.parts["before"]), 2)
            for name, answers in load.parts.items()
            if answers.seconds and name != "before"
        },
    }


def p95(answers: Answers) -> float:
    return float(np.percentile(answers.seconds, 95))


async def switched(system: OwnerSystem, load: Load, args: argparse.Namespace) -> dict[str, Any]:
    """Switch, go back, switch again and retire. Returns the seconds, and the documents at the end."""
    info = await asyncio.to_thread(system.catalogue.info, args.to)
    load.part = "backfill"
    begun = perf_counter()
    await system.database.write(lambda conn: orders.begin(conn, [TENANT], Wanted(info), time()))
    await until(system, SwitchPhase.CHECKING, SwitchPhase.SERVING, SwitchPhase.REFUSED)
    backfill_seconds = perf_counter() - begun
    load.part = "gate"
    served = await until(system, SwitchPhase.SERVING, SwitchPhase.REFUSED)
    switch_seconds = perf_counter() - begun
    if served.phase is SwitchPhase.REFUSED:
        raise SystemExit(f"the gate has refused the switch: {served.findings['gate']['reasons']}")
    await load.during("new space", args.seconds)
    await system.database.write(lambda conn: orders.rollback(conn, TENANT, time()))
    await load.during("rolled back", args.seconds)
    await system.database.write(lambda conn: orders.serve(conn, TENANT, 100.0, time()))
    load.part = "retiring"
    begun = perf_counter()
    await system.database.write(lambda conn: orders.retire(conn, TENANT, time()))
    ended = await until(system, SwitchPhase.ENDED)
    retire_seconds = perf_counter() - begun
    await load.during("after", args.seconds)
    live = await system.database.read(partial(documents.live_by_collection, tenant=TENANT))
    return {
        "backfill_seconds": round(backfill_seconds, 1),
        "switch_seconds": round(switch_seconds, 1),
        "retire_seconds": round(retire_seconds, 1),
        "coverage": served.findings["coverage"],
        "gate": served.findings["gate"]["measured"],
        "receipt": ended.findings["receipt"],
        "documents_by_space_at_the_end": sorted(live.values()),
    }


async def until(system: OwnerSystem, *phases: SwitchPhase) -> model_switches.ModelSwitch:
    async def reached() -> model_switches.ModelSwitch | None:
        switch = await system.database.read(partial(model_switches.newest_of, tenant=TENANT))
        return switch if switch is not None and switch.phase in phases else None

    return await system.database.until(reached)


async def ingest(system: OwnerSystem, stock: Sequence[dict[str, Any]]) -> None:
    job_ids = [await system.jobs.create_job(user_id=TENANT, **fields) for fields in stock]
    async for _job in system.jobs.of(TENANT).as_completed(job_ids):
        pass


async def live_documents(texts: Any) -> AsyncIterator[dict[str, Any]]:
    for name, text in texts:
        yield fields_of(f"live-{name}", text)


def fields_of(name: str, text: str) -> dict[str, Any]:
    """A document of a slice. Its title is made of names that the slice is about, as a person's would be."""
    place = text.partition("\n")[0].rpartition("/")[2].removesuffix(".py")
    names = dict.fromkeys(re.findall(r"(?:def|class|import|self)[ .]([A-Za-z][A-Za-z_]{4,})", text))
    words = " ".join(list(names)[:5]).replace("_", " ")
    return {
        "media_id": name,
        "content": text,
        "title": f"{words} in {place}" if words else f"Part of {place}",
    }


def main() -> None:
    logger.remove()
    logger.add(sys.stderr, level="WARNING")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--chunks", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=SECONDS_OF_A_PART, help="of each part of the run")
    parser.add_argument("--to", default=NEW, help="the model that is switched to")
    parser.add_argument("--max-search-slowdown", type=float, default=1.5, help="0: no limit")
    parser.add_argument("--short", action="store_true", help="a few hundred chunks: whether it runs")
    args = parser.parse_args()
    if args.short:
        args.chunks, args.seconds = 300, 1.0
    write_report("model_switch", asyncio.run(run(args)))


if __name__ == "__main__":
    main()
