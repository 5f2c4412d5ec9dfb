"""Runs the fleet beside the old path, in the process that routes, and compares the answers.

The caller has its answer from the old path already, and does not wait. Which run goes on is in SQL
(`records.shadows`), where all processes add what they find about once a second.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from types import TracebackType
from typing import Self

from loguru import logger
from sqlalchemy import Connection

from embedfleet.clock import Clock, SystemClock
from embedfleet.errors import EmbedfleetError, QuotaExceeded
from embedfleet.metrics import Metrics
from embedfleet.records import shadows
from embedfleet.records.shadows import DifferenceRow, ShadowRow
from embedfleet.sql.database import Database
from embedfleet.traffic.calling import CALLERS_FAULT
from embedfleet.traffic.comparison import Comparison, Difference, compare
from embedfleet.traffic.latencies import class_of
from embedfleet.traffic.paths import IngestRequest, IngestResult
from embedfleet.traffic.shadow_fleet import ShadowFleet, copy_for
from embedfleet.traffic.shadow_schemas import DifferenceKind, ShadowFindings, ShadowRule, tenant_of
from embedfleet.trouble import Trouble
from embedfleet.waiting import cancel_and_wait, to_its_end

# A run that begins or ends is noticed within this time, and findings are in SQL within it.
_LOOK_SECONDS = 0.5
MOST_EXAMPLES = 20
"""Of each kind of difference, kept for a run."""
# The fleet gets no more than this from the shadows of a process at a time, beside its own work.
_MOST_UNDER_WAY = 16


@dataclass(frozen=True, slots=True)
class _Run:
    """The run that goes on, as this process knows it."""

    shadow_id: str
    rule: ShadowRule

    @classmethod
    def of(cls, row: ShadowRow) -> Self:
        return cls(row.shadow_id, ShadowRule.model_validate_json(row.rule))


@dataclass(slots=True)
class _Found:
    """What this process found of a run since it last wrote to SQL."""

    shadow_id: str
    findings: ShadowFindings = field(default_factory=ShadowFindings)
    examples: list[DifferenceRow] = field(default_factory=list)

    def add(self, findings: ShadowFindings) -> None:
        self.findings = self.findings.plus(findings)

    def write(self, conn: Connection) -> None:
        """Add it to the run. If that has ended, what came late is dropped."""

        def added_to(written: str) -> str:
            return ShadowFindings.model_validate_json(written).plus(self.findings).model_dump_json()

        if shadows.add_findings(conn, self.shadow_id, added_to):
            shadows.add_examples(conn, self.shadow_id, self.examples, most_of_a_kind=MOST_EXAMPLES)


class Shadow:
    """Compares each answer of the old path with the fleet's, while a shadow run goes on.

    Use it as an asynchronous context manager, around the router. It belongs to one event loop.
    """

    def __init__(
        self,
        database: Database,
        fleet: ShadowFleet,
        *,
        clock: Clock | None = None,
        metrics: Metrics | None = None,
        most_under_way: int = _MOST_UNDER_WAY,
    ) -> None:
        """`most_under_way`: the most comparisons at a time. A request beyond that is counted as skipped."""
        self._metrics = metrics or Metrics()
        self._database = database
        self._clock = clock or SystemClock()
        self._fleet = fleet
        self._most_under_way = most_under_way
        self._run: _Run | None = None
        self._found: _Found | None = None
        self._under_way: dict[asyncio.Task[None], tuple[str, str]] = {}
        self._watch: asyncio.Task[None] | None = None
        self.trouble = Trouble(over="shadow runs are watched again")

    async def __aenter__(self) -> Self:
        await self._exchange()
        self._watch = asyncio.create_task(self._watch_runs(), name="watch shadow runs")
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the comparisons that are under way, and write what was found."""
        self._run, run = None, self._run
        if self._watch is not None:
            await cancel_and_wait(self._watch)
        await cancel_and_wait(*self._under_way)
        if run is not None:
            await self._write()

    def observe(self, request: IngestRequest, answer: IngestResult | Exception, seconds: float) -> None:
        """Note how the old path answered, after `seconds`, and have the fleet do the same. Return at once.

        It never raises. It does nothing without a run, or for a request that is wrong in itself.
        """
        run = self._run
        if run is None or isinstance(answer, CALLERS_FAULT):
            return
        if isinstance(answer, Exception):
            self._add(run, ShadowFindings(old_errors=1))
        elif len(self._under_way) >= self._most_under_way:
            self._skip(run)
        else:
            work = self._compare(run, request, answer, seconds)
            task = asyncio.create_task(work, name="shadow")
            self._under_way[task] = (request.tenant, request.media_id)
            task.add_done_callback(partial(self._note_done, run))

    def _note_done(self, run: _Run, task: asyncio.Task[None]) -> None:
        del self._under_way[task]
        # Here and not in the task, which may be cancelled before it begins.
        if task.cancelled():
            self._skip(run)

    def _skip(self, run: _Run) -> None:
        self._metrics.traffic_shadow_requests_total.labels("skipped").inc()
        self._add(run, ShadowFindings(skipped=1))

    async def forget(self, tenant: str, media_id: str) -> None:
        """Drop what this process and SQL have of a document that is removed. Raises DatabaseUnavailable."""
        name = (tenant, media_id)
        await cancel_and_wait(*(task for task, document in self._under_way.items() if document == name))
        if self._found is not None:
            rows = self._found.examples
            rows[:] = [row for row in rows if (row.tenant, row.media_id) != name]
        await self._database.write(partial(shadows.forget_documents, tenant=tenant, media_ids=[media_id]))

    async def _compare(
        self, run: _Run, request: IngestRequest, answer: IngestResult, old_seconds: float
    ) -> None:
        copy = copy_for(request, tenant_of(run.shadow_id))
        began = monotonic()
        compared = Comparison([])
        latencies: dict[int, int] = {}
        try:
            job_id = await self._fleet.ingest(copy)
            latencies = {class_of(monotonic() - began): 1}
            made = await self._fleet.chunks(copy, request, job_id)
            compared = compare(answer, made, min_cosine=run.rule.min_cosine)
        except QuotaExceeded:
            # The limits of the run's tenant are not those of the document's tenant.
            self._skip(run)
            return
        except Exception as exc:  # noqa: BLE001 - whatever it is, the fleet did not do what it was asked
            # The name of the class alone: a message may hold text of the document.
            compared = Comparison([Difference(DifferenceKind.FAILED, {"error": type(exc).__name__})])
            logger.warning("shadow {}: the fleet failed: {}", run.shadow_id, type(exc).__name__)
        finally:
            # What fails here is deleted with the run's tenant.
            with suppress(EmbedfleetError):
                await to_its_end(self._fleet.drop(copy))
        self._add_comparison(run, request, compared, {class_of(old_seconds): 1}, latencies)

    def _add_comparison(
        self,
        run: _Run,
        request: IngestRequest,
        compared: Comparison,
        old_latencies: dict[int, int],
        new_latencies: dict[int, int],
    ) -> None:
        found = compared.differences
        failed = any(one.kind is DifferenceKind.FAILED for one in found)
        outcome = "failed" if failed else "different" if found else "equal"
        self._metrics.traffic_shadow_requests_total.labels(outcome).inc()
        findings = ShadowFindings(
            requests=1,
            errors=int(failed),
            mismatched=int(bool(found) and not failed),
            differences={one.kind.value: 1 for one in found},
            ids_compared=compared.ids,
            vectors_compared=compared.vectors,
            old_latencies=old_latencies,
            new_latencies={} if failed else new_latencies,
        )
        at = self._clock.now()
        self._add(
            run,
            findings,
            [
                DifferenceRow(at, request.tenant, request.media_id, one.kind, json.dumps(dict(one.details)))
                for one in found
            ],
        )

    def _add(self, run: _Run, findings: ShadowFindings, examples: list[DifferenceRow] | None = None) -> None:
        if self._found is not None and self._found.shadow_id == run.shadow_id:
            self._found.add(findings)
            room = MOST_EXAMPLES * len(DifferenceKind) - len(self._found.examples)
            self._found.examples += (examples or [])[: max(0, room)]

    async def _watch_runs(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            await self._exchange()

    async def _exchange(self) -> None:
        """Write what was found, and learn which run goes on. A failure is mended by the next call."""
        try:
            await self._write()
            row = await self._database.read(shadows.running)
        except EmbedfleetError as exc:
            self.trouble.note(exc)
            return
        self.trouble.clear()
        if (None if row is None else row.shadow_id) != (None if self._run is None else self._run.shadow_id):
            self._run = None if row is None else _Run.of(row)
            self._found = None if row is None else _Found(row.shadow_id)

    async def _write(self) -> None:
        found = self._found
        if found is None or found == _Found(found.shadow_id):
            return
        self._found = _Found(found.shadow_id)
        try:
            await self._database.write(found.write)
        except BaseException:
            # What was found during the write is in the new object.
            if self._found.shadow_id == found.shadow_id:
                self._found.findings = found.findings.plus(self._found.findings)
                self._found.examples[:0] = found.examples
            raise
