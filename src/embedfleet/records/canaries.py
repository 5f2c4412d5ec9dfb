"""The first vectors of the canary's known texts, for each space (see `workers.canary`)."""

from __future__ import annotations

import base64

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, select

from embedfleet.sql.tables import facts
from embedfleet.sql.upsert import upsert


def record_first(conn: Connection, space: str, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Record these vectors unless the space has recorded ones. Return the recorded ones: float32 (n, dim)."""
    name = f"canary_{space}"
    packed = base64.b85encode(vectors.astype("<f4", copy=False).tobytes()).decode()
    record = upsert(conn.dialect.name, facts).values(name=name, value=packed)
    conn.execute(record.on_conflict_do_nothing(index_elements=["name"]))
    value = conn.execute(select(facts.c.value).where(facts.c.name == name)).scalar_one()
    return np.frombuffer(base64.b85decode(value), dtype="<f4").reshape(len(vectors), -1)
