"""Start-time fair queuing over tenants, charged in tokens: arithmetic only, no tasks, clock or I/O.

Algorithm: P. Goyal, H. M. Vin, H. Cheng, "Start-Time Fair Queueing", IEEE/ACM Transactions on
Networking 5(5), 1997; charging by tokens: Y. Sheng et al., "Fairness in Serving Large Language
Models" (VTC), arXiv 2401.00588. Prices are whole numbers as in stride scheduling (C. Waldspurger,
1995): a tenant pays `cost * stride(weight)`, exactly proportional to cost, so nothing is ever rounded
away and cutting work into more tasks changes nothing.

Every number held here is an integer below 2**53: an implementation that calculates in doubles, such as
a Lua script in Redis, gives the same order to the last tie.
"""

from __future__ import annotations

import heapq

from embedfleet.queue.broker import MAX_COST, MIN_WEIGHT

STRIDE_OF_WEIGHT_ONE = 25_200
"""Divisible by 1 to 10 and by 100, so the usual weights have exact strides; others are off by at most
0.2 % (weight 100)."""

_REBASE_AT = 2**52

# A start is at most one charge above virtual time, which is below `_REBASE_AT` when it is charged.
assert MAX_COST * STRIDE_OF_WEIGHT_ONE <= MIN_WEIGHT * 2**52


def stride(weight: float) -> int:
    """What one token costs a tenant of this weight, in virtual time: the nearest whole number."""
    return round(STRIDE_OF_WEIGHT_ONE / weight)


class FairQueue:
    """Orders the eligible tenants by virtual start.

    A tenant is eligible while it has work and may be served; whoever calls says when by `enter` and
    `leave`. Virtual time V is the start of the tenant served last. The rules:

    * On entering, `start = max(V, what its last charge left)`: time spent away, for want of work or at a
      cap, earns no credit, and leaving does not shed a debt.
    * `charge` serves the first tenant and moves its start; the charge is fixed then, so a change of
      weight touches only what is served later.
    * When the last tenant leaves, the busy period ends and all starts are forgotten, as in the paper:
      nobody waited for the service given, so nobody is owed for it. V begins again at 0.
    * Equal starts: the lower tenant id first, compared by code point (the byte order of UTF-8).

    It follows that every start lies in [V, V + dearest charge], hence the bound: while two tenants
    stay eligible, |S1/w1 - S2/w2| <= 2 x the dearest cost/weight.

    `enter` and `charge` cost O(log tenants) amortised; `leave` and `first` O(1) amortised.
    """

    def __init__(self) -> None:
        self._virtual_time = 0
        self._eligible: set[str] = set()
        self._starts: dict[str, int] = {}
        # Superset of the eligible: an entry that disagrees with `_starts` or `_eligible` is stale.
        self._heap: list[tuple[int, str]] = []

    def enter(self, tenant: str) -> None:
        """The tenant may be served from now on; nothing happens if it already could."""
        if tenant not in self._eligible:
            self._eligible.add(tenant)
            self._place(tenant, max(self._virtual_time, self._starts.get(tenant, 0)))

    def leave(self, tenant: str) -> None:
        """The tenant has no more work, or may not be served for now."""
        self._eligible.discard(tenant)
        if not self._eligible:
            self._virtual_time = 0
            self._starts.clear()
            self._heap.clear()

    def first(self) -> str | None:
        """The tenant to serve next; None if nobody is eligible."""
        heap = self._heap
        while heap:
            start, tenant = heap[0]
            if tenant in self._eligible and self._starts[tenant] == start:
                return tenant
            heapq.heappop(heap)
        return None

    def charge(self, cost: int, weight: float) -> None:
        """The first tenant is served a task of `cost` tokens."""
        tenant = self.first()
        if tenant is None:
            raise LookupError("nobody is eligible: there is nothing to charge for")
        self._virtual_time, _ = heapq.heappop(self._heap)
        if self._virtual_time >= _REBASE_AT:
            self._rebase()
        self._place(tenant, self._virtual_time + cost * stride(weight))

    def _place(self, tenant: str, start: int) -> None:
        self._starts[tenant] = start
        heapq.heappush(self._heap, (start, tenant))
        if len(self._heap) > 2 * len(self._eligible) + 8:
            self._rebuild_heap()

    def _rebase(self) -> None:
        """Begin again at V = 0. Only differences count, and what is below V would be raised to it."""
        passed, self._virtual_time = self._virtual_time, 0
        self._starts = {tenant: max(0, start - passed) for tenant, start in self._starts.items()}
        self._rebuild_heap()

    def _rebuild_heap(self) -> None:
        self._heap = [(self._starts[tenant], tenant) for tenant in self._eligible]
        heapq.heapify(self._heap)
