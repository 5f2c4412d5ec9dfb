"""Vectors and metadata in the forms in which they go to PostgreSQL and come from it.

A vector has the same bits on both ways: it goes as the four bytes of each float32, never as text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg.adapt import Dumper
from psycopg.pq import Format

from embedfleet.errors import Permanent
from embedfleet.vectors.port import Metadata

# Before its numbers, a vector has its dimension in two bytes, and two bytes that are not used.
_HEADER_BYTES = 4
_NUL = "\0"
_IN_PLACE_OF_NUL = "\ufffd"


@dataclass(frozen=True, slots=True)
class VectorArray:
    """Vectors as a parameter: the bytes of a PostgreSQL array of the type `vector`."""

    data: bytes

    @classmethod
    def of(cls, vectors: NDArray[np.float32], type_oid: int) -> VectorArray:
        """Encode `vectors`, float32 (n, dim). `type_oid` is that of the type `vector` in the database."""
        n, dim = vectors.shape
        # Dimensions, no NULLs, the type, the length and the number of the first: then size and bytes of each.
        header = np.array([1, 0, type_oid, n, 1], dtype=">i4").tobytes()
        element = np.dtype([("size", ">i4"), ("dim", ">i2"), ("unused", ">i2"), ("values", ">f4", (dim,))])
        elements = np.empty(n, dtype=element)
        elements["size"] = _HEADER_BYTES + 4 * dim
        elements["dim"] = dim
        elements["unused"] = 0
        elements["values"] = vectors
        return cls(header + elements.tobytes())


class _VectorArrayDumper(Dumper):
    # No type of its own: the statement has a cast beside each parameter, and the server takes its type.
    format = Format.BINARY

    def dump(self, obj: VectorArray) -> bytes:
        return obj.data

    def quote(self, obj: VectorArray) -> bytes:
        raise NotImplementedError("a vector is never part of the text of a statement")


def adapt(connection: psycopg.Connection[Any]) -> None:
    """Let the connection take `VectorArray`s as parameters."""
    connection.adapters.register_dumper(VectorArray, _VectorArrayDumper)


def one_vector(vector: NDArray[np.float32], type_oid: int) -> VectorArray:
    """Return an array of this one vector (dim,), for statements that compare with it."""
    return VectorArray.of(np.asarray(vector, dtype=np.float32)[None], type_oid)


def read_vectors(sent: Sequence[bytes], dim: int) -> NDArray[np.float32]:
    """Return float32 (n, dim) of what `vector_send` has given for each row."""
    raw = np.frombuffer(b"".join(sent), dtype=np.uint8).reshape(len(sent), _HEADER_BYTES + 4 * dim)
    values = np.ascontiguousarray(raw[:, _HEADER_BYTES:]).view(">f4")
    return values.astype(np.float32)


def stored_text(text: str) -> str:
    """Return the text as PostgreSQL can hold it, each NUL replaced. Raises Permanent for lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise Permanent(f"the vector store refuses this: {exc}") from exc
    return text.replace(_NUL, _IN_PLACE_OF_NUL)


def stored_metadata(metadata: Metadata) -> str:
    """Return the metadata as JSON. Raises Permanent for numbers and texts that JSON does not have."""
    held = {stored_text(key): _stored_value(value) for key, value in metadata.items()}
    try:
        return json.dumps(held, ensure_ascii=False, allow_nan=False)
    except ValueError as exc:
        raise Permanent(f"the vector store refuses this metadata: {exc}") from exc


def _stored_value(value: str | int | float | bool | list[str]) -> str | int | float | bool | list[str]:
    if isinstance(value, str):
        return stored_text(value)
    return [stored_text(one) for one in value] if isinstance(value, list) else value


def exact_id(row_id: str) -> str:
    """Return the id. Raises Permanent if PostgreSQL cannot hold it: another id must not take its place."""
    if _NUL in row_id:
        raise Permanent(f"the vector store cannot hold the id {row_id!r}: it has a NUL")
    return stored_text(row_id)
