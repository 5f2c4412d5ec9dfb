"""What an operation of the client consists of: steps that it asks a transport to take.

An operation is a generator. It yields steps, and gets back what each of them gave. It does no I/O, so that
one operation serves a blocking client and an asynchronous one.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

T = TypeVar("T")

# Sending one of these again changes nothing more than sending it once (RFC 9110, 9.2.2).
_REPEATABLE_METHODS = frozenset({"GET", "PUT", "DELETE"})
_KEY_HEADER = "Idempotency-Key"


@dataclass(frozen=True, slots=True)
class FileBody:
    """The body of a request, read from a file while it is sent: no file is in memory as a whole."""

    path: Path

    @property
    def size(self) -> int:
        """The size in bytes. Raises OSError."""
        return os.stat(self.path).st_size


@dataclass(frozen=True, slots=True)
class Ask:
    """One request. `path` is below the server's address. A parameter that is None is left out.

    `waits_itself` says that the server waits as long as the caller wants: a refusal is not waited for.
    `repeats` says that sending it twice does what sending it once does, though its method does not say so.
    `patience_seconds`: how long the server may take to answer, beyond the timeout of the client.
    """

    method: str
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    json: Any = None
    body: bytes | FileBody | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeats: bool = False
    waits_itself: bool = False
    patience_seconds: float = 0.0

    @property
    def repeatable(self) -> bool:
        """Whether it may be sent again although the first one may have arrived."""
        return self.repeats or self.method in _REPEATABLE_METHODS or _KEY_HEADER in self.headers

    def once(self) -> Ask:
        """Return the request with a key by which the server recognises its repetitions: it acts once."""
        return replace(self, headers={**self.headers, _KEY_HEADER: uuid.uuid4().hex})


@dataclass(frozen=True, slots=True)
class Open:
    """A request whose answer is read line by line. An answer that is an error is read at once."""

    ask: Ask


@dataclass(frozen=True, slots=True)
class NextLine:
    """Gives the next line of the opened answer, without its end. Gives None at the end of the answer, and an
    `httpx.RequestError` where it was cut off."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Gives nothing, after this time."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Give(Generic[T]):
    """Gives these items to the caller of an operation that has many results."""

    items: Sequence[T]


Step: TypeAlias = Ask | Open | NextLine | Pause

Steps: TypeAlias = Generator[Step, Any, T]
"""An operation with one result. `Ask` and `Open` give an `httpx.Response`, or the `httpx.RequestError` that
came instead of it."""

Flow: TypeAlias = Generator[Step | Give[T], Any, None]
"""An operation with many results."""
