"""How the tasks of a stage are spread over its shards. It is pure.

A stage has one or more shards. Each is a queue of its own, with all the rules of a stage, and in a Redis
cluster each may be on another node. A task is in the shard that the hash of its id says, so the work of every
tenant is spread over all shards, and no other process has to be asked where a task is.

**When the number changes**, tasks that are queued stay where they are, until they are done. So there may be
tasks in a shard that is not their home any more. They are *strays*. Until there are none, a process that
offers a task also looks in the shards that were its home under the earlier numbers.

**Why no task can be in two shards.** A layout has a version, and a higher one is newer. Each shard keeps the
newest layout that it has heard of, and refuses an offer that was made with an older one. An offer with a
newer layout is heard first by the earlier homes of its tasks, which are asked for strays, then by their home.
So when an earlier home has said that it does not have a task, it refuses every offer that would still put it
there.

**Why no number is forgotten.** One shard has the layout that counts. A change is made from one layout to the
next, and that shard takes it only in place of the layout from which it was made. So the layouts are one line,
and each has all numbers by which tasks may be placed, however late a leader is with its change. If that shard
loses its memory, the processes that remember the layout tell it again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self
from zlib import crc32

from embedfleet.errors import BrokerUnavailable
from embedfleet.queue.redis_records import encoded

MAX_SHARDS = 64
"""The most shards of a stage. Each idle worker looks into all of them."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Into how many `shards` each stage is divided.

    `before`: the earlier numbers, as long as tasks that were placed by them may be queued. `widest`: the
    largest number that there ever was. A stage that never had another layout has version 0 and one shard.
    """

    version: int = 0
    shards: int = 1
    widest: int = 1
    before: tuple[int, ...] = ()

    @property
    def in_use(self) -> int:
        """How many shards may hold tasks: those with a lower number."""
        return max(self.shards, *self.before, 1)

    def home(self, task_id: str) -> int:
        """Return the number of the shard in which the task belongs."""
        return _shard(task_id, self.shards)

    def earlier_homes(self, task_id: str) -> set[int]:
        """Return the numbers of the other shards in which the task may be a stray."""
        return {_shard(task_id, shards) for shards in self.before} - {self.home(task_id)}

    def changed(self, shards: int, *, version: int) -> Self:
        """Return the layout with another number of shards. Its version is at least `version`."""
        before = tuple(sorted({*self.before, self.shards} - {shards}))
        return type(self)(max(version, self.version + 1), shards, max(self.widest, shards), before)

    def settled(self) -> Self:
        """Return the layout when no task is a stray any more."""
        return type(self)(self.version, self.shards, self.widest)

    def is_newer_than(self, other: Layout) -> bool:
        """Whether this layout replaces the other. Of one version, the settled one is the newer."""
        return (self.version, -len(self.before)) > (other.version, -len(other.before))

    def encode(self) -> str:
        """Return the text that the scripts compare and keep: the version comes first.

        Version 0 has an empty text, as a shard that never heard of a layout.
        """
        if not self.version:
            return ""
        return " ".join(map(str, (self.version, self.shards, self.widest, *self.before)))

    @classmethod
    def decode(cls, text: str) -> Self:
        """Read what `encode` wrote. Raises BrokerUnavailable for a text of another form."""
        if not text:
            return cls()
        try:
            version, shards, widest, *before = map(int, text.split())
        except ValueError as exc:
            raise BrokerUnavailable(
                f"the queues have a layout that this release cannot read: {text!r}; upgrade this host"
            ) from exc
        return cls(version, shards, widest, tuple(before))


class KnownLayout:
    """The newest layout that this process has heard of."""

    def __init__(self) -> None:
        self.now = Layout()

    def hear(self, text: str) -> None:
        """Take this layout over if it is newer. Raises BrokerUnavailable for one that cannot be read."""
        heard = Layout.decode(text)
        if heard.is_newer_than(self.now):
            self.now = heard


def _shard(task_id: str, shards: int) -> int:
    # A checksum spreads ids that differ in one digit only, and every release and platform has the same.
    return crc32(encoded(task_id)) % shards
