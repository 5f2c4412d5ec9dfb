"""Counts how much of the new space is there, from the vectors that are read back from the vector store.

What SQL has recorded is not trusted here: a space that is asked before it is complete gives wrong answers,
and nothing else would show that.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection

from embedfleet.errors import one_line
from embedfleet.records import model_switches, twins
from embedfleet.records.model_switches import ModelSwitch, SwitchCounts
from embedfleet.repair.true_vectors import TrueVectors
from embedfleet.repair.verification import Verification
from embedfleet.sql.database import Database
from embedfleet.vectors.port import VectorStore


@dataclass(frozen=True, slots=True)
class Coverage:
    """What was read back of the new space.

    `documents`: live on the old side. `lacking`: those that the new one has not, as they are. `chunks`: of
    the documents that it has. `read`: those whose vector was read back, with the right checksum. `missing`
    and `wrong`: vectors that SQL records and the store has not, or has otherwise. `given_up`: chunks without
    a vector, as the model or the store has refused them. `because`: the reason that most dead letters of the
    switch have.
    """

    documents: int
    lacking: int
    chunks: int
    read: int
    missing: int
    wrong: int
    given_up: int
    because: str | None = None

    @property
    def share(self) -> float:
        """The share of the documents' chunks that the new space has; of lacking documents none is counted."""
        if not self.documents:
            return 1.0
        there = (self.documents - self.lacking) / self.documents
        return there * (self.read / self.chunks if self.chunks else 1.0)

    @property
    def fault(self) -> str | None:
        """What is in the way of the switch, in words; None: nothing is."""
        if self.missing or self.wrong:
            return (
                f"the vector store lacks {self.missing:,} vectors of the new space and has {self.wrong:,} "
                "others than were written: examine and repair it, then check the switch again"
            )
        if self.lacking:
            return (
                f"{self.lacking:,} of {self.documents:,} documents could not be embedded with the new model"
                f"{self._why}: look at the dead letters, try them again, or force the switch without them"
            )
        if self.given_up:
            return (
                f"{self.given_up:,} of {self.chunks:,} chunks were given up by the new model: look at the "
                "dead letters, try them again, or force the switch without them"
            )
        return None

    @property
    def _why(self) -> str:
        return "" if self.because is None else f" (most of them: {one_line(self.because)})"

    def json_document(self) -> dict[str, Any]:
        """Return the stable form that is kept with the switch."""
        found = asdict(self)
        del found["because"]  # the reasons of the gate say it
        return {**found, "share": self.share}


async def read_coverage(
    database: Database, store: VectorStore, truth: TrueVectors, switch: ModelSwitch
) -> Coverage:
    """Read all vectors of the new space back, and count. Keeps the ids of its chunks in memory."""
    new = switch.to_collection
    found = await Verification(database, store, truth).check(new)
    bad = len(found.missing) + len(found.wrong) + len(found.undecided)

    def count(conn: Connection) -> tuple[SwitchCounts, int, int, str | None]:
        """In one snapshot: documents come and go."""
        live, recorded = twins.live_chunks(conn, new), twins.recorded_chunks(conn, new)
        because = model_switches.why_jobs_failed(conn, switch)
        return model_switches.counts(conn, switch), live, recorded, because

    counted, chunks, recorded, because = await database.read(count)
    return Coverage(
        documents=counted.documents,
        lacking=counted.documents - counted.there,
        chunks=chunks,
        read=recorded - bad,
        missing=len(found.missing),
        wrong=len(found.wrong) + len(found.undecided),
        given_up=chunks - recorded,
        because=because,
    )
