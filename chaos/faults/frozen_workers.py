"""R4: workers that hold tasks are frozen (SIGSTOP) for three leases and go on as if nothing had been.

A trial is one frozen worker process that held tasks. Watched past the code under test, in Redis: when each
of its tasks was in other hands, or done by them.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterable
from time import monotonic
from typing import Any

import msgpack
import psutil
import redis

from chaos.oracle import told
from chaos.scene import LEASE_SECONDS, LOOK_AGAIN_SECONDS, Plan, counted, kill, scene
from chaos.verdict import Context, Verdict
from embedfleet.queue.keys import stage_key
from embedfleet.queue_schemas import Stage
from support.fleet import Orchestrator

_TAKEOVER_SECONDS = LEASE_SECONDS + 5.0
_FROZEN_SECONDS = 3 * LEASE_SECONDS
_TENANTS = 4
_CHUNKS_OF_DOCUMENT = 60
_FENCE, _WORKER = 8, 9

Held = dict[tuple[Stage, bytes], int]
"""Stage and task id to the fence of the lease."""


async def run(context: Context) -> Verdict:
    trials = context.sized(full=200, short=1)
    workers = context.sized(full=4, short=2)
    at_once = context.sized(full=12, short=4)
    allowed = context.allowed_seconds(_TAKEOVER_SECONDS)
    plan = Plan(seconds_a_chunk=0.02, pools={"max_attempts": 1000, "batch_tasks": 4})
    takeovers: list[float] = []
    lines: list[str] = []
    frozen = tasks = documents = 0
    async with scene(context, plan) as at:
        with at.fleet.orchestrator("--workers", str(workers)) as one, at.redis.client() as client:
            while frozen < trials:
                while await at.unfinished() < at_once:
                    documents += 1
                    await at.inputs.submit_documents(
                        at.guest.jobs,
                        f"doc{documents}",
                        at_once,
                        chunks=_CHUNKS_OF_DOCUMENT,
                        tenant=f"tenant{documents % _TENANTS}",
                    )
                victims = await _holders(one, client, context, workers // 2)
                seconds = await _freeze(client, victims, give_up_after=2 * allowed)
                frozen += len(victims)
                tasks += len(seconds)
                takeovers += [one for one in seconds if one is not None]
                lines += ["a task was not taken over while its worker was frozen"] * seconds.count(None)
            late = [seconds for seconds in takeovers if seconds > allowed]
            lines += [f"{len(late)} tasks were taken over later than {allowed:.0f} s"] * bool(late)
            if not await at.until_ended():
                lines.append("the work came to a stop")
            findings = await at.examine()
    slowest = max(takeovers, default=0.0)
    return Verdict(
        done=f"{frozen} workers frozen for {_FROZEN_SECONDS:.0f} s, with {tasks} tasks",
        outcome=f"{counted(findings)}, taken over in {slowest:.1f} s at most (allowed {allowed:.0f} s)",
        findings=lines + told(findings),
        figures={
            "trials": frozen,
            "tasks_held": tasks,
            "lease_seconds": LEASE_SECONDS,
            "takeover_seconds_most": round(slowest, 2),
            "chunks": at.inputs.chunks,
        },
    )


async def _holders(
    one: Orchestrator, client: redis.Redis, context: Context, most_of_stage: int
) -> list[tuple[psutil.Process, set[str]]]:
    """Some live worker processes of the stages that write, which hold tasks now, with their loops' names.
    Fewer of a stage than there are: another worker must be there to take over."""
    while True:
        names = set(_leases(client))
        found: list[tuple[psutil.Process, set[str]]] = []
        for stage in (Stage.EMBEDDING, Stage.STORAGE):
            workers = sorted(one.workers(stage), key=lambda worker: worker.pid)
            named = [(worker, _loops(worker, names)) for worker in workers]
            holding = [(worker, mine) for worker, mine in named if mine]
            found += context.rng.sample(holding, min(most_of_stage, len(holding)))
        if found:
            return found
        await asyncio.sleep(LOOK_AGAIN_SECONDS)


async def _freeze(
    client: redis.Redis, victims: list[tuple[psutil.Process, set[str]]], *, give_up_after: float
) -> list[float | None]:
    """For each task that the frozen held: seconds until it was in other hands or gone, None if not within
    `give_up_after` seconds."""
    for worker, _names in victims:
        kill(worker.pid, signal.SIGSTOP)
    started = monotonic()
    held: Held = {}
    for name, leases in _leases(client).items():
        if any(name in names for _worker, names in victims):
            held |= leases
    seconds: dict[tuple[Stage, bytes], float] = {}
    try:
        while monotonic() - started < _FROZEN_SECONDS or (
            len(seconds) < len(held) and monotonic() - started < give_up_after
        ):
            now = {key: fence for leases in _leases(client).values() for key, fence in leases.items()}
            there = _there(client, held)
            for key, fence in held.items():
                elsewhere = now.get(key, fence) != fence or key not in there
                if elsewhere and key not in seconds:
                    seconds[key] = monotonic() - started
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
    finally:
        for worker, _names in victims:
            kill(worker.pid, signal.SIGCONT)
    return [seconds.get(key) for key in held]


def _leases(client: redis.Redis) -> dict[str, Held]:
    """Who holds what, by the name of the claiming loop."""
    found: dict[str, Held] = {}
    for stage in (Stage.EMBEDDING, Stage.STORAGE):
        ids: Any = client.zrange(stage_key("embedfleet", stage, "leases"), 0, -1)
        records = client.hmget(stage_key("embedfleet", stage, "tasks"), ids) if ids else []
        for task_id, record in zip(ids, records, strict=True):
            if record is not None:
                fields = msgpack.unpackb(record, raw=True)
                found.setdefault(fields[_WORKER].decode(), {})[stage, task_id] = fields[_FENCE]
    return found


def _there(client: redis.Redis, keys: Iterable[tuple[Stage, bytes]]) -> set[tuple[Stage, bytes]]:
    return {
        (stage, task_id)
        for stage, task_id in keys
        if client.hexists(stage_key("embedfleet", stage, "tasks"), task_id)
    }


def _loops(worker: psutil.Process, names: set[str]) -> set[str]:
    """Those of the names that are loops of this worker, by the title of its process."""
    try:
        title = " ".join(worker.cmdline()).partition("embedfleet: ")[2].strip()
    except psutil.NoSuchProcess:
        return set()
    return {name for name in names if name.split("/")[0] == title}
