"""Has the documents of before embedded with the other model, a few at a time.

SQL says which documents a space lacks. So nothing is remembered between two steps: after a crash, or a pause
of days, the next step finds what is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from sqlalchemy import Connection

from embedfleet.chunking.chunker import PARTITION_VERSION
from embedfleet.lifecycle.admission import new_job_id
from embedfleet.queue_schemas import UserTier
from embedfleet.records import jobs, model_switches, tenants, twins
from embedfleet.records.jobs import NewJob
from embedfleet.records.model_switches import BACKFILL_FLOW, ModelSwitch
from embedfleet.sql import document_lock
from embedfleet.sql.database import Database

PRIORITY = 10
"""Of these jobs. In their line they are alone, so it only tells them from submitted ones."""

# Texts are copied within SQL, and other units wait for a unit.
_DOCUMENTS_PER_UNIT = 32


async def fill(
    database: Database, switch: ModelSwitch, *, most: int, default_tier: UserTier, now: float
) -> bool:
    """Begin jobs for documents that the other space lacks, so that at most `most` are under way.

    Returns whether nothing is left to do: no document is lacking, but for those whose job has failed, and no
    job for a document of before is under way. Twins of submissions are not waited for: more always come.
    """
    under_way = await database.read(partial(model_switches.unfinished_jobs, switch=switch))
    room = max(0, most - under_way)
    found = await database.read(
        partial(model_switches.lacking, switch=switch, limit=max(1, room), begun=True)
    )
    if not found:
        return not under_way
    for first in range(0, room, _DOCUMENTS_PER_UNIT):
        page = found[first : min(first + _DOCUMENTS_PER_UNIT, room)]
        if page:
            await database.write(
                partial(_begin, switch=switch, document_ids=page, default_tier=default_tier, now=now)
            )
    return False


def _begin(
    conn: Connection, switch: ModelSwitch, document_ids: Sequence[str], default_tier: UserTier, now: float
) -> None:
    document_lock.lock(conn, document_ids)
    present = model_switches.get(conn, switch.switch_id)
    if present is None or not present.writes_both or present.main != switch.main:
        return
    # Read again under the locks: another leader, or a submission, may have begun some of them.
    lacking = model_switches.lacking_among(conn, present, document_ids)
    made = twins.add(
        conn, lacking, source=present.main, target=present.other, chunker_version=PARTITION_VERSION
    )
    row = tenants.get_many(conn, [switch.tenant]).get(switch.tenant)
    tier = (None if row is None else row.tier) or default_tier
    jobs.create(
        conn,
        [
            NewJob(
                new_job_id(now),
                switch.tenant,
                one.document_id,
                one.generation_id,
                tier,
                PRIORITY,
                now,
                switch.switch_id,
                BACKFILL_FLOW,
            )
            for one in made
        ],
    )
