"""Reads what a source has: its collections, the groups of its vectors, and the rows of its documents."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from embedfleet.adoption.layout import SourceLayout
from embedfleet.errors import InvalidRequest, hint
from embedfleet.vectors.source import Source, SourceCollection

UNORDERED = 2**62
"""The order of a row that does not say its place. It comes after all that do, in the order of the source."""


class Group(NamedTuple):
    """Vectors that may be of one space: of one model, as the source calls it, and one dimension."""

    provider: str
    model: str
    dim: int

    @property
    def label(self) -> str:
        """What the source calls the model, for people."""
        named = "/".join(part for part in (self.provider, self.model) if part)
        return f"{named or 'unnamed model'}, {self.dim} dimensions"


class DocumentKey(NamedTuple):
    """A document of the source, as it will be called here."""

    tenant: str
    media_id: str


class RowRef(NamedTuple):
    """Where a row is. `order` sorts the rows of a document."""

    collection: str
    row_id: str
    order: int


@dataclass(slots=True)
class Survey:
    """What a source has.

    `documents` has, by document and group, the rows of that document in that group. `left_alone` are the
    collections of which the layout says nothing, and `unattributed` counts the rows that name no document.
    `of_views` counts the rows that views of embedfleet wrote.
    """

    collections: list[SourceCollection] = field(default_factory=list)
    left_alone: list[str] = field(default_factory=list)
    documents: dict[DocumentKey, dict[Group, list[RowRef]]] = field(default_factory=dict)
    unattributed: int = 0
    of_views: int = 0

    @property
    def rows(self) -> int:
        return sum(len(rows) for groups in self.documents.values() for rows in groups.values())

    def rows_of_groups(self) -> dict[Group, list[RowRef]]:
        """Return the rows of each group, in the order of the documents."""
        found: dict[Group, list[RowRef]] = {}
        for groups in self.documents.values():
            for group, rows in groups.items():
                found.setdefault(group, []).extend(rows)
        return found


async def survey(source: Source, layout: SourceLayout, wanted: Collection[str] = ()) -> Survey:
    """Read the labels of all rows; of the collections `wanted` only, if there are any.

    It keeps about 300 bytes a row. Raises InvalidRequest if a wanted collection is not there, and what
    `Source` raises.
    """
    there = {one.name: one for one in await source.collections()}
    for name in wanted:
        if name not in there:
            raise InvalidRequest(f"no collection `{name}` in {source.place}: {hint(name, there)}")
    found = Survey()
    for collection in there.values():
        if wanted and collection.name not in wanted:
            continue
        tenant = layout.tenant_of(collection)
        if tenant is None:
            found.left_alone.append(collection.name)
            continue
        found.collections.append(collection)
        if collection.rows:
            await _read(source, layout, collection, tenant, found)
    for groups in found.documents.values():
        for rows in groups.values():
            rows.sort(key=lambda row: row.order)
    return found


async def _read(
    source: Source, layout: SourceLayout, collection: SourceCollection, tenant: str, found: Survey
) -> None:
    dim = 0
    models: dict[tuple[str, str], Group] = {}
    async for page in source.labels(collection.name):
        if not dim:
            dim = (await source.rows(collection.name, page.ids[:1])).vectors.shape[1]
        for row_id, metadata in zip(page.ids, page.metadatas, strict=True):
            if layout.is_of_view(metadata):
                found.of_views += 1
                continue
            label = layout.label(row_id, metadata, collection)
            if label is None:
                found.unattributed += 1
                continue
            named = (label.provider, label.model)
            group = models.setdefault(named, Group(*named, dim))
            groups = found.documents.setdefault(DocumentKey(tenant, label.media_id), {})
            order = UNORDERED if label.index is None else label.index
            groups.setdefault(group, []).append(RowRef(collection.name, row_id, order))


def by_collection(rows: Sequence[RowRef]) -> Mapping[str, list[str]]:
    """Return the ids of these rows by their collection."""
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row.collection, []).append(row.row_id)
    return found
