"""Start-time fair queuing over tenants, charged in tokens. It is arithmetic only: no tasks, clock or I/O.

Algorithm: P. Goyal, H. M. Vin, H. Cheng, "Start-Time Fair Queueing", IEEE/ACM Transactions on
Networking 5(5), 1997. Charging by tokens: Y. Sheng et al., "Fairness in Serving Large Language
Models" (VTC), arXiv 2401.00588. Prices are whole numbers as in stride scheduling (C. Waldspurger,
1995): a tenant pays `cost * stride(weight)`, which is exactly proportional to the cost. So no charge is
rounded, and a tenant pays the same when it cuts its work into more tasks.

Every number held here is an integer below 2**53. So an implementation that calculates in doubles, such as
a Lua script in Redis, gives the same order, equal starts included.
"""

from __future__ import annotations

import heapq
from collections.abc import Set

from embedfleet.queue.broker import MAX_COST, MIN_WEIGHT

STRIDE_OF_WEIGHT_ONE = 25_200
"""Divisible by 1 to 10 and by 100, so the usual weights have exact strides. The strides of other weights are
off by at most 0.2 % (near weight 100, where a stride is 252)."""

# Half of 2**53. Doubles hold every integer up to 2**53, and a start above virtual time needs room too.
_REBASE_AT = 2**52

# When a tenant is charged, virtual time is below `_REBASE_AT`, and its new start is at most one charge above
# virtual time. The dearest charge is below 2**52, so every start is below 2**53.
assert MAX_COST * STRIDE_OF_WEIGHT_ONE <= MIN_WEIGHT * 2**52


def stride(weight: float) -> int:
    """Return the price of one token for a tenant of this weight: virtual time, as a whole number."""
    return round(STRIDE_OF_WEIGHT_ONE / weight)


def millionths(weight: float) -> int:
    """Return the weight that the tenant's price stands for, in millionths, as a whole number.

    Weights that are added and taken away again as whole numbers leave no rounding behind. The result comes
    from the stride, because a lane's order of service follows the strides.
    """
    return 1_000_000 * STRIDE_OF_WEIGHT_ONE // stride(weight)


class FairQueue:
    """Orders the eligible tenants by virtual start.

    A tenant is eligible exactly while it has work; the caller says so by `enter` and `leave`.
    Virtual time V is the start of the tenant that was served last. The rules:

    * When a tenant enters, its start is the later of V and the start that its last charge left. So a tenant
      earns no credit for the time without work, and does not lose a debt by leaving.
    * A tenant that is passed over does not take part until `take_back`, and then enters. So it earns no
      credit for that time either.
    * `charge` serves the first tenant and moves its start. The charge is fixed at that moment, so a change
      of weight affects only later charges.
    * When the last tenant leaves, and none is passed over, the busy period ends and all starts are
      forgotten, as in the paper: no tenant waited during the service given, so no tenant is owed for it. V
      begins again at 0.
    * Of equal starts, the lower tenant id comes first, by code point (the byte order of UTF-8).

    It follows that every start of a tenant that takes part is in [V, V + dearest charge]. This gives the
    bound: while two tenants stay eligible and neither is passed over, |S1/w1 - S2/w2| <= 2 x the dearest
    cost/weight. It does not matter which other tenants are passed over during that time: V only grows.

    `enter` and `charge` cost O(log tenants) amortised; `leave` and `first` O(1) amortised. `pass_over` and
    `take_back` together cost O(log tenants) for each tenant passed over.
    """

    def __init__(self) -> None:
        self._virtual_time = 0
        self._eligible: set[str] = set()
        self._passed_over: set[str] = set()
        self._starts: dict[str, int] = {}
        # Holds an entry for every eligible tenant, and stale ones: those that disagree with `_starts` or
        # `_eligible`. `first` drops a stale entry when it comes to the top.
        self._heap: list[tuple[int, str]] = []

    def enter(self, tenant: str) -> None:
        """Make the tenant eligible. Does nothing if it is."""
        if tenant not in self._eligible:
            self._eligible.add(tenant)
            self._place(tenant, max(self._virtual_time, self._starts.get(tenant, 0)))

    def leave(self, tenant: str) -> None:
        """Make the tenant not eligible: it has no more work. Does nothing if it is not."""
        self._eligible.discard(tenant)
        if not self._eligible and not self._passed_over:
            self._virtual_time = 0
            self._starts.clear()
            self._heap.clear()

    def pass_over(self, tenants: Set[str]) -> None:
        """Leave these tenants out until `take_back`. Until then, call no `enter` or `leave` for them."""
        self._passed_over = self._eligible & tenants
        self._eligible -= self._passed_over

    def take_back(self) -> None:
        """Let the tenants take part again that were passed over, as if they had just come."""
        passed_over, self._passed_over = self._passed_over, set()
        for tenant in passed_over:
            self.enter(tenant)

    def first(self) -> str | None:
        """Return the tenant to serve next; None if no tenant is eligible."""
        heap = self._heap
        while heap:
            start, tenant = heap[0]
            if tenant in self._eligible and self._starts[tenant] == start:
                return tenant
            heapq.heappop(heap)
        return None

    def charge(self, cost: int, weight: float) -> None:
        """Charge the first tenant for a task of `cost` tokens. Raises LookupError if there is no tenant."""
        tenant = self.first()
        if tenant is None:
            raise LookupError("no tenant is eligible: there is nothing to charge for")
        self._virtual_time, _ = heapq.heappop(self._heap)
        if self._virtual_time >= _REBASE_AT:
            self._rebase()
        self._place(tenant, self._virtual_time + cost * stride(weight))

    def _place(self, tenant: str, start: int) -> None:
        self._starts[tenant] = start
        heapq.heappush(self._heap, (start, tenant))
        # More than half of the heap is stale. Rebuilding it costs O(tenants) and happens after as many
        # calls; the 8 keeps a small heap from being rebuilt at every call.
        if len(self._heap) > 2 * len(self._eligible) + 8:
            self._rebuild_heap()

    def _rebase(self) -> None:
        """Move all starts down so that V = 0. Their order does not change: only differences count, and a
        start below V would be raised to V when its tenant enters."""
        passed, self._virtual_time = self._virtual_time, 0
        self._starts = {tenant: max(0, start - passed) for tenant, start in self._starts.items()}
        self._rebuild_heap()

    def _rebuild_heap(self) -> None:
        self._heap = [(self._starts[tenant], tenant) for tenant in self._eligible]
        heapq.heapify(self._heap)
