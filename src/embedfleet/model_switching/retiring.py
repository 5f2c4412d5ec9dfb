"""Empties the space that answers no query any more, and counts what is left of it.

Each document keeps its generation in the other space, and the deletion workers remove the vectors of the
retired one as they do of any replaced version. Every step may be repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from sqlalchemy import Connection

from embedfleet.lifecycle import ending
from embedfleet.records import embedding_cache, model_switches, twins
from embedfleet.records.model_switches import ModelSwitch
from embedfleet.sql import document_lock
from embedfleet.sql.database import Database
from embedfleet.sql.states import SwitchPhase
from embedfleet.vectors.port import VectorStore

# Other units wait for a unit, so it takes some hundredths of a second at most.
_DOCUMENTS_PER_UNIT = 200
_CACHED_VECTORS_PER_UNIT = 5_000


async def retire_some(database: Database, switch: ModelSwitch, now: float) -> bool:
    """Settle documents until none is left that can be settled now. Returns whether all are.

    Documents that are only in the space to be emptied stay there.
    """
    kept, dropped = switch.main, switch.other
    while True:
        found = await database.read(
            partial(
                twins.to_settle, tenant=switch.tenant, kept=kept, dropped=dropped, limit=_DOCUMENTS_PER_UNIT
            )
        )
        if not found:
            break
        await database.write(partial(_settle, switch=switch, document_ids=found, now=now))
    left = await database.read(partial(twins.count_in_use, collection=dropped))
    stranded = await database.read(
        partial(twins.count_stranded, tenant=switch.tenant, kept=kept, dropped=dropped)
    )
    return left == stranded


def _settle(conn: Connection, switch: ModelSwitch, document_ids: Sequence[str], now: float) -> None:
    document_lock.lock(conn, document_ids)
    present = model_switches.get(conn, switch.switch_id)
    if present is None or present.phase is not SwitchPhase.RETIRING:
        return
    ending.supersede(conn, twins.unfinished_jobs_of(conn, document_ids, switch.switch_id), now)
    twins.settle(conn, document_ids, kept=switch.main, dropped=switch.other)
    ending.leave_rest_to_cleanup(conn, document_ids)


async def finish(database: Database, store: VectorStore, switch: ModelSwitch) -> dict[str, Any] | None:
    """Empty the collection if no document needs it. Return the receipt; None: vectors are still deleted."""
    dropped = switch.other
    stranded = await database.read(partial(twins.count_in_use, collection=dropped))
    recorded = await database.read(partial(twins.recorded_vectors, collection=dropped))
    if stranded:
        return {"documents_left": stranded, "vectors_left": recorded}
    if recorded:
        return None
    cached = 0
    drop = partial(
        embedding_cache.drop_oldest, collection_id=dropped.collection_id, rows=_CACHED_VECTORS_PER_UNIT
    )
    while gone := await database.write(drop):
        cached += gone
    await store.drop_collection(dropped)
    return {
        "model": dropped.model,
        "space": dropped.space,
        "documents_left": 0,
        "vectors_left": await store.count(dropped),
        "cached_vectors_deleted": cached,
    }
