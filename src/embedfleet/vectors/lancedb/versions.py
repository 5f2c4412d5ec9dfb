"""The versions of a table of Lance, and how they are read and written. The methods block.

A version of a table never changes: a write makes a new one. A reader takes the latest version and keeps it
until it has its answer. If the files of that version were removed in between, it reads again.

Writes of several processes are independent until they commit. Then Lance compares them: what added rows goes
on top of what others did, and what changed the same rows is done again on the latest version.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping, Set
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, TypeVar

from embedfleet.errors import SpaceMismatch
from embedfleet.vectors.lancedb.errors import is_conflict, is_missing
from embedfleet.vectors.lancedb.layout import table_schema
from embedfleet.vectors.lancedb.upkeep import UpkeepLimits

if TYPE_CHECKING:
    from lance import LanceDataset, Session

T = TypeVar("T")

_CONFLICT_PAUSES_SECONDS = (0.05, 0.2, 1.0, 3.0)
VECTOR_INDEX = "vectors"
_SPACE, _DIM = b"embedfleet.space", b"embedfleet.dim"


class TableVersions:
    """The table of a space, version by version. Any thread may read; one of this process writes at a time."""

    def __init__(
        self,
        uri: str,
        space: str,
        *,
        limits: UpkeepLimits,
        session: Session,
        require_place: Callable[[], None],
    ) -> None:
        """`uri` is where the table is: a path or a URL. `session` has the caches of all tables.

        `require_place` is called when the table is missing: it raises if the whole place is away.
        """
        self._uri = uri
        self._space = space
        self._session = session
        self._require_place = require_place
        self.limits = limits
        self._lock = threading.Lock()
        self._opened: LanceDataset | None = None
        self._known_partitions: tuple[tuple[str, ...], int] | None = None

    def latest(self) -> LanceDataset | None:
        """Return the latest version; None if the table does not exist, in a place that is there."""
        found = self._latest()
        if found is None:
            self._require_place()
            found = self._latest()  # once more, as the place may have come back in between
        return found

    def _latest(self) -> LanceDataset | None:
        """Return the latest version that can be found."""
        before = held = self._opened
        try:
            if held is None or held.latest_version != held.version:
                held = self._open()  # outside the lock: it reads from the place
        except Exception as exc:
            held = None
            if not is_missing(exc):
                raise
        with self._lock:
            if self._opened is before:  # else another thread has looked since
                self._opened = held
        return held

    def ensure(self, dim: int) -> None:
        """Create the table if it is missing. Raises SpaceMismatch if it has another space or dimension."""
        found = self.latest() or self._created(dim)
        self.require_space(found)
        self.require_dim(found, dim)

    def require_space(self, version: LanceDataset) -> None:
        held = (version.schema.metadata or {}).get(_SPACE, b"?").decode()
        if held != self._space:
            raise SpaceMismatch(
                f"table {self._uri} holds vectors of {held}, not of {self._space}: use the model that it "
                "was made with"
            )

    def require_dim(self, version: LanceDataset, dim: int) -> None:
        held = self.dim_of(version)
        if held != dim:
            raise SpaceMismatch(f"table {self._uri} holds vectors of {held} dimensions, not {dim}")

    def dim_of(self, version: LanceDataset) -> int:
        return int(version.schema.field("vector").type.list_size)

    # --- for subclasses ---

    def _indexed_files(self, version: LanceDataset) -> Mapping[str, Set[int]]:
        """Return the numbers of the files that each index has. An index whose own files are gone is no index.

        In an object store it is taken to be whole: there no process removes files that another may write.
        """
        found: dict[str, set[int]] = {}
        for one in version.describe_indices():
            if "://" in self._uri or all(
                Path(self._uri, "_indices", segment.uuid).is_dir() for segment in one.segments
            ):
                found[one.name] = {number for segment in one.segments for number in segment.fragment_ids}
        return found

    def _partitions(self, version: LanceDataset) -> int | None:
        """Return how many partitions the index on vectors has; None without one."""
        if VECTOR_INDEX not in self._indexed_files(version):
            return None
        [vectors] = [one for one in version.describe_indices() if one.name == VECTOR_INDEX]
        segments = tuple(segment.uuid for segment in vectors.segments)
        known = self._known_partitions
        if known is None or known[0] != segments:
            # It takes some milliseconds, and only a new segment may change it. All segments have the same.
            statistics = version.stats.index_stats(VECTOR_INDEX)
            known = self._known_partitions = segments, int(statistics["indices"][0]["num_partitions"])
        return known[1]

    def _open(self) -> LanceDataset:
        import lance

        return lance.dataset(self._uri, session=self._session)

    def _created(self, dim: int) -> LanceDataset:
        """Create the table. Of several processes one does, and all have that one."""
        import lance

        named = {_SPACE: self._space.encode("utf-8", "surrogatepass"), _DIM: str(dim).encode()}
        schema = table_schema(dim).with_metadata(named)
        try:
            lance.write_dataset(schema.empty_table(), self._uri, mode="create")
        except Exception as exc:
            if "already exists" not in str(exc) and not is_conflict(exc):
                raise
        found = self.latest()
        assert found is not None, "it was created just now"
        return found

    def _write(self, write: Callable[[LanceDataset], object]) -> None:
        """Write on a version of its own, which the library moves on. A missing table has no rows.

        A commit that lost against others, also after the library's own retries, is tried again a few times.
        """
        for pause_seconds in (*_CONFLICT_PAUSES_SECONDS, None):
            try:
                self._write_once(write)
            except Exception as exc:
                if pause_seconds is None or not is_conflict(exc):
                    raise
                # Random, so that writers who met once do not meet again.
                sleep(pause_seconds * random.uniform(0.5, 1.0))
            else:
                return

    def _write_once(self, write: Callable[[LanceDataset], object]) -> None:
        if self.latest() is not None:
            write(self._open())

    def _reading(self, read: Callable[[LanceDataset], T]) -> T | None:
        """Read the latest version; None if there is no table. Read again if its files were removed."""
        while (version := self.latest()) is not None:
            try:
                return read(version)
            except Exception as exc:
                if not is_missing(exc) or version.latest_version == version.version:
                    raise
        return None
