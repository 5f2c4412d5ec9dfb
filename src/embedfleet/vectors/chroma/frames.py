"""Messages between the embedded vector store and its child process: length-prefixed msgpack, never pickle.

The parent sends one Call, the child answers with a Value or a Failure; then the parent may send the next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import IO, TYPE_CHECKING, Any

import msgpack

from embedfleet.framing import framed, read_frame
from embedfleet.vectors.port import Hit, VectorRows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

OPEN = "open"
"""The operation that only opens the directory. All other operations but those in turn are methods of
`ChromaCollections`."""

REST = "rest"
"""The operation of the child of a view that closes the directory which is open."""

QUERY_IN_TURN = "query_in_turn"
"""The operation of a process that only queries, beside others that do. It is `ChromaCollections.query` with
the vector as a list, so that no array has to be decoded. It waits for the others."""

VECTORS_IN_TURN = "vectors_in_turn"
"""`ChromaCollections.vectors` for such a process."""

_ARRAY, _ROWS, _HIT = range(3)
"""msgpack's extension types: a float32 array, `VectorRows`, a `Hit`."""

_LARGEST_BYTES = 2**32 - 1
"""The most that msgpack can hold in one piece. No message comes near it."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request: a method of `ChromaCollections` by its name, or OPEN, and its arguments."""

    operation: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Value:
    """The answer to a call that succeeded, with its result."""

    value: Any


@dataclass(frozen=True, slots=True)
class Failure:
    """The answer to a call that failed.

    `error` names a class of `embedfleet.errors`, `detail` is its message, and `remedy` the value of its
    `Remedy`, if it has one. For a defect `error` is None and `detail` is a traceback.
    """

    error: str | None
    detail: str
    remedy: str | None = None


Message = Call | Value | Failure
_KINDS = {kind.__name__: kind for kind in (Call, Value, Failure)}


def write(stream: IO[bytes], message: Message) -> None:
    """Send the message.

    Raises ValueError, TypeError or OverflowError, and sends nothing, for a value that msgpack cannot hold,
    such as an integer beyond 64 bits.
    """
    fields = tuple(getattr(message, name) for name in message.__dataclass_fields__)
    stream.write(framed(_pack([type(message).__name__, *fields])))
    stream.flush()


def read(stream: IO[bytes]) -> Message | None:
    """Read the next message of a pipe. Return None at the end of the pipe, even inside a message."""
    body = read_frame(stream)
    if body is None:
        return None
    name, *fields = _unpack(body)
    message: Message = _KINDS[name](*fields)
    return message


def _pack(value: Any) -> bytes:
    # Lone surrogates are let through, because the store decides whether it can hold a text.
    packed: bytes = msgpack.packb(value, default=_extended, unicode_errors="surrogatepass")
    return packed


def _unpack(packed: bytes) -> Any:
    return msgpack.unpackb(
        packed,
        ext_hook=_plain,
        unicode_errors="surrogatepass",
        strict_map_key=False,
        max_ext_len=_LARGEST_BYTES,
        max_bin_len=_LARGEST_BYTES,
    )


def _extended(value: Any) -> Any:
    if isinstance(value, Hit):
        return msgpack.ExtType(_HIT, _pack(astuple(value)))
    import numpy as np  # not above: a child that only answers queries needs none of it

    if isinstance(value, np.ndarray):
        return msgpack.ExtType(_ARRAY, _pack([list(value.shape), value.astype("<f4", copy=False).tobytes()]))
    if isinstance(value, VectorRows):
        return msgpack.ExtType(_ROWS, _pack([value.ids, value.vectors, value.metadatas, value.documents]))
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence):
        return list(value)
    raise TypeError(f"{type(value).__name__} is nothing that a vector store is told")


def _plain(kind: int, packed: bytes) -> Any:
    fields = _unpack(packed)
    if kind == _ARRAY:
        return _array(*fields)
    return VectorRows(*fields) if kind == _ROWS else Hit(*fields)


def _array(shape: Sequence[int], raw: bytes) -> NDArray[np.float32]:
    import numpy as np

    return np.frombuffer(raw, dtype="<f4").reshape(shape).copy()
