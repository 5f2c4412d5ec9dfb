"""Has the documents of before embedded with the other model, a few at a time.

SQL says which documents a space lacks (`records.switch_gaps`). So after a crash, or a pause of days, the next
step finds what is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from time import monotonic

from sqlalchemy import Connection

from embedfleet.chunking.chunker import PARTITION_VERSION
from embedfleet.clock import Clock
from embedfleet.lifecycle.admission import new_job_id
from embedfleet.paging import pages
from embedfleet.queue_schemas import UserTier
from embedfleet.records import jobs, model_switches, switch_gaps, tenants, twins
from embedfleet.records.jobs import NewJob
from embedfleet.records.model_switches import BACKFILL_FLOW, ModelSwitch
from embedfleet.records.switch_gaps import Way
from embedfleet.sql import document_lock
from embedfleet.sql.database import Database
from embedfleet.sql.states import SwitchPhase

PRIORITY = 10
"""Of these jobs. In their line they are alone, so it only tells them from submitted ones."""

# Texts are copied within SQL, and other units wait for a unit.
_DOCUMENTS_PER_UNIT = 32

# The rest after a look that found nothing to do: the least, and how many seconds for each second of the look.
# Each further one is twice as long, up to a minute: many tenants that were switched must not cost a look each
# all the time.
_REST_SECONDS = 2.0
_MOST_REST_SECONDS = 60.0
_REST_PER_SECOND = 20.0


@dataclass(frozen=True, slots=True)
class _Rest:
    """How long a switch is not looked at, and until when, as long as it stands as it did."""

    standing: tuple[SwitchPhase, int]
    seconds: float
    until: float


class Backfill:
    """Begins the jobs that copy documents into the space that lacks them.

    It remembers how far it has looked, so that a look does not read again what is copied already. That is a
    hint only: what it says to be complete was looked through from the first document to the last.
    """

    def __init__(self, database: Database, clock: Clock, *, most_jobs: int, default_tier: UserTier) -> None:
        """`most_jobs`: how many are under way at a time, for a switch that does not say."""
        self._database = database
        self._clock = clock
        self._most_jobs = most_jobs
        self._default_tier = default_tier
        self._looked_to: dict[Way, str] = {}
        self._rests: dict[int, _Rest] = {}

    def forget_but(self, running: Sequence[ModelSwitch]) -> None:
        """Forget how far the switches were looked at that are not under way any more."""
        ids = {one.switch_id for one in running}
        self._looked_to = {way: place for way, place in self._looked_to.items() if way.switch_id in ids}
        self._rests = {switch_id: rest for switch_id, rest in self._rests.items() if switch_id in ids}

    def jobs_of_share(self, switch: ModelSwitch, share: float) -> int:
        """Return how many jobs a share, above 0, of those that may be under way is: at least one."""
        return max(1, round(share * (switch.most_jobs or self._most_jobs)))

    async def fill(self, switch: ModelSwitch, share: float) -> bool:
        """Begin jobs, until as many are under way as may be. At most this share of them is begun.

        With a share of 0, begin none and return False. Any other allows one at least.

        Returns whether nothing is left to do: no such job is under way, and none can begin. Submitted
        documents, and documents whose job has failed, are not counted.
        """
        if switch.paused or not share:
            return False
        under_way = await self._database.read(partial(model_switches.unfinished_jobs, switch=switch))
        most_jobs = switch.most_jobs or self._most_jobs
        room = min(most_jobs - under_way, self.jobs_of_share(switch, share))
        nothing_left = not under_way
        for way in switch.ways:
            if room <= 0:
                return False
            begun = await self._begin_some(switch, way, room)
            room -= begun
            nothing_left = nothing_left and not begun
        return nothing_left

    async def fill_at_times(self, switch: ModelSwitch, share: float) -> None:
        """Fill as `fill` does, but look seldom if the last looks found nothing: each reads all documents.

        A switch that has entered another phase, or noted a divergence of its spaces, is looked at at once.
        From the route, most of what is noted are documents of the new space alone, which need no copy.
        """
        if not share:  # nothing may begin, so this would be no look
            return
        standing = switch.phase, 0 if switch.leaves_route else switch.divergences
        rest = self._rests.get(switch.switch_id)
        if rest is not None and rest.standing != standing:
            rest = None
        begun = monotonic()
        if rest is not None and begun < rest.until:
            return
        if await self.fill(switch, share):
            now = monotonic()
            longer = 0.0 if rest is None else min(2 * rest.seconds, _MOST_REST_SECONDS)
            seconds = max(_REST_SECONDS, longer, _REST_PER_SECOND * (now - begun))
            self._rests[switch.switch_id] = _Rest(standing, seconds, now + seconds)
        else:
            self._rests.pop(switch.switch_id, None)

    async def _begin_some(self, switch: ModelSwitch, way: Way, room: int) -> int:
        """Begin up to `room` jobs. Returns how many documents were found; 0: there is none to begin."""
        after = self._looked_to.get(way, "")
        found = await self._to_copy(way, room, after)
        if not found and after:
            found = await self._to_copy(way, room, "")
        self._looked_to[way] = found[-1] if found else ""
        for page in pages(found, _DOCUMENTS_PER_UNIT):
            await self._database.write(partial(self._begin, switch=switch, way=way, document_ids=page))
        return len(found)

    async def _to_copy(self, way: Way, limit: int, after: str) -> Sequence[str]:
        return await self._database.read(partial(switch_gaps.to_copy, way=way, limit=limit, after=after))

    def _begin(self, conn: Connection, switch: ModelSwitch, way: Way, document_ids: Sequence[str]) -> None:
        document_lock.lock(conn, document_ids)
        present = model_switches.get(conn, switch.switch_id)
        if present is None or way not in present.ways:
            return
        # Read again under the locks: another leader, or a submission, may have begun some of them.
        gaps = switch_gaps.to_copy_among(conn, way, document_ids)
        made = twins.add(conn, gaps, source=way.source, target=way.target, chunker_version=PARTITION_VERSION)
        row = tenants.get_many(conn, [switch.tenant]).get(switch.tenant)
        tier = (None if row is None else row.tier) or self._default_tier
        now = self._clock.now()
        jobs.create(
            conn,
            [
                NewJob(
                    job_id=new_job_id(now),
                    tenant=switch.tenant,
                    document_id=one.document_id,
                    generation_id=one.generation_id,
                    user_tier=tier,
                    priority=PRIORITY,
                    created_at=now,
                    switch_id=switch.switch_id,
                    flow=BACKFILL_FLOW,
                )
                for one in made
            ],
        )
