"""Rows that are committed in a transaction of the records, in the same database.

Their statements run on the connection of that transaction, through SQLAlchemy: so the engine of SQL maps
their errors, and runs the transaction again after a deadlock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from embedfleet.errors import SpaceMismatch
from embedfleet.vectors.pgvector import rows as stored
from embedfleet.vectors.pgvector.rows import EncodedRows, encoded
from embedfleet.vectors.pgvector.schema import Extension, Run
from embedfleet.vectors.pgvector.wire import adapt
from embedfleet.vectors.port import CollectionKey, CommitsWithRecords, RowsToCommit, VectorRows

LookForGrowth = Callable[[Run, CollectionKey, int], None]


@dataclass(frozen=True, slots=True)
class PgvectorWithRecords(CommitsWithRecords):
    """Prepares rows for transactions of the records."""

    extension: Extension
    look_for_growth: LookForGrowth

    async def prepare(self, collection: CollectionKey, rows: VectorRows) -> RowsToCommit:
        dim = rows.vectors.shape[1]
        if dim != collection.dim:
            raise SpaceMismatch(f"the collection holds vectors of {collection.dim} dimensions, not {dim}")
        held, refused = await asyncio.to_thread(encoded, rows)
        return _Prepared(self, collection, held, refused)


@dataclass(frozen=True, slots=True)
class _Prepared(RowsToCommit):
    store: PgvectorWithRecords
    collection: CollectionKey
    rows: EncodedRows
    refused: Mapping[str, str]

    def write(self, transaction: Connection, wanted: Set[str]) -> tuple[list[str], NDArray[np.float32]]:
        driver = transaction.connection.driver_connection
        assert driver is not None
        adapt(driver)
        run = partial(run_within, transaction)
        rows = self.rows.chosen(wanted)
        answer = stored.write(run, self.store.extension, self.collection, rows)
        self.store.look_for_growth(run, self.collection, len(rows.ids))
        return answer


def run_within(transaction: Connection, statement: str, parameters: Sequence[Any]) -> list[Any]:
    """Run a statement in the transaction: a `schema.Run`."""
    result = transaction.exec_driver_sql(statement, tuple(parameters))
    return list(result.all()) if result.returns_rows else []
