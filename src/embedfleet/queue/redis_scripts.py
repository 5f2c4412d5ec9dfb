"""Calls the scripts in `lua/`. Each script has a typed method.

The header of a script declares its keys in order, its arguments in order, and the fragments (`lua/_*.lua`)
whose functions it uses. The text that is sent has three parts: a table `key` that maps the declared names to
`KEYS`, the fragments, and the script itself. So a script can touch only the keys that it declares.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any, Protocol

from embedfleet.clock import Clock
from embedfleet.queue.broker import DeadTask, Depth, Lane, Lease, QueuedTask, Task, TaskState
from embedfleet.queue.keys import answers_key, stage_key
from embedfleet.queue.redis_records import Argument, TaskRecord, as_bytes, decoded, task_arguments
from embedfleet.queue.room import ReadyWork
from embedfleet.queue_schemas import Stage

_KEY = re.compile(r"^-- KEYS\[\d+\] +(\w+)", re.MULTILINE)
_ARGUMENT = re.compile(r"^-- ARGV\[[\d.]+\] +(\w+)", re.MULTILINE)
_USES = re.compile(r"^-- Uses: (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """A script to send. The call sends `source` if the server does not know the script, otherwise `sha`."""

    name: str
    keys: tuple[str, ...]
    arguments: tuple[str, ...]
    source: str
    sha: str


@cache
def load_script(name: str) -> Script:
    """Load the script `lua/<name>.lua` with its fragments."""
    body = _read(f"{name}.lua")
    keys = tuple(_KEY.findall(body))
    uses = _USES.search(body)
    fragments = [_read(file) for file in uses[1].split(", ")] if uses else []
    names = ", ".join(f"{key} = KEYS[{number}]" for number, key in enumerate(keys, start=1))
    source = "\n".join([f"local key = {{{names}}}", *fragments, body])
    sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
    return Script(name, keys, tuple(_ARGUMENT.findall(body)), source, sha)


def _read(file: str) -> str:
    return files(__package__).joinpath("lua", file).read_text(encoding="utf-8")


class ScriptServer(Protocol):
    """A server on which scripts run."""

    async def run(
        self, script: Script, keys: Sequence[str], arguments: Sequence[bytes], *, repeatable: bool
    ) -> Any:
        """Run a script and return its answer. A `repeatable` script may run twice if a connection breaks."""
        ...


@dataclass(frozen=True, slots=True)
class Holder:
    """The holder of a task at the moment when a worker wanted to end its lease.

    `fence` is the fence of that lease if the lease was ended. It is another fence if another worker holds the
    task, and 0 if no worker does.
    """

    fence: int
    worker: str


class StageScripts:
    """The operations on one shard of a stage, each atomic.

    The parameters are those of the script's header, except for `now`: it is the time of `clock`, or the
    server's if `clock` is None.
    """

    def __init__(
        self, server: ScriptServer, key_prefix: str, stage: Stage, clock: Clock | None, shard: int
    ) -> None:
        self._server = server
        self._key_prefix = key_prefix
        self._stage = stage
        self._shard = shard
        self._clock = clock

    async def set_shares(self, shares: Sequence[tuple[str, int | None]]) -> None:
        """Set the stride of each tenant; None stands for the default."""
        arguments = [argument for tenant, stride in shares for argument in (tenant, stride or "")]
        await self._run("set_shares", arguments, repeatable=True)

    async def layout(self, layout: str, *, instead_of: str | None = None) -> tuple[str, int]:
        """Return the newest layout, and how many tasks were offered with an older one.

        `layout` is taken over before, if it is newer; an empty one only reads. With `instead_of`, it is taken
        over only if that is the layout of the shard.
        """
        arguments = [layout] if instead_of is None else [layout, instead_of]
        held, strays = await self._run("layout", arguments, repeatable=True)
        return decoded(held), int(strays)

    async def known_tasks(self, layout: str, task_ids: Sequence[str]) -> tuple[set[str], str]:
        """Return which of the tasks this shard has, and its layout if it is newer than `layout`, else ''."""
        newer, *known = await self._run("known_tasks", [layout, *task_ids], repeatable=True)
        return {one for one, is_known in zip(task_ids, known, strict=True) if is_known}, decoded(newer)

    async def enqueue(self, layout: str, tasks: Sequence[Task]) -> tuple[int, str]:
        """Add tasks, and return how many were new, and ''.

        If the shard has a newer layout, it adds none and returns this one in place of ''. If the script runs
        again after a lost answer, the tasks that the first run added are not counted.
        """
        arguments = [layout, *(argument for task in tasks for argument in task_arguments(task))]
        new, newer = await self._run("enqueue", arguments, repeatable=True)
        return int(new), decoded(newer)

    async def claim(
        self,
        interactive_burst: int,
        worker: str,
        max_tasks: int,
        max_cost: int,
        lease_seconds: float,
        lane: Lane | None,
        held: int,
        passing_over: Set[str],
    ) -> tuple[list[Lease], bool]:
        """Claim tasks. Also return whether the claim must end here, although it may have room for more.

        The script is never repeated, because a second run would lease other tasks.

        After a lost answer, no worker holds the leases of the first run, and they expire.
        """
        arguments: list[Argument] = [
            interactive_burst,
            worker,
            max_tasks,
            max_cost,
            lease_seconds,
            lane or "",
            held,
            *passing_over,
        ]
        answer = await self._run("claim", arguments, timed=True)
        expires_at = float(answer[0])
        records = (TaskRecord.unpack(*answer[i : i + 3]) for i in range(2, len(answer), 3))
        leases = [
            Lease(self._stage, record.task, record.fence, record.attempt, expires_at, self._shard)
            for record in records
        ]
        return leases, bool(answer[1])

    async def renew(self, lease_seconds: float, leases: Sequence[Lease]) -> list[Lease | None]:
        """Extend leases and return each with its new expiry; None for one that is lost."""
        arguments = [lease_seconds, *_ids_and_fences(leases)]
        answer = await self._run("renew", arguments, timed=True, repeatable=True)
        expires_at = float(answer[0])
        return [
            replace(lease, expires_at=expires_at) if held else None
            for lease, held in zip(leases, answer[1:], strict=True)
        ]

    async def ack(self, leases: Sequence[Lease]) -> list[Lease | None]:
        """Finish tasks, and return each lease that is lost; None for one that was ended."""
        return _lost(leases, await self._run("ack", _ids_and_fences(leases)))

    async def retry_later(
        self, task_id: str, fence: int, delay_seconds: float, counted: bool, reason: str
    ) -> Holder:
        arguments: list[Argument] = [task_id, fence, delay_seconds, int(counted), reason]
        return _holder(await self._run("retry_later", arguments, timed=True))

    async def hand_back(self, leases: Sequence[Lease]) -> list[Lease | None]:
        """Make tasks ready again, and return each lease that is lost; None for one that was ended."""
        return _lost(leases, await self._run("hand_back", _ids_and_fences(leases)))

    async def dead_letter(self, task_id: str, fence: int, reason: str) -> Holder:
        return _holder(await self._run("dead_letter", [task_id, fence, reason], timed=True))

    async def dead(self, after: int, limit: int) -> tuple[list[DeadTask], int]:
        """Return a page of dead tasks in the order of their deaths, and `after` for the next page."""
        answer = await self._run("dead", [after, limit], repeatable=True)
        found: list[DeadTask] = []
        for i in range(0, len(answer), 4):
            task_id, order, packed, payload = answer[i : i + 4]
            record = TaskRecord.unpack(task_id, packed, payload)
            found.append(DeadTask(record.task, record.attempt, record.reason, record.died_at))
            after = int(order)
        return found, after

    async def requeue_dead(self, task_ids: Sequence[str]) -> int:
        return int(await self._run("requeue_dead", task_ids))

    async def drop_dead(self, task_ids: Sequence[str]) -> int:
        return int(await self._run("drop_dead", task_ids))

    async def reap_expired(self, limit: int) -> int:
        return int(await self._run("reap_expired", [limit], timed=True))

    async def promote_due(self, limit: int) -> int:
        return int(await self._run("promote_due", [limit], timed=True))

    async def cancel_job(self, job: str, after: str, until: int | None, limit: int) -> tuple[int, str, int]:
        """Drop a page of the job's tasks. Return how many, then `after` and `until` for the next page.

        `after` is empty at the end.
        """
        arguments = [job, after, "" if until is None else until, limit]
        dropped, go_on_after, until = await self._run("cancel_job", arguments)
        return int(dropped), decoded(go_on_after), int(until)

    async def known_jobs(self, jobs: Sequence[str]) -> set[str]:
        answer = await self._run("known_jobs", jobs, repeatable=True)
        return {job for job, known in zip(jobs, answer, strict=True) if known}

    async def tasks_of(self, job: str, limit: int) -> list[QueuedTask]:
        answer = await self._run("tasks_of", [job, limit], timed=True, repeatable=True)
        return [_queued_task(*answer[i : i + 5]) for i in range(0, len(answer), 5)]

    async def depth(self) -> Depth:
        ready, leased, delayed, dead, done, enqueued, *costs = await self._run("depth", repeatable=True)
        ready_cost, leased_cost, delayed_cost = costs
        return Depth(
            ready=ready,
            leased=leased,
            delayed=delayed,
            dead=dead,
            done=done,
            enqueued=enqueued,
            ready_cost=ready_cost,
            leased_cost=leased_cost,
            delayed_cost=delayed_cost,
        )

    async def check_writes(self) -> None:
        await self._run("check_writes", repeatable=True)

    async def crowded(self, tenants: Sequence[str]) -> tuple[int, list[ReadyWork]]:
        """Return the weight of all tenants with ready tasks, in millionths, and the work of each tenant."""
        total_weight, *numbers = await self._run("crowded", tenants, repeatable=True)
        work = [ReadyWork(*numbers[i : i + 3]) for i in range(0, len(numbers), 3)]
        return int(total_weight), work

    async def claimable(self, lane: Lane | None) -> bool:
        return bool(await self._run("claimable", [lane or ""], repeatable=True))

    async def answer(self, mailbox: str, keep_seconds: float, answers: Sequence[bytes]) -> None:
        """Leave answers. It is not repeated, because a second run would leave them twice."""
        await self._run("answer", [keep_seconds, *answers], mailbox=mailbox)

    async def take_answers(self, mailbox: str, limit: int) -> list[bytes]:
        """Take up to `limit` answers. It is not repeated: after a lost answer these are lost."""
        return list(await self._run("take_answers", [limit], mailbox=mailbox))

    async def epoch(self, proposal: str) -> str:
        name, run = await self._run("epoch", [proposal], repeatable=True)
        return f"{decoded(name)}-{decoded(run)}"

    async def mark(self, mark: str, replacing: str) -> str | None:
        """Set the mark if there is none, or if it is `replacing`; an empty one only reads.

        Returns the mark that is there now, None if there is none.
        """
        return decoded(await self._run("mark", [mark, replacing], repeatable=True)) or None

    async def _run(
        self,
        name: str,
        arguments: Sequence[Argument] = (),
        *,
        timed: bool = False,
        repeatable: bool = False,
        mailbox: str = "",
    ) -> Any:
        script = load_script(name)
        keys = [
            answers_key(self._key_prefix, self._stage, mailbox)
            if key == "answers"
            else stage_key(self._key_prefix, self._stage, key, self._shard)
            for key in script.keys
        ]
        raw = [as_bytes(argument) for argument in arguments]
        if timed:
            raw.insert(0, b"" if self._clock is None else as_bytes(self._clock.now()))
        return await self._server.run(script, keys, raw, repeatable=repeatable)


def _ids_and_fences(leases: Sequence[Lease]) -> list[Argument]:
    return [argument for lease in leases for argument in (lease.task.id, lease.fence)]


def _lost(leases: Sequence[Lease], answer: Sequence[int]) -> list[Lease | None]:
    return [None if ended else lease for lease, ended in zip(leases, answer, strict=True)]


def _queued_task(task_id: bytes, state: bytes, attempt: int, reason: bytes, number: bytes) -> QueuedTask:
    """Build the description. `number` is what the state has: the tasks ahead, or the seconds until due."""
    where = TaskState(state.decode())
    return QueuedTask(
        decoded(task_id),
        where,
        attempt,
        decoded(reason),
        ahead=int(number) if where is TaskState.READY else None,
        seconds=float(number) if where is TaskState.DELAYED else None,
    )


def _holder(answer: Sequence[Any]) -> Holder:
    fence, worker = answer
    return Holder(int(fence), decoded(worker))
