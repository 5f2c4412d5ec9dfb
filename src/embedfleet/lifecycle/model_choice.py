"""Which model a submitted document gets: the one place that all submissions and estimates ask.

It is decided outside of the transaction that admits the document, since to detect a language takes
milliseconds. Under its lock, admission compares the tenant's rules with those of then (`is_current`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from embedfleet.document_metadata import Metadata
from embedfleet.queue_schemas import JobRequest
from embedfleet.records import generations, identity, tenants
from embedfleet.records.tenants import TenantRow
from embedfleet.routing.choice import (
    NOTHING_OWN,
    Content,
    Route,
    TenantRouting,
    asks_for_metadata,
    choose,
)
from embedfleet.settings import ModelsSettings


@dataclass(frozen=True, slots=True)
class KnownOfRouting:
    """What SQL holds that decides about models, as of one moment.

    `tenants` has the tenants with rules or a model of their own. `metadata` is by document id: that of
    documents whose request says none, if a rule asks for it.
    """

    tenants: Mapping[str, TenantRouting]
    metadata: Mapping[str, Metadata]

    def of(self, tenant: str) -> TenantRouting:
        """Return what the tenant has of its own."""
        return self.tenants.get(tenant, NOTHING_OWN)


NOTHING_KNOWN = KnownOfRouting({}, {})
"""What is known if every caller names a model, so that nothing need be read."""

_MOST_REMEMBERED = 10_000


class PlainTenants:
    """The tenants of which this process has read that they have no rules and no model of their own.

    Most tenants are such. Their submissions need no read, since admission looks at the tenant's row under its
    lock: if it has something by now, the tenant is forgotten here, and the submission prepared again.
    """

    def __init__(self, settings: ModelsSettings) -> None:
        self._settings = settings
        self._names: set[str] = set()

    def cover(self, requests: Sequence[JobRequest]) -> bool:
        """Whether nothing need be read to choose the models of these requests."""
        asks = asks_for_metadata(NOTHING_OWN, self._settings)
        return all(
            one.model is not None or (one.user_id in self._names and not (asks and one.metadata is None))
            for one in requests
        )

    def learn(self, requests: Sequence[JobRequest], known: KnownOfRouting) -> None:
        """Remember which of the tenants of these requests have nothing of their own."""
        if len(self._names) > _MOST_REMEMBERED:
            self._names.clear()
        self._names.update(
            one.user_id for one in requests if one.model is None and known.of(one.user_id) == NOTHING_OWN
        )

    def forget(self, tenant: str) -> None:
        self._names.discard(tenant)


def read_known(conn: Connection, requests: Sequence[JobRequest], settings: ModelsSettings) -> KnownOfRouting:
    """Read what decides the models of those of the requests that name none."""
    open_ones = [one for one in requests if one.model is None]
    found = routing_of(conn, list({one.user_id for one in open_ones}))
    silent = [
        identity.document_id(one.user_id, one.media_id)
        for one in open_ones
        if one.metadata is None and asks_for_metadata(found.get(one.user_id, NOTHING_OWN), settings)
    ]
    made = generations.generations_of_many(conn, silent) if silent else {}
    return KnownOfRouting(found, {name: newest[0].metadata for name, newest in made.items() if newest})


def routing_of(conn: Connection, names: Sequence[str]) -> dict[str, TenantRouting]:
    """Return what these tenants have of their own. One that has nothing may be left out."""
    return {name: row.routing for name, row in tenants.get_many(conn, names).items()}


def model_for(request: JobRequest, known: KnownOfRouting, settings: ModelsSettings) -> Route:
    """Choose the model of a document, as `routing.choice.choose` says. This blocks, for a language."""
    own = known.of(request.user_id)
    metadata = request.metadata
    if metadata is None:
        document_id = identity.document_id(request.user_id, request.media_id)
        metadata = dict(known.metadata.get(document_id, {}))
    content = Content(request.content_type, request.content, request.source, metadata)
    return choose(content, request.model, own, settings)


def is_current(route: Route, by: TenantRouting, row: TenantRow) -> bool:
    """Whether the route is by the rules that the tenant's locked row has. One that was named always is."""
    return route.reason is None or by == row.routing
