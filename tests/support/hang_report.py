"""What a system did when a job of it hung: printed for whoever reads the failed run.

A hang that comes once in a thousand runs must explain itself, as it does not come when it is looked for. So
`running` watches its system, and prints its state shortly before the tests that wait give up: the jobs that
have not ended and what they wait for, the queues, the pools, and where every task and thread is.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from time import time
from types import FrameType
from typing import Any

from sqlalchemy import Connection, select

from embedfleet.bootstrap import OwnerSystem
from embedfleet.clock import SystemClock
from embedfleet.errors import EmbedfleetError
from embedfleet.queue_schemas import Stage
from embedfleet.records.scope import EveryTenant
from embedfleet.sql import tables
from embedfleet.tracking.explaining import Explainer
from support.hangs import HANG_SECONDS

_BEFORE_THE_END_SECONDS = 30.0
_LOOK_SECONDS = 5.0
_MOST_JOBS = 5
_FRAMES = 12


async def report_hangs(system: OwnerSystem) -> None:
    """Print the state of the system, once, when a job has not ended for nearly as long as tests wait."""
    longest = HANG_SECONDS - _BEFORE_THE_END_SECONDS
    await asyncio.sleep(longest)  # a test that does not hang is over by then
    while True:
        with suppress(EmbedfleetError):  # the database may be away
            if hanging := await unfinished_jobs(system, submitted_before=time() - longest):
                print(await state_of(system, hanging), file=sys.stderr)
                return
        await asyncio.sleep(_LOOK_SECONDS)


async def unfinished_jobs(system: OwnerSystem, *, submitted_before: float) -> list[str]:
    """Return the ids of some jobs that were submitted before this moment and have not ended."""
    columns = tables.jobs.c
    query = (
        select(columns.job_id)
        .where(columns.finished_at.is_(None), columns.created_at < submitted_before)
        .order_by(columns.created_at)
        .limit(_MOST_JOBS)
    )
    return await system.database.read(lambda conn: list(conn.execute(query).scalars()))


async def state_of(system: OwnerSystem, job_ids: list[str]) -> str:
    """Return what these jobs wait for, and what the system does, in many lines."""
    parts: list[tuple[str, Callable[[], Awaitable[str]]]] = [
        *((f"job {job_id}", lambda job_id=job_id: _job(system, job_id)) for job_id in job_ids),
        ("queues", lambda: _queues(system, job_ids)),
        ("orchestrators", lambda: system.database.read(_orchestrators)),
        ("tasks", _tasks),
        ("threads", _threads),
    ]
    lines = [f"=== {len(job_ids)} jobs or more have not ended; trouble: {system.orchestrator.trouble!r}"]
    for title, part in parts:
        try:
            told = await part()
        except Exception as exc:  # noqa: BLE001 - what fails to tell must not keep the others from it
            told = f"not known: {exc!r}"
        lines += [f"--- {title}", told]
    return "\n".join(lines)


async def _job(system: OwnerSystem, job_id: str) -> str:
    explainer = Explainer(system.database, SystemClock(), system.settings, system.broker)
    explained = await explainer.of_job(EveryTenant(), job_id)
    query = select(tables.jobs).where(tables.jobs.c.job_id == job_id)
    row = await system.database.read(lambda conn: dict(conn.execute(query).mappings().one()))
    return f"{explained.answer}\nattempts {explained.attempts}, last error {explained.last_error}\n{row}"


async def _queues(system: OwnerSystem, job_ids: list[str]) -> str:
    lines = []
    for stage in Stage:
        lines.append(f"{stage}: {await system.broker.depth(stage)}")
        for job_id in job_ids:
            lines += [f"  {task}" for task in await system.broker.tasks_of(stage, job_id)]
    return "\n".join(lines)


def _orchestrators(conn: Connection) -> str:
    return "\n".join(str(dict(row)) for row in conn.execute(select(tables.orchestrators)).mappings())


async def _tasks() -> str:
    """Say where the tasks of this event loop wait. Those that wait at the same place are counted."""
    places: dict[str, list[str]] = {}
    for task in asyncio.all_tasks():
        places.setdefault("\n".join(_awaited(task.get_coro())), []).append(task.get_name())
    return "\n".join(
        f"{len(names)} tasks, such as {sorted(names)[0]}:\n{place}" for place, names in sorted(places.items())
    )


def _awaited(awaited: Any) -> Iterator[str]:
    """Yield the frames of a suspended coroutine, and of what it awaits, the outermost first."""
    while awaited is not None:
        for kind in ("cr", "ag", "gi"):
            frame: FrameType | None = getattr(awaited, f"{kind}_frame", None)
            if frame is not None:
                yield _place(frame)
        awaited = next(
            (
                getattr(awaited, name)
                for name in ("cr_await", "ag_await", "gi_yieldfrom")
                if hasattr(awaited, name)
            ),
            None,
        )


def _place(frame: FrameType) -> str:
    code = frame.f_code
    return f"    {'/'.join(Path(code.co_filename).parts[-3:])}:{frame.f_lineno} {code.co_qualname}"


async def _threads() -> str:
    """Say where each thread is. Threads at the same place are counted."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    places: Counter[tuple[str, str]] = Counter()
    for ident, frame in sys._current_frames().items():
        stack = "".join(traceback.format_stack(frame, limit=_FRAMES))
        places[stack, names.get(ident, "?").partition("_")[0]] += 1
    return "\n".join(f"{count} x {name}:\n{stack}" for (stack, name), count in places.items())
