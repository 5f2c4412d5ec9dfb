"""Arms: what answers a tenant's queries. It is one space with all that it has, or the tenant's route.

The route is what a tenant has by its rules: each document in a space of its own, and searches look into all
of them. While another space is filled beside the route, that one may hold documents of the route, too, and
copies of the others. The route does not see the copies: of a document that any of its other spaces has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, Connection

from embedfleet.records import collections, documents, twins
from embedfleet.records.collections import Collection
from embedfleet.sql import tables
from embedfleet.sql.tables import generations

ROUTE = "route"
"""The name of the route, where a model could be named. No model that is compared has it."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One space (`collection`), or the route beside `filled`, the space whose copies it does not see."""

    collection: Collection | None
    filled: Collection | None = None

    @property
    def name(self) -> str:
        """The name of its model; that of the route is `ROUTE`."""
        return ROUTE if self.collection is None else self.collection.model

    @property
    def is_route(self) -> bool:
        return self.collection is None


def describes(arm: Arm) -> ColumnElement[bool]:
    """Return the condition that a live generation is the one that describes its document for this arm.

    The query joins `documents` and `generations`. For the route it is the one that all readers see.
    """
    if arm.collection is None:
        return generations.c.number == tables.documents.c.live_generation
    return generations.c.collection_id == arm.collection.collection_id


@dataclass(frozen=True, slots=True)
class ArmSpaces:
    """The collections of an arm that have documents, oldest first.

    `documents` counts what readers of the arm see in each, by collection id. `but_in`: of such a collection,
    documents that readers see in one of the given ones are left out.
    """

    collections: Sequence[Collection]
    documents: Mapping[int, int]
    but_in: Mapping[Collection, Sequence[Collection]] = field(default_factory=dict)


def spaces_of(conn: Connection, arm: Arm) -> ArmSpaces:
    """Return the spaces of an arm. The cost grows with the tenant's documents."""
    one = arm.collection or arm.filled
    assert one is not None, "the route is known by the space that is filled beside it"
    live = documents.live_by_collection(conn, one.tenant)
    if arm.collection is not None:
        return ArmSpaces([one], {one.collection_id: live.get(one.collection_id, 0)})
    mine = collections.of_tenant(conn, one.tenant)
    others = [each for each in mine if each != one and live.get(each.collection_id)]
    counts = {each.collection_id: live[each.collection_id] for each in others}
    own = twins.count_only_in(conn, one, others)
    if own:
        counts[one.collection_id] = own
    # Of a model with other weights than before, searches look into the newer space.
    newest = {each.model: each for each in mine if each.collection_id in counts}
    chosen = [each for each in mine if each in newest.values()]
    return ArmSpaces(chosen, counts, {one: others} if own else {})
