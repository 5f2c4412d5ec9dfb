"""Decides whose texts go to the model next. It is pure: callers are opaque, and nothing waits here."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Caller = TypeVar("Caller")

# A turn is this part of a call of the model. So the texts of several callers fit into one call, and a short
# text is in the next call, however many long ones wait.
_TURNS_PER_CALL = 8
# The special tokens around a text; it is also what an empty text costs.
_EXTRA_TOKENS = 2


@dataclass(frozen=True, slots=True)
class Portion(Generic[Caller]):
    """The texts [first, past) of a caller."""

    caller: Caller
    first: int
    past: int


@dataclass(slots=True)
class _Line(Generic[Caller]):
    caller: Caller
    lengths: Sequence[int]
    next: int = 0

    def turn(self, most_tokens: int) -> tuple[int, int]:
        """Return where the texts of the next turn end, and their tokens: at least one text."""
        past, tokens = self.next, 0
        while past < len(self.lengths):
            more = self.lengths[past] + _EXTRA_TOKENS
            if past > self.next and tokens + more > most_tokens:
                break
            past, tokens = past + 1, tokens + more
        return past, tokens


class Turns(Generic[Caller]):
    """The callers whose texts wait. Tenants take turns, and so do the callers of one tenant."""

    def __init__(self) -> None:
        self._tenants: deque[str] = deque()
        self._lines: dict[str, deque[_Line[Caller]]] = {}

    def __bool__(self) -> bool:
        """Whether a caller is left."""
        return bool(self._tenants)

    def add(self, tenant: str, caller: Caller, lengths: Sequence[int]) -> None:
        """Let the caller's texts wait. `lengths` are their tokens; there is at least one text."""
        if tenant not in self._lines:
            self._lines[tenant] = deque()
            self._tenants.append(tenant)
        self._lines[tenant].append(_Line(caller, lengths))

    def take(self, most_tokens: int, wanted: Callable[[Caller], bool]) -> list[Portion[Caller]]:
        """Return the texts of the next call of the model, with at most `most_tokens`, but at least one text.

        Callers that are not `wanted` any more are dropped.
        """
        portions: list[Portion[Caller]] = []
        left = most_tokens
        while self._tenants and left > 0:
            tenant = self._tenants[0]
            line = self._lines[tenant][0]
            if not wanted(line.caller):
                self._drop_first(tenant)
                continue
            past, tokens = line.turn(min(left, max(1, most_tokens // _TURNS_PER_CALL)))
            if portions and tokens > left:
                break
            portions.append(Portion(line.caller, line.next, past))
            left -= tokens
            line.next = past
            self._end_turn(tenant)
        return portions

    def take_all(self) -> list[Caller]:
        """Return every caller with texts that wait, and forget them."""
        callers = [line.caller for lines in self._lines.values() for line in lines]
        self._tenants.clear()
        self._lines.clear()
        return callers

    def _end_turn(self, tenant: str) -> None:
        """Put the first caller behind the others of its tenant, and the tenant behind the other tenants."""
        lines = self._lines[tenant]
        line = lines[0]
        if line.next == len(line.lengths):
            self._drop_first(tenant)
        else:
            lines.rotate(-1)
        if tenant in self._lines:
            self._tenants.rotate(-1)

    def _drop_first(self, tenant: str) -> None:
        self._lines[tenant].popleft()
        if not self._lines[tenant]:
            del self._lines[tenant]
            self._tenants.popleft()  # it is the first, as only the first tenant has turns
