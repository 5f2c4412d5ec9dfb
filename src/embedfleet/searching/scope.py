"""Decides which of a tenant's documents a search looks at, and says which it does not look at.

A query that is embedded with a model finds documents of that model only. So a search embeds its query with
each model that has documents, unless it names one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from embedfleet.errors import Remedy
from embedfleet.queue_schemas import ModelDocuments
from embedfleet.records.arms import ArmSpaces
from embedfleet.records.collections import Collection
from embedfleet.records.experiments import Experiment
from embedfleet.records.model_switches import ModelSwitch


@dataclass(frozen=True, slots=True)
class SearchScope:
    """What a search looks at: `collections`, one for each model. The rest is as in `SearchHits`.

    `documents` counts the documents that readers see, by collection id; empty if nothing was counted.
    `switch` is the tenant's switch to another model that was under way when this was decided, and
    `experiment` the online experiment that mixes the hits of both of its models.
    `beside` has the collections of the side of a switch to another model that does not answer the query, with
    those of the side that does: only those of their documents are looked for that the other side lacks.
    """

    collections: Sequence[Collection]
    not_searched: Sequence[ModelDocuments] = ()
    notice: str | None = None
    remedy: Remedy | None = None
    documents: Mapping[int, int] = field(default_factory=dict)
    switch: ModelSwitch | None = None
    beside: Mapping[Collection, Sequence[Collection]] = field(default_factory=dict)
    experiment: Experiment | None = None

    def with_notice(self, text: str) -> SearchScope:
        """Return the scope that says this, too."""
        return replace(self, notice=text if self.notice is None else f"{self.notice}; {text}")

    def left_out(self, collection: Collection, reason: str) -> ModelDocuments:
        """Return what is said of a collection that could not be searched."""
        return ModelDocuments(
            model=collection.model, documents=self.documents[collection.collection_id], reason=reason
        )


def sides_of(
    switch: ModelSwitch, query: str, model: str | None
) -> tuple[Sequence[Collection], Sequence[Collection]]:
    """Return the collections of the side of a switch that answers this query, and those of the other side.

    Both have the same documents, but for those that the second had before the switch began, or that a space
    beside the route has of its own. A query that names a model of one side gets that side; any other query
    gets the one that serves it. No query gets a space that is on trial: the route may have documents of that
    model, and they alone are looked for.
    """
    sides: list[Sequence[Collection]] = [switch.sources, (switch.to_collection,)]
    if switch.serving(query) == switch.new:
        sides.reverse()
    serving, other = sides
    if not switch.is_trial and _has_model(other, model) and not _has_model(serving, model):
        serving, other = other, serving
    return serving, other


def scope_of_spaces(spaces: ArmSpaces) -> SearchScope:
    """Return the scope of a search that looks into these spaces and no others."""
    return SearchScope(spaces.collections, documents=spaces.documents, beside=spaces.but_in)


def _has_model(side: Sequence[Collection], model: str | None) -> bool:
    return any(one.model == model for one in side)


def scope_of_search(
    tenant: str,
    mine: Sequence[Collection],
    live: Mapping[int, int],
    *,
    model: str | None,
    unfinished: int,
) -> SearchScope:
    """Choose the collections that are searched.

    `mine` are the tenant's collections, oldest first, and `live` has the number of documents of each that
    readers see. Without a `model`, all models count that have documents. Of each, only the newest collection
    is searched: an earlier one is of other weights under the same name. `unfinished` is the number of the
    tenant's jobs that have not ended.
    """
    filled = [one for one in mine if live.get(one.collection_id)]
    newest = {one.model: one for one in filled}
    chosen = [one for one in newest.values() if model in (None, one.model)]
    others = [one for one in filled if one not in chosen]
    return SearchScope(
        chosen,
        [ModelDocuments(model=one.model, documents=live[one.collection_id]) for one in others],
        *_notice(tenant, chosen, others, live, model=model, unfinished=unfinished),
        documents=live,
    )


def _notice(
    tenant: str,
    chosen: Sequence[Collection],
    others: Sequence[Collection],
    live: Mapping[int, int],
    *,
    model: str | None,
    unfinished: int,
) -> tuple[str | None, Remedy | None]:
    told = _told(others, live)
    if not chosen and others:
        return f"tenant `{tenant}` has no documents of model `{model}`, but {told}", Remedy.CHOOSE_MODEL
    if not chosen and unfinished:
        text = f"tenant `{tenant}` has no searchable documents yet: {unfinished:,} jobs are unfinished"
        return text, Remedy.LIST_JOBS
    if not chosen:
        return f"tenant `{tenant}` has no documents: look at the tenant's name, or ingest some", None
    if not others:
        return None, None
    same = sorted({one.model for one in others} & {one.model for one in chosen})
    again = f"; ingest those of an earlier {' and '.join(f'`{name}`' for name in same)} again" if same else ""
    text = f"searched the {_told(chosen, live, ' documents of model')} only, and not {told}{again}"
    return text, None if len(same) == len({one.model for one in others}) else Remedy.CHOOSE_MODEL


def _told(some: Sequence[Collection], live: Mapping[int, int], of: str = " of") -> str:
    return ", ".join(f"{live[one.collection_id]:,}{of} `{one.model}`" for one in some)
