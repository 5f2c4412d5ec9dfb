"""The queues of one stage: its operations over all of its shards.

Each operation on a shard is atomic. A call that concerns several shards is one operation on each.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence, Set
from contextlib import suppress
from functools import partial
from itertools import count
from random import randrange
from typing import TypeVar
from uuid import uuid4

from embedfleet.errors import BrokerUnavailable
from embedfleet.queue.broker import DeadTask, Depth, Lane, Lease, QueuedTask, Task
from embedfleet.queue.redis_parts import MOST_ITEMS, parts, parts_by_payload, until_fewer
from embedfleet.queue.redis_scripts import Holder, StageScripts
from embedfleet.queue.room import ReadyWork
from embedfleet.queue.shards import MAX_SHARDS, KnownLayout, Layout

# Dead tasks come with their payloads, which may be large, so few are read in one call.
_DEAD_AT_ONCE = 100
# A claim that is cancelled is part of a stop, which must not wait for a server that is away.
_HAND_BACK_SECONDS = 2.0

T = TypeVar("T")


class StageShards:
    """One stage, by the layout that the process knows. Which that is may change between two calls."""

    def __init__(self, shard: Callable[[int], StageScripts], layout: KnownLayout) -> None:
        """`shard` returns the operations on the shard of a number."""
        self._shard = shard
        self._layout = layout
        self._shards: dict[int, StageScripts] = {}
        # Claims of each lane take the shards in turn. Each process begins with another one.
        self._turns = {lane: count(randrange(MAX_SHARDS)) for lane in (None, *Lane)}
        self._had_work: dict[Lane | None, frozenset[int]] = {}

    def of(self, number: int) -> StageScripts:
        """Return the operations on one shard."""
        if number not in self._shards:
            self._shards[number] = self._shard(number)
        return self._shards[number]

    async def set_shares(self, shares: Sequence[tuple[str, int | None]], *, shards: int) -> None:
        """Set the stride of each tenant in this many shards."""
        await self._first(shards, lambda shard: shard.set_shares(shares))

    async def enqueue(self, tasks: Iterable[Task]) -> int:
        """Offer tasks, each to its home. Return how many were new.

        A shard refuses an offer that was made with an older layout than its own. The tasks of such an offer
        are offered again with the newer layout, so the loop ends when the layout has stopped changing.
        """
        new = 0
        waiting = list(tasks)
        while waiting:
            layout = self._layout.now
            waiting, refused = await self._without_strays(layout, waiting)
            by_home: defaultdict[int, list[Task]] = defaultdict(list)
            for task in waiting:
                by_home[layout.home(task.id)].append(task)
            offers = await _all(self._offer(layout, home, tasks) for home, tasks in by_home.items())
            new += sum(added for added, _ in offers)
            waiting = [*refused, *(task for _, again in offers for task in again)]
        return new

    async def _offer(self, layout: Layout, home: int, tasks: Sequence[Task]) -> tuple[int, list[Task]]:
        """Offer tasks to their home. Return how many were new, and those of refused offers."""
        new = 0
        refused: list[Task] = []
        for part in parts_by_payload(tasks):
            added, newer = await self.of(home).enqueue(layout.encode(), part)
            new += added
            if newer:
                self._layout.hear(newer)
                refused += part
        return new, refused

    async def _without_strays(self, layout: Layout, tasks: Sequence[Task]) -> tuple[list[Task], list[Task]]:
        """Return the tasks that no earlier home of theirs has, and those for which the layout is too old."""
        if not layout.before:
            return list(tasks), []
        asked: defaultdict[int, list[str]] = defaultdict(list)
        for task in tasks:
            for home in layout.earlier_homes(task.id):
                asked[home].append(task.id)
        strays: set[str] = set()
        undecided: set[str] = set()
        for home, task_ids in asked.items():
            for part in parts(task_ids):
                known, newer = await self.of(home).known_tasks(layout.encode(), part)
                strays |= known
                if newer:
                    self._layout.hear(newer)
                    undecided.update(part)
        left = [task for task in tasks if task.id not in strays]
        return (
            [task for task in left if task.id not in undecided],
            [task for task in left if task.id in undecided],
        )

    async def claim(
        self,
        interactive_burst: int,
        worker: str,
        max_tasks: int,
        max_cost: int,
        lease_seconds: float,
        lane: Lane | None,
        passing_over: Set[str],
    ) -> list[Lease]:
        """Claim from the shard whose turn it is. From the next ones only if that leaves room and has no more.

        So under load a claim is of one shard, and each shard gets as many claims as the others. A shard that
        is away is left out, so that its tasks wait alone. A claim that has tasks ends there, as they would
        wait for it too. Raises BrokerUnavailable if no shard answers. If it is cancelled, it hands back what
        it has.
        """
        leases: list[Lease] = []
        failures: list[BrokerUnavailable] = []
        order = self._order(lane)
        waiting, others = order[:1], order[1:]
        try:
            while waiting:
                room = max_cost - sum(lease.task.cost for lease in leases)
                if len(leases) == max_tasks or room < 1:
                    break
                shard = self.of(waiting.pop(0))
                try:
                    more, ends = await shard.claim(
                        interactive_burst,
                        worker,
                        max_tasks - len(leases),
                        room,
                        lease_seconds,
                        lane,
                        len(leases),
                        passing_over,
                    )
                except BrokerUnavailable as exc:
                    failures.append(exc)
                    more, ends = [], bool(leases)
                leases += more
                if ends:
                    break
                if others:
                    waiting, away = await self._with_work(others, lane)
                    failures += away
                    others = []
        except asyncio.CancelledError:
            await self._hand_back_in_time(leases)
            raise
        if len(failures) == len(order):
            raise failures[0]
        return leases

    def _order(self, lane: Lane | None) -> list[int]:
        """Return the shards in the order of the next claim.

        The first is the one whose turn it is, or the next one that had work when `claimable` asked.
        """
        in_use = self._layout.now.in_use
        turn = next(self._turns[lane])
        order = [number % in_use for number in range(turn, turn + in_use)]
        had_work = self._had_work.pop(lane, frozenset())
        return sorted(order, key=lambda number: number not in had_work)

    async def _with_work(
        self, numbers: Sequence[int], lane: Lane | None
    ) -> tuple[list[int], list[BrokerUnavailable]]:
        """Return those of these shards that have a task to claim, and the failures of those that are away.

        They are asked together: a claim of each, one after the other, would hold up a query by as many round
        trips as there are shards.
        """
        answers = await _settled(self.of(number).claimable(lane) for number in numbers)
        found = [number for number, answer in zip(numbers, answers, strict=True) if answer is True]
        return found, [answer for answer in answers if isinstance(answer, BrokerUnavailable)]

    async def _hand_back_in_time(self, leases: Sequence[Lease]) -> None:
        """Hand leases back within 2 s. Those that could not be are delivered again when they expire."""
        if not leases:
            return
        with suppress(BrokerUnavailable, TimeoutError):
            async with asyncio.timeout(_HAND_BACK_SECONDS):
                await self.each(leases, StageScripts.hand_back)

    async def each(
        self,
        leases: Sequence[Lease],
        act: Callable[[StageScripts, Sequence[Lease]], Awaitable[Sequence[Lease | None]]],
    ) -> list[Lease]:
        """Do something with leases of this stage, on their shards. Return what it returns, in their order."""
        places: defaultdict[int, list[int]] = defaultdict(list)
        for place, lease in enumerate(leases):
            places[lease.shard].append(place)

        async def on(shard: int, part: Sequence[int]) -> list[tuple[int, Lease | None]]:
            answer = await act(self.of(shard), [leases[place] for place in part])
            return list(zip(part, answer, strict=True))

        answers = await _all(on(shard, part) for shard, own in places.items() for part in parts(own))
        by_place = dict(pair for answer in answers for pair in answer)
        return [found for place in range(len(leases)) if (found := by_place[place]) is not None]

    async def retry_later(self, lease: Lease, delay_seconds: float, counted: bool, reason: str) -> Holder:
        """Give the task back to its shard, due after the delay. Return who held it."""
        shard = self.of(lease.shard)
        return await shard.retry_later(lease.task.id, lease.fence, delay_seconds, counted, reason)

    async def dead_letter(self, lease: Lease, reason: str) -> Holder:
        """Give the task up, in its shard. Return who held it."""
        return await self.of(lease.shard).dead_letter(lease.task.id, lease.fence, reason)

    async def dead(self, limit: int) -> list[DeadTask]:
        """Return up to `limit` dead tasks, oldest first."""
        found = await self._all(lambda shard: _dead(shard, limit))
        if len(found) == 1:
            return found[0]
        return sorted((one for some in found for one in some), key=lambda one: one.died_at)[:limit]

    async def requeue_dead(self, task_ids: Iterable[str]) -> int:
        """Make dead tasks ready again, wherever they are. Return how many were dead."""
        return await self._where_they_may_be(task_ids, StageScripts.requeue_dead)

    async def drop_dead(self, task_ids: Iterable[str]) -> int:
        """Forget dead tasks, wherever they are. Return how many were dead."""
        return await self._where_they_may_be(task_ids, StageScripts.drop_dead)

    async def _where_they_may_be(
        self, task_ids: Iterable[str], act: Callable[[StageScripts, Sequence[str]], Awaitable[int]]
    ) -> int:
        """Call `act` with each task in its home and its earlier homes; it leaves alone what is not there."""
        layout = self._layout.now
        asked: defaultdict[int, list[str]] = defaultdict(list)
        for task_id in task_ids:
            for home in {layout.home(task_id), *layout.earlier_homes(task_id)}:
                asked[home].append(task_id)
        return sum(
            await _all(act(self.of(home), part) for home, some in asked.items() for part in parts(some))
        )

    async def reap_expired(self, limit: int) -> int:
        """End up to `limit` expired leases in each shard, also if another one is away."""
        return await self._in_each(limit, StageScripts.reap_expired)

    async def promote_due(self, limit: int) -> int:
        """Make up to `limit` due tasks ready in each shard, also if another one is away."""
        return await self._in_each(limit, StageScripts.promote_due)

    async def _in_each(self, limit: int, act: Callable[[StageScripts, int], Awaitable[int]]) -> int:
        return sum(await self._all(lambda shard: until_fewer(partial(act, shard), limit)))

    async def cancel_job(self, job: str) -> int:
        """Drop the ready and delayed tasks of the job in all shards. Return how many."""
        return sum(await self._all(lambda shard: _cancel(shard, job)))

    async def known_jobs(self, jobs: Sequence[str]) -> set[str]:
        """Return the jobs that have a task in a shard.

        The shards are looked at twice, as a task may be replaced during the look: a task that is divided
        puts its parts into other shards before it is gone. If these were looked at before, the first look
        finds neither, and the second one the parts.
        """
        known = await self._known_jobs(jobs)
        missing = [job for job in jobs if job not in known]
        if missing and self._layout.now.in_use > 1:
            known |= await self._known_jobs(missing)
        return known

    async def _known_jobs(self, jobs: Sequence[str]) -> set[str]:
        found = await self._all(lambda shard: shard.known_jobs(jobs))
        return set().union(*found)

    async def tasks_of(self, job: str, limit: int) -> list[QueuedTask]:
        """Return up to `limit` unfinished tasks of the job, by their ids."""
        found = await self._all(lambda shard: shard.tasks_of(job, limit))
        return sorted((one for some in found for one in some), key=lambda one: one.id)[:limit]

    async def depth(self) -> Depth:
        """Return the sum of the counts. Each shard's are of one instant, so the sum conserves tasks too."""
        depths = await self._all(lambda shard: shard.depth())
        return Depth(*(sum(getattr(one, name) for one in depths) for name in Depth.__slots__))

    async def check_writes(self) -> None:
        await self._all(lambda shard: shard.check_writes())

    async def crowded(self, tenants: Sequence[str]) -> tuple[int, list[ReadyWork]]:
        """Return the weight of all tenants with ready tasks, and the work of each of these tenants.

        Every shard has the whole room. So a tenant's weight is given once for each shard in which it has
        ready tasks: it is crowded if it fills, on average, its share of each of them. If the room were
        divided, a tenant of low weight would have less than a task in a shard, and miss its turns there.

        The weight of all tenants is that of the shard with the most. It is too low if the tenants have so few
        tasks that they are not in every shard. Then they count as crowded later.
        """
        found = await self._all(lambda shard: shard.crowded(tenants))
        total = max(weight for weight, _ in found)
        work = [
            ReadyWork(
                tasks=sum(one.tasks for one in own),
                cost=sum(one.cost for one in own),
                weight=max(one.weight for one in own) * max(1, sum(one.tasks > 0 for one in own)),
            )
            for own in zip(*(work for _, work in found), strict=True)
        ]
        return total, work

    async def claimable(self, lane: Lane | None) -> bool:
        """Whether a shard that answers has a task to claim. The next claim of the lane begins there.

        Raises BrokerUnavailable if none answers.
        """
        numbers = range(self._layout.now.in_use)
        found, away = await self._with_work(numbers, lane)
        if len(away) == len(numbers):
            raise away[0]
        self._had_work[lane] = frozenset(found)
        return bool(found)

    async def epochs(self, *, shards: int) -> list[str]:
        """Return the epoch of each of the first `shards` shards."""
        return await self._first(shards, lambda shard: shard.epoch(uuid4().hex))

    async def hear(self, layout: str) -> int:
        """Make all shards take this layout over. Return how many strays they have."""
        heard = await self._all(lambda shard: shard.layout(layout))
        for newer, _ in heard:
            self._layout.hear(newer)
        return sum(strays for _, strays in heard)

    async def _all(self, act: Callable[[StageScripts], Awaitable[T]]) -> list[T]:
        return await self._first(self._layout.now.in_use, act)

    async def _first(self, shards: int, act: Callable[[StageScripts], Awaitable[T]]) -> list[T]:
        return await _all(act(self.of(number)) for number in range(shards))


async def _all(calls: Iterable[Awaitable[T]]) -> list[T]:
    """Await all calls at once. All have ended when this returns, or raises the first failure."""
    waiting = list(calls)
    if len(waiting) == 1:
        return [await waiting[0]]
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    done: list[T] = []
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
        done.append(answer)
    return done


async def _settled(calls: Iterable[Awaitable[T]]) -> list[T | BrokerUnavailable]:
    """Await all calls at once. Return what each answers, or raises if its shard is away."""
    answers = await asyncio.gather(*calls, return_exceptions=True)
    settled: list[T | BrokerUnavailable] = []
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, BrokerUnavailable):
            raise answer
        settled.append(answer)
    return settled


async def _dead(shard: StageScripts, limit: int) -> list[DeadTask]:
    found: list[DeadTask] = []
    after = 0
    while len(found) < limit:
        part, after = await shard.dead(after, min(limit - len(found), _DEAD_AT_ONCE))
        if not part:
            break
        found += part
    return found


async def _cancel(shard: StageScripts, job: str) -> int:
    dropped, after, until = await shard.cancel_job(job, "", None, MOST_ITEMS)
    while after:
        more, after, until = await shard.cancel_job(job, after, until, MOST_ITEMS)
        dropped += more
    return dropped
