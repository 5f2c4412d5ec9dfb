"""When a tenant has filled its share of the room for ready tasks. It is arithmetic only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReadyWork:
    """What one tenant has ready in one stage: tasks, their tokens, and its weight in millionths."""

    tasks: int
    cost: int
    weight: int

    def fills_its_share(self, total_weight: int, *, max_tasks: int, max_cost: int) -> bool:
        """Whether the tenant has at least its share of `max_tasks` tasks or of `max_cost` tokens ready.

        `total_weight` is the weight of all tenants with ready tasks, this one included. The numbers are
        integers of any size, so the comparison is exact, and every broker decides alike.
        """
        if not self.tasks:
            return False
        return (
            self.tasks * total_weight >= self.weight * max_tasks
            or self.cost * total_weight >= self.weight * max_cost
        )
