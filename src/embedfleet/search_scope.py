"""Decides which of a tenant's documents a search looks at, and says which it does not look at.

A search embeds its query with one model, so it finds documents of that model only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from embedfleet.errors import InvalidRequest, Remedy
from embedfleet.queue_schemas import ModelDocuments
from embedfleet.records.collections import Collection
from embedfleet.records.model_switches import ModelSwitch


@dataclass(frozen=True, slots=True)
class SearchScope:
    """What a search looks at: `collection`, or None if there is nothing. The rest is as in `SearchHits`."""

    collection: Collection | None
    not_searched: Sequence[ModelDocuments] = ()
    notice: str | None = None
    remedy: Remedy | None = None


def without_hidden(
    mine: Sequence[Collection], switch: ModelSwitch, query: str, model: str | None
) -> list[Collection]:
    """Leave out that collection of a switch to another model which does not answer this query.

    Both have the same documents, so none is missed. A query that names the model of one of the two gets that
    one; any other query gets the one that serves it.
    """
    serving = switch.serving(query)
    other = switch.beside(serving)
    if other is not None and model == other.model != serving.model:
        serving, other = other, serving
    return [one for one in mine if one != other]


def scope_of_search(
    tenant: str,
    mine: Sequence[Collection],
    live: Mapping[int, int],
    *,
    model: str | None,
    default_model: str,
    unfinished: int,
) -> SearchScope:
    """Choose the collection that is searched.

    `mine` are the tenant's collections, oldest first, and `live` has the number of documents of each that
    readers see. Without a `model`, the default model is taken, or else the only one that has documents.
    `unfinished` is the number of the tenant's jobs that have not ended. Raises InvalidRequest if several
    models have documents, not the default one, and none was chosen.
    """
    filled = [one for one in mine if live.get(one.collection_id)]
    names = sorted({one.model for one in filled})
    named = [one for one in filled if one.model == (model or default_model)]
    if not named and model is None and len(names) > 1:
        raise InvalidRequest(
            f"tenant `{tenant}` has documents of several models ({', '.join(names)}): say which one",
            remedy=Remedy.CHOOSE_MODEL,
        )
    if not named and model is None:
        named = filled
    chosen = named[-1] if named else None
    others = [one for one in filled if one is not chosen]
    return SearchScope(
        chosen,
        [ModelDocuments(model=one.model, documents=live[one.collection_id]) for one in others],
        *_notice(tenant, chosen, others, live, model=model, unfinished=unfinished),
    )


def _notice(
    tenant: str,
    chosen: Collection | None,
    others: Sequence[Collection],
    live: Mapping[int, int],
    *,
    model: str | None,
    unfinished: int,
) -> tuple[str | None, Remedy | None]:
    told = ", ".join(f"{live[one.collection_id]:,} of `{one.model}`" for one in others)
    if chosen is None and others:
        return f"tenant `{tenant}` has no documents of model `{model}`, but {told}", Remedy.CHOOSE_MODEL
    if chosen is None and unfinished:
        text = f"tenant `{tenant}` has no searchable documents yet: {unfinished:,} jobs are unfinished"
        return text, Remedy.LIST_JOBS
    if chosen is None:
        return f"tenant `{tenant}` has no documents: look at the tenant's name, or ingest some", None
    if not others:
        return None, None
    same = [one for one in others if one.model == chosen.model]
    again = f"; ingest those of an earlier `{chosen.model}` again" if same else ""
    text = (
        f"searched the {live[chosen.collection_id]:,} documents of model `{chosen.model}` only, "
        f"and not {told}{again}"
    )
    return text, None if len(same) == len(others) else Remedy.CHOOSE_MODEL
